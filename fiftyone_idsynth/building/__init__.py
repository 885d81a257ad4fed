"""From a topic to an exported dataset in one step."""

STAGES = ("build",)
"""The modules that hold stages."""
