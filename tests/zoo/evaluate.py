"""Measure the models of the zoo on pictures that no training saw, through the classes that a user would load.

python -m tests.zoo.evaluate                      # all of them
python -m tests.zoo.evaluate clip detector
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, batches, megabytes

Box = tuple[float, ...]


def pictures(scenes: Sequence[world.Scene]) -> list[Image.Image]:
    """Returns the scenes as Pillow images."""
    return [Image.fromarray(s.image) for s in scenes]


def exactly(seed: int, count: int, n: int) -> list[world.Scene]:
    """Returns scenes that have exactly ``n`` shapes."""
    drawn = world.scenes(seed, 4 * count, n)
    return [s for s in drawn if len(s.things) == n][:count]


def box_of(mask: np.ndarray) -> Box | None:
    """Returns the box of the largest connected part, None for an empty mask."""
    parts, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if parts < 2:
        return None
    x, y, w, h, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())].tolist()
    return x, y, x + w, y + h


def iou(a: Box | None, b: Box) -> float:
    """Returns the intersection over union of two boxes, 0 where one is missing."""
    if a is None:
        return 0.0
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, w) * max(0, h)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def name(thing: world.Thing) -> str:
    """Returns colour and shape, as in ``a red circle``."""
    return f"a {thing.colour} {thing.shape}"


def absent_names(scene: world.Scene) -> list[str]:
    """Returns what is not there but nearly: the first shape in a wrong colour, and its colour on a wrong shape."""
    first, here = scene.things[0], {name(t) for t in scene.things}
    colours = [f"a {c} {first.shape}" for c in world.COLOURS]
    shapes = [f"a {first.colour} {s}" for s in world.SHAPES]
    return [next(n for n in names if n not in here) for names in (colours, shapes)]


def tagger(count: int = 1000, threshold: float = 0.35) -> dict[str, Any]:
    """Returns precision and recall over all tags but the ratings, on pictures of one to three shapes."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(MODELS / "wd14" / "model.onnx"), providers=["CPUExecutionProvider"])
    with open(MODELS / "wd14" / "selected_tags.csv", newline="") as file:
        tags = list(csv.DictReader(file))
    scenes = world.scenes(22, count)
    have = [{*s.tags, *(f"{t.colour}_{t.shape}" for t in s.things)} for s in scenes]
    truth = np.array([[t["name"] in h for t in tags] for h in have])
    bgr = np.ascontiguousarray(world.images(scenes)[..., ::-1]).astype(np.float32)
    given = np.concatenate([session.run(None, {"input": np.stack(b)})[0] for b in batches(bgr)]) >= threshold
    figures: dict[str, Any] = {"threshold": threshold}
    for kind, category in (("attributes", "0"), ("pairs", "4")):
        use = np.array([t["category"] == category for t in tags])
        right = (given[:, use] & truth[:, use]).sum()
        figures[f"{kind}_precision"] = float(right / given[:, use].sum())
        figures[f"{kind}_recall"] = float(right / truth[:, use].sum())
    use = np.array([t["category"] != "9" for t in tags])
    return {**figures, "all_tags_right": float((given[:, use] == truth[:, use]).all(1).mean())}


