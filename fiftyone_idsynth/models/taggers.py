"""Taggers: ONNX files of the WD14, ML-Danbooru and DeepDanbooru kinds, ONNX classifiers, transformers classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .backends import load_pretrained, load_processor, onnx_session, session_device
from .errors import WrongModel
from .found import Found
from .onnx_inputs import InputFormat, input_format
from .options import Options
from .pretrained import Pretrained
from .roles import Model, Tag, Tagger
from .tag_tables import Table, read_table


class OnnxTagger(Tagger):
    """A tagger in an ONNX file, with a table of its tags beside it.

    What it expects shows in its input and in its table, see :func:`~fiftyone_idsynth.models.onnx_inputs.input_format`.
    Whether it gives probabilities or logits shows in their values: logits go through a sigmoid where several tags can
    be true, else through a softmax.

    Args:
        found: where it was found
        session: the open file
        table: the names of its outputs
        inputs: what it takes
        output: the name of the output that holds the scores
        logits: whether these are logits
    """

    def __init__(self, found: Found, session: Any, table: Table, inputs: InputFormat, output: str, logits: bool):
        self.name, self.revision, self.device = found.name, found.revision, session_device(session)
        self.table = table
        self._session, self._inputs, self._output, self._logits = session, inputs, output, logits

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.table.categories))

    def tag(self, pictures: Sequence[np.ndarray], threshold: float = 0.0) -> list[list[Tag]]:
        if not len(pictures):
            return []
        batch = np.stack([self._inputs.prepare(picture) for picture in pictures])
        scores = as_scores(run(self._session, self._inputs, self._output, batch))
        if self._logits:
            scores = sigmoid(scores) if self.table.kind == "tags" else softmax(scores)
        return ranked(scores, self.table.names, self.table.categories, threshold)


class TransformersTagger(Pretrained, Tagger):
    """An image classifier of transformers: with a sigmoid if it was trained for several labels, else with a softmax."""

    def __init__(self, model: Any, processor: Any, found: Found):
        super().__init__(model, processor, found)
        labels = model.config.id2label
        self.names = tuple(str(labels[n]) for n in range(len(labels)))
        self.several = model.config.problem_type == "multi_label_classification"

    @property
    def categories(self) -> tuple[str, ...]:
        return ("general",)

    def tag(self, pictures: Sequence[np.ndarray], threshold: float = 0.0) -> list[list[Tag]]:
        import torch

        if not len(pictures):
            return []
        inputs = self.processor(images=list(pictures), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.model.device, self.model.dtype)).logits.float()
            scores = logits.sigmoid() if self.several else logits.softmax(-1)
        return ranked(scores.cpu().numpy(), self.names, ("general",) * len(self.names), threshold)


def fits(found: Found, role: type[Model]) -> bool:
    """Whether this may be a tagger; of an ONNX file only its outputs tell."""
    return role is Tagger and (_is_classifier(found) or bool(found.onnx_files))


def load(found: Found, options: Options, role: type[Model]) -> Model:
    """Loads a tagger.

    Raises:
        ModelError: it cannot be loaded, or is none
    """
    if _is_classifier(found):
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        model = load_pretrained(AutoModelForImageClassification, found, options)
        return TransformersTagger(model, load_processor(AutoImageProcessor, found), found)
    return _load_onnx(found, options)


def ranked(scores: np.ndarray, names: Sequence[str], categories: Sequence[str], threshold: float) -> list[list[Tag]]:
    """Turns scores (pictures x tags) into tags, the surest first."""
    found = []
    for row in scores:
        kept = np.flatnonzero(row >= threshold)
        order = kept[np.argsort(-row[kept], kind="stable")]
        found.append([Tag(names[n], float(row[n]), categories[n]) for n in order])
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of which one is true, along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(-1, keepdims=True)
    return result


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of which several can be true."""
    result: np.ndarray = 0.5 * (1 + np.tanh(logits / 2))  # does not overflow
    return result


def as_scores(outputs: np.ndarray) -> np.ndarray:
    """Outputs as float32; those of quantised models count 0..255."""
    if outputs.dtype == np.uint8:
        return outputs.astype(np.float32) / 255
    return outputs.astype(np.float32)


def run(session: Any, inputs: InputFormat, output: str, batch: np.ndarray) -> np.ndarray:
    """Puts a batch through an ONNX model; one made for batches of one size gets such, the last filled up."""
    size = inputs.batch or len(batch)
    results = []
    for first in range(0, len(batch), size):
        part = batch[first : first + size]
        filled = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
        results.append(session.run([output], {inputs.name: filled})[0][: len(part)])
    return np.concatenate(results)


def _is_classifier(found: Found) -> bool:
    if not found.model_type or found.file:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    if found.model_type not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return False
    # Some were exported to ONNX, and keep their configuration.
    only_onnx = found.onnx_files and not any(file.endswith((".safetensors", ".bin")) for file in found.files)
    return not only_onnx and any("ForImageClassification" in name for name in found.architectures)


def _load_onnx(found: Found, options: Options) -> OnnxTagger:
    file = found.onnx_files[0]
    if len(found.onnx_files) > 1 and file not in ("model.onnx", "onnx/model.onnx"):
        raise WrongModel(
            f"{found.name} holds several ONNX files ({', '.join(found.onnx_files[:5])}): name one, e.g. "
            f"{found.name}/{file}"
        )
    session = onnx_session(found, file, options)
    outputs = [o for o in session.get_outputs() if len(o.shape) == 2 and isinstance(o.shape[1], int)]
    if len(session.get_inputs()) != 1 or not outputs:
        shapes = ", ".join(f"{o.name} {o.shape}" for o in session.get_outputs())
        raise WrongModel(
            f"{found.name} is not a tagger: one has a single input and gives one score for each tag, but {file} gives "
            f"{shapes}. Name a tagger, e.g. {Tagger.example}"
        )
    table = read_table(found, [output.shape[1] for output in outputs])
    outputs = [output for output in outputs if output.shape[1] == len(table.names)]
    words = ("pred", "prob", "sigmoid", "softmax")  # beside logits, some give probabilities
    chosen = max(outputs, key=lambda output: any(word in output.name.lower() for word in words))
    inputs = input_format(found, session.get_inputs()[0], table)
    return OnnxTagger(found, session, table, inputs, chosen.name, _gives_logits(session, inputs, chosen.name))


def _gives_logits(session: Any, inputs: InputFormat, output: str) -> bool:
    """Whether outputs leave the range of probabilities, for a black picture and for noise."""
    noise = np.random.default_rng(0).integers(0, 256, (inputs.height, inputs.width, 3), np.uint8)
    batch = np.stack([inputs.prepare(np.zeros_like(noise)), inputs.prepare(noise)])
    scores = as_scores(run(session, inputs, output, batch))
    return bool(scores.min() < -1e-3 or scores.max() > 1 + 1e-3)
