"""A published ImageNet classifier as a tagger: it names what is on photographs whose content is known."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_idsynth.media import read_image
from fiftyone_idsynth.models.batches import in_batches
from fiftyone_idsynth.models.loading import find_model
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Tag, Tagger

MEANT = {
    "bird": ("goldfinch", "brambling", "jay", "magpie", "robin", "water ouzel", "house finch", "indigo bunting",
             "chickadee", "bulbul", "junco", "bald eagle", "kite", "albatross", "pelican", "red-breasted merganser"),
    "cat": ("tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat", "lynx"),
    "elephant": ("African elephant", "Indian elephant", "tusker"),
    "zebra": ("zebra",),
    "bear": ("brown bear", "American black bear", "ice bear", "sloth bear"),
    "pizza": ("pizza",),
    "broccoli": ("broccoli",),
    "banana": ("banana",),
    "orange": ("orange", "lemon"),
    "train": ("electric locomotive", "steam locomotive", "passenger car", "freight car", "bullet train", "streetcar"),
    "bus": ("minibus", "school bus", "trolleybus"),
    "airplane": ("airliner", "warplane", "wing"),
    "laptop": ("laptop", "notebook"),
    "toilet": ("toilet seat",),
    "clock": ("wall clock", "analog clock", "digital clock"),
    "keyboard": ("computer keyboard", "typewriter keyboard"),
    "teddy bear": ("teddy",),
    "parking meter": ("parking meter",),
    "traffic light": ("traffic light",),
    "bench": ("park bench",),
    "umbrella": ("umbrella",),
    "vase": ("vase",),
}  # fmt: skip
"""Classes of COCO -> the tags of ImageNet that mean the same, for those of which most kinds are among ImageNet's."""

LARGE = 0.25
"""The share of a photograph that an object must cover for the photograph to be one of it."""


@pytest.fixture(scope="module")
def tagger(shared: Path) -> Iterator[Tagger]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield find_model(Tagger, str(shared / "weights/imagenet_mobilenet_v2.onnx"), Options(device="cpu"))
    torch.set_num_threads(threads)


def tag(tagger: Tagger, files: list[Path]) -> list[list[Tag]]:
    photos = [read_image(str(file), mode="RGB").pixels for file in files]
    found: list[list[Tag]] = in_batches(functools.partial(tagger.tag, threshold=0.0), photos, 16, pytest.fail)
    return found


def accuracy(tags: list[list[Tag]], meant: list[tuple[str, ...]], first: int) -> float:
    """The share of photographs with a right tag among the first ones."""
    return float(np.mean([any(t.name in names for t in row[:first]) for row, names in zip(tags, meant, strict=True)]))


def large_objects(shared: Path) -> list[tuple[Path, str]]:
    """The photographs of COCO with a large object of a class that ImageNet has, and that class."""
    import yaml

    folder = shared / "data/coco128"
    names = yaml.safe_load((folder / "object_detection/config.yaml").read_text())["names"]
    found = []
    for labels in sorted((folder / "object_detection").rglob("*.txt")):
        boxes = [line.split() for line in labels.read_text().splitlines() if line.strip()]
        image = next((folder / "images").rglob(f"{labels.stem}.jpg"), None)
        if not boxes or image is None:
            continue
        largest = max(boxes, key=lambda box: float(box[3]) * float(box[4]))
        name = names[int(largest[0])]
        if name in MEANT and float(largest[3]) * float(largest[4]) >= LARGE:
            found.append((image, name))
    return found


def test_daisies_are_tagged_as_daisies_and_roses_are_not(tagger, shared):
    """Of the five kinds of flowers ImageNet knows the daisy alone. Some daisies carry a bee, which is a tag as well."""
    daisies = tag(tagger, sorted((shared / "data/flowers5/daisy").glob("*.jpg")))
    roses = tag(tagger, sorted((shared / "data/flowers5/roses").glob("*.jpg")))
    assert len(daisies) == len(roses) == 50
    meant = [("daisy",)] * 50
    first, five, wrong = accuracy(daisies, meant, 1), accuracy(daisies, meant, 5), accuracy(roses, meant, 1)
    print(f"daisy: top-1 {first:.2f}, top-5 {five:.2f}; {wrong:.2f} of the roses")  # 0.72, 0.90, 0.00
    assert first >= 0.65
    assert five >= 0.85
    assert wrong <= 0.04


def test_photographs_of_large_objects_are_tagged_with_what_they_show(tagger, shared):
    photos = large_objects(shared)
    tags = tag(tagger, [image for image, _ in photos])
    meant = [MEANT[name] for _, name in photos]
    first, five = accuracy(tags, meant, 1), accuracy(tags, meant, 5)
    print(f"{len(photos)} photographs of COCO: top-1 {first:.2f}, top-5 {five:.2f}")  # 22, 0.73, 0.86
    assert len(photos) >= 20
    assert first >= 0.6
    assert five >= 0.75


def test_scores_are_probabilities_and_do_not_depend_on_the_batch(tagger, shared):
    files = sorted((shared / "data/flowers5/daisy").glob("*.jpg"))[:3]
    together = tag(tagger, files)
    for file, tags in zip(files, together, strict=True):
        assert len(tags) == 1001
        # The scores of this quantised model are steps of 1/256, so that small ones are lost.
        assert 0.7 <= sum(t.confidence for t in tags) <= 1.05
        assert tag(tagger, [file])[0] == tags
