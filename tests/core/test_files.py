"""Files and folders are written whole, or what was there stays."""

import os

import pytest

from keras_vae.core.files import write_whole, written_whole


def contents(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_that_breaks_off_leaves_the_old_one(tmp_path):
    target = tmp_path / "report.json"
    write_whole(target, "old")
    with pytest.raises(OSError, match="no space"), written_whole(target) as path:
        path.write_text("ha")
        raise OSError("no space")
    assert contents(tmp_path) == {"report.json": "old"} and len(os.listdir(tmp_path)) == 1
    write_whole(target, "n\u00e9w\n")
    assert target.read_bytes() == b"n\xc3\xa9w\n" and len(os.listdir(tmp_path)) == 1


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = tmp_path / "1"
    target.mkdir()
    (target / "old").write_text("old")
    with written_whole(target) as path:
        path.mkdir()
        (path / "new").write_text("new")
        assert contents(target) == {"old": "old"}
    assert contents(tmp_path) == {"new": "new"} and os.listdir(tmp_path) == ["1"]


def test_the_folder_of_a_file_is_made(tmp_path):
    write_whole(tmp_path / "a" / "b" / "c.txt", b"c")
    assert contents(tmp_path) == {"c.txt": "c"}
