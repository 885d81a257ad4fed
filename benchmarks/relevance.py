"""How right ``filter_irrelevant`` is on labelled photographs, beside what the dissertation reports for its queries.

    python benchmarks/relevance.py [--data FOLDER] [--weights FOLDER]

Needs folders with the photographs (flowers5, raccoon, coco128) and an ImageNet classifier (imagenet_mobilenet_v2.onnx
with imagenet_labels.txt); by default ../shared beside the checkout.

Each class of photographs is the query, in several pools:

- "mixed": about 77 % photographs of the class and 23 % of other kinds, the shares of the dissertation's 100 results for
  "red panda photo" (for which it reports an accuracy of 95.8 % with GPT-4o and of 80.2 % with GPT-4o mini);
- "one intruder": a flower and as many raccoons, as when a query has a second meaning;
- "siblings": all photographs of the class among those of all other classes of its kind, 50 to 200 for a flower. Here
  what does not fit is more frequent, and looks alike.

The tags are the classifier's five surest. No language model is within reach here, so two rules that do not see the
truth answer in its place, from what the question says:

- "words": tags that share a word with the query, or if there is none the most frequent tag, and tags often seen with
  these, are spared; the most frequent of the others are named;
- "knowledge": as somebody who knows what the words mean: ImageNet's labels come in the order of WordNet (animals,
  plants and fungi, the rest), and the most frequent tags of another kingdom than the query's are named, unless they are
  often seen with tags that share a word with the query.

The good examples are ten of the class, which count as rightly kept; their similarity is that of embeddings of the same
family of networks (MobileNet v1).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fiftyone_idsynth.curation.irrelevance import words_of
from fiftyone_idsynth.models.roles import Matcher
from tests.llm_server import LlmServer, Request

FLOWERS = {"daisy": "daisy", "dandelion": "dandelion", "roses": "rose", "sunflowers": "sunflower", "tulips": "tulip"}
"""Folder -> query."""

SHARE = 0.77
EXAMPLES = 10
LAST_ANIMAL, PLANTS = 398, (984, 998)
"""Lines of imagenet_labels.txt, counted from 0, the first being "background"."""

_LINE = re.compile(r"- (?P<name>.+?) \((?P<images>\d+) images?(?:; often with: (?P<companions>.*))?\)$")


@dataclass(frozen=True)
class Pool:
    """Photographs that a search for a query could have found.

    Attributes:
        kind: "mixed", "one intruder" or "siblings"
        query: what was searched for
        relevant: files that show it
        others: files that do not
    """

    kind: str
    query: str
    relevant: Sequence[Path]
    others: Sequence[Path]


def pools(data: Path) -> list[Pool]:
    """The pools, from a folder with flowers5, raccoon and coco128."""
    flowers = {query: sorted((data / "flowers5" / folder).glob("*.jpg")) for folder, query in FLOWERS.items()}
    raccoons = sorted((data / "raccoon/images").glob("*.jpg"))
    scenes = sorted((data / "coco128/images/train2017").glob("*.jpg"))
    made = []
    for query, its in flowers.items():
        made.append(Pool("mixed", query, its, spread(raccoons + scenes, round(len(its) * (1 - SHARE) / SHARE))))
    all_flowers = [path for its in flowers.values() for path in its]
    made.append(Pool("mixed", "raccoon", spread(raccoons, 77), spread(scenes + all_flowers, 23)))
    for query, its in flowers.items():
        made.append(Pool("one intruder", query, its, spread(raccoons, len(its))))
    for query, its in flowers.items():
        made.append(Pool("siblings", query, its, [path for path in all_flowers if path not in its]))
    return made


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Some of a list, evenly spread over it."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]


# -- in place of a language model --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a question about tags says."""

    query: str
    limit: int
    images: dict[str, int]
    companions: dict[str, list[str]]

    @classmethod
    def read(cls, request: Request) -> Asked:
        text = str(request.body["messages"][1]["content"])
        lines = [match for line in text.splitlines() if (match := _LINE.match(line))]
        return cls(
            text.splitlines()[0].removeprefix("Query: "),
            int(text.splitlines()[1].split()[3]),
            {line["name"]: int(line["images"]) for line in lines},
            {line["name"]: (line["companions"] or "").split(", ") for line in lines},
        )

    @property
    def related(self) -> set[str]:
        """The tags that share a word with the query."""
        return {tag for tag in self.images if set(words_of(tag)) & set(words_of(self.query))}

    def around(self, tags: set[str]) -> set[str]:
        """Some tags, and those often seen with them."""
        return tags | {tag for tag, others in self.companions.items() if tags & set(others)}

    def most_frequent_but(self, spared: set[str]) -> dict[str, list[str]]:
        rest = [tag for tag, count in self.images.items() if tag not in spared and count > 1]
        return {"tags": sorted(rest, key=lambda tag: -self.images[tag])[: self.limit]}


