"""Basics that every subpackage may use, and that depend on no other subpackage."""
