"""Make images better."""

STAGES = ("enhance", "repair")
"""The modules that hold stages."""
