"""Learn from people: which images they should label next."""

STAGES = ("select_uncertain", "train", "predict", "learn")
"""The modules that hold stages."""
