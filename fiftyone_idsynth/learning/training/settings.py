"""How a model of transformers is fine-tuned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .answers import Task

if TYPE_CHECKING:
    from ...models.options import Options

LINEAR = "linear"
"""What the linear model on embeddings is called where models of transformers are named."""

EPOCHS = 50
LEARNING_RATE = 5e-5
VALIDATION = 0.2

BACKGROUND = "background"

NEW_HEAD_RATE = 10.0
"""How many times as fast what was made anew learns."""

EXAMPLES: dict[Task, str] = {
    "classification": "google/vit-base-patch16-224",
    "detection": "PekingU/rtdetr_r18vd",
    "segmentation": "nvidia/mit-b0",
}
"""Task -> a published model that can learn it."""


@dataclass(frozen=True)
class Settings:
    """How a model is fine-tuned.

    Attributes:
        task: what it learns
        classes: the classes, in the order of their numbers; of a segmentation the first is the background
        epochs: how often it sees all images at most
        learning_rate: the greatest; of a new head :data:`NEW_HEAD_RATE` times as much
        batch_size: images whose gradients make one step
        patience: epochs without a lower validation loss after which it stops
        augment: whether images are flipped, cropped and recoloured by chance
        seed: of every random choice
        precision: what is computed in: ``"float32"``, ``"float16"`` or ``"bfloat16"``; weights are float32
        weight_decay: of AdamW
        warmup: share of the steps during which the learning rate rises
        max_gradient: norm that gradients are cut at
    """

    task: Task
    classes: tuple[str, ...]
    epochs: int
    learning_rate: float
    batch_size: int
    patience: int
    augment: bool
    seed: int
    precision: str
    weight_decay: float = 0.01
    warmup: float = 0.05
    max_gradient: float = 1.0

    def storable(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def precision_of(options: Options) -> str:
    """What is computed in while training: 16 bits on CUDA and 32 elsewhere, unless another is asked for."""
    device = options.torch_device()
    if options.dtype != "auto":
        return options.dtype
    if not device.startswith("cuda"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
