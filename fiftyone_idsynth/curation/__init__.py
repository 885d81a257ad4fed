"""Decide which images stay and which split they belong to."""

STAGES = ("duplicates", "restore", "splits")
"""The modules that hold stages."""
