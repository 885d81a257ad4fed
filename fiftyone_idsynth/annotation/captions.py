"""What the images show, in a sentence; and the texts that generators are trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .. import fields
from ..engine.worker import Item, Worker
from ..errors import FieldError, ParameterError, RefusedImage
from ..modelling import AllowPickle, Device, DType, ModelBatch, ModelWorker, Offline, Revision, check_label_field
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    Samples,
    current_run,
    fingerprint,
    stage,
)
from .training_text import TextRules, merge_texts, one_line

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np

    from ..llm.errors import LanguageModelError
    from ..models.options import Options

TAGS_FIELD = "content_tags"

NOTHING = "none"
"""The name that stands for no model, and for no field."""

SERVED = "openai:"
"""What the name of a model behind an OpenAI-compatible address begins with."""


@stage(label="Caption images", group="Annotate", icon="subtitles")
def caption(
    samples: Samples,
    *,
    model: str = "Salesforce/blip-image-captioning-base",
    prompt: str = "",
    max_new_tokens: Annotated[int, Bounds(1, 2048)] = 50,
    num_beams: Annotated[int, Bounds(1, 32)] = 3,
    from_source: Literal["none", "title", "description", "query"] = "none",
    caption_field: str = "caption",
    training_text: bool = True,
    trigger_word: str = "",
    tags_field: Annotated[str, LabelField(("Classifications",))] = TAGS_FIELD,
    tags_threshold: Fraction = 0.35,
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 1_000_000_000)] = 1_000_000,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 8,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Describes what the images show, and merges captions and tags to the texts that generators are trained with.

    BLIP, BLIP-2, Florence-2 and other image-text-to-text models will do, by hub id or as a local folder, and vision
    models behind an OpenAI-compatible address. Captions that a person wrote or changed stay as they are. Which model
    wrote a caption stands in ``CAPTION_FIELD_by``.

    Training texts are ``"TRIGGER, CAPTION, TAG, TAG"`` in the field ``training_text``: tags in their stored order,
    without ratings and without those whose words are all in the caption. They are made of what is stored, people's
    captions included, so that another trigger word or threshold does not run the model again.

    Args:
        model ("Salesforce/blip-image-captioning-base"): a hub id, a folder, or openai:MODEL for a server; "none"
            makes no captions, only training texts
        prompt (""): what the model is given besides the image: the beginning of the caption for BLIP, a task such as
            <DETAILED_CAPTION> for Florence-2, a question for models that are spoken to
        max_new_tokens (50): the longest caption, in tokens
        num_beams (3): how many captions are followed up at a time; 1 is the fastest
        from_source ("none"): take the title, the description or the query of collected images as captions, without a
            model; an image that has none keeps the caption that it has
        caption_field ("caption"): the field that gets the captions
        training_text (True): whether to write the field training_text
        trigger_word (""): what training texts begin with, e.g. a rare word that shall stand for the subject
        tags_field ("content_tags"): the tags that are added to training texts; "none" adds none
        tags_threshold (0.35): least confidence of a tag in a training text; tags that people made always count
        llm_url (None): address of the server for openai:MODEL, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (1000000): tokens that the server may use; an image takes about a thousand
        batch_size (8): images that the model gets at once, halved when the device's memory is short; questions that a
            server gets at once

    Returns:
        a report with the number of captions and of training texts
    """
    from ..engine import update_samples
    from ..models.options import Options
    from ..samples import active, require_samples

    run = current_run()
    _check(samples, caption_field, training_text, trigger_word, tags_field)
    samples = active(samples)
    require_samples(samples)
    worker: Worker | None = None
    if from_source != "none":
        worker = SourceWorker(run.dataset, from_source, caption_field)
    elif model != NOTHING:
        settings = CaptionSettings(prompt, max_new_tokens, num_beams, caption_field)
        options = Options(device, dtype, revision, offline, allow_pickle)
        if model.startswith(SERVED):
            worker = ServedWorker(model, settings, llm_url, llm_budget, batch_size)
        else:
            worker = CaptionWorker(model, options, settings, batch_size)
        worker.record()
    _declare(run.dataset, caption_field)
    ids = samples.values("id")
    if worker is not None:
        update_samples(samples, worker, batch_size=batch_size, num_workers=num_workers)
    if isinstance(worker, ServedWorker):
        worker.finish()
    rules = TextRules(trigger_word, tags_threshold) if training_text else None
    return run.report(_settle(run.dataset, ids, caption_field, tags_field, rules))


