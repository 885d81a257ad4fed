"""Make variants of images whose labels stay true."""

STAGES = ("augment", "resize", "change_object_ratio")
"""The modules that hold stages."""
