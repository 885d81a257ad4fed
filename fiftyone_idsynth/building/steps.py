"""Which stages lead from a topic to a dataset for a task, with their parameters, as a recipe that people can edit."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..generation.wording import SMALL_MODEL
from ..stage import parse_options

Task = Literal["detection", "segmentation", "classification", "generation"]
Filter = Literal["similarity", "statistics", "llm", "none"]

COLLECTED = "collected"
"""The classification field that keeps for which class an image was collected."""


@dataclass(frozen=True)
class Wish:
    """What is to be built; see :func:`fiftyone_idsynth.building.build.build`."""

    topic: str
    task: Task
    classes: tuple[str, ...]
    count: int
    generated: int
    sources: tuple[str, ...]
    licenses: tuple[str, ...]
    languages: tuple[str, ...]
    variants: str
    urls: str | None
    filter: Filter
    models: dict[str, str]
    trigger_word: str
    path: str
    llm: dict[str, Any]
    device: str
    offline: bool
    options: dict[str, Any]


FINISHING = ("split", "export")
"""The stages that follow when people have looked at the labels."""


@dataclass
class PlannedStep:
    """A stage to run.

    Attributes:
        stage: its name
        params: its parameters
        why: what it is for, as a comment in the recipe
    """

    stage: str
    params: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def make_steps(wish: Wish) -> list[PlannedStep]:
    """The steps that lead to what is wished for, in order.

    Args:
        wish: what is to be built

    Raises:
        ParameterError: ``options`` names a stage or parameter that does not exist or is not part of it
    """
    steps = [
        *_collecting(wish),
        *_generating(wish),
        PlannedStep("score_quality", {"task": _quality_task(wish), "reject": True},
                    f"Images too poor for {_quality_task(wish)} are left out; restore brings them back."),
        PlannedStep("deduplicate", {}, "Of copies the best one stays."),
        *_filtering(wish),
        *_labelling(wish),
        *_finishing(wish),
    ]  # fmt: skip
    return _with_options(steps, wish.options)


def render(dataset: str, steps: Sequence[PlannedStep], heading: str) -> str:
    """The steps as the text of a recipe.

    Args:
        dataset: the name of the dataset
        steps: the steps
        heading: comment lines at the top
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]

    def text(value: Any) -> str:
        out = io.StringIO()
        yaml.dump(value, out)
        return out.getvalue()

    lines = [f"# {line}" for line in heading.splitlines()] + text({"dataset": dataset}).splitlines() + ["stages:"]
    for step in steps:
        lines += [f"  # {step.why}"] if step.why else []
        lines += [f"  {line}" for line in text([{step.stage: _plain(step.params) or None}]).splitlines()]
    return "\n".join(lines) + "\n"


def slug(text: str) -> str:
    """A name as a sample tag: lower case, with hyphens."""
    return re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-")


def _collecting(wish: Wish) -> list[PlannedStep]:
    """A search for each class; the images of a class get its tag."""
    share = -(-wish.count // len(wish.classes))
    common: dict[str, Any] = {"sources": wish.sources, "count": share, "class_field": COLLECTED}
    for name in ("licenses", "languages", "urls"):
        if getattr(wish, name):
            common[name] = getattr(wish, name)
    if wish.variants != "none":
        common["variants"] = wish.variants
    if wish.variants == "llm":
        common |= wish.llm
    common["min_side"] = 512 if wish.task == "generation" else 256
    return [
        PlannedStep("collect", {"topic": name, **common, "tags": [slug(name)]},
                    f"Up to {share} images of {name}, with licence and provenance.")
        for name in wish.classes
    ]  # fmt: skip


def _generating(wish: Wish) -> list[PlannedStep]:
    """Images from text for each class; only the training split gets them, so that models are judged on real ones."""
    if not wish.generated:
        return []
    share = -(-wish.generated // len(wish.classes))
    train = [] if wish.task == "generation" else ["train"]
    return [
        PlannedStep("generate", {"subject": [name], "count": share, "task": wish.task, "class_field": COLLECTED,
                                 "tags": [slug(name), *train], "model": SMALL_MODEL,
                                 **_loading(wish, "generator")},
                    f"{share} synthetic images of {name}.")
        for name in wish.classes
    ]  # fmt: skip


def _quality_task(wish: Wish) -> str:
    return "detection" if wish.task == "segmentation" else wish.task


def _filtering(wish: Wish) -> list[PlannedStep]:
    """Leaves out what does not show the class it was collected for."""
    steps = []
    if wish.filter in ("statistics", "llm") or wish.task == "generation":
        steps.append(PlannedStep("tag", _loading(wish, "tagger"), "What the images show, in tags."))
    if wish.filter == "none":
        return steps
    for name in wish.classes:
        params: dict[str, Any] = {"samples": f"#{slug(name)}", "query": name, "method": wish.filter, "apply": True}
        if wish.filter == "similarity":
            params |= _loading(wish, "matcher")
        if wish.filter == "llm":
            params |= wish.llm
        steps.append(PlannedStep("filter_irrelevant", params, f"Images that do not show {name} are left out."))
    return steps


def _labelling(wish: Wish) -> list[PlannedStep]:
    loading = _loading(wish, "detector")
    if wish.task == "detection":
        params = {"classes": wish.classes, "label_field": "detections", **loading}
        return [PlannedStep("detect", params, "Boxes from the names of the classes.")]
    if wish.task == "segmentation":
        params = {"classes": wish.classes, "label_field": "segmentation", **loading}
        return [PlannedStep("segment", params, "Masks from the names of the classes.")]
    if wish.task == "generation":
        params = {"trigger_word": wish.trigger_word} if wish.trigger_word else {}
        return [PlannedStep("caption", {**params, **_loading(wish, "captioner")}, "Captions and training texts.")]
    return []


def _finishing(wish: Wish) -> list[PlannedStep]:
    """Splits and exports."""
    form, label = {
        "detection": ("yolo", "detections"), "segmentation": ("segmentation", "segmentation"),
        "classification": ("classification", COLLECTED), "generation": ("captions", None),
    }[wish.task]  # fmt: skip
    steps = []
    if wish.task != "generation":
        balanced = {"label_field": label} if wish.task in ("detection", "classification") else {}
        steps.append(PlannedStep("split", balanced, "Relatives stay in one split."))
    params: dict[str, Any] = {"path": wish.path, "format": form}
    if label:
        params["label_field"] = label
    if wish.task in ("detection", "classification"):
        params["classes"] = wish.classes
    steps.append(PlannedStep("export", params, "Written, read back and compared."))
    return steps


def _loading(wish: Wish, role: str) -> dict[str, Any]:
    """Which model a step uses, and how it is loaded, as far as that differs from the stage's own defaults."""
    params: dict[str, Any] = {"model": wish.models[role]} if role in wish.models else {}
    if wish.device != "auto":
        params["device"] = wish.device
    if wish.offline:
        params["offline"] = True
    return params


def _with_options(steps: list[PlannedStep], options: dict[str, Any]) -> list[PlannedStep]:
    given = parse_options(options, (step.stage for step in steps))
    for step in steps:
        step.params |= given.get(step.stage, {})
    return steps


def _plain(value: Any) -> Any:
    """Values as YAML has them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
