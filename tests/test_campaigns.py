"""Slices of the campaigns, and what the tables of whole ones say."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.campaigns import tables

ROOT = pathlib.Path(__file__).parent.parent
SLICES = {
    "kill-VAE": ["kills", "--kills", "1", "--terms", "0", "--models", "VAE"],
    "kill-VAEGAN": ["kills", "--kills", "1", "--terms", "0", "--models", "VAEGAN"],
    "term-GECO": ["kills", "--kills", "0", "--terms", "1", "--models", "GECO"],
    "term-VQVAE": ["kills", "--kills", "0", "--terms", "1", "--models", "VQVAE"],
    "damage": ["damage", "--flips", "20", "--truncations", "5", "--blocks", "5"],
    "disk_full": ["disk_full", "--sizes", "2"],
    "exports": ["exports", "--kills", "2"],
    "loaders": ["loaders", "--mutations", "25"],
}


@pytest.mark.full
@pytest.mark.parametrize("name", SLICES)
def test_nothing_is_lost_in_a_slice(name, tmp_path):
    campaign, *options = SLICES[name]
    environment = {**os.environ, tables.FOLDER: str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tests.campaigns.{campaign}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / f"{campaign}.json").read_text())["rows"]
    assert rows
    for row in rows:
        assert row["lost"] == 0, row


@pytest.mark.full
def test_clear_errors_in_a_slice():
    command = [sys.executable, "-m", "tests.campaigns.arguments", "--verbose", "--rooms"]
    command += ["schedules", "optimizers", "plotting"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = eval(done.stdout.strip().splitlines()[-1])
    assert found.get("obscure", 0) + found.get("hangs", 0) < 0.01 * sum(found.values()), done.stdout


@pytest.mark.parametrize("path", sorted(tables.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_tables_say_what_was_lost(path):
    for row in json.loads(path.read_text())["rows"]:
        if "tried" in row:
            assert row["lost"] == row["tried"] - row["survived"]


def test_the_page_has_the_tables():
    page = (ROOT / "docs" / "reliability.md").read_text()
    for path in tables.RESULTS.glob("*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if row.get("tried"):
                cells = (
                    row["fault"],
                    *(f"{row[name]:,}" for name in ("tried", "survived", "lost")),
                )
                assert f"| {' | '.join(cells)} |" in page, path.name
