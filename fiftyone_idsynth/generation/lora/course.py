"""The course of a training: what is cached before, what is written on the way, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RefusedImage
from ...media import encode_image, write_atomically
from ...painting import picture_seed
from ...stage import current_run
from .cache import Cache
from .examples import per_bucket
from .folder import smoothed
from .saving import header, kohya_bytes, write_diffusers
from .training import Rules, Trainer

if TYPE_CHECKING:
    from .base import Base
    from .buckets import Order
    from .examples import Example
    from .folder import LoraFolder


@dataclass(frozen=True)
class Course:
    """What happens while a LoRA is trained.

    Attributes:
        base: the model
        rules: how the weights are changed
        folder: where everything goes; it is claimed for this training
        trigger_word: what the texts name
        resolution: side of a square image in pixels
        checkpoint_every: steps between checkpoints
        prompts: what is painted on the way
        validation_every: steps between these pictures
    """

    base: Base
    rules: Rules
    folder: LoraFolder
    trigger_word: str
    resolution: int
    checkpoint_every: int
    prompts: tuple[str, ...]
    validation_every: int

    def run(self, examples: Sequence[Example], order: Order, num_workers: int | None) -> None:
        """Trains, from the beginning or from the last checkpoint, and finishes the folder.

        Args:
            examples: the images and their texts
            order: which of them make up each batch
            num_workers: threads that decode images
        """
        cache = Cache(self.folder.cache, self.base)
        cache.fill(examples, texts=self.rules.text_learning_rate is None, num_workers=num_workers)
        trainer = Trainer(self.base, self.rules, examples, order, cache)
        trainer.resume(self.folder)
        if trainer.step == 0:
            self._paint(trainer, 0)  # what the model made of the prompts before

        def after(step: int) -> None:
            last = step == self.rules.steps
            if last or step % self.validation_every == 0:
                self._paint(trainer, step)
            if last or step % self.checkpoint_every == 0:
                self._keep(trainer, examples, step)
                trainer.save(self.folder)  # written last: what comes before a checkpoint is not made again

        trainer.train(after)
        self.folder.finish(self._result(trainer, examples))

    def _paint(self, trainer: Trainer, step: int) -> None:
        """Paints the validation prompts, each with a seed of its own that is the same at every step."""
        import torch

        from ...models.roles import Sampling, Wanted

        sampling = Sampling(self.resolution, self.resolution)
        with trainer.evaluating(), torch.no_grad():
            for number, prompt in enumerate(self.prompts, 1):
                seed = picture_seed(self.rules.seed, "validation", number)
                picture = self.base.generator.paint([Wanted(prompt, seed)], sampling)[0]
                if isinstance(picture, RefusedImage):
                    current_run().note(f"validation picture of {prompt!r} at step {step}: {picture}")
                    continue
                write_atomically(self._pictures / f"{step:06d}-{number}.png", encode_image(picture))

    def _keep(self, trainer: Trainer, examples: Sequence[Example], step: int) -> None:
        """Writes the LoRA as it is now, to choose from if more training proves to be too much."""
        self.folder.save_losses(trainer.losses, trainer.rates)
        file = self.folder.path / "steps" / f"{self.folder.name}-{step:06d}.safetensors"
        write_atomically(file, self._file(trainer, examples, step))

    def _result(self, trainer: Trainer, examples: Sequence[Example]) -> dict[str, Any]:
        """Writes the LoRA, and says what came of the training."""
        write_atomically(self.folder.file, self._file(trainer, examples, trainer.step))
        loaded = write_diffusers(self.folder.path, self.base, trainer.parts)
        table, curve = self.folder.save_losses(trainer.losses, trainer.rates)
        return {
            "lora": str(self.folder.file),
            "lora_for_diffusers": str(loaded),
            "final_loss": round(smoothed(trainer.losses), 5),
            "steps": trainer.step,
            "seconds_per_step": round(trainer.seconds / trainer.step, 4),
            "images_per_size": per_bucket(example for example in examples if not example.regular),
            "regularization_images": sum(example.regular for example in examples),
            "loss_table": str(table),
            "loss_curve": str(curve),
            "validation_prompts": list(self.prompts),
            "validation": [str(file) for file in sorted(self._pictures.glob("*.png"))],
        }

    def _file(self, trainer: Trainer, examples: Sequence[Example], step: int) -> bytes:
        about = header(
            self.base, self.rules, examples, name=self.folder.name, trigger_word=self.trigger_word,
            resolution=self.resolution, step=step,
        )  # fmt: skip
        return kohya_bytes(self.base, trainer.parts, about)

    @property
    def _pictures(self) -> Path:
        return self.folder.path / "validation"
