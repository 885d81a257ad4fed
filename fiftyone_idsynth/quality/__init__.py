"""Measure images."""

STAGES = ("score", "measure_distribution")
"""The modules that hold stages."""
