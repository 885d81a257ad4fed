"""Measure images."""

STAGES = ("score",)
"""The modules that hold stages."""
