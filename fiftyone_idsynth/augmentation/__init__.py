"""Make variants of images whose labels stay true."""

STAGES = ("augment",)
"""The modules that hold stages."""
