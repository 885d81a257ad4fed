"""Bring images in."""

STAGES = ("collect", "ingest")
"""The modules that hold stages."""
