"""Learn from people: which images they should label next."""

STAGES = ("select_uncertain",)
"""The modules that hold stages."""
