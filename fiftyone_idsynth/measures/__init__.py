"""Measure the quality of pictures and rate what was measured: arrays in, numbers out."""
