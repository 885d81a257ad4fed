"""The active-learning loop: people label what the model is least sure of, until the model is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..errors import EmptyViewError, ParameterError
from ..modelling import Device, Offline
from ..stage import (
    Bounds,
    Choices,
    Fraction,
    LabelField,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    parse_options,
    stage,
)
from .acquisition import strategies

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from ..charts import Chart
    from .looping.asking import Asking
    from .looping.loop import Outcome, Plan
    from .looping.rounds import Round

PREDICTED = {"classification": "classification", "detection": "detections", "segmentation": "segmentation"}
"""Task -> the field of the model's labels."""

LABEL_TYPES = {"classification": "classification", "detection": "detections", "segmentation": "segmentation"}
"""Task -> what people are asked for in Label Studio."""

STABILITY = 0.99

CALLED = ("select_uncertain", "send_to_label_studio", "pull_from_label_studio", "train", "predict")
"""The stages that the loop runs."""


@stage(label="Learn from people", group="Learn", icon="school", unit="rounds")
def learn(
    samples: Samples,
    *,
    path: Path,
    task: Literal["classification", "detection", "segmentation"] = "classification",
    model: str = "linear",
    classes: tuple[str, ...] = (),
    count: Annotated[int, Bounds(1, 100_000)] = 50,
    start: Annotated[int, Bounds(1, 100_000)] | None = None,
    strategy: Annotated[str, Choices(strategies)] = "mixed",
    budget: Annotated[int, Bounds(1, 10_000_000)] | None = None,
    target: Fraction | None = None,
    stability: Fraction | None = None,
    patience: Annotated[int, Bounds(1, 1000)] | None = None,
    answers_field: Annotated[str, LabelField()] = "ground_truth",
    label_field: str | None = None,
    embeddings_field: str = "embedding",
    oracle_field: Annotated[str, LabelField()] | None = None,
    oracle_error: Fraction = 0.0,
    compare: bool = True,
    project: str | None = None,
    url: str | None = None,
    annotators: Annotated[int, Bounds(1, 20)] = 1,
    wait: Annotated[float, Bounds(0, 10_080)] = 0.0,
    options: dict[str, str] = {},  # noqa: B006
    seed: Seed = 51,
    device: Device = "auto",
    offline: Offline = False,
    progress: Progress = None,
) -> Report:
    """Learns with as few labels of people as possible: asks, trains, predicts, measures, chooses, and asks again.

    Every round people label the images that the model learns most from, in Label Studio; then a model is trained with
    all labels so far and measured on a fixed test set, the images with the tag ``test`` (see ``split``), which people
    label first where they have not. Where answers are missing, the stage says what it waits for and ends; run it again
    and it goes on. Whatever is interrupted goes on likewise.

    It stops when the target is reached, the predictions no longer change, nothing gets better, the budget is spent or
    no images are left. The curve of labels against quality is kept in ``dataset.info["learning"]`` and drawn in the
    folder (``curve.png``). With ``oracle_field`` nobody is asked: the answers come from this field, and the curve of a
    random choice is drawn beside it.

    Args:
        path: the folder of the trained models and of the curve
        task ("classification"): what the model learns: the class of images, boxes, or masks
        model ("linear"): what is trained, see train: a logistic regression on embeddings, or a model of transformers
        classes (()): the classes that people choose from; by default those that are known from labels
        count (50): images that people label in a round
        start (None): images that are labelled, chosen at random, before the first model is trained; by default as many
            as in a round
        strategy ("mixed"): how images are chosen, see select_uncertain; masks know ``diverse`` and ``random`` only
        budget (None): images that people label at most, the test images aside
        target (None): quality that is enough: accuracy, mAP or mIoU on the test images. Of the accuracy the lower 95 %
            confidence bound counts, so that a small test set does not reach it by luck
        stability (None): mean kappa between the predictions of successive models over three rounds that is enough; by
            default 0.99 where neither target nor patience are given. Masks have none
        patience (None): rounds without a better quality that are enough
        answers_field ("ground_truth"): the labels of people
        label_field (None): the labels of the model; by default ``classification``, ``detections`` or ``segmentation``
        embeddings_field ("embedding"): the field with the images' embeddings, for the choice and the linear model
        oracle_field (None): a field with true labels that answers instead of people
        oracle_error (0.0): the share of wrong classes among its answers
        compare (True): whether a random choice is measured beside it, on a copy of the dataset; with oracle_field only
        project (None): the Label Studio project; by default the name of the dataset
        url (None): the address of Label Studio, see send_to_label_studio
        annotators (1): people who label each image
        wait (0.0): minutes to wait for people in every round before the stage ends
        options ({}): parameters of the stages that are run, as STAGE.PARAMETER -> value, e.g. train.epochs=20
        seed (51): of every random choice

    Returns:
        a report with the curve, why the loop stopped or how many answers it waits for, and the folder of the best model

    Raises:
        EmptyViewError: no image has the tag ``test``
    """
    from .looping.loop import Loop, Plan
    from .looping.stopping import Stop, check_target

    run = current_run()
    dataset = run.dataset
    tests = _tests(samples)
    if task == "classification":
        check_target(target, tests)
    _check(task, strategy, stability, oracle_field, oracle_error, answers_field)
    given = parse_options(options, CALLED)
    if stability is None and target is None and patience is None and task != "segmentation":
        stability = STABILITY
    folder = path.expanduser().absolute()
    loading = {"device": device, "offline": offline}
    plan = Plan(
        task, model, answers_field, label_field or PREDICTED[task], start or count, count, strategy,
        Stop(budget, target, stability, patience), folder, seed,
        selecting={"embeddings_field": embeddings_field, **given.get("select_uncertain", {})},
        training={"embeddings_field": embeddings_field, "classes": classes, **loading, **given.get("train", {})},
        predicting={**loading, **given.get("predict", {})},
    )  # fmt: skip
    _check_again(plan, given)
    asking = _asking(dataset, plan, classes, oracle_field, oracle_error, project, url, annotators, given)
    loop = Loop(samples, dataset, plan, asking, run.announce)
    before = len(loop.rounds)
    outcome = loop.run(wait * 60, progress)
    run.processed(len(outcome.rounds) - before)
    run.skipped(before)
    if outcome.stopped and outcome.rounds and oracle_field and compare and strategy != "random":
        _compare(samples, dataset, plan, asking, outcome.rounds[-1].labels, progress)
    charts = _draw(dataset, plan)
    if outcome.waiting:
        run.note(
            f"{outcome.waiting} images wait for answers in {asking.where}: label them, then run this again; it goes on "
            "from there (wait=60 waits for an hour in every round)"
        )
    report = run.report(_summary(dataset, plan, outcome, tests))
    report.charts = charts
    return report


