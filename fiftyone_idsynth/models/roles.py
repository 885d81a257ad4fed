"""What pretrained models do for this project: one small interface per role, whatever the model is.

Pictures are given as a list of arrays: uint8, height x width x 3, RGB; sizes may differ within a batch.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ..errors import RefusedImage

Box = tuple[float, float, float, float]
"""Relative x, y, width, height of a rectangle, each 0..1, as in FiftyOne's detections."""


@dataclass(slots=True)
class Tag:
    """Something that a picture shows.

    Attributes:
        name: as the model's table of tags writes it
        confidence: 0..1
        category: what kind of tag it is, e.g. ``"general"``, ``"character"``, ``"rating"``
    """

    name: str
    confidence: float
    category: str = "general"


@dataclass(slots=True)
class Region:
    """A part of a picture.

    Attributes:
        label: what is to be seen there
        confidence: 0..1
        box: relative x, y, width, height, each 0..1
        mask: bool, of the size of the whole picture
        scores: class -> 0..1, the greatest first, where the model judges them all
    """

    label: str
    confidence: float
    box: Box
    mask: np.ndarray | None = None
    scores: dict[str, float] | None = None


class Model(abc.ABC):
    """A pretrained model that is loaded and ready.

    Attributes:
        role: what a model of this kind is called
        example: a published model of this kind
        name: the id or folder that it was asked for by
        revision: the commit of its weights on the hub, or the beginning of their SHA-256; empty where unknown
        device: where it runs, e.g. ``"cuda"``
    """

    role: ClassVar[str] = "model"
    example: ClassVar[str] = ""

    name: str
    revision: str
    device: str

    @property
    def about(self) -> str:
        """Its name and revision, as labels and reports name it."""
        return f"{self.name}@{self.revision[:12]}" if self.revision else self.name


class Tagger(Model):
    """Says what a picture shows, in words from a fixed table."""

    role = "tagger"
    example = "SmilingWolf/wd-vit-tagger-v3"

    @property
    @abc.abstractmethod
    def categories(self) -> tuple[str, ...]:
        """The categories of its tags."""

    @abc.abstractmethod
    def tag(self, pictures: Sequence[np.ndarray], threshold: float = 0.0) -> list[list[Tag]]:
        """Tags pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            threshold (0): the least confidence, 0..1

        Returns:
            for each picture its tags, the surest first
        """


class Captioner(Model):
    """Describes a picture in a sentence."""

    role = "captioner"
    example = "Salesforce/blip-image-captioning-base"

    @abc.abstractmethod
    def caption(
        self, pictures: Sequence[np.ndarray], prompt: str = "", max_new_tokens: int = 50, num_beams: int = 3
    ) -> list[str]:
        """Describes pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            prompt (""): what the model is given besides the picture
            max_new_tokens (50): the longest caption, in tokens
            num_beams (3): how many captions are followed up at a time; 1 is the fastest

        Returns:
            a caption for each picture
        """


