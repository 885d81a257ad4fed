"""The training of a LoRA: adapters, loss, optimiser, and checkpoints after which it goes on as if never interrupted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ...errors import IdsynthError
from ...models.batches import out_of_memory
from ...models.errors import OutOfDeviceMemory
from ...painting import picture_seed
from ...stage import current_run

if TYPE_CHECKING:
    from .base import Base
    from .buckets import Order
    from .cache import Cache
    from .examples import Example
    from .folder import LoraFolder

Layers = Literal["attention", "transformer"]
Schedule = Literal["cosine", "linear", "constant"]

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
_TARGETS: dict[Layers, dict[str, list[str]]] = {
    "attention": {"unet": _ATTENTION, "text": ["q_proj", "k_proj", "v_proj", "out_proj"]},
    "transformer": {
        "unet": [*_ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"],
        "text": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    },
}
"""Layers that get an adapter; ``"transformer"`` are those that kohya's trainers choose."""

_WEIGHT_DECAY = 0.01
_MAX_GRADIENT_NORM = 1.0
_ESTIMATE_AFTER = 5
"""Steps after which the rest of the time is estimated; the first ones are slower."""


@dataclass(frozen=True)
class Rules:
    """How a LoRA is trained.

    Attributes:
        rank: inner dimension of the adapters
        alpha: their outputs are multiplied by alpha / rank
        layers: which layers get an adapter
        learning_rate: greatest learning rate of the UNet's adapters
        text_learning_rate: that of the text encoders' adapters; they are not trained if None
        schedule: how the learning rate falls after the warm-up
        warmup: share of the steps during which it rises
        steps: updates of the weights
        batch_size: images whose gradients are computed at once
        accumulation: batches whose gradients make one update
        snr_gamma: limit of the signal-to-noise ratio in the weight of the loss (Min-SNR, Hang et al., 2023)
        gradient_checkpointing: whether activations are computed twice rather than kept
        seed: of every random choice
    """

    rank: int
    alpha: int
    layers: Layers
    learning_rate: float
    text_learning_rate: float | None
    schedule: Schedule
    warmup: float
    steps: int
    batch_size: int
    accumulation: int
    snr_gamma: float | None
    gradient_checkpointing: bool
    seed: int