def _tests(samples: SampleCollection) -> int:
    """The number of test images.

    Raises:
        EmptyViewError: there are none
    """
    from ..samples import active
    from .candidates import TEST_TAG

    count = int(active(samples).match_tags(TEST_TAG).count())
    if not count:
        raise EmptyViewError(
            "no image has the tag 'test': set some apart first, which measure every round, e.g. with "
            "`idsynth split DATASET --train 0.8 --val 0 --test 0.2`; the model never learns from them"
        )
    return count


def _check(task: str, strategy: str, stability: float | None, oracle: str | None, error: float, answers: str) -> None:
    if task == "segmentation" and strategy not in ("diverse", "random"):
        problem = "how unsure a model is of masks is not known: choose 'diverse' or 'random'"
        raise ParameterError("strategy", strategy, problem)
    if task == "segmentation" and stability is not None:
        raise ParameterError("stability", stability, "masks have none: give a target, a patience or a budget")
    if error and not oracle:
        raise ParameterError("oracle_error", error, "it is for oracle_field, which is not given")
    if oracle == answers:
        raise ParameterError("oracle_field", oracle, "the answers go to this field: name another answers_field")


def _check_again(plan: Plan, given: dict[str, dict[str, Any]]) -> None:
    """Refuses parameters of single stages that the loop decides itself."""
    own = {
        "select_uncertain": {"count", "strategy", "tag", "seed", "answers_field", "label_field", "progress"},
        "train": {"path", "model", "answers_field", "task", "seed", "progress"},
        "predict": {"model", "label_field", "answers_field", "task", "progress"},
    }
    for name, decided in own.items():
        for parameter in decided & set(given.get(name, {})):
            problem = f"learn decides this: give it as a parameter of learn, not of {name}"
            raise ParameterError("options", f"{name}.{parameter}", problem)


