"""The README's snippets run, one after the other, as they stand."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def _run(command: list[str], folder: pathlib.Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


@pytest.mark.slow
def test_snippets_run_in_order_and_the_command_line_reads_what_they_wrote(tmp_path):
    script = tmp_path / "readme.py"
    script.write_text("\n".join(_blocks("python")))
    assert "LogLikelihood(mean=-" in _run([sys.executable, script.name], tmp_path)

    commands = next(block for block in _blocks("bash") if "saved_model_cli" in block)
    cli = f"{sys.executable} -m tensorflow.python.tools.saved_model_cli"
    commands = re.sub("^saved_model_cli", cli, commands, flags=re.MULTILINE)
    printed = _run(["bash", "-ec", commands], tmp_path)
    assert "inputs['count']" in printed
    assert "Result for output key mean" in printed


def test_figures_named_in_the_readme_exist():
    figures = re.findall(r"\]\((examples/[^)]*\.png)\)", README.read_text())
    assert len(figures) == 6
    assert all((README.parent / figure).is_file() for figure in figures)
