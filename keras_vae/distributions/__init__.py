"""Distributions and bijectors that TFP does not have, or has slower or with fewer digits."""
