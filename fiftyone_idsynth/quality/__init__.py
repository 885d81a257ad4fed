"""Measure images."""