class Trainer:
    """Trains adapters in the parts of a model.

    Args:
        base: the model
        rules: how
        examples: the images and their texts
        order: which of them make up each batch
        cache: their latents and embeddings

    Attributes:
        step: updates done
        losses: the loss of each of them
        rates: the UNet's learning rate in each of them
        parts: the parts of the model that have adapters
        seconds: how long the updates took
    """

    def __init__(self, base: Base, rules: Rules, examples: Sequence[Example], order: Order, cache: Cache):
        import torch
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler

        self._base, self._rules, self._examples, self._order, self._cache = base, rules, examples, order, cache
        self._noise = DDPMScheduler.from_config(base.pipeline.scheduler.config)
        self.parts = ("unet", *(base.encoders if rules.text_learning_rate is not None else ()))
        _add_adapters(base, rules, self.parts)
        groups = [{"params": self._trained(["unet"]), "lr": rules.learning_rate}]
        if rules.text_learning_rate is not None:
            groups.append({"params": self._trained(self.parts[1:]), "lr": rules.text_learning_rate})
        self._optimizer = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
        self._schedule = get_scheduler(
            "constant_with_warmup" if rules.schedule == "constant" else rules.schedule, self._optimizer,
            num_warmup_steps=round(rules.warmup * rules.steps), num_training_steps=rules.steps,
        )  # fmt: skip
        self._scaler = torch.amp.GradScaler(torch.device(base.device).type, enabled=base.precision == "float16")
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.rates: list[float] = []

    def resume(self, folder: LoraFolder) -> None:
        """Goes on from the checkpoint of a folder, if there is one."""
        state = folder.load_checkpoint()
        if state is None:
            return
        weights = dict(self._named())
        for name, value in state["weights"].items():
            weights[name].data.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self.step, self.losses, self.rates = state["step"], state["losses"], state["rates"]
        self.seconds = state["seconds"]

    def save(self, folder: LoraFolder) -> None:
        """Writes a checkpoint."""
        folder.save_checkpoint(
            {
                "weights": {name: weight.detach().cpu() for name, weight in self._named()},
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "scaler": self._scaler.state_dict(),
                "step": self.step,
                "losses": self.losses,
                "rates": self.rates,
                "seconds": self.seconds,
            }
        )

    def train(self, after: Callable[[int], None]) -> None:
        """Does the steps that are left.

        Args:
            after: is called after each step with the number of steps done

        Raises:
            OutOfDeviceMemory: the batch is too large for the device
        """
        run, rules, first, before = current_run(), self._rules, self.step, self.seconds
        with run.progress(rules.steps - first) as bar:
            while self.step < rules.steps:
                started = time.monotonic()
                try:
                    self._update()
                except Exception as error:
                    if out_of_memory(error):
                        raise self._too_large() from error
                    raise
                self.seconds += time.monotonic() - started
                after(self.step)
                bar.update(1)
                if self.step - first == _ESTIMATE_AFTER:
                    each, left = (self.seconds - before) / _ESTIMATE_AFTER, rules.steps - self.step
                    end = datetime.now() + timedelta(seconds=left * each)
                    run.announce(f"{left} steps are left, {each:.2g} s each: done at about {end:%a %H:%M}")

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switches the model to how it is used, not how it is trained."""
        modules = [getattr(self._base.pipeline, part) for part in self.parts]
        for module in modules:
            module.eval()
        try:
            yield
        finally:
            for module in modules:
                module.train()

    def _update(self) -> None:
        import torch

        total = 0.0
        for part in range(self._rules.accumulation):
            number = self.step * self._rules.accumulation + part
            with self._base.autocast():
                loss = self._loss(number) / self._rules.accumulation
            self._scaler.scale(loss).backward()
            total += float(loss.detach())
        if total != total:
            raise IdsynthError(
                f"the loss of step {self.step + 1} is not a number: the training has come apart. Choose a lower "
                "learning_rate, or dtype='float32'"
            )
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._trained(self.parts), _MAX_GRADIENT_NORM)
        self.rates.append(float(self._schedule.get_last_lr()[0]))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        self.losses.append(total)
        self.step += 1

    def _loss(self, number: int) -> Any:
        """The mean squared error of what the model predicts for a batch with noise."""
        import torch

        batch = [self._examples[i] for i in self._order.batch(number)]
        latents = self._cache.latents(batch)
        # Drawn on the CPU from a generator of its own: the same on every device, and after every interruption.
        random = torch.Generator("cpu").manual_seed(picture_seed(self._rules.seed, "batch", number))
        noise = torch.randn(latents.shape, generator=random).to(latents.device)
        times = torch.randint(0, self._noise.config.num_train_timesteps, (len(batch),), generator=random)
        times = times.to(latents.device)
        embeddings, pooled = self._texts([example.text for example in batch])
        noisy = self._noise.add_noise(latents, noise, times).to(self._base.torch_dtype)
        predicted = self._base.unet(noisy, times, embeddings, added_cond_kwargs=self._conditions(batch, pooled)).sample
        velocity = self._noise.config.prediction_type == "v_prediction"
        target = self._noise.get_velocity(latents, noise, times) if velocity else noise
        errors = torch.nn.functional.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3))
        return (errors * self._weights(times, velocity)).mean()

    def _texts(self, texts: Sequence[str]) -> tuple[Any, Any]:
        if self._rules.text_learning_rate is None:
            return self._cache.embeddings(texts)
        return self._base.embed(texts)

    def _conditions(self, batch: Sequence[Example], pooled: Any) -> dict[str, Any] | None:
        """What SDXL is told besides the text: size of the image, what is cropped from it, and size of the bucket."""
        import torch

        if pooled is None:
            return None
        ids = [
            (e.size[1], e.size[0], e.placement.top, e.placement.left, e.placement.bucket[1], e.placement.bucket[0])
            for e in batch
        ]
        return {"text_embeds": pooled, "time_ids": torch.tensor(ids, device=pooled.device, dtype=pooled.dtype)}

    def _weights(self, times: Any, velocity: bool) -> Any:
        """The weight of each image in the loss."""
        import torch
        from diffusers.training_utils import compute_snr

        if self._rules.snr_gamma is None:
            return torch.ones(len(times), device=times.device)
        ratio = compute_snr(self._noise, times)
        limited = ratio.clamp(max=self._rules.snr_gamma)
        return limited / (ratio + 1 if velocity else ratio)

    def _named(self) -> Iterable[tuple[str, Any]]:
        """The trained weights by name."""
        for part in self.parts:
            for name, weight in getattr(self._base.pipeline, part).named_parameters():
                if weight.requires_grad:
                    yield f"{part}.{name}", weight

    def _trained(self, parts: Iterable[str]) -> list[Any]:
        return [
            weight
            for part in parts
            for weight in getattr(self._base.pipeline, part).parameters()
            if weight.requires_grad
        ]

    def _too_large(self) -> OutOfDeviceMemory:
        rules, ways = self._rules, []
        if not rules.gradient_checkpointing:
            ways.append("gradient_checkpointing=True")
        if rules.batch_size > 1:
            ways.append(f"train_batch_size={rules.batch_size // 2} with twice the gradient_accumulation_steps")
        ways += ["a lower resolution", "a lower rank"]
        return OutOfDeviceMemory(
            f"the memory of {self._base.device} is too small for batches of {rules.batch_size} images: end other "
            f"programs that use it, or try {', '.join(ways)}"
        )


def _add_adapters(base: Base, rules: Rules, parts: Iterable[str]) -> None:
    """Freezes the model and puts trainable adapters in float32 into its parts."""
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    for module in (base.unet, base.vae, *base.encoders.values()):
        module.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(rules.seed)
        for part in parts:
            module = getattr(base.pipeline, part)
            targets = _TARGETS[rules.layers]["unet" if part == "unet" else "text"]
            module.add_adapter(
                LoraConfig(r=rules.rank, lora_alpha=rules.alpha, init_lora_weights="gaussian", target_modules=targets)
            )
            cast_training_params(module, dtype=torch.float32)
            module.train()
            if rules.gradient_checkpointing:
                if part == "unet":
                    module.enable_gradient_checkpointing()
                else:
                    module.gradient_checkpointing_enable({"use_reentrant": False})
