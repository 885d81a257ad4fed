"""Semantic segmentation: CLIPSeg with texts, models of transformers, and ONNX files with fixed classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from . import clipseg
from .backends import load_pretrained, load_processor, onnx_session, session_device
from .errors import BrokenModel, WrongModel
from .found import Found
from .onnx_inputs import InputFormat, input_format
from .options import Options
from .pretrained import Pretrained
from .regions import background_texts, known_classes
from .roles import Finder, Model, Segmenter, SegmentMap
from .tag_tables import Table
from .taggers import run, softmax

NOTHING = frozenset({"background", "__background__", "unlabeled", "unlabelled", "void"})
"""Names of classes that stand for none."""

WORK_SIDE = 1024
"""The longest side on which classes are compared; larger pictures get their map from there, as the maps that models
make are smaller anyway and 150 of them for a large photo would take gigabytes."""

QUERIES = ("detr", "mask2former", "maskformer")
"""Families that predict masks for queries, and of these a class map."""

Classes = Mapping[str, Sequence[str]]


def fits(found: Found, role: type[Model]) -> bool:
    if role is not Segmenter:
        return False
    return found.model_type == "clipseg" or _is_transformers(found) or _is_onnx(found)


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a segmenter.

    Raises:
        ModelError: it cannot be loaded, or is none
    """
    if found.model_type == "clipseg":
        return TextSegmenter(clipseg.load(found, options, Finder))
    if not _is_transformers(found):
        return _load_onnx(found, options)
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    queries = found.model_type in QUERIES
    auto_class = AutoModelForUniversalSegmentation if queries else AutoModelForSemanticSegmentation
    made = QuerySegmenter if queries else TransformersSegmenter
    return made(load_pretrained(auto_class, found, options), load_processor(AutoImageProcessor, found), found)


