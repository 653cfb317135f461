"""Slices of the campaigns, and what the tables of whole ones say."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.campaigns import arguments, damage, loaders, tables

ROOT = pathlib.Path(__file__).parent.parent
SLICES = {
    "kills": ["kills", "--kills", "1", "--terms", "0", "--models", "VAE"],
    "terms": ["kills", "--kills", "0", "--terms", "1", "--models", "VQVAE"],
    "disk_full": ["disk_full", "--sizes", "1"],
    "exports": ["exports", "--kills", "1"],
}
# Those that start no processes, which must not be made of one that has computed already.
HERE = {
    damage: ["--flips", "20", "--truncations", "5", "--blocks", "5"],
    loaders: ["--mutations", "20"],
}


def check(path):
    rows = json.loads(path.read_text())["rows"]
    assert rows
    for row in rows:
        assert row["lost"] == 0, row


@pytest.mark.full
@pytest.mark.parametrize("campaign", HERE, ids=lambda campaign: campaign.__name__[16:])
def test_nothing_is_lost_in_a_slice_that_runs_here(campaign, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["campaign", *HERE[campaign]])
    campaign.main()
    (path,) = tmp_path.glob("*.json")
    check(path)


@pytest.mark.full
@pytest.mark.parametrize("name", SLICES)
def test_nothing_is_lost_in_a_slice(name, tmp_path):
    campaign, *options = SLICES[name]
    environment = {**os.environ, tables.FOLDER: str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tests.campaigns.{campaign}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    check(tmp_path / f"{campaign}.json")


@pytest.mark.full
def test_clear_errors_in_a_slice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of the values are names of files
    rooms = {"schedules", "optimizers", "plotting"}
    found = arguments.run(lambda name: name.partition(".")[0] in rooms, verbose=True)
    assert found["obscure"] + found["hangs"] < 0.01 * sum(found.values()), found


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
