"""Decide which images stay and which split they belong to."""

STAGES = ("duplicates", "relevance", "restore", "splits")
"""The modules that hold stages."""
