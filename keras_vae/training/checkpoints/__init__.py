"""Checkpoints of a training: their format, the folder they are in, and what they hold."""
