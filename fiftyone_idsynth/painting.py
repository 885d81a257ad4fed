"""What stages that make pictures with a diffusion model share: their parameters, and the painter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .engine.worker import NewSample
from .errors import ParameterError, RefusedImage
from .fields import SPLITS
from .models.options import Options
from .parameters import Bounds, Described
from .runs import current_run, fingerprint

if TYPE_CHECKING:
    import numpy as np

    from .models.roles import Generator, Sampling, Wanted

SYNTHETIC_TAG = "synthetic"
"""Sample tag of what a generator made: ``"DATASET#synthetic"`` stands for all of it."""

SHOWN = 10
"""How many prompts a dry run shows."""

Steps = Annotated[
    int | None,
    Bounds(1, 1000),
    Described("denoising steps, by default what the model is made for: 30 for Stable Diffusion, 4 for LCM and Turbo"),
]
Guidance = Annotated[
    float | None,
    Bounds(0, 100),
    Described("how closely the prompt is followed; by default what the model is made for, e.g. 7.5 for SD 1.5"),
]
Scheduler = Annotated[
    Literal["default", "ddim", "ddpm", "dpm++", "euler", "euler_a", "heun", "lcm", "pndm", "unipc"],
    Described("how noise is taken away step by step, by default as the model came"),
]
NegativePrompt = Annotated[str, Described("what the images shall not show, e.g. blurry, watermark, text")]
Loras = Annotated[
    dict[str, Annotated[float, Bounds(-10, 10)]],
    Described(
        "LoRA -> its strength: a .safetensors file, or a folder or hub id with one, made for the same base model"
    ),
]
SafetyChecker = Annotated[
    bool,
    Described("whether the model's safety checker, if it has one, may refuse images; what was done is recorded"),
]
Strength = Annotated[
    float,
    Bounds(0.01, 1),
    Described("how much of the image is given up: near 0 it stays as it is, at 1 nothing is left"),
]
PaintBatch = Annotated[int, Bounds(1, 256), Described("images made at once; halved when the device's memory is short")]
ImageFormat = Annotated[Literal["png", "jpg"], Described("png, in which the pixels are exact, or jpg (quality 95)")]
DryRun = Annotated[
    bool, Described("whether to show only what would be made, with some prompts and the time that it takes")
]


@dataclass(frozen=True)
class PaintSettings:
    """How pictures are made, apart from their size; see :class:`~fiftyone_idsynth.models.roles.Sampling`."""

    steps: int | None = None
    guidance: float | None = None
    scheduler: str = "default"
    loras: tuple[tuple[str, float], ...] = ()
    safety_checker: bool = True
    controlnet: str | None = None
    control_scale: float = 1.0


class Painter:
    """Makes pictures with a generator that is loaded when it is first needed.

    Args:
        model: hub id, folder or ``.safetensors`` file of the generator
        options: how it is loaded
        steps (None): denoising steps; by default the model's own
        guidance (None): classifier-free guidance; by default the model's own
        scheduler ("default"): name of a scheduler
        loras ({}): LoRA -> strength
        safety_checker (True): whether the model's own may refuse pictures
        controlnet (None): a ControlNet, for pictures with a condition
        control_scale (1.0): how strictly it is followed
        batch_size (1): pictures made at once
    """

    def __init__(
        self,
        model: str,
        options: Options,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str = "default",
        loras: Mapping[str, float] = {},
        safety_checker: bool = True,
        controlnet: str | None = None,
        control_scale: float = 1.0,
        batch_size: int = 1,
    ):
        self._model, self._options, self._batch_size = model, options, batch_size
        self._settings = PaintSettings(
            steps, guidance, scheduler, tuple(sorted(loras.items())), safety_checker, controlnet, control_scale
        )

    @property
    def generator(self) -> Generator:
        """The model; loaded when it is first asked for in a process."""
        from .models.loading import find_model
        from .models.roles import Generator

        return find_model(Generator, self._model, self._options)  # type: ignore[type-abstract]  # an interface

    @property
    def about(self) -> dict[str, str]:
        """Name and revision of the model."""
        return {"model": self.generator.name, "revision": self.generator.revision}

    @property
    def key(self) -> str:
        """What pictures depend on besides their prompt, seed and size."""
        about = self.about
        return fingerprint(about["model"], about["revision"], self.generator.dtype, asdict(self._settings))

    @property
    def unit(self) -> int:
        """Both sides of a picture must divide by it."""
        return self.generator.unit

    def fit(self, width: int, height: int, longest: int | None = None) -> tuple[int, int]:
        """The nearest size that the model takes, of about the same proportions.

        Args:
            width: width in pixels
            height: height in pixels
            longest (None): the longer side must not be greater
        """
        zoom = min(1.0, longest / max(width, height)) if longest else 1.0
        unit = self.unit

        def nearest(side: float) -> int:
            fitting = max(unit, round(side / unit) * unit)
            return fitting if longest is None or fitting <= longest else max(unit, longest // unit * unit)

        return nearest(width * zoom), nearest(height * zoom)

    def sampling(self, width: int, height: int, strength: float = 1.0) -> Sampling:
        """How pictures of a size are made, with the model's own settings filled in."""
        from .models.roles import Sampling

        return self.generator.complete(Sampling(width, height, strength=strength, **_by_name(self._settings)))

    def paint(self, wanted: Sequence[Wanted], strength: float = 1.0) -> list[np.ndarray | RefusedImage]:
        """Makes any number of pictures from pictures; those of one kind and size are made together.

        Args:
            wanted: what is asked for, each with a picture
            strength (1.0): how much of the pictures is given up

        Returns:
            for each one RGB, uint8, or why there is none
        """
        sizes = [(one.kind, *one.picture.shape[1::-1]) for one in wanted if one.picture is not None]
        if len(sizes) != len(wanted):
            raise ValueError("pictures from text alone have no size: paint_texts takes one")
        results: dict[int, np.ndarray | RefusedImage] = {}
        for size in dict.fromkeys(sizes):
            members = [number for number, other in enumerate(sizes) if other == size]
            _, width, height = size
            made = self._in_batches([wanted[number] for number in members], self.sampling(width, height, strength))
            results |= dict(zip(members, made, strict=True))
        return [results[number] for number in range(len(wanted))]

    def paint_texts(self, wanted: Sequence[Wanted], width: int, height: int) -> list[np.ndarray | RefusedImage]:
        """Makes pictures from text alone; see :meth:`paint`."""
        return self._in_batches(list(wanted), self.sampling(width, height))

    def _in_batches(self, wanted: list[Wanted], sampling: Sampling) -> list[np.ndarray | RefusedImage]:
        """Halves the batch when memory is short, and then spares memory at the expense of time."""
        import functools

        from .models.batches import in_batches
        from .models.errors import OutOfDeviceMemory

        paint = functools.partial(self.generator.paint, sampling=sampling)
        while True:
            try:
                return in_batches(paint, wanted, self._batch_size, current_run().note)
            except OutOfDeviceMemory:
                measure = self.generator.spare_memory()
                if not measure:
                    raise
                current_run().note(f"{self.generator.about}: memory is short, now {measure}: this takes longer")

    def check_prompts(self, prompts: Iterable[str], negative: str = "") -> None:
        """Notes how many prompts are longer than the model reads, and a negative prompt that it does not heed.

        Args:
            prompts: the prompts; the note shows what is cut off the first that is too long
            negative (""): what pictures shall not show
        """
        if negative and not self.generator.heeds_negative(self.sampling(self.generator.side, self.generator.side)):
            current_run().note(
                f"the negative prompt has no effect: {self.generator.about} heeds none with these settings (distilled "
                "models, and a guidance of at most 1, do without)"
            )
        cut = [(prompt, rest) for prompt in dict.fromkeys(prompts) if (rest := self.generator.cut_off(prompt))]
        if cut:
            prompt, rest = cut[0]
            current_run().note(
                f"{len(cut)} prompts are longer than {self.generator.about} reads: of {prompt[:60] + '...'!r} it "
                f"does not read {rest[:200]!r}. Shorten them, or put first what matters"
            )

    def check_strength(self, strength: float, parameter: str = "strength") -> None:
        """Raises :class:`ParameterError` if no step would be left to do."""
        side = self.generator.side
        steps = self.sampling(side, side).steps or 1
        if int(steps * strength) < 1:
            raise ParameterError(
                parameter, strength,
                f"of {steps} steps only steps x strength are done, which is less than one: take at least "
                f"{int(-(-1 // strength))} steps, or a strength of at least {1 / steps:.2g}",
            )  # fmt: skip

    def announce(self, count: int, width: int, height: int, strength: float = 1.0, *, always: bool = False) -> float:
        """Measures how long the pictures will take, and says so, if that is long or asked for.

        Args:
            count: how many
            width: width in pixels
            height: height in pixels
            strength (1.0): how much of given pictures is given up
            always (False): whether to measure on fast devices too; by default only on the processor

        Returns:
            seconds; 0 if nothing was measured
        """
        generator = self.generator
        if not count or not (always or generator.device == "cpu"):
            return 0.0
        each = generator.seconds_per_image(self.sampling(width, height, strength))
        total = each * count
        current_run().note(
            f"{count} images of {width}x{height} take about {_duration(total)} on {generator.device} "
            f"({each:.2g} s each, measured one at a time)"
        )
        return total

    def record(self) -> None:
        """Notes the models in the run's record."""
        models = current_run().models
        models[self.about["model"]] = self.about["revision"]
        for name, strength in self._settings.loras:
            models[name] = f"LoRA, strength {strength:g}"
        if self._settings.controlnet:
            models[self._settings.controlnet] = "ControlNet"

    def lineage(
        self, wanted: Wanted, width: int, height: int, strength: float | None = None, **more: Any
    ) -> dict[str, Any]:
        """What made a picture, as its lineage keeps it.

        Args:
            wanted: what was asked for
            width: its width in pixels
            height: its height in pixels
            strength (None): how much of a given picture was given up
            **more: what else is needed to make it again
        """
        sampling = self.sampling(width, height)
        generator = self.generator
        checker = (
            "off" if not sampling.safety_checker else "on" if generator.has_safety_checker else "none in the model"
        )
        params = {
            "prompt": wanted.prompt,
            "negative_prompt": wanted.negative,
            **self.about,
            "dtype": generator.dtype,
            "width": width,
            "height": height,
            "steps": sampling.steps,
            "guidance": sampling.guidance,
            "scheduler": sampling.scheduler,
            "loras": [{"name": name, "strength": strength} for name, strength in sampling.loras],
            "safety_checker": checker if sampling.safety_checker else "off",
        }
        if sampling.controlnet:
            params |= {"controlnet": sampling.controlnet, "control_scale": sampling.control_scale}
        if strength is not None:
            params["strength"] = strength
        return {"seed": wanted.seed, "params": {**params, **more}}