def _asking(
    dataset: fo.Dataset, plan: Plan, classes: Sequence[str], oracle: str | None, error: float, project: str | None,
    url: str | None, annotators: int, given: dict[str, dict[str, Any]],
) -> Asking:  # fmt: skip
    from .looping.asking import InLabelStudio, Oracle

    if oracle:
        return Oracle(dataset, oracle, plan.answers, error, plan.seed)
    server = {"project": project, "url": url, "progress": False}
    sending = {**server, "classes": classes, "annotators": annotators, **given.get("send_to_label_studio", {})}
    pulling = {**server, "min_annotators": annotators, **given.get("pull_from_label_studio", {})}
    where = f"the Label Studio project {project or dataset.name!r}"
    return InLabelStudio(where, plan.answers, plan.predicted, LABEL_TYPES[plan.task], sending, pulling)


def _compare(
    samples: SampleCollection, dataset: fo.Dataset, plan: Plan, asking: Asking, labels: int, progress: Any
) -> None:
    """Measures the random choice with as many labels, on a copy of the dataset that is removed afterwards."""
    import shutil

    import fiftyone as fo

    from .looping.loop import Loop, forget_labels
    from .looping.rounds import read_rounds, write_rounds
    from .looping.stopping import Stop

    run = current_run()
    there = read_rounds(dataset, plan.answers).get("random", [])
    if there and there[-1].model == plan.model and there[-1].labels >= labels:
        return
    name = f"{dataset.name} (random choice of {run.fingerprint})"
    if fo.dataset_exists(name):  # of a run that was killed
        fo.delete_dataset(name)
    run.announce("measuring a random choice beside it")
    copy = samples.clone(name)
    try:
        forget_labels(copy, plan.answers)
        write_rounds(copy, plan.answers, "random", [])
        at_random = replace(plan, strategy="random", stop=Stop(labels, None, None, None))
        rounds = Loop(copy, copy, at_random, asking, run.announce).run(0, progress).rounds
        write_rounds(dataset, plan.answers, "random", rounds)
    finally:
        copy.delete()
        shutil.rmtree(plan.folder / "random", ignore_errors=True)


def _summary(dataset: fo.Dataset, plan: Plan, outcome: Outcome, tests: int) -> dict[str, Any]:
    from .looping.loop import told
    from .looping.rounds import read_rounds

    outputs: dict[str, Any] = {"stopped": outcome.stopped} if outcome.stopped else {"waiting for": outcome.waiting}
    rounds = outcome.rounds
    if not rounds:
        return outputs
    last, best = rounds[-1], max(rounds, key=lambda one: (one.quality, one.number))
    outputs |= {"labels": last.labels, last.metric: last.quality}
    if last.lower is not None:
        outputs["at least, with 95 % confidence"] = last.lower
    outputs |= {"test images": tests, "best model": best.folder, "rounds": [told(one) for one in rounds]}
    at_random = read_rounds(dataset, plan.answers).get("random", [])
    if plan.strategy != "random" and at_random:
        outputs["random choice"] = _beside(rounds, at_random)
    return {**outputs, "curve": str(plan.folder / "curve.png")}


def _beside(rounds: Sequence[Round], at_random: Sequence[Round]) -> dict[str, Any]:
    """What a random choice of as many labels reached, and with how many labels the loop reached that."""
    last = at_random[-1]
    sooner = next((one.labels for one in rounds if one.quality >= last.quality), None)
    found = {"labels": last.labels, last.metric: last.quality}
    return found if sooner is None else {**found, "labels that were enough for this by choice": sooner}


def _draw(dataset: fo.Dataset, plan: Plan) -> list[Chart]:
    """Draws the curves into the folder; returns their chart for the App."""
    from .looping.plot import chart, plot
    from .looping.rounds import read_rounds

    curves = {name: rounds for name, rounds in read_rounds(dataset, plan.answers).items() if rounds}
    if not curves:
        return []
    plot(curves, plan.folder / "curve.png", f"{dataset.name}: {plan.model}")
    return [chart(curves)]
