"""Labels images together with people, and promises the precision and recall of the labels (LSUN's cascade)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from ..errors import EmptyViewError, FieldError, ParameterError, UsageError
from ..stage import Bounds, Fraction, Progress, Report, Run, Samples, Seed, current_run, stage
from .people import Oracle, People

if TYPE_CHECKING:
    import numpy as np
    from fiftyone.core.collections import SampleCollection

    from .cascading.flow import Work
    from .cascading.state import Settings, State
    from .cascading.storing import Places, Store

Share = Annotated[float, Bounds(0.5, 0.9999)]


@stage(label="Label with a cascade", group="Learn", icon="filter_alt")
def cascade(
    samples: Samples,
    *,
    classes: tuple[str, ...],
    other: str | None = None,
    precision: Share = 0.95,
    recall: Share = 0.95,
    confidence: Share = 0.95,
    hidden: Annotated[int, Bounds(1, 1_000_000)] = 300,
    batch: Annotated[int, Bounds(2, 100_000)] = 50,
    rounds: Annotated[int, Bounds(1, 100)] = 10,
    annotators: Annotated[int, Bounds(1, 20)] = 2,
    control_tag: str = "control",
    bar: Fraction = 0.8,
    embeddings_field: str = "embedding",
    answers_field: str = "ground_truth",
    label_field: str = "classification",
    tag: str = "auto_labelled",
    oracle_field: str | None = None,
    oracle_error: Fraction = 0.0,
    project: str | None = None,
    url: str | None = None,
    restart: bool = False,
    seed: Seed = 51,
    progress: Progress = None,
) -> Report:
    """Labels images with classifiers that learn from people's answers, as far as precision and recall can be promised.

    People label a hidden set, drawn at random, and some images to learn from. A logistic regression per class on the
    embeddings then labels the images that it is sure of; people label some that it is least sure of, of different
    clusters; and so on with what is left, for some rounds. The hidden images pass through all rounds like the others:
    before labels are written, all that the hidden ones got so far must show, by bounds of Clopper and Pearson, that the
    promise holds. A proposal that they do not confirm is dropped, and the next ones are judged more strictly, so that
    the promise holds for all rounds together. What people agree on counts as right.

    Precision is the share of right labels among the images that the cascade gives a class. Recall is the share of
    images of the classes that it does not label otherwise; what it leaves to people is not missed. Both are counted
    over all classes; to promise them for one class, name this one class, and in ``other`` what all else is called.

    Where people answer in Label Studio, the stage asks them and ends; the same command goes on when they have answered,
    and asks nothing twice. Each image is labelled by several people; where they disagree, more are asked, and where
    that does not help the image is tagged ``conflict``. Samples with a label in ``answers_field`` and the control tag
    are control questions, mixed among the others: the answers of people who fail too many do not count, and others are
    asked instead. Labels that people wrote are never changed; rejected samples and those of the split ``test`` are
    left out. The field ``cascade`` and ``dataset.info`` keep how far it has come.

    Args:
        classes: the classes to label
        other (None): the label of images that are of none of the classes; by default there are no such images
        precision (0.95): the promised precision
        recall (0.95): the promised recall
        confidence (0.95): how often both promises are to hold
        hidden (300): images of the hidden set; too few for the promise are refused
        batch (50): images that people label in each round; three times as many in the first one
        rounds (10): how many rounds there are at most
        annotators (2): how many people label each image
        control_tag ("control"): marks control questions
        bar (0.8): the share of control questions that people must answer rightly, once they answered five
        embeddings_field ("embedding"): the field with the images' embeddings
        answers_field ("ground_truth"): the field for people's answers. Those that are there already are learnt from
        label_field ("classification"): the field for the labels of the cascade, with their confidence, round and model
        tag ("auto_labelled"): the tag of the samples that the cascade labelled
        oracle_field (None): a field with true classes, to simulate people, five of them or three more than annotators
        oracle_error (0.0): how often simulated people are wrong
        project (None): title or id of the project in Label Studio; by default the one that was made for this dataset
        url (None): the server's address; by default that in LABEL_STUDIO_URL
        restart (False): whether an earlier cascade is forgotten, its labels are taken back, and a new hidden set is
            drawn; what people answered stays
        seed (51): of all random choices

    Returns:
        a report with the answers that people gave, hidden images and control questions included, the labels gained and
        answers per label, the bounds of precision and recall, and the answers that are still missing
    """
    from .cascading.flow import Cascade
    from .cascading.state import Settings
    from .cascading.storing import Places, Store

    run = current_run()
    _check(classes, other, label_field, answers_field, oracle_field, oracle_error)
    settings = Settings(
        tuple(classes), other, precision, recall, confidence, hidden, batch, rounds, annotators, bar, seed
    )
    places = Places(embeddings_field, answers_field, label_field, tag)
    store = Store(run.dataset, settings, places)
    if restart and (taken := store.forget()):
        run.note(f"the labels of an earlier cascade are taken back: {taken}")
    if (different := store.other()) and store.found() is not None:
        name, (was, wish) = next(iter(different.items()))
        raise ParameterError(
            name, wish, f"this dataset has a cascade with {name}={was!r}, whose promise holds for that alone: go on "
            "with the same parameters, or set restart=True"
        )  # fmt: skip
    if store.found() is None:
        state = _fresh(run, samples, store, places, control_tag)
    else:
        state = store.load(lambda ids: _embed(run, ids, embeddings_field), _usable)
    people = _people(run, settings, state, places, oracle_field, oracle_error, project, url)
    flow = Cascade(settings, state, people, store.save, store.write_answers)
    with run.progress(rounds) as bar_shown:
        work = flow.advance()
        bar_shown.update(len(state.rounds))
    run.processed(len(store.labelled | store.answered))
    run.left_to_people(store.left_to_people)
    if work.waiting and oracle_field:
        raise UsageError(
            f"{work.waiting} answers are missing and no simulated people are left: their answers to the control "
            f"questions fall below bar={bar:g}. Lower oracle_error or the bar"
        )
    if work.waiting:
        from .label_studio.keys import project_title

        where = f"the project {project or project_title(run.dataset.name)!r} of Label Studio"
        run.note(f"waiting for {work.waiting} answers in {where}: run the same command again when they are there")
    return run.report(_summary(settings, state, work, run, oracle_field))


def _check(
    classes: tuple[str, ...], other: str | None, label_field: str, answers: str, oracle: str | None, error: float
) -> None:
    """Refuses parameters that do not fit one another."""
    if not classes or len(set(classes)) < len(classes):
        raise ParameterError("classes", classes, "name the classes, each once")
    if len(classes) == 1 and other is None:
        raise ParameterError("classes", classes, "with a single class, say in `other` what all other images are called")
    if other is not None and other in classes:
        raise ParameterError("other", other, "is one of the classes: choose another name")
    if label_field == answers:
        raise ParameterError("label_field", label_field, "people's answers are in this field: choose another one")
    if oracle is None and error:
        raise ParameterError("oracle_error", error, "is for simulated people: name an oracle_field")
    if oracle in (label_field, answers):
        raise ParameterError("oracle_field", oracle, "the cascade writes into this field: name another one")


def _usable(view: Any) -> Any:
    """The samples that are not left out."""
    from ..samples import active
    from .candidates import TEST_TAG

    return active(view).match_tags(TEST_TAG, bool=False)


def _embed(run: Run, ids: Any, name: str) -> np.ndarray:
    from ..embeddings import Embeddings
    from .cascading.classifiers import scaled

    return scaled(Embeddings(run.dataset, name).of(ids))


def _fresh(run: Run, samples: SampleCollection, store: Store, places: Places, control_tag: str) -> State:
    """The state of a cascade that begins."""
    from .cascading.state import State

    if run.dataset.get_field(places.embeddings) is None:
        raise FieldError(
            f"embeddings_field={places.embeddings!r}: there is no such field: let select_uncertain compute embeddings "
            "with model='openai/clip-vit-base-patch32', or name a field with them"
        )
    usable = _usable(samples)
    ids = sorted(usable.exists(places.embeddings).values("id"))
    if not ids:
        raise EmptyViewError(
            f"embeddings_field={places.embeddings!r}: none of the samples that are not rejected or of the split test "
            "has an embedding"
        )
    if without := usable.count() - len(ids):
        run.note(f"samples without an embedding are left out: {without}")
    known = store.known(ids)
    controls = set(usable.match_tags(control_tag).values("id")) & set(known)
    if not controls:
        run.note(
            f"nobody's answers are checked: no sample with a label in {places.answers!r} has the tag {control_tag!r}, "
            "which makes it a control question"
        )
    return State.fresh(ids, _embed(run, ids, places.embeddings), known, sorted(controls))


def _people(
    run: Run, settings: Settings, state: State, places: Places, oracle: str | None, error: float, project: str | None,
    url: str | None,
) -> People:  # fmt: skip
    """Who is asked."""
    if oracle is None:
        from .label_studio.people import PeopleInLabelStudio

        return PeopleInLabelStudio(
            run.dataset, project=project, label_field=places.answers, classes=settings.names, url=url
        )
    truth = {i: settings.name_of(label) for i, label in _truth(run, state.ids, oracle).items()}
    return Oracle(
        truth, classes=settings.names, error=error, annotators=max(5, settings.annotators + 3), seed=settings.seed
    )


def _truth(run: Run, ids: list[str], name: str) -> dict[str, str]:
    """The true classes of samples, for simulations."""
    from ..samples import pages, require_field

    require_field(run.dataset, name, parameter="oracle_field")
    path = f"{name}.label" if run.dataset.get_field(f"{name}.label") is not None else name
    found: dict[str, str] = {}
    for page in pages(ids):
        found.update(zip(*run.dataset.select(page).values(["id", path]), strict=True))
    without = [i for i, label in found.items() if not isinstance(label, str)]
    if without:
        raise FieldError(
            f"oracle_field={name!r}: sample {without[0]} has no class there, and {len(without) - 1} others"
        )
    return found


def _summary(settings: Settings, state: State, work: Work, run: Run, oracle: str | None) -> dict[str, Any]:
    from .cascading.results import measured, summary

    outputs = summary(settings, state, work)
    if oracle is not None:
        outputs["measured with the oracle"] = measured(settings, state, _truth(run, state.ids, oracle))
    return outputs