def _by_name(settings: PaintSettings) -> dict[str, Any]:
    """The settings by name, with their values as they are."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def picture_seed(seed: int, *parts: Any) -> int:
    """The seed of one picture, which depends on nothing but these: the order and the batch do not matter.

    Args:
        seed: the seed of the run
        *parts: what tells the picture from others, e.g. its number, or the id of the sample it is made from

    Returns:
        0 to 2**31 - 1
    """
    name = ":".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % 2**31


def synthetic(
    key: str,
    filepath: str,
    lineage: Mapping[str, Any],
    *,
    parents: Sequence[str] = (),
    tags: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
    kind: str = "generated",
    tag: str = SYNTHETIC_TAG,
) -> NewSample:
    """A sample that a generator made, or another program from one there is.

    Args:
        key: the unique key of the picture
        filepath: its file, already written
        lineage: seed and params; see :meth:`Painter.lineage`
        parents (()): ids of the samples that it was made from
        tags (()): tags of the sample that it was made from, of which those of splits are inherited
        fields (None): field -> value
        kind ("generated"): ``"generated"``, ``"augmented"`` or ``"enhanced"``
        tag (SYNTHETIC_TAG): the sample tag that all such samples have
    """
    split = [tag for tag in dict.fromkeys(tags) if tag in SPLITS]
    return NewSample(
        key, filepath,
        {**(fields or {}), "source": {"kind": kind}, "lineage": {**lineage, "parents": list(parents)}},
        [tag, *split],
    )  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
