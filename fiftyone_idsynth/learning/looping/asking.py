"""Who answers in the learning loop: people in Label Studio, or a field that has the true labels already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import fields
from ...errors import FieldError
from ...samples import pages, require_field, set_fields
from ..candidates import CONFLICT_TAG, LABELLED_TAG, SKIPPED_TAG

if TYPE_CHECKING:
    import fiftyone as fo

SETTLED_TAGS = (LABELLED_TAG, SKIPPED_TAG, CONFLICT_TAG)
"""Samples that nobody need be asked about again."""


class Asking(ABC):
    """Somebody who labels images.

    Attributes:
        where: where they are asked, for messages
    """

    where: str

    @abstractmethod
    def ask(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        """Asks about samples; asking again about the same ones changes nothing."""

    @abstractmethod
    def gather(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        """Writes the answers that there are by now, and tags the samples that are settled."""


class Oracle(Asking):
    """Answers at once, from a field with the true labels.

    Args:
        dataset: the dataset
        oracle_field: the field with the true labels
        answers_field: the field that gets the answers
        error: the share of answers with a class that is wrong, for labels of whole images
        seed: which answers are wrong
    """

    def __init__(self, dataset: fo.Dataset, oracle_field: str, answers_field: str, error: float, seed: int):
        require_field(dataset, oracle_field, parameter="oracle_field")
        kind = getattr(dataset.get_field(oracle_field), "document_type", None)
        if kind is None:
            raise FieldError(f"oracle_field={oracle_field!r}: this field holds no labels")
        if error and kind.__name__ != "Classification":
            raise FieldError(
                f"oracle_error={error:g}: only the classes of whole images can be given wrongly, and {oracle_field!r} "
                f"holds {kind.__name__}"
            )
        self.where = f"the field {oracle_field!r}"
        self._from, self._to, self._kind = oracle_field, answers_field, str(kind.__name__)
        self._error, self._seed = error, seed
        self._classes = dataset.distinct(f"{oracle_field}.label") if error else []

    def ask(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        """Does nothing: the answers are there."""

    def gather(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        fields.declare_label(dataset, self._to, self._kind)
        if self._from in dataset.mask_targets and self._to not in dataset.mask_targets:
            dataset.mask_targets[self._to] = dataset.mask_targets[self._from]
            dataset.save()
        for page in pages(list(ids)):
            view = dataset.select(page, ordered=True)
            labels = dict(zip(page, view.values(self._from), strict=True))
            answered = {i: self._answer(i, label) for i, label in labels.items() if label is not None}
            set_fields(dataset, {self._to: answered})
            dataset.select(list(answered)).tag_samples(LABELLED_TAG)
            dataset.select([i for i in page if i not in answered]).tag_samples(SKIPPED_TAG)

    def _answer(self, sample_id: str, label: Any) -> Any:
        import random

        answer = label.copy()
        chance = random.Random(f"{self._seed}/{sample_id}")
        if chance.random() < self._error:
            answer.label = chance.choice([name for name in self._classes if name != label.label] or [label.label])
        return answer


class InLabelStudio(Asking):
    """People who label in Label Studio, who see what the model says where that does not mislead them.

    Args:
        where: the project, for messages
        answers_field: the field that gets the answers
        predicted: the field of the model's labels
        label_type: what people are asked for where the field with the answers does not tell
        sending: further parameters of ``send_to_label_studio``
        pulling: parameters of ``pull_from_label_studio``
    """

    def __init__(
        self, where: str, answers_field: str, predicted: str, label_type: str, sending: dict[str, Any],
        pulling: dict[str, Any],
    ):  # fmt: skip
        self.where = where
        self._answers, self._predicted, self._label_type = answers_field, predicted, label_type
        self._sending, self._pulling = sending, pulling

    def ask(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        from ..send_to_label_studio import send_to_label_studio

        known = {} if dataset.has_field(self._answers) else {"label_type": self._label_type}
        if dataset.has_field(self._predicted):
            known["prediction_field"] = self._predicted
        send_to_label_studio(dataset.select(list(ids)), label_field=self._answers, **{**known, **self._sending})

    def gather(self, dataset: fo.Dataset, ids: Sequence[str]) -> None:
        from ..pull_from_label_studio import pull_from_label_studio

        pull_from_label_studio(dataset.select(list(ids)), **self._pulling)
