"""Make variants of images whose labels stay true."""

STAGES = ("augment", "resize")
"""The modules that hold stages."""
