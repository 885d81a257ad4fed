"""Make new images."""

STAGES = ("compose",)
"""The modules that hold stages."""
