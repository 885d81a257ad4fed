"""What people answered, as examples to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...errors import EmptyViewError, FieldError, ParameterError, suggestion
from ...runs import Run
from ...samples import active, pages, require_field
from ..candidates import TEST_TAG, find_labelled
from .kin import Kin

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

Task = Literal["classification", "detection", "segmentation"]

KINDS: dict[Task, tuple[str, ...]] = {
    "classification": ("Classification",),
    "detection": ("Detections", "Polylines"),
    "segmentation": ("Segmentation", "Detections", "Polylines"),
}
"""Task -> the kinds of answers that teach it."""

MADE = ("generated", "augmented", "composed")
"""Kinds of images (``source.kind``) that were made, not taken."""

_NAMED: dict[str, str] = {
    "Classification": "label", "Detections": "detections.label", "Polylines": "polylines.label", "Segmentation": "id",
}  # fmt: skip
"""Kind -> what tells whether there is an answer, and which classes it names."""


@dataclass
class Answered:
    """The samples that a model may be trained on.

    Attributes:
        kind: the class of the answers
        answers: sample id -> its class, or the classes of its objects; of masks only that there is one
        files: sample id -> its image file
        kin: their relatives
        left_out: why others are not among them -> how many
    """

    kind: str
    kin: Kin
    answers: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def answer_kind(samples: SampleCollection, name: str, task: Task) -> str:
    """The class of people's answers.

    Raises:
        FieldError: there is no such field, or it holds what does not teach the task
    """
    import fiftyone as fo

    require_field(samples, name, *(getattr(fo, kind) for kind in KINDS[task]), parameter="answers_field")
    return str(samples.get_field(name).document_type.__name__)


def find_answered(samples: SampleCollection, dataset: fo.Dataset, name: str, task: Task) -> Answered:
    """Finds the samples that people answered and that a model may be trained on.

    Left out are rejected samples, those of the split ``test`` and their relatives, and labels that a model wrote and
    nobody changed.

    Args:
        samples: a dataset or view
        dataset: its dataset
        name: the field with people's answers
        task: what the model is to learn

    Raises:
        FieldError: see :func:`answer_kind`
        EmptyViewError: nothing is labelled
    """
    found = Answered(answer_kind(samples, name, task), Kin(dataset))
    given = set(samples.values("id"))
    ids = [i for i in find_labelled(dataset, name) if i in given]
    tests = found.kin.of_tests(ids)
    found.left_out["relatives of test images"] += len(tests)
    ids = [i for i in ids if i not in tests]
    _read(found, dataset, ids, name)
    found.left_out = +found.left_out
    if not found.answers:
        why = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise EmptyViewError(
            f"answers_field={name!r}: none of the {len(given)} samples has an answer of a person that may be trained on"
            f"{f' ({why})' if why else ''}: let people label some (select_uncertain, send_to_label_studio), or name "
            "another field; rejected samples and those of the split test are never trained on"
        )
    return found


def test_answered(
    samples: SampleCollection, dataset: fo.Dataset, name: str, task: Task, part: set[str], run: Run
) -> Answered:
    """Finds the real images of the split ``test`` that people answered.

    Args:
        samples: a dataset or view
        dataset: its dataset
        name: the field with people's answers
        task: what models are tested at
        part: samples that are left out
        run: is told how many are left out

    Raises:
        EmptyViewError: there is none
    """
    from fiftyone import ViewField as F

    view = active(samples).match_tags(TEST_TAG)
    found = Answered(answer_kind(samples, name, task), Kin(dataset))
    if dataset.has_field("source.kind"):
        made = view.match(F("source.kind").is_in(MADE)).values("id")
        if made:
            run.note(f"{len(made)} images of the split test were made, not taken: nothing is tested on them")
        part = part | set(made)
    _read(found, dataset, [i for i in view.values("id") if i not in part], name)
    found.left_out = +found.left_out
    if not found.answers:
        raise EmptyViewError(
            f"answers_field={name!r}: no real image with the tag 'test' has an answer, so there is nothing to test "
            "with: split the dataset, and let people label the test images"
        )
    return found


def chosen_classes(counts: Counter[str], classes: Sequence[str], name: str) -> list[str]:
    """The classes that a model is to learn.

    Args:
        counts: class -> in how many samples people found it
        classes: those that are asked for; none for all
        name: the field with the answers, for messages

    Raises:
        ParameterError: one of them has no example
        FieldError: there is none
    """
    for wanted in classes:
        if not counts[wanted]:
            problem = f"no answer in {name!r} is of this class: {suggestion(wanted, sorted(counts))}"
            raise ParameterError("classes", wanted, problem)
    if not counts:
        raise FieldError(f"answers_field={name!r}: no answer names a class, so there is nothing to learn: label some")
    return list(dict.fromkeys(classes)) if classes else sorted(counts)


def _read(found: Answered, dataset: fo.Dataset, ids: list[str], name: str) -> None:
    """Reads the answers to some samples."""
    noted = dataset.has_field(f"authors.{name}")
    for page in pages(ids):
        of_models = _of_models(dataset, page, name) if noted else set()
        for sample_id, file, answer in zip(*_values(dataset, page, name, found.kind), strict=True):
            if sample_id in of_models:
                found.left_out["labelled by a model"] += 1
            elif answer is None:
                found.left_out[f"tagged as labelled, without an answer in {name}"] += 1
            else:
                found.answers[sample_id], found.files[sample_id] = answer, file


def _values(dataset: fo.Dataset, ids: list[str], name: str, kind: str) -> list[list[Any]]:
    paths = ["id", "filepath", f"{name}.{_NAMED[kind]}"]
    values: list[list[Any]] = dataset.select(ids, ordered=True).values(paths)
    return values


def _of_models(dataset: fo.Dataset, ids: list[str], name: str) -> set[str]:
    """Samples with a label that a model wrote and nobody changed."""
    from ...authorship import written_by_people

    people = written_by_people(dataset, ids, [name])
    noted = set(dataset.select(ids).exists(f"authors.{name}").values("id"))
    return {i for i in noted if i not in people}
