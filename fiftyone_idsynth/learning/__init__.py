"""Learn from people: which images they should label next."""

STAGES = (
    "select_uncertain", "send_to_label_studio", "pull_from_label_studio", "train", "predict", "usefulness", "learn",
    "cascade",
)  # fmt: skip
"""The modules that hold stages."""
