"""Bring images in."""

STAGES = ("ingest",)
"""The modules that hold stages."""
