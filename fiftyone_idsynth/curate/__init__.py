"""Decide which images stay and which split they belong to."""
