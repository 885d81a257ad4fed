"""All figures by name."""

from __future__ import annotations

from .contents import ContentFigures
from .embedded import EmbeddingFigures

EMBEDDED = (
    "fid", "kid", "inception_score", "frechet_distance", "kernel_distance", "precision_recall", "vendi_score",
    "train_copies",
)  # fmt: skip
"""What needs embeddings."""

CANONICAL = ("fid", "kid", "inception_score")
"""What is defined with InceptionV3."""

DEFAULT = (
    "frechet_distance", "kernel_distance", "inception_score", "precision_recall", "vendi_score", "train_copies",
    "class_balance", "leakage", "label_agreement", "enhancement_fidelity",
)  # fmt: skip
"""What is measured unless figures are named, as far as there is what it needs."""

SAME = {"fid": "frechet_distance", "kid": "kernel_distance"}
"""The names that two figures have on InceptionV3."""

NAMES = (*SAME, *DEFAULT)


class Figures(EmbeddingFigures, ContentFigures):
    """Measures figures and collects them, with charts and tables."""

    def measure(self, name: str) -> None:
        """Measures a figure.

        Args:
            name: one of :data:`NAMES`

        Raises:
            Unmeasured: something that it needs is missing
        """
        getattr(self, SAME.get(name, name))()
