"""Bring images in."""
