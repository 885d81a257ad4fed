"""Make images better."""

STAGES = ("repair",)
"""The modules that hold stages."""
