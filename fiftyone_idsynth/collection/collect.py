"""From a topic to images: searched for in many places, downloaded politely, with licence and provenance."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import ParameterError
from ..stage import (
    Bounds,
    Choices,
    Convert,
    ExistingPath,
    Progress,
    Report,
    Samples,
    current_run,
    stage,
)
from .arrival import Background, Rules
from .network import Network, Proxies, find_proxies
from .sources import source_names

Source = Annotated[str, Choices(source_names)]


@stage(label="Collect images", group="Collect", icon="travel_explore", unit="images", creates=True)
def collect(
    dataset: Samples,
    topic: str,
    *,
    sources: tuple[Source, ...] = ("openverse", "wikimedia"),
    count: Annotated[int, Bounds(1, 10_000_000)] = 100,
    licenses: tuple[str, ...] = (),
    languages: tuple[str, ...] = ("en",),
    synonyms: tuple[str, ...] = (),
    variants: Literal["none", "words", "llm"] = "none",
    queries: tuple[str, ...] = (),
    word_list: Annotated[Path | None, ExistingPath()] = None,
    urls: Annotated[Path | None, ExistingPath()] = None,
    acknowledged: tuple[Source, ...] = (),
    min_side: Annotated[int, Bounds(1, 100_000)] = 256,
    max_aspect_ratio: Annotated[float, Bounds(1, 1000)] = 3.0,
    background: Background = "any",
    class_field: str | None = None,
    captions: Literal["none", "query", "title", "description"] = "none",
    tags: tuple[str, ...] = (),
    dry_run: bool = False,
    robots: Literal["all", "images", "none"] = "all",
    max_connections: Annotated[int, Bounds(1, 256)] = 32,
    max_per_host: Annotated[int, Bounds(1, 256)] = 4,
    rate_per_host: Annotated[float, Bounds(0, 10_000)] = 10.0,
    timeout: Annotated[float, Bounds(1, 3600)] = 60.0,
    tries: Annotated[int, Bounds(1, 10)] = 3,
    max_megabytes: Annotated[float, Bounds(0.001, 1024)] = 50.0,
    max_minutes: Annotated[float, Bounds(0.01, 100_000)] = 60.0,
    user_agents: tuple[str, ...] = (),
    proxies: Annotated[Proxies | None, Convert(find_proxies)] = None,
    allowed_hosts: tuple[str, ...] = (),
    endpoints: dict[str, str] = {},  # noqa: B006
    render: tuple[Source, ...] = (),
    llm_model: str = "gpt-4o-mini",
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 100_000_000)] = 20_000,
    progress: Progress = None,
) -> Report:
    """Searches the web for images of a topic and adds those that can be used, with where they come from.

    Openverse and Wikimedia Commons need no key and give openly licensed images. The other sources are used when they
    are named: Flickr, Unsplash, Pexels and Shutterstock need a key; the search engines give images of unknown licence,
    and one that blocks is left alone, never tricked. Each image keeps the source, query, language and rank that found
    it, its page, title, description, keywords, creator and licence in ``source``.

    Files are judged by their content, stripped of EXIF, GPS and other personal metadata, and stored by their hash in
    the dataset's media store. What is no image, broken, too small, a copy, or not wanted is counted under its reason.
    Running it again asks only whether something changed and adds what is new; an interrupted run is continued.

    Args:
        topic: what the images shall show, e.g. "red panda"
        sources (("openverse", "wikimedia")): where to search
        count (100): how many images are wanted, those of earlier runs of the same search among them
        licenses (()): only images under one of these licences, e.g. cc0, cc-by, pdm; a name without version means
            every version; all licences, also unknown ones, by default
        languages (("en",)): languages to search in, as ISO 639-1 codes; the topic is in the first of them
        synonyms (()): further words for the topic, in the language of the topic or as LANGUAGE:WORDS
        variants ("none"): where translations and further synonyms come from: the offline word list (words) or a
            language model (llm)
        queries (()): exactly these queries, as WORDS or LANGUAGE:WORDS, instead of all variants
        word_list (None): a CSV file with the columns topic, language and words that adds to the word list
        urls (None): a file of image addresses to collect (.txt, .csv, .tsv or .parquet): the source urls
        acknowledged (()): sources whose terms you have read and may use for machine learning: unsplash
        min_side (256): smallest width and height in pixels
        max_aspect_ratio (3.0): longer side / shorter side at most
        background ("any"): only images whose border is plain, as of product photographs, or only natural ones
        class_field (None): a classification field that gets the topic as its label
        captions ("none"): what becomes the caption
        tags (()): sample tags to give to all images
        dry_run (False): whether to show the queries, the expected counts and the hosts only; no source is asked
        robots ("all"): whose robots.txt and X-Robots-Tag are respected: of all, of the images only, or none
        max_connections (32): requests at the same time
        max_per_host (4): of these, to one host
        rate_per_host (10.0): image requests per second and host; 0 for no limit
        timeout (60.0): seconds for one image in one try, whatever the server does
        tries (3): how often an image is asked for when the server fails or is busy
        max_megabytes (50.0): largest file
        max_minutes (60.0): no image is begun after this time
        user_agents (()): how we introduce ourselves, by default with our name; one with a contact address is polite,
            and Wikimedia wants it
        proxies (None): proxies to use in turn, e.g. http://user:password@host:3128
        allowed_hosts (()): hosts with private addresses that may be asked, as HOST or HOST:PORT
        endpoints ({}): another server of a source's API, e.g. openverse=https://openverse.example.org
        render (()): search engines whose pages are opened in headless Chromium
        llm_model ("gpt-4o-mini"): the language model for variants, behind any OpenAI-compatible address
        llm_url (None): that address, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (20000): tokens that the language model may use

    Returns:
        a :class:`~fiftyone_idsynth.stage.Report`; ``outputs`` has the counts of each source

    Raises:
        UsageError: the input is wrong; nothing was asked
        CollectionError: no source gave a single image
    """
    from .collector import Collector, Wanted
    from .plan import choose, describe
    from .queries import make_queries

    run = current_run()
    chosen = choose(sources, urls=urls, endpoints=endpoints, acknowledged=acknowledged)
    for name in render:
        if name not in [source.name for source in chosen if source.kind.about.kind == "search"]:
            raise ParameterError("render", render, f"{name!r} is no search engine among the sources")
    network = Network(
        robots, max_connections, max_per_host, rate_per_host, timeout, tries, max_megabytes, max_minutes,
        user_agents, proxies or Proxies(), allowed_hosts, render,
    )  # fmt: skip
    network.check()
    with _language_model(llm_model, llm_url, llm_budget) if variants == "llm" else nullcontext() as model:
        made = make_queries(
            topic, languages=languages, synonyms=synonyms, queries=queries, variants=variants, word_list=word_list,
            model=model,
        )  # fmt: skip
        for remark in [*made.remarks, *(model.notes if model else ())]:
            run.note(remark)
    wanted = Wanted(
        topic.strip(), count, licenses, class_field, captions, tags, urls, Rules(min_side, max_aspect_ratio, background)
    )
    collector = Collector(dataset, run, wanted, network, chosen, made.queries)
    plan = describe(collector.chosen, made.queries, count, collector.suspended)
    if dry_run:
        run.preview = True
        return run.report(plan)
    run.announce(f"searching for {', '.join(plan['queries'])} in {', '.join(plan['expected at most'])}")
    return run.report(collector.collect())


def _language_model(model: str, url: str | None, budget: int) -> Any:
    from ..llm import LanguageModel

    return LanguageModel(model, base_url=url, budget_tokens=budget)
