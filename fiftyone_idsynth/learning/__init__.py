"""Learn from people: which images they should label next."""

STAGES = ("select_uncertain", "train", "predict")
"""The modules that hold stages."""
