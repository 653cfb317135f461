"""The README's snippets run, one after the other, as they stand."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.full
def test_snippets_run_in_order(tmp_path):
    script = tmp_path / "readme.py"
    script.write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
    )
    command = [sys.executable, script.name]
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "LogLikelihood(mean=-" in done.stdout


def test_a_stranger_can_read_it():
    assert len(TEXT.splitlines()) <= 200
    assert len(re.findall(r"!\[[^]]*\]\(examples/figures/[^)]*\.png\)", TEXT)) == 4


def test_every_page_is_linked():
    assert {path.name for path in (README.parent / "docs").glob("*.md")} == {
        *re.findall(r"\]\(docs/(\w+\.md)\)", TEXT)
    }
