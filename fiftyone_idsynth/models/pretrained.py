"""What adapters of transformers models have in common."""

from __future__ import annotations

from typing import Any

from .found import Found


class Pretrained:
    """A model of transformers with its processor.

    Args:
        model: ready for inference
        processor: what makes its inputs
        found: where both come from

    Attributes:
        model: as given
        processor: as given
        name: as given by the user
        revision: of the weights
        device: where it runs
    """

    def __init__(self, model: Any, processor: Any, found: Found):
        self.model = model
        self.processor = processor
        self.name = found.name
        self.revision = found.revision
        self.device = str(model.device)
