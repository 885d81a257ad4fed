"""What a build will take: checked and estimated before anything is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..stage import stages
from .steps import PlannedStep

ROLES = {
    "generate": "Generator",
    "tag": "Tagger", "caption": "Captioner", "detect": "Finder", "segment": "Segmenter", "filter_irrelevant": "Matcher",
}  # fmt: skip
"""Stage with a model -> its role; see :mod:`fiftyone_idsynth.models.roles`."""


SECONDS = {
    "collect": 0.2, "score_quality": 0.01, "deduplicate": 0.005, "split": 0.001, "export": 0.02,
    "tag": 1.1, "caption": 1.9, "detect": 0.8, "segment": 0.8, "filter_irrelevant": 0.1,
    "generate": 260,
}  # fmt: skip
"""Seconds per image on two processors. Those of stages with a model were measured with models of the default's size
(``benchmarks/annotate.py``; that of generate is 30 times a step of a UNet of the size of SD 1.5 in bfloat16, and the
decoding), others come from the README's figures; that of collect is what politeness allows where a source's images come
from one or two hosts."""


def forecast(dataset: Any, steps: Sequence[PlannedStep]) -> dict[str, Any]:
    """Checks that a plan can be carried out and says what it takes.

    Args:
        dataset: the dataset
        steps: the steps

    Returns:
        queries, hosts, models, the number of images, and a rough time in minutes; without a figure for the stages
        with a model where these run on a GPU, since none was measured there

    Raises:
        UsageError: a key is missing, a parameter is wrong, ...
        ModelError: a model cannot be found
    """
    queries: list[str] = []
    hosts: list[str] = []
    images, made = 0, 0
    for step in steps:
        if step.stage == "collect":
            shown = stages()["collect"](dataset, **step.params, dry_run=True, progress=False).outputs
            queries += shown["queries"]
            hosts += shown["hosts"]
            images += sum(shown["expected at most"].values())
        if step.stage == "generate":
            made += step.params["count"]
    models = {step.stage: name for step in steps if (name := _model(step))}
    return {
        "queries": queries,
        "hosts": list(dict.fromkeys(hosts)),
        "images at most": images + made,
        "models": models,
        "minutes, roughly": _minutes(steps, images, made, models),
        "steps": [step.stage for step in steps],
    }


def _minutes(steps: Sequence[PlannedStep], images: int, made: int, models: dict[str, str]) -> str:
    """How long the steps take; a guess, since the sources' limits and the processor decide."""
    from ..models.options import Options

    devices = {Options(step.params.get("device", "auto")).torch_device() for step in steps if step.stage in models}
    on_gpu = bool(devices - {"cpu"})
    timed = list(dict.fromkeys(step.stage for step in steps if not (on_gpu and step.stage in models)))
    minutes = sum(SECONDS[stage] * _images_of(stage, images, made) for stage in timed) / 60
    return f"{max(minutes, 1):.0f}" + (
        f" and the time of {', '.join(models)} on {', '.join(devices)}" if on_gpu else ""
    )


def _images_of(stage: str, collected: int, made: int) -> int:
    return {"collect": collected, "generate": made}.get(stage, collected + made)


def _model(step: PlannedStep) -> str | None:
    """The model that a step uses; it must be there, or to be had."""
    from ..models.found import look_up
    from ..models.options import Options

    if step.stage not in ROLES or step.params.get("method", "similarity") != "similarity":
        return None
    parameters = stages()[step.stage].parameters
    given = {
        name: step.params.get(name, parameters[name].default) for name in ("model", "device", "offline", "revision")
    }
    name = given.pop("model")
    if not name or str(name).startswith("openai:"):
        return name
    look_up(name, Options(**given))
    return str(name)