class TextSegmenter(Segmenter):
    """CLIPSeg: a pixel belongs to the likeliest class if its probability is over the threshold and over that of every
    description of the background.

    Args:
        model: the CLIPSeg
    """

    def __init__(self, model: Any):
        self._model = model
        self.name, self.revision, self.device = model.name, model.revision, model.device

    def segment(
        self,
        pictures: Sequence[np.ndarray],
        classes: Classes,
        *,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> list[SegmentMap]:
        owners = [(text, value) for value, texts in enumerate(classes.values(), start=1) for text in texts]
        owners += [(text, 0) for text in background_texts(background)]
        if not len(pictures):
            return []
        maps = self._model.probabilities(pictures, [text for text, _ in owners])
        least = 0.5 if threshold is None else threshold
        values = [value for _, value in owners]
        return [likeliest(m, values, p.shape[:2], least) for p, m in zip(pictures, maps, strict=True)]


class FixedSegmenter(Segmenter):
    """What segmenters with classes of their own have in common.

    A class whose name means none, such as ``background``, is never reported.
    """

    _names: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(name for name in self._names if name.casefold() not in NOTHING)

    def values(self, classes: Classes, background: Sequence[str]) -> list[int]:
        """The value that each class of the model gets: 0 unless it is asked for."""
        labels = known_classes(classes, self.classes, self.name)
        dropped = known_classes(background, self.classes, self.name) if background else {}
        numbers = {label: number for number, label in enumerate(classes, start=1)}
        return [0 if n in dropped or n not in labels else numbers[labels[n]] for n in self._names]


class TransformersSegmenter(Pretrained, FixedSegmenter):
    """A model of transformers that scores the classes of each pixel, e.g. SegFormer, BEiT, UperNet."""

    def __init__(self, model: Any, processor: Any, found: Found):
        super().__init__(model, processor, found)
        labels = model.config.id2label
        self._names = tuple(str(labels[n]) for n in range(len(labels)))

    def segment(
        self,
        pictures: Sequence[np.ndarray],
        classes: Classes,
        *,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> list[SegmentMap]:
        import torch

        values = self.values(classes, background)
        if not len(pictures):
            return []
        with torch.inference_mode():
            inputs = self._inputs(pictures).to(self.device, self.model.dtype)
            maps = self.model(**inputs).logits.float().softmax(1).cpu().numpy()
        return [likeliest(m, values, p.shape[:2], threshold or 0.0) for p, m in zip(pictures, maps, strict=True)]

    def _inputs(self, pictures: Sequence[np.ndarray]) -> Any:
        whole: dict[str, Any] = {}
        if getattr(self.processor, "do_center_crop", False):  # made for classifiers: it would lose the margins
            crop = self.processor.crop_size
            whole = {"do_center_crop": False, "size": {"height": crop["height"], "width": crop["width"]}}
        return self.processor(images=list(pictures), input_data_format="channels_last", return_tensors="pt", **whole)


class QuerySegmenter(TransformersSegmenter):
    """A model of transformers that predicts a class and a mask for each of some queries: MaskFormer, Mask2Former, DETR.

    Only pictures of one size run together: the masks of others would cover their padding too.
    """

    def segment(
        self,
        pictures: Sequence[np.ndarray],
        classes: Classes,
        *,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> list[SegmentMap]:
        import torch

        lookup = np.array(self.values(classes, background), np.uint8)
        same: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(pictures):
            same.setdefault(picture.shape, []).append(number)
        found: dict[int, SegmentMap] = {}
        for (height, width, _), numbers in same.items():
            with torch.inference_mode():
                inputs = self._inputs([pictures[n] for n in numbers])
                outputs = self.model(**inputs.to(self.device, self.model.dtype))
                maps = self.processor.post_process_semantic_segmentation(
                    outputs, target_sizes=[work_size(height, width)] * len(numbers)
                )
            for number, classified in zip(numbers, maps, strict=True):
                chosen = lookup[classified.cpu().numpy()]
                found[number] = SegmentMap(resized(chosen, height, width), None)
        return [found[number] for number in range(len(pictures))]


class OnnxSegmenter(FixedSegmenter):
    """An ONNX file that gives the number of the class of each pixel, or a score for each class.

    Args:
        found: where it was found
        session: the open file
        inputs: what it takes
        names: its classes, in the order of their numbers
    """

    def __init__(self, found: Found, session: Any, inputs: InputFormat, names: tuple[str, ...]):
        self.name, self.revision, self.device = found.name, found.revision, session_device(session)
        self._session, self._inputs, self._names = session, inputs, names
        self._output = session.get_outputs()[0].name
        self.scored = self._scores(self._run([np.zeros((64, 64, 3), np.uint8)])) is not None

    def segment(
        self,
        pictures: Sequence[np.ndarray],
        classes: Classes,
        *,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> list[SegmentMap]:
        values = self.values(classes, background)
        if not len(pictures):
            return []
        output = self._run(pictures)
        maps = self._scores(output)
        if maps is not None:
            return [likeliest(m, values, p.shape[:2], threshold or 0.0) for p, m in zip(pictures, maps, strict=True)]
        numbers = output.reshape(len(pictures), *output.shape[-2:]) if output.shape[1] == 1 else output
        if numbers.min() < 0 or numbers.max() >= len(self._names):
            raise BrokenModel(
                f"{self.name} gives classes up to {numbers.max()}, but the file beside it names {len(self._names)}: "
                "name them all, one a line"
            )
        lookup = np.array(values, np.uint8)
        return [SegmentMap(resized(lookup[m], *p.shape[:2]), None) for p, m in zip(pictures, numbers, strict=True)]

    def _run(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        batch = np.stack([self._inputs.prepare(picture) for picture in pictures])
        return run(self._session, self._inputs, self._output, batch)

    def _scores(self, output: np.ndarray) -> np.ndarray | None:
        """Probabilities (pictures x classes x h x w), or None if the output is a map of class numbers."""
        count = len(self._names)
        if output.ndim == 4 and count in (output.shape[1], output.shape[3]):
            scores = output if output.shape[1] == count else output.transpose(0, 3, 1, 2)
            scores = scores.astype(np.float32)
            likely = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-2)
            return scores if likely else np.moveaxis(softmax(np.moveaxis(scores, 1, -1)), -1, 1)
        if np.issubdtype(output.dtype, np.integer) and (
            output.ndim == 3 or (output.ndim == 4 and output.shape[1] == 1)
        ):
            return None
        raise WrongModel(
            f"{self.name} is no segmenter of {count} classes: its output has the shape {output.shape}. One gives the "
            "number of the class of each pixel, or a score for each class"
        )


def likeliest(maps: np.ndarray, values: Sequence[int], size: tuple[int, ...], threshold: float) -> SegmentMap:
    """Chooses a class for each pixel.

    Args:
        maps: probabilities, classes x h x w
        values: what each class is to be called in the result; 0 for none, and several may have the same
        size: height and width of the picture
        threshold: pixels whose likeliest class is not over it get 0
    """
    import cv2

    height, width = work_size(size[0], size[1])
    best = np.full((height, width), -1.0, np.float32)
    chosen = np.zeros((height, width), np.uint8)
    for probability, value in zip(maps, values, strict=True):
        larger = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        higher = larger > best
        chosen[higher] = value
        best[higher] = larger[higher]
    chosen[best <= threshold] = 0
    inside = chosen > 0
    confidence = float(np.clip(best[inside].mean(), 0, 1)) if inside.any() else None
    return SegmentMap(resized(chosen, size[0], size[1]), confidence)


def work_size(height: int, width: int) -> tuple[int, int]:
    """The height and width in which classes are compared."""
    scale = min(1.0, WORK_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of class numbers (uint8) in another size."""
    import cv2

    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _is_transformers(found: Found) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as FAMILIES

    segments = any("Segmentation" in name or name.startswith("MaskFormer") for name in found.architectures)
    return segments and not found.file and (found.model_type in FAMILIES or found.model_type in QUERIES)


def _is_onnx(found: Found) -> bool:
    return bool(found.onnx_files) and not found.beside("selected_tags.csv")


def _load_onnx(found: Found, options: Options) -> OnnxSegmenter:
    session = onnx_session(found, found.onnx_files[0], options)
    value, output = session.get_inputs()[0], session.get_outputs()[0]
    if len(output.shape) != 4 and not (len(output.shape) == 3 and "int" in output.type):
        raise WrongModel(
            f"{found.name} is no segmenter: its output has the shape {output.shape}, but one gives the number of the "
            f"class of each pixel, or a score for each class. Name a segmenter, e.g. {Segmenter.example}"
        )
    file, names = _label_names(found)
    inputs = input_format(found, value, Table(file, names, ("general",) * len(names), "labels"))
    inputs = dataclasses.replace(inputs, fit="stretch")  # every pixel needs a class, also those at the margins
    if not all(isinstance(side, int) for side in value.shape[1:]) and not found.beside("preprocessor_config.json"):
        inputs = dataclasses.replace(inputs, height=512, width=512)
    return OnnxSegmenter(found, session, inputs, names)


def _label_names(found: Found) -> tuple[str, tuple[str, ...]]:
    """The file that names the classes, and the names."""
    stem = PurePosixPath(found.onnx_files[0]).stem
    named = sorted(PurePosixPath(f).name for f in found.files if f.endswith("segmentation_labels.txt"))
    file = found.beside(f"{stem}_labels.txt", *named, "labels.txt", "classes.txt")
    if file:
        text = (found.fetch([file]) / file).read_text(encoding="utf-8")
        lines = (line.strip() for line in text.strip().splitlines())
        return file, tuple(takewhile(bool, lines))  # below an empty line some files explain themselves
    labels = found.config.get("id2label") or {}
    if labels:
        return "config.json", tuple(str(labels[key]) for key in sorted(labels, key=int))
    raise BrokenModel(f"{found.name} does not name its classes: write them, one a line, to {stem}_labels.txt beside it")
