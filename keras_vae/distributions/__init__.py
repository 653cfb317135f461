"""Distributions and bijectors that TFP lacks, or implements more slowly or less accurately."""