def _check(samples: Any, caption_field: str, texts: bool, trigger_word: str, tags_field: str) -> None:
    """Refuses parameters that do not fit one another or the dataset."""
    import fiftyone as fo

    from ..samples import require_field

    check_label_field(caption_field, "caption_field")
    if caption_field == "training_text":
        raise ParameterError("caption_field", caption_field, "this field gets the training texts: choose another one")
    if trigger_word and not texts:
        raise ParameterError("trigger_word", trigger_word, "is for training texts, and training_text is off")
    needed = tags_field != TAGS_FIELD or samples.has_field(TAGS_FIELD)  # the default one need not be there
    if texts and tags_field != NOTHING and needed:
        require_field(samples, tags_field, fo.Classifications, parameter="tags_field")


def _declare(dataset: fo.Dataset, caption_field: str) -> None:
    fields.declare_label(dataset, caption_field, "str")
    by = f"{caption_field}_by"
    if by not in fields.FIELDS:
        for path in ("caption_by", "caption_by.model", "caption_by.revision"):
            known = fields.FIELDS[path]
            fields.register(fields.Field(path.replace("caption_by", by), known.type, known.help))
    fields.declare(dataset, by)


@dataclass(frozen=True)
class CaptionSettings:
    """What captions depend on besides the model.

    Attributes:
        prompt: what the model is given besides the image
        max_new_tokens: the longest caption
        num_beams: how many captions are followed up at a time
        field: the field that gets them
    """

    prompt: str
    max_new_tokens: int
    num_beams: int
    field: str

    @property
    def asked(self) -> dict[str, Any]:
        """What a captioner is given."""
        return {"prompt": self.prompt, "max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams}


class CaptionWorker(ModelWorker):
    """Captions images; see :class:`ModelWorker`."""

    def __init__(self, model: str, options: Options, settings: CaptionSettings, batch_size: int):
        from ..models.roles import Captioner

        self._settings = settings
        self.labels = (settings.field,)
        super().__init__(Captioner, model, options, [settings.asked, settings.field], batch_size)

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        import functools

        return self.batches(functools.partial(self.model.caption, **self._settings.asked), pictures)

    def values(self, item: Item, answer: Any) -> Any:
        text = answer if isinstance(answer, RefusedImage) else one_line(answer)
        if isinstance(text, RefusedImage):
            return text
        if not text:
            return RefusedImage("no_caption", f"{self.about['model']} gave an empty text: try another prompt")
        field = self._settings.field
        return {field: text, **{f"{field}_by.{name}": value for name, value in self.about.items()}}


class ServedWorker(CaptionWorker):
    """Captions images with a model behind an OpenAI-compatible address; each image is a question of its own.

    When the server will not answer another question either, the images that are left are refused without asking.

    Args:
        model: its name, ``"openai:MODEL"``
        settings: prompt and length
        url: the server's address
        budget: tokens that may be spent
        at_once: questions that the server gets at once
    """

    def __init__(self, model: str, settings: CaptionSettings, url: str | None, budget: int, at_once: int):
        from ..llm import LanguageModel
        from ..models.captioners import ServedCaptioner
        from ..models.options import Options

        self._server = LanguageModel(model.removeprefix(SERVED), base_url=url, budget_tokens=budget)
        self._captioner = ServedCaptioner(self._server)
        self._failed: LanguageModelError | None = None
        self._answered = False
        super().__init__(model, Options(), settings, at_once)

    @property
    def model(self) -> Any:
        return self._captioner

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self._batch_size) as pool:
            return list(pool.map(self._ask, pictures))

    def _ask(self, picture: np.ndarray) -> Any:
        from ..llm.errors import FATAL, LanguageModelError

        if self._failed is not None:
            return RefusedImage(self._failed.reason, f"not asked: {self._failed.detail}")
        try:
            (text,) = self._captioner.caption([picture], **self._settings.asked)
        except LanguageModelError as error:
            if error.reason in FATAL:
                self._failed = error
            return RefusedImage(error.reason, error.detail)
        self._answered = True
        return text

    def finish(self) -> None:
        """Closes the connections and tells what there is to tell.

        Raises:
            LanguageModelError: the server did not answer at all
        """
        self._server.close()
        for remark in self._server.notes:
            self._note(remark)
        if self._failed is None:
            return
        if not self._answered:
            raise self._failed
        self._note(f"stopped asking: {self._failed.detail}. The same command continues")