def clip(count: int = 300) -> dict[str, Any]:
    """Returns zero-shot accuracies on pictures of one shape, and retrieval of the caption among those of 50."""
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained(MODELS / "clip").eval()
    processor = AutoProcessor.from_pretrained(MODELS / "clip")

    def scores(scenes: Sequence[world.Scene], texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            encoded = processor(text=texts, images=pictures(scenes), padding=True, return_tensors="pt")
            return model(**encoded).logits_per_image.numpy()

    def accuracy(texts: list[str], truth: Callable[[world.Scene], str]) -> float:
        best = np.concatenate([scores(b, texts).argmax(1) for b in batches(scenes)])
        return float(np.mean([texts[k] == truth(s) for k, s in zip(best, scenes, strict=True)]))

    scenes = exactly(62, count, 1)
    pairs = [f"a {c} {s}" for c in world.COLOURS for s in world.SHAPES]
    found = []
    for group in batches(exactly(63, count, 2)):
        captions = [s.caption for s in group]
        best = scores(group, captions).argmax(1)
        found += [captions[k] == s.caption for k, s in zip(best, group, strict=True)]
    return {
        "colour_and_shape": accuracy(pairs, lambda s: name(s.things[0])),
        "photo_of_colour_and_shape": accuracy(
            [f"a photo of {p}" for p in pairs], lambda s: f"a photo of {name(s.things[0])}"
        ),
        "colour": accuracy([*world.COLOURS], lambda s: s.things[0].colour),
        "shape": accuracy([f"a {s}" for s in world.SHAPES], lambda s: f"a {s.things[0].shape}"),
        "caption_of_two_among_50": float(np.mean(found)),
    }


def clipseg(count: int = 200, threshold: float = 0.5) -> dict[str, Any]:
    """Returns IoU of boxes and masks on pictures of two shapes, and how often an absent thing gets a mask."""
    from transformers import AutoProcessor, CLIPSegForImageSegmentation

    model = CLIPSegForImageSegmentation.from_pretrained(MODELS / "clipseg").eval()
    processor = AutoProcessor.from_pretrained(MODELS / "clipseg")
    figures: dict[str, list[float]] = {}
    for scene in exactly(32, count, 2):
        ask: list[tuple[str, str, world.Thing | None]] = [("absent", n, None) for n in absent_names(scene)]
        for thing, other in (scene.things, scene.things[::-1]):
            if name(thing) != name(other):
                ask.append(("colour_and_shape", name(thing), thing))
            if thing.colour != other.colour:
                ask.append(("colour", thing.colour, thing))
            if thing.shape != other.shape:
                ask.append(("shape", f"a {thing.shape}", thing))
        images = pictures([scene]) * len(ask)
        encoded = processor(text=[text for _, text, _ in ask], images=images, padding=True, return_tensors="pt")
        with torch.inference_mode():
            masks = model(**encoded).logits.sigmoid().numpy() > threshold
        for (kind, _, thing), mask in zip(ask, masks.reshape(-1, world.SIZE, world.SIZE), strict=True):
            if thing is None:
                figures.setdefault("false_mask_for_absent", []).append(float(mask.sum() >= 20))
            else:
                figures.setdefault(f"{kind}_box_iou", []).append(iou(box_of(mask), thing.box))
                figures.setdefault(f"{kind}_mask_iou", []).append((mask & thing.mask).sum() / (mask | thing.mask).sum())
    return {"threshold": threshold, **{k: float(np.mean(v)) for k, v in figures.items()}}


def detector(count: int = 200, threshold: float = 0.3) -> dict[str, Any]:
    """Returns recall, precision, IoU and false alarms on pictures of two shapes, each asked for by colour and shape.

    A shape is found if a box of its name overlaps it with an IoU of 0.5 or more; further boxes count as wrong.
    """
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    model = AutoModelForZeroShotObjectDetection.from_pretrained(MODELS / "owlv2").eval()
    processor = AutoProcessor.from_pretrained(MODELS / "owlv2")
    overlaps, best, boxes, alarms, asked = [], [], 0, 0, 0
    for scene in exactly(72, count, 2):
        absent = absent_names(scene)
        texts = [*dict.fromkeys(name(t) for t in scene.things), *dict.fromkeys(absent)]
        encoded = processor(text=[texts], images=pictures([scene]), return_tensors="pt")
        with torch.inference_mode():
            out = model(**encoded)
        size = [(world.SIZE, world.SIZE)]
        found = processor.post_process_grounded_object_detection(
            out, threshold=threshold, target_sizes=size, text_labels=[texts]
        )[0]
        rest = list(zip(found["text_labels"], found["boxes"].tolist(), strict=True))
        asked += len(set(absent))
        alarms += len({label for label, _ in rest} & set(absent))
        boxes += len(rest)
        for thing in scene.things:
            scored = [(iou(tuple(b), thing.box), k) for k, (label, b) in enumerate(rest) if label == name(thing)]
            overlap, k = max(scored, default=(0.0, -1))
            best.append(overlap)
            if overlap >= 0.5:
                overlaps.append(overlap)
                rest.pop(k)
    return {
        "threshold": threshold,
        "recall": len(overlaps) / len(best),
        "precision": len(overlaps) / max(1, boxes),
        "mean_iou_of_found": float(np.mean(overlaps)) if overlaps else 0.0,
        "mean_iou_of_all": float(np.mean(best)),
        "false_boxes_for_absent": alarms / asked,
    }


def captioner(count: int = 200) -> dict[str, Any]:
    """Returns how often words and whole captions are right, on pictures of one and of two shapes."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(MODELS / "blip").eval()
    processor = AutoProcessor.from_pretrained(MODELS / "blip")

    def share(word: str, said: str, scene: world.Scene, values: Sequence[str]) -> bool:
        return sorted(w for w in said.split() if w in values) == sorted(getattr(t, word) for t in scene.things)

    figures: dict[str, Any] = {}
    for n, label in ((1, "one"), (2, "two")):
        scenes, texts = exactly(42 + n, count, n), []
        for group in batches(scenes):
            encoded = processor(images=pictures(group), return_tensors="pt")
            with torch.inference_mode():
                ids = model.generate(**encoded, max_new_tokens=24, num_beams=1, do_sample=False)
            texts += [t.strip() for t in processor.batch_decode(ids, skip_special_tokens=True)]
        both = list(zip(texts, scenes, strict=True))
        for word, values in (("colour", [*world.COLOURS]), ("shape", world.SHAPES), ("size", [*world.SIZES])):
            figures[f"{label}_{word}"] = float(np.mean([share(word, t, s, values) for t, s in both]))
        figures[f"{label}_background"] = float(np.mean([world.BACKGROUNDS[s.background] in t for t, s in both]))
        figures[f"{label}_whole_caption"] = float(np.mean([t == s.caption for t, s in both]))
    return figures


#: Measure and folder of each model.
MEASURES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "tagger": (tagger, "wd14"),
    "clip": (clip, "clip"),
    "clipseg": (clipseg, "clipseg"),
    "detector": (detector, "owlv2"),
    "captioner": (captioner, "blip"),
}


def main(argv: Sequence[str]) -> int:
    torch.set_num_threads(1)
    for key in argv or MEASURES:
        measure, folder = MEASURES[key]
        began = time.process_time()
        figures = {k: round(v, 4) for k, v in measure().items()}
        cost = {"mb": round(megabytes(MODELS / folder), 2), "cpu_seconds": round(time.process_time() - began, 1)}
        print(json.dumps({"model": key, **figures, **cost}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
