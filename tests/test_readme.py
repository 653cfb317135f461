"""The README's snippets run, one after the other, as they stand."""

from __future__ import annotations

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.full
def test_snippets_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    exec(compile("\n".join(snippets), "README.md", "exec"), {})
    assert "LogLikelihood(mean=-" in capsys.readouterr().out


def test_a_stranger_can_read_it():
    assert len(TEXT.splitlines()) <= 200
    assert len(re.findall(r"!\[[^]]*\]\(examples/figures/[^)]*\.png\)", TEXT)) == 4


def test_every_page_is_linked():
    assert {path.name for path in (README.parent / "docs").glob("*.md")} == {
        *re.findall(r"\]\(docs/(\w+\.md)\)", TEXT)
    }
