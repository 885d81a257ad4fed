"""The rounds of the learning loop, as they are recorded with the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fiftyone as fo

INFO = "learning"
"""The key of ``dataset.info`` under which the rounds are: field of people's labels -> strategy -> rounds."""


@dataclass(frozen=True)
class Round:
    """A round: a model trained with all labels so far, and what it is worth.

    Attributes:
        number: of the round, from 0
        labels: images that people had labelled when the model was trained
        quality: of the model on the test images, 0 to 1
        metric: what quality is: accuracy, mAP or mIoU
        lower: the lower 95 % confidence bound of the accuracy; None for other metrics
        kappa: Cohen's kappa between the predictions of this round's model and the one before, on images that neither
            was trained on; None where there is none
        model: what was trained
        folder: where the trained model is
        seconds: what training, prediction and measuring took
        finished_at: ISO 8601, UTC
    """

    number: int
    labels: int
    quality: float
    metric: str
    lower: float | None
    kappa: float | None
    model: str
    folder: str
    seconds: float
    finished_at: str


def read_rounds(dataset: fo.Dataset, answers: str) -> dict[str, list[Round]]:
    """The rounds of a dataset.

    Args:
        dataset: the dataset
        answers: the field of people's labels

    Returns:
        strategy -> rounds in their order
    """
    known = {field.name for field in fields(Round)}
    stored = dataset.info.get(INFO, {}).get(answers, {})
    return {
        strategy: [Round(**{name: value for name, value in one.items() if name in known}) for one in rounds]
        for strategy, rounds in stored.items()
    }


def write_rounds(dataset: fo.Dataset, answers: str, strategy: str, rounds: Sequence[Round]) -> None:
    """Records the rounds of a strategy in ``dataset.info``; those of other strategies stay."""
    dataset.reload()
    info: dict[str, Any] = dataset.info.get(INFO, {})
    its = {**info.get(answers, {}), strategy: [asdict(one) for one in rounds]}
    dataset.info[INFO] = {**info, answers: its}
    dataset.save()


def tail(rounds: Sequence[Round]) -> list[Round]:
    """The last rounds that trained the same model, which alone can be compared."""
    found: list[Round] = []
    for one in reversed(rounds):
        if found and one.model != found[0].model:
            break
        found.append(one)
    return found[::-1]