class Finder(Model):
    """Finds regions of classes."""

    role = "finder"
    example = "CIDAS/clipseg-rd64-refined"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes that it knows; None if it takes any text."""
        return None

    @abc.abstractmethod
    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Sequence[str] | Mapping[str, str | Sequence[str]],
        *,
        threshold: float,
        background: Sequence[str] = (),
        one_box: bool = False,
    ) -> list[list[Region]]:
        """Finds regions.

        Args:
            pictures: RGB, uint8, of any sizes
            classes: what to look for: texts, or labels with their texts; where the model has classes of its own, some
                of these, or nothing for all
            threshold: the least confidence, 0..1
            background (()): what is no region
            one_box (False): one region round all regions of a class

        Returns:
            for each picture its regions, the surest first
        """


class Refiner(Model):
    """Finds the outline of what is in a box."""

    role = "refiner"
    example = "facebook/sam-vit-base"

    @abc.abstractmethod
    def refine(self, pictures: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]:
        """Turns boxes into masks.

        Args:
            pictures: RGB, uint8, of any sizes
            boxes: for each picture its boxes: relative x, y, width, height

        Returns:
            for each picture a mask (bool, height x width) for each of its boxes, in their order
        """


@dataclass(slots=True)
class SegmentMap:
    """Which class each pixel of a picture belongs to.

    Attributes:
        values: uint8, of the size of the picture: 0 for none, n for the nth class
        confidence: the mean probability of the pixels that have a class, 0..1; None if there are none, or if the model
            gives no probabilities
    """

    values: np.ndarray
    confidence: float | None


class Segmenter(Model):
    """Tells pixel by pixel what a picture shows."""

    role = "segmenter"
    example = "CIDAS/clipseg-rd64-refined"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes that it knows; None if it takes any text."""
        return None

    @abc.abstractmethod
    def segment(
        self,
        pictures: Sequence[np.ndarray],
        classes: Mapping[str, Sequence[str]],
        *,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> list[SegmentMap]:
        """Divides pictures into classes.

        Args:
            pictures: RGB, uint8, of any sizes
            classes: at most 255 labels with their texts; where the model has classes of its own, some of these
            threshold (None): the least probability of a pixel, 0..1; by default what is usual with the model
            background (()): what is no class

        Returns:
            a map for each picture, in which n stands for the nth of the classes
        """


class Matcher(Model):
    """Compares pictures with texts.

    Attributes:
        exclusive: whether the probabilities of a picture sum up to 1 (CLIP), or each text is judged alone (SigLIP)
    """

    role = "matcher"
    example = "openai/clip-vit-base-patch32"

    exclusive: bool

    @abc.abstractmethod
    def match(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """Says how well texts fit pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            texts: descriptions

        Returns:
            float32 (pictures x texts), probabilities 0..1
        """

    @abc.abstractmethod
    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Returns an embedding of each picture: float32 (pictures x dimensions), of length 1."""

    @abc.abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Returns an embedding of each text: float32 (texts x dimensions), of length 1."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture that a generator is asked for.

    Attributes:
        prompt: what it shall show
        seed: of every random choice in it; the same seed gives the same picture, whatever is made beside it
        negative: what it shall not show
        picture: what it is made from: RGB, uint8, height x width x 3, of exactly the size that is asked for
        mask: bool, height x width: what is painted anew; the pixels that are False come back as they are
        condition: what keeps the layout, for a ControlNet: edges or depth, uint8, height x width x 3
    """

    prompt: str
    seed: int
    negative: str = ""
    picture: np.ndarray | None = None
    mask: np.ndarray | None = None
    condition: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """``"text"``, ``"image"`` or ``"inpaint"``."""
        if self.picture is None:
            return "text"
        return "image" if self.mask is None else "inpaint"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a generator makes pictures.

    Attributes:
        width: width in pixels
        height: height in pixels
        steps: number of denoising steps; by default what the model is made for
        guidance: how closely the prompt is followed (classifier-free guidance); by default what the model is made for
        scheduler: a name of :data:`fiftyone_idsynth.models.diffusion.schedulers.SCHEDULERS`, or ``"default"``
        strength: how much of a given picture is given up, 0..1
        loras: names of LoRA files, each with its strength
        controlnet: the ControlNet that looks at the condition
        control_scale: how strictly the condition is kept
        safety_checker: whether the model's safety checker, if it has one, may refuse pictures
    """

    width: int
    height: int
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = "default"
    strength: float = 1.0
    loras: tuple[tuple[str, float], ...] = ()
    controlnet: str | None = None
    control_scale: float = 1.0
    safety_checker: bool = True


class Generator(Model):
    """Makes pictures from texts, and from pictures and texts.

    Attributes:
        unit: both sides of a picture must divide by it
        side: the side in pixels of the pictures that it was trained with
        dtype: the precision that it computes in, e.g. ``"float16"``
        family: ``"sd"``, ``"sdxl"`` or ``"other"``
        parts: its parts by name, e.g. ``"unet"``, ``"vae"``, ``"tokenizer"``, as diffusers has them
        kinds: what it can do: ``"text"``, ``"image"``, ``"inpaint"``
        has_safety_checker: whether there is one that may refuse pictures
    """

    role = "image generator"
    example = "stable-diffusion-v1-5/stable-diffusion-v1-5"

    unit: int
    side: int
    dtype: str
    family: str
    parts: dict[str, Any]
    kinds: tuple[str, ...]
    has_safety_checker: bool

    @abc.abstractmethod
    def paint(self, wanted: Sequence[Wanted], sampling: Sampling) -> list[np.ndarray | RefusedImage]:
        """Makes pictures.

        Args:
            wanted: what is asked for, all of one kind
            sampling: how

        Returns:
            for each one RGB, uint8, height x width x 3, or why there is none

        Raises:
            ParameterError: a size, or the number of steps, will not do
            ModelError: the model cannot do it, or a LoRA or ControlNet does not fit it
        """

    @abc.abstractmethod
    def complete(self, sampling: Sampling) -> Sampling:
        """The sampling with the model's own steps, guidance and scheduler where none is asked for."""

    @abc.abstractmethod
    def cut_off(self, prompt: str) -> str:
        """The end of a prompt that the model does not read, since it is too long; empty if it reads all."""

    @abc.abstractmethod
    def heeds_negative(self, sampling: Sampling) -> bool:
        """Whether negative prompts have an effect."""

    @abc.abstractmethod
    def seconds_per_image(self, sampling: Sampling) -> float:
        """Measures how long a picture takes, by making one with few steps."""

    @abc.abstractmethod
    def spare_memory(self) -> str:
        """Takes the next measure that saves memory at the expense of time, and names it; empty if there is none."""


class BackgroundRemover(Model):
    """Tells the foreground of a picture from its background, whatever the foreground is."""

    role = "background remover"
    example = "onnx-community/BiRefNet-ONNX"

    @abc.abstractmethod
    def foreground(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Finds the foreground of pictures.

        Args:
            pictures: RGB, uint8, of any sizes

        Returns:
            for each picture float32, height x width: how surely, or how much of, each pixel is foreground, 0..1
        """


class DepthEstimator(Model):
    """Tells how near things in a picture are."""

    role = "depth estimator"
    example = "depth-anything/Depth-Anything-V2-Small-hf"

    @abc.abstractmethod
    def depth(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Estimates depth.

        Args:
            pictures: RGB, uint8, of any sizes

        Returns:
            for each picture float32, height x width: 1 for the nearest and 0 for the farthest thing in it
        """


class Upscaler(Model):
    """Makes pictures larger, with detail that is likely to have been there.

    Attributes:
        scale: by which factor
        unit: the picture is divided into windows of this side, in pixels; those of a part of it lie as those of the
            whole if its corner is at a multiple of it
    """

    role = "upscaler"
    example = "caidas/swin2SR-classical-sr-x2-64"

    scale: int
    unit: int

    @abc.abstractmethod
    def upscale(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Enlarges pictures.

        Args:
            pictures: RGB, uint8, all of one size

        Returns:
            for each one RGB, uint8, ``scale`` times as high and wide
        """
