"""What a build will take: checked and estimated before anything is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..stage import stages
from .steps import PlannedStep

ROLES = {
    "tag": "Tagger", "caption": "Captioner", "detect": "Finder", "segment": "Segmenter", "filter_irrelevant": "Matcher",
}  # fmt: skip
"""Stage with a model -> its role; see :mod:`fiftyone_idsynth.models.roles`."""


def forecast(dataset: Any, steps: Sequence[PlannedStep]) -> dict[str, Any]:
    """Checks that a plan can be carried out and says what it takes.

    Args:
        dataset: the dataset
        steps: the steps

    Returns:
        queries, hosts, models and numbers of images

    Raises:
        UsageError: a key is missing, a parameter is wrong, ...
        ModelError: a model cannot be found
    """
    queries: list[str] = []
    hosts: list[str] = []
    images = 0
    for step in steps:
        if step.stage == "collect":
            shown = stages()["collect"](dataset, **step.params, dry_run=True, progress=False).outputs
            queries += shown["queries"]
            hosts += shown["hosts"]
            images += sum(shown["expected at most"].values())
    return {
        "queries": queries,
        "hosts": list(dict.fromkeys(hosts)),
        "images at most": images,
        "models": {step.stage: name for step in steps if (name := _model(step))},
        "steps": [step.stage for step in steps],
    }


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
