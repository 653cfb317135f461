"""Attacks on what the package promises to keep, and tables of what they came to.

`python -m tests.campaigns.<name>` runs one as a whole and writes its table to `results`; the tests
run a slice of each.
"""