class SourceWorker(Worker):
    """Takes captions from where the images were found, without a model.

    Args:
        dataset: the dataset
        part: ``"title"``, ``"description"`` or ``"query"``
        field: the field that gets the captions

    Raises:
        FieldError: no sample came with it
    """

    decode = None

    def __init__(self, dataset: fo.Dataset, part: str, field: str):
        self._source, self._field = f"source.{part}", field
        if dataset.get_field(self._source) is None:
            raise FieldError(
                f"from_source={part!r}: the samples have no field {self._source!r}, which collect writes: let a model "
                "write the captions (from_source='none')"
            )
        self.fields, self.labels = (self._source,), (field,)
        self.key = fingerprint("source captions", part, field)

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        return [self._values(one_line(item.values[self._source])) for item in items]

    def _values(self, text: str) -> dict[str, Any]:
        if not text:
            return {}
        return {self._field: text, f"{self._field}_by.model": self._source, f"{self._field}_by.revision": None}


def _settle(
    dataset: fo.Dataset, ids: list[str], caption_field: str, tags_field: str, rules: TextRules | None
) -> dict[str, Any]:
    """Works out the training texts from what is stored, writes those that changed, and sums up.

    A caption of a model that a person changed since is the model's no more, so that its name is taken away.
    """
    from ..authorship import declare_authors, written_by_people
    from ..samples import pages, set_fields

    guarded = [caption_field]
    if rules:
        fields.declare(dataset, "training_text")
        guarded.append("training_text")
    declare_authors(dataset, guarded)
    counts = {"captions": 0, "without a caption": 0} | ({"training texts": 0} if rules else {})
    by, note = f"{caption_field}_by", f"authors.{caption_field}"
    for page in pages(ids):
        people = written_by_people(dataset, page, guarded)
        columns = dataset.select(page).values(["id", caption_field, f"{by}.model", note])
        edited = []
        for sample_id, text, model, noted in zip(*columns, strict=True):
            counts["captions" if text else "without a caption"] += 1
            if model and noted and caption_field in people.get(sample_id, ()):
                edited.append(sample_id)
        set_fields(dataset, {f"{by}.model": dict.fromkeys(edited), f"{by}.revision": dict.fromkeys(edited)})
        if rules:
            kept = {sample_id for sample_id, paths in people.items() if "training_text" in paths}
            current_run().left_to_people(kept)
            counts["training texts"] += _write_texts(dataset, page, caption_field, tags_field, rules, kept)
    return counts


def _write_texts(
    dataset: fo.Dataset, ids: list[str], caption_field: str, tags_field: str, rules: TextRules, kept: set[str]
) -> int:
    """Writes the training texts of some samples, save those that people wrote; returns how many there are now."""
    from ..authorship import authors_of
    from ..samples import set_fields

    tagged = tags_field != NOTHING and dataset.get_field(tags_field) is not None
    paths = ["id", caption_field, "training_text", *([f"{tags_field}.classifications"] if tagged else [])]
    changed: dict[str, dict[str, Any]] = {}
    count = 0
    for sample_id, text, before, *tags in zip(*dataset.select(ids).values(paths), strict=True):
        made = before if sample_id in kept else merge_texts(text, tags[0] or () if tags else (), rules)
        count += made is not None
        if made != before:
            for path, value in {"training_text": made, **authors_of({"training_text": made})}.items():
                changed.setdefault(path, {})[sample_id] = value
    set_fields(dataset, changed)
    return count
