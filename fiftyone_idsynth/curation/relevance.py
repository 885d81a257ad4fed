"""Finds images that do not fit the query they were searched with, and puts them aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .. import fields
from ..errors import ParameterError
from ..modelling import AllowPickle, Device, DType, ModelBatch, Offline, Revision
from ..stage import (
    Bounds,
    Fraction,
    LabelField,
    NumWorkers,
    Progress,
    Report,
    SampleReference,
    Samples,
    current_run,
    stage,
)

if TYPE_CHECKING:
    from .verdict import Findings

STAGE = "filter_irrelevant"

fields.register(fields.Field("relevance", "float", "How well the image fits the query, 0 to 1, by filter_irrelevant"))


@stage(label="Filter irrelevant images", group="Curate", icon="filter_alt", unit="images")
def filter_irrelevant(
    samples: Samples,
    query: str,
    *,
    method: Literal["statistics", "llm", "similarity"] = "statistics",
    tags: tuple[str, ...] = (),
    tags_field: Annotated[str, LabelField(("Classifications",))] = "content_tags",
    min_confidence: Fraction = 0.1,
    max_tags: Annotated[int, Bounds(1, 1000)] = 10,
    synonyms: tuple[str, ...] = (),
    good: Annotated[Any, SampleReference()] | None = None,
    apply: bool = False,
    ground_truth: str | None = None,
    relevant: tuple[str, ...] = (),
    prompt: str | None = None,
    llm_model: str = "gpt-4o-mini",
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 100_000_000)] = 100_000,
    llm_context: Annotated[int, Bounds(2_048, 10_000_000)] = 8_192,
    model: str = "openai/clip-vit-base-patch32",
    negatives: tuple[str, ...] = (),
    threshold: Fraction | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: ModelBatch = 16,
    num_workers: NumWorkers = None,
    progress: Progress = None,
) -> Report:
    """Finds images that do not show what was searched for, and rejects them once you have seen which.

    At first it is a preview: which tags prove that an image does not fit, how many images have each, and a saved view
    for each to look at. With ``apply`` the images are rejected, each with the tag that condemned it; nothing is
    deleted, and ``restore`` brings them back. Images that somebody restored or marked as good always stay.

    Three ways lead to the tags, which the stage ``tag`` must have written. ``statistics`` needs no model: a tag
    condemns if it is frequent, yet practically never on images with a tag that means the query (or that are marked as
    good); it fails, and says so, where no tag means the query. ``llm`` asks a language model, as the dissertation
    behind this project does. Or you name the ``tags`` yourself, for instance those of a preview without the ones you
    disagree with. ``similarity`` needs no tags: a model of the CLIP kind compares each image with the query, with
    texts of other things, and with images that you marked as good.

    The outcome depends on the images and their tags alone: what this stage rejected before takes part again, and comes
    back if nothing speaks against it any more.

    Args:
        query: what the images shall show, e.g. "red panda"
        method ("statistics"): how irrelevant images are found, unless tags are given
        tags (()): exactly these tags condemn, instead of those that a method finds
        tags_field ("content_tags"): the field with the tags
        min_confidence (0.1): tags of less confidence are not looked at
        max_tags (10): how many tags may condemn
        synonyms (()): further words for the query; those of the offline word list are known
        good (None): images that a person marked as good: a dataset, saved view or sample tag, e.g. "DATASET#good"
        apply (False): whether to reject the images, instead of only showing them
        ground_truth (None): what is truly relevant, to measure how right the outcome is: a field with classes or
            booleans, or a sample tag as "#TAG"
        relevant (()): the classes of ground_truth that are relevant; by default the query
        prompt (None): what the language model is told, by default
            :data:`fiftyone_idsynth.curation.condemning.TAG_INSTRUCTION`
        llm_model ("gpt-4o-mini"): the language model, behind any OpenAI-compatible address
        llm_url (None): that address, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (100_000): tokens that the language model may use
        llm_context (8_192): tokens that it takes at once; more tags are asked about in several questions
        model ("openai/clip-vit-base-patch32"): for similarity, a hub id or folder of a model that compares images with
            texts
        negatives (()): for similarity, texts of what irrelevant images show, by default
            :data:`fiftyone_idsynth.curation.likeness.NEGATIVES`
        threshold (None): for similarity, the least relevance, 0 to 1; by default Otsu's threshold if the images form
            two groups, else 0.5

    Returns:
        a report with the tags, their images and the saved views, and with accuracy, precision, recall and the confusion
        matrix if ``ground_truth`` is given; the images to be found are the relevant ones
    """
    from .judging import Judge, by_llm, by_similarity, by_statistics, by_tags
    from .verdict import publish, truth_of

    run = current_run()
    run.preview = not apply and (bool(tags) or method != "similarity")  # the relevance that is written is recorded
    query = _checked(query, tags)
    fields.declare(run.dataset, "rejected")
    judge = Judge(samples, query, synonyms, good)
    truth = truth_of(judge.samples, query, ground_truth, relevant)
    found: Findings
    if not tags and method == "similarity":
        from ..models.options import Options

        options = Options(device, dtype, revision, offline, allow_pickle)
        found = by_similarity(judge, model, options, negatives, threshold, batch_size, num_workers)
    else:
        table = judge.read_tags(tags_field, min_confidence)
        if tags:
            found = by_tags(judge, table, tags)
        elif method == "llm":
            with _language_model(llm_model, llm_url, llm_budget, llm_context) as asked:
                found = by_llm(judge, table, asked, max_tags, prompt)
        else:
            found = by_statistics(judge, table, max_tags)
    return run.report(publish(judge, found, truth, tags_field, min_confidence, apply=apply))


def _checked(query: str, tags: Sequence[str]) -> str:
    words = " ".join(query.split())
    if not any(character.isalnum() for character in words):
        raise ParameterError("query", query, "has no words: say what the images shall show, e.g. 'red panda'")
    if any(not tag.strip() for tag in tags):
        raise ParameterError("tags", tags, "one of the tags is empty: leave it out")
    return words


def _language_model(name: str, url: str | None, budget: int, context: int) -> Any:
    from ..llm import LanguageModel

    return LanguageModel(name, base_url=url, budget_tokens=budget, context_tokens=context)
