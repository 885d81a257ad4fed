"""Boxes from text by open-vocabulary detectors: OWL-ViT, OWLv2, Grounding DINO, MM Grounding DINO, OmDet-Turbo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ParameterError
from .found import Found
from .options import Options
from .pretrained import Pretrained
from .regions import Descriptions, background_texts, class_texts, join, relative_box, suppress
from .roles import Finder, Model, Region

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one picture: corners (n x 4, in pixels), confidences (n), and the number of the text that fits best (n)."""


def fits(found: Found, role: type[Model]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES as FAMILIES

    return role is Finder and found.model_type in FAMILIES


def load(found: Found, options: Options, role: type[Model]) -> Model:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    from .backends import load_pretrained, load_processor

    made = GroundingDino if found.model_type in ("grounding-dino", "mm-grounding-dino") else OpenVocabulary
    model = load_pretrained(AutoModelForZeroShotObjectDetection, found, options)
    return made(model, load_processor(AutoProcessor, found), found)


class OpenVocabulary(Pretrained, Finder):
    """Finds boxes of anything that can be said in words."""

    def find(
        self,
        pictures: Sequence[np.ndarray],
        classes: Descriptions,
        *,
        threshold: float = 0.3,
        background: Sequence[str] = (),
        one_box: bool = False,
        iou: float = 0.5,
    ) -> list[list[Region]]:
        """Finds boxes of classes.

        Args:
            pictures: RGB, uint8, of any sizes
            classes: texts, or labels with their texts; ``"red panda|small red animal"`` are two texts for one class
            threshold (0.3): the least confidence, 0..1
            background (()): what is no class; a box that it fits best is dropped
            one_box (False): one box round all boxes of a class
            iou (0.5): of boxes of one class that overlap more than this, the surest is kept

        Returns:
            for each picture its regions, the surest first
        """
        wanted = class_texts(classes)
        if not len(pictures):
            return []
        owners: dict[str, str | None] = {text: label for label, texts in wanted.items() for text in texts}
        for text in background_texts(background):
            owners.setdefault(text, None)
        texts = list(owners)
        found = []
        for picture, (corners, scores, best) in zip(pictures, self._scored(pictures, texts, threshold), strict=True):
            height, width = picture.shape[:2]
            regions = []
            for corner, score, number in zip(corners, scores, best, strict=True):
                label, box = owners[texts[number]], relative_box(corner, width, height)
                if label is not None and box[2] > 0 and box[3] > 0:
                    regions.append(Region(label, float(score), box))
            kept = suppress(regions, iou)
            found.append(join(kept) if one_box else kept)
        return found

    def _scored(self, pictures: Sequence[np.ndarray], texts: list[str], threshold: float) -> list[Scored]:
        import torch

        inputs = self.processor(
            images=list(pictures),
            text=[texts] * len(pictures),
            input_data_format="channels_last",
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.model.dtype)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        answers = self.processor.post_process_grounded_object_detection(
            outputs,
            threshold=threshold,
            target_sizes=[picture.shape[:2] for picture in pictures],
            text_labels=[texts] * len(pictures),
        )
        return [self._numbered(answer, texts) for answer in answers]

    @staticmethod
    def _numbered(answer: dict[str, Any], texts: list[str]) -> Scored:
        labels = np.array([texts.index(label) for label in answer["text_labels"]], dtype=int)
        return _array(answer["boxes"]).reshape(-1, 4), _array(answer["scores"]), labels


class GroundingDino(OpenVocabulary):
    """Grounding DINO and MM Grounding DINO, which score the words of one prompt, ``"red panda. car."``.

    Post-processing as usual answers with phrases: whichever words were likely enough, parts of classes and several
    classes in one. Here the probabilities of the words between two full stops belong to the text that stands there, so
    each box has exactly one class: that with the highest mean over its words. Its confidence is the highest of its
    words, which is what thresholds for these models are about.

    Only pictures of one size, after scaling, run together: its backbone sees the padding of others.
    """

    def _scored(self, pictures: Sequence[np.ndarray], texts: list[str], threshold: float) -> list[Scored]:
        inputs = self.processor.image_processor(
            images=list(pictures), input_data_format="channels_last", return_tensors="pt"
        ).to(self.device, self.model.dtype)
        corners, best, mean = [], [], []
        for prompt, spans in self._prompts(texts):
            boxes, words = self._words(inputs, prompt)
            corners.append(boxes)
            best.append(_spread(words, spans, len(texts), np.max))
            mean.append(_spread(words, spans, len(texts), np.mean))
        all_corners, all_best, all_mean = (np.concatenate(part, axis=1) for part in (corners, best, mean))
        found = []
        for number, picture in enumerate(pictures):
            chosen = all_mean[number].argmax(1)
            scores = np.take_along_axis(all_best[number], chosen[:, None], 1)[:, 0]
            keep = scores > threshold
            height, width = picture.shape[:2]
            found.append((all_corners[number][keep] * (width, height, width, height), scores[keep], chosen[keep]))
        return found

    def _words(self, inputs: Any, prompt: Any) -> tuple[np.ndarray, np.ndarray]:
        """The relative corners of all boxes, and the probability of each word of the prompt for each of them."""
        import torch

        order, boxes, words = [], [], []
        for rows, height, width in _sizes(inputs["pixel_mask"]):
            order += rows
            tokens = {name: torch.tensor([ids] * len(rows), device=self.device) for name, ids in prompt.items()}
            with torch.inference_mode():
                outputs = self.model(pixel_values=inputs["pixel_values"][rows, :, :height, :width], **tokens)
            boxes.append(_array(outputs.pred_boxes))
            words.append(_array(outputs.logits.sigmoid()))
        back = np.argsort(order)
        x, y, w, h = np.moveaxis(np.concatenate(boxes)[back], -1, 0)
        return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1), np.concatenate(words)[back]

    def _prompts(self, texts: list[str]) -> list[tuple[Any, dict[int, slice]]]:
        """Prompts that fit the model, each with the place of each of its texts."""
        tokenizer, room = self.processor.tokenizer, self.model.config.max_text_len
        clean = [" ".join(text.lower().replace(".", " ").split()) for text in texts]
        sizes = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in clean]
        prompts: list[list[int]] = [[]]
        used = 2  # the marks at the beginning and at the end
        for number, size in enumerate(sizes):
            if not size or size + 3 > room:
                raise ParameterError("classes", texts[number], f"must have between 1 and {room - 3} tokens, has {size}")
            if used + size + 1 > room:
                prompts.append([])
                used = 2
            prompts[-1].append(number)
            used += size + 1
        made = []
        for numbers in prompts:
            spans, at = {}, 1
            for number in numbers:
                spans[number] = slice(at, at + sizes[number])
                at += sizes[number] + 1
            made.append((tokenizer(" ".join(f"{clean[number]}." for number in numbers)), spans))
        return made


def _sizes(pixel_mask: Any) -> list[tuple[list[int], int, int]]:
    """The rows of a padded batch that have the same height and width without the padding."""
    same: dict[tuple[int, int], list[int]] = {}
    for row, mask in enumerate(pixel_mask):
        same.setdefault((int(mask[:, 0].sum()), int(mask[0].sum())), []).append(row)
    return [(rows, height, width) for (height, width), rows in same.items()]


def _spread(words: np.ndarray, spans: dict[int, slice], texts: int, reduce: Any) -> np.ndarray:
    """Pictures x boxes x texts from the probabilities of words; 0 for texts that are in another prompt."""
    spread = np.zeros((*words.shape[:2], texts), np.float32)
    for number, span in spans.items():
        spread[..., number] = reduce(words[..., span], axis=-1)
    return spread


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.float().cpu().numpy())
