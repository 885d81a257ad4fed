"""The dataset card: what is in an export, where it comes from and how it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..licenses import license_key
from .credits import UNKNOWN, Credit
from .lineage import public
from .markup import link, markdown

if TYPE_CHECKING:
    import fiftyone as fo

GRID = "card/samples.png"
HISTOGRAM = "card/quality.png"

_FILES = (
    "`lineage.jsonl` tells for every image which sample it is, what made it and from what. `idsynth.json` lists the "
    "files and the parameters of this export."
)

HUB_LICENSES = {
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0", "pddl", "odbl",
}  # fmt: skip
"""Licences that the Hugging Face Hub knows by these names."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that was run on the dataset.

    Attributes:
        stage: its name
        params: the parameters that were used
        models: model id -> revision
        seed: the seed, if it has one
        counts: ``"processed"``, ``"created"`` and the like
        started_at: ISO 8601
    """

    stage: str
    params: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    started_at: str = ""


@dataclass(slots=True)
class CardFacts:
    """What a card tells.

    Attributes:
        title: the dataset's name
        format: the format's title
        task: the task in the words of the Hugging Face Hub
        description: the dataset's own description
        images: split -> number of images
        empty: split -> number of images without objects
        labels: class -> split -> number of objects (or images, for classification)
        counted: what ``labels`` counts: ``"objects"`` or ``"images"``
        credits: one list per image
        steps: the stages that made the dataset
        scores: quality scores of the images, 0 to 1
        layout: the folders and files, as a text
        notes: what a user of the data should know
        configs: the Hugging Face configuration of the files
    """

    title: str
    format: str
    task: str
    description: str = ""
    images: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    counted: str = "objects"
    credits: list[list[Credit]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    layout: str = ""
    notes: list[str] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)


def write_card(facts: CardFacts) -> str:
    """Writes the card in the layout of a Hugging Face dataset card; everything that comes from data is escaped.

    Args:
        facts: what it tells

    Returns:
        Markdown with a YAML front matter
    """
    sections = [
        _front_matter(facts),
        f"# {markdown(facts.title)}",
        markdown(facts.description, limit=2000) if facts.description else "",
        f"{sum(facts.images.values())} images as {facts.format}, made with FiftyOne and fiftyone-idsynth.",
        f"![Samples]({GRID})",
        "## Contents",
        _split_table(facts),
        _class_table(facts),
        *(f"- {markdown(note, limit=500)}" for note in facts.notes),
        "## Files",
        f"```\n{facts.layout}\n```",
        _FILES,
        "## Sources",
        _source_table(facts.credits),
        "## Licences",
        _license_table(facts.credits),
        "Creators and pages of all images are in [CREDITS.md](CREDITS.md) and `CREDITS.csv`.",
        "## How it was made",
        _steps(facts.steps),
        *_quality(facts.scores),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def read_steps(dataset: fo.Dataset) -> list[Step]:
    """The stages that were run on a dataset and are recorded in it, in the order in which they were started."""
    steps = []
    for key in dataset.list_runs():
        config = dataset.get_run_info(key).config.serialize()
        if str(config.get("method", "")).startswith("idsynth/") and config.get("stage") != "export":
            counts = {name: config[name] for name in ("processed", "created", "skipped") if config.get(name)}
            rejected = {f"rejected, {reason}": count for reason, count in (config.get("rejected") or {}).items()}
            step = Step(
                str(config.get("stage")), config.get("params") or {}, config.get("models") or {}, config.get("seed"),
                counts | rejected, str(config.get("started_at") or ""),
            )  # fmt: skip
            steps.append(step)
    return sorted(steps, key=lambda step: step.started_at)


def _front_matter(facts: CardFacts) -> str:
    import yaml

    count = sum(facts.images.values())
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    names = {license_key(credit.license) for credits in facts.credits for credit in credits}
    license = next(iter(names)) if len(names) == 1 and names <= HUB_LICENSES else "other"
    matter: dict[str, Any] = {
        "pretty_name": facts.title,
        "license": license,
        "task_categories": [facts.task],
        "size_categories": [next((name for bound, name in bounds if count < bound), "1M<n<10M")],
        "tags": ["fiftyone", "fiftyone-idsynth"],
    }
    if facts.configs:
        matter["configs"] = facts.configs
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]], numbers: int = 1) -> str:
    head = list(head)
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, rule, *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _split_table(facts: CardFacts) -> str:
    head = ["split", "images"]
    if any(facts.empty.values()):
        head.append("of these without objects")
    rows = [[name, count, facts.empty.get(name, 0)][: len(head)] for name, count in facts.images.items()]
    return _table(head, rows, numbers=len(head) - 1)


def _class_table(facts: CardFacts) -> str:
    if not facts.labels:
        return ""
    splits = list(facts.images)
    rows = [
        [markdown(label), *(counts.get(split, 0) for split in splits), sum(counts.values())]
        for label, counts in facts.labels.items()
    ]
    return _table(["class", *(f"{facts.counted} in {s}" for s in splits), "total"], rows, numbers=len(splits) + 1)


def _source_table(credits: list[list[Credit]]) -> str:
    counts = Counter((c.kind or UNKNOWN, c.engine) for its in credits for c in set(its))
    rows = [[markdown(kind), markdown(engine) or "-", count] for (kind, engine), count in sorted(counts.items())]
    return _table(["kind", "found by", "images"], rows)


def _license_table(credits: list[list[Credit]]) -> str:
    counts = Counter((c.license_name, c.license_url) for its in credits for c in set(its))
    table = _table(["licence", "images"], [[link(name, url), n] for (name, url), n in sorted(counts.items())])
    unknown = sum(n for (name, _), n in counts.items() if name == UNKNOWN)
    if unknown:
        table += "\n\nThe licence of some images is not known: clarify it before you publish what is made of them."
    return table


def _steps(steps: list[Step]) -> str:
    if not steps:
        return "No stage of this project is recorded in the dataset."
    lines = []
    for number, step in enumerate(steps, start=1):
        when = f" ({markdown(step.started_at)})" if step.started_at else ""
        lines.append(f"{number}. **{markdown(step.stage)}**{when}")
        params = {name: value for name, value in step.params.items() if value is not None}
        if params:
            shown = (f"{markdown(name)} = {markdown(_short(value))}" for name, value in params.items())
            lines.append("   - parameters: " + "; ".join(shown))
        if step.models:
            shown = (f"{markdown(name)} ({markdown(revision)})" for name, revision in step.models.items())
            lines.append("   - models: " + "; ".join(shown))
        if step.seed is not None and "seed" not in params:
            lines.append(f"   - seed: {step.seed}")
        if step.counts:
            lines.append("   - " + "; ".join(f"{markdown(name)}: {count}" for name, count in step.counts.items()))
    return "\n".join(lines)


def _short(value: object) -> str:
    value = public(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _quality(scores: list[float]) -> list[str]:
    if not scores:
        return []
    ordered = sorted(scores)
    picks = (("5 %", 0.05), ("median", 0.5), ("95 %", 0.95))
    shown = ", ".join(f"{name} {ordered[round(q * (len(ordered) - 1))]:.2f}" for name, q in picks)
    text = f"Score of {len(scores)} images, 0 (unusable) to 1 (flawless): {shown}."
    return ["## Quality", text, f"![Quality]({HISTOGRAM})"]


def now() -> str:
    """The time, as it is written into manifests."""
    return datetime.now(UTC).isoformat(timespec="seconds")
