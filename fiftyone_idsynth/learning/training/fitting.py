"""Fine-tuning: loss, optimiser, early stopping, and checkpoints after which it goes on as if never interrupted."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import IdsynthError
from ...media import write_atomically
from ...models.batches import out_of_memory
from ...models.errors import OutOfDeviceMemory
from ...training_folder import TrainingFolder
from .batches import Batches
from .examples import Example
from .metrics import Validation
from .settings import NEW_HEAD_RATE, Settings

if TYPE_CHECKING:
    from .trainee import Trainee


class Fitting:
    """Fine-tunes a model.

    Args:
        trainee: the model
        settings: how
        examples: what it is trained on
        validation: what is held out; without any it is trained to the end
        folder: where checkpoints go
        num_workers: threads that decode images

    Attributes:
        step: updates done
        history: of each epoch done its losses and metrics
        stopped: whether it stopped early
        seconds: how long the updates took
        refused: file -> why it could not be read
    """

    def __init__(
        self, trainee: Trainee, settings: Settings, examples: Sequence[Example], validation: Sequence[Example],
        folder: TrainingFolder, num_workers: int,
    ):  # fmt: skip
        import torch

        self._trainee, self._settings, self._folder = trainee, settings, folder
        self._examples, self._validation = examples, validation
        self._model = trainee.model
        self._batches = Batches(settings, trainee.processor, num_workers)
        self.refused = self._batches.refused
        self.per_epoch = math.ceil(len(examples) / settings.batch_size)
        self.steps = self.per_epoch * settings.epochs
        self._optimizer = torch.optim.AdamW(self._groups(), weight_decay=settings.weight_decay)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate)
        device = torch.device(self._model.device).type
        self._scaler = torch.amp.GradScaler(device, enabled=settings.precision == "float16")
        self.step, self.seconds, self.stopped = 0, 0.0, False
        self.history: list[dict[str, float]] = []
        self._losses: list[float] = []

    def resume(self) -> None:
        """Goes on from the checkpoint of the folder, if there is one."""
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.stopped = state["step"], state["seconds"], state["stopped"]
        self.history, self._losses = state["history"], state["losses"]

    def run(self, after: Callable[[int], None], checkpoint_every: int) -> None:
        """Trains to the end, or until the validation loss no longer falls, and takes up the best weights.

        Args:
            after: is told how many steps are done
            checkpoint_every: steps between checkpoints

        Raises:
            OutOfDeviceMemory: the batch is too large for the device
            IdsynthError: the loss is not finite, or no image can be read
        """
        try:
            while self.step < self.steps and not self.stopped:
                self._epoch(self.step // self.per_epoch, after, checkpoint_every)
        except Exception as error:
            if out_of_memory(error):
                raise self._too_large() from error
            raise
        if not self._losses and not self.history:
            raise IdsynthError("none of the images could be read: see the failures, and mend the files")
        self._take_best()

    def validated(self) -> dict[str, float]:
        """The loss and the metrics on what is held out, with the weights as they are."""
        import torch

        found = Validation(self._settings.task, self._settings.classes)
        self._model.eval()
        with torch.inference_mode():
            for pictures, inputs in self._batches.validating(self._validation):
                with self._autocast():
                    outputs = self._model(**self._on_device(inputs))
                found.add(float(outputs.loss), len(pictures), outputs.logits.float(), inputs["labels"])
        return found.summary()

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest validation loss, from 1."""
        losses = [epoch["validation_loss"] for epoch in self.history if "validation_loss" in epoch]
        return min(range(len(losses)), key=losses.__getitem__) + 1 if losses else None

    # -- steps --------------------------------------------------------------------------------------------------------

    def _epoch(self, epoch: int, after: Callable[[int], None], checkpoint_every: int) -> None:
        for inputs in self._batches.training(self._examples, epoch, self.step % self.per_epoch):
            started = time.monotonic()
            if inputs is not None:
                self._losses.append(self._update(inputs))
            self.step += 1
            self.seconds += time.monotonic() - started
            last = self.step % self.per_epoch == 0
            if last:
                self._close_epoch()
            if self.step % checkpoint_every == 0 or self.stopped or self.step == self.steps:
                self._save()
            after(self.step)

    def _update(self, inputs: Any) -> float:
        import torch

        self._model.train()
        # What a step draws depends on its number alone, so that it is the same after every interruption.
        torch.manual_seed(self._settings.seed * 1_000_003 + self.step)
        with self._autocast():
            loss = self._model(**self._on_device(inputs)).loss
        value = float(loss.detach())
        if not math.isfinite(value):
            raise IdsynthError(
                f"the loss of step {self.step + 1} is not a number: the training has come apart. Choose a lower "
                "learning_rate, or dtype='float32'"
            )
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.max_gradient)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        return value

    def _close_epoch(self) -> None:
        """Validates, keeps the best weights, and decides whether to go on."""
        record = {"loss": sum(self._losses) / max(1, len(self._losses))}
        self._losses = []
        if self._validation:
            found = self.validated()
            record |= {f"validation_{name}": value for name, value in found.items()}
        self.history.append(record)
        best = self.best_epoch
        if best == len(self.history):
            self._keep_best()
        self.stopped = best is not None and len(self.history) - best >= self._settings.patience

    def _autocast(self) -> Any:
        import torch

        if self._settings.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self._model.device).type, getattr(torch, self._settings.precision))

    def _on_device(self, inputs: Any) -> dict[str, Any]:
        device = self._model.device
        return {
            name: [{key: part.to(device) for key, part in one.items()} for one in value]
            if isinstance(value, list)
            else value.to(device)
            for name, value in inputs.items()
        }

    def _groups(self) -> list[dict[str, Any]]:
        rate, new = self._settings.learning_rate, self._trainee.new
        named = [(name, weight) for name, weight in self._model.named_parameters() if weight.requires_grad]
        old = {"params": [weight for name, weight in named if name not in new], "lr": rate}
        head = {"params": [weight for name, weight in named if name in new], "lr": rate * NEW_HEAD_RATE}
        return [group for group in (old, head) if group["params"]]

    def _rate(self, step: int) -> float:
        """Rises in a straight line, then falls with a cosine."""
        rising = max(1, round(self._settings.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    # -- files --------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._folder.save_checkpoint(
            {
                "model": {name: value.detach().cpu() for name, value in self._model.state_dict().items()},
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "scaler": self._scaler.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "stopped": self.stopped,
                "history": self.history,
                "losses": self._losses,
            }
        )

    def _keep_best(self) -> None:
        from safetensors.torch import save

        # Tied weights are written once each by name: the file is for this class alone.
        state = {name: value.detach().cpu().clone() for name, value in self._model.state_dict().items()}
        write_atomically(self._folder.best, save(state))

    def _take_best(self) -> None:
        from safetensors.torch import load_file

        file = self._folder.best
        if self.best_epoch is not None and file.exists():
            self._model.load_state_dict(load_file(file))

    def _too_large(self) -> OutOfDeviceMemory:
        size = self._settings.batch_size
        smaller = f"try train_batch_size={size // 2}, or " if size > 1 else "try "
        return OutOfDeviceMemory(
            f"the memory of {self._model.device} is too small for batches of {size} images: end other programs that "
            f"use it, {smaller}a smaller model"
        )
