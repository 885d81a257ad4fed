"""Write datasets for training."""

STAGES = ("export",)
"""The modules that hold stages."""