def by_words(request: Request) -> dict[str, list[str]]:
    """The rule "words"."""
    asked = Asked.read(request)
    related = asked.related or {max(asked.images, key=lambda tag: asked.images[tag])}
    return asked.most_frequent_but(asked.around(related))


class ByKnowledge:
    """The rule "knowledge".

    Args:
        labels: the file with ImageNet's labels
    """

    def __init__(self, labels: Path):
        self._kingdoms: dict[str, str] = {}
        for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines()):
            plant = PLANTS[0] <= number <= PLANTS[1]
            kingdom = "animal" if 0 < number <= LAST_ANIMAL else "plant" if plant else "thing"
            self._kingdoms.setdefault(line.partition(",")[0].strip().casefold(), kingdom)
            self._kingdoms[line.strip().casefold()] = kingdom

    def __call__(self, request: Request) -> dict[str, list[str]]:
        asked = Asked.read(request)
        kingdom = "plant" if asked.query in FLOWERS.values() else "animal"
        same = {tag for tag in asked.images if self._kingdoms.get(tag) == kingdom}
        return asked.most_frequent_but(same | asked.around(asked.related))


# -- similarity --------------------------------------------------------------------------------------------------------


class PictureMatcher(Matcher):
    """Embeds photographs by MobileNet v1; of texts it knows nothing.

    Args:
        path: the ONNX file
    """

    device, revision, exclusive = "cpu", "", False

    def __init__(self, path: Path):
        import onnxruntime

        self.name = path.stem
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def match(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        return np.full((len(pictures), len(texts)), 0.5, np.float32)

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        import cv2

        name = self._session.get_inputs()[0].name
        found = [
            self._session.run(None, {name: cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA)[None]})[0].ravel()
            for p in pictures
        ]
        vectors = np.stack(found).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise TypeError("MobileNet knows nothing of texts: use it with good examples")


# -- measuring ---------------------------------------------------------------------------------------------------------


def tagged(paths: Sequence[Path], weights: Path) -> Any:
    """A dataset of photographs with the classifier's five surest tags."""
    import fiftyone as fo

    import fiftyone_idsynth as ids

    dataset = fo.Dataset(f"relevance-{uuid.uuid4().hex[:8]}")
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in paths], progress=False)
    model = str(weights / "imagenet_mobilenet_v2.onnx")
    ids.tag(dataset, model=model, threshold=0.0, max_tags=5, device="cpu", progress=False)
    return dataset


