"""The deliberate breaks of `mutants.txt` fit the package as it is now."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mutants


def test_every_break_is_of_exactly_one_place():
    breaks = list(mutants.read_breaks(Path(__file__).parent / "mutants.txt"))
    assert len(breaks) >= 80
    assert all(one.old != one.new for one in breaks)
    mutants.check_breaks(breaks)
