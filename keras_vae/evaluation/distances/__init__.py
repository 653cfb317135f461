"""Distances between real and generated data."""
