"""Make images better."""

STAGES = ("enhance", "repair", "upscale")
"""The modules that hold stages."""