def measure(dataset: Any, pool: Pool, weights: Path) -> dict[str, dict[str, Any]]:
    """Judges a pool in every way.

    Args:
        dataset: photographs with tags, those of the pool among them
        pool: the pool
        weights: the folder with the weights

    Returns:
        way -> what the report says against the truth, with the tags that condemned; ``{"failed": why}`` if it failed
    """
    import fiftyone_idsynth as ids
    from fiftyone_idsynth.errors import UsageError
    from fiftyone_idsynth.models import loading

    relevant = set(map(str, pool.relevant))
    paths = relevant | set(map(str, pool.others))
    wanted = [i for i, path in zip(*dataset.values(["id", "filepath"]), strict=True) if path in paths]
    view = dataset.select(wanted)
    dataset.untag_samples("relevant")
    dataset.match({"filepath": {"$in": sorted(map(str, relevant))}}).tag_samples("relevant")
    settings: dict[str, Any] = {"ground_truth": "#relevant", "progress": False}
    good = dataset.match({"filepath": {"$in": list(map(str, spread(sorted(pool.relevant), EXAMPLES)))}})
    found: dict[str, dict[str, Any]] = {}

    def judge(way: str, **more: Any) -> None:
        try:
            outputs = ids.filter_irrelevant(view, pool.query, **settings, **more).outputs
        except UsageError as error:
            found[way] = {"failed": str(error)}
        else:
            found[way] = {**outputs["against ground truth"], "tags": outputs.get("tags that condemn", {})}

    judge("statistics")
    judge("statistics, good examples", good=good)
    for name, rule in (("words", by_words), ("knowledge", ByKnowledge(weights / "imagenet_labels.txt"))):
        with LlmServer(rule) as server:
            judge(f"llm, {name}", method="llm", llm_model="test", llm_url=server.url)
    find_model = loading.find_model
    matcher = PictureMatcher(weights / "mobilenet_v1_embedding.onnx")
    loading.find_model = lambda role, name, options=None: matcher  # type: ignore[assignment,return-value]
    try:
        judge("similarity to good examples", method="similarity", good=good)
    finally:
        loading.find_model = find_model
    return found


def main() -> None:
    shared = Path(__file__).parents[2] / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--weights", type=Path, default=shared / "weights")
    given = parser.parse_args()
    import os

    from tests.database import PrivateDatabase

    with tempfile.TemporaryDirectory(prefix="idsynth-benchmark-") as folder:
        database = PrivateDatabase(Path(folder) / "database")
        os.environ.update(FIFTYONE_DATABASE_URI=database.uri, FIFTYONE_DO_NOT_TRACK="true")
        try:
            _print_table(given.data, given.weights)
        finally:
            database.stop()


def _print_table(data: Path, weights: Path) -> None:
    made = pools(data)
    dataset = tagged(sorted({path for pool in made for path in (*pool.relevant, *pool.others)}), weights)
    print("| pool | query | photographs | keeping all | way | accuracy | precision | recall | tags that condemn |")
    print("|---|---|---|---|---|---|---|---|---|")
    accuracies: dict[tuple[str, str], list[float]] = {}
    for pool in made:
        total = len(pool.relevant) + len(pool.others)
        for way, found in measure(dataset, pool, weights).items():
            start = f"| {pool.kind} | {pool.query} | {total} | {len(pool.relevant) / total:.3f} | {way} |"
            if "failed" in found:
                print(f"{start} fails: {found['failed'].partition(', so ')[0]} | | | |", flush=True)
                continue
            accuracies.setdefault((pool.kind, way), []).append(found["accuracy"])
            tags = ", ".join(f"{tag} {count}" for tag, count in found["tags"].items())
            shown = [
                f"{found[name]:.3f}" if found[name] is not None else "-" for name in ("accuracy", "precision", "recall")
            ]
            print(f"{start} {' | '.join(shown)} | {tags} |", flush=True)
    print("\n| pool | way | queries | mean accuracy |\n|---|---|---|---|")
    for (kind, way), values in accuracies.items():
        print(f"| {kind} | {way} | {len(values)} | {np.mean(values):.3f} |")
    print("| the dissertation's | GPT-4o | 1 | 0.958 |\n| the dissertation's | GPT-4o mini | 1 | 0.802 |")


if __name__ == "__main__":
    main()
