"""Say what the images show: tags, captions, boxes, masks, classes, and how far annotators agree."""

STAGES = ("tags", "captions", "classes", "regions", "segments", "agreement")
"""The modules that hold stages."""
