"""Sends images to Label Studio, where people label them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import ParameterError
from ..samples import active, pages
from ..stage import BatchSize, Bounds, LabelField, Progress, Report, Run, Samples, current_run, stage

if TYPE_CHECKING:
    from .label_studio.client import Project, Server
    from .label_studio.question import Question

LabelType = Literal[
    "classification", "classifications", "detections", "instances", "polylines", "keypoints", "segmentation", "text"
]  # fmt: skip


@stage(label="Send to Label Studio", group="Learn", icon="outbox")
def send_to_label_studio(
    samples: Samples,
    *,
    project: str | None = None,
    label_field: str = "ground_truth",
    label_type: LabelType | None = None,
    classes: tuple[str, ...] = (),
    prediction_field: Annotated[str, LabelField()] | None = None,
    show_predictions: bool = True,
    annotators: Annotated[int, Bounds(1, 100)] = 1,
    round: Annotated[int, Bounds(0, 10**9 - 1)] = 0,
    images: Literal["auto", "local", "upload", "url"] = "auto",
    image_urls: dict[str, str] = {},  # noqa: B006
    url: str | None = None,
    batch_size: BatchSize = 1000,
    progress: Progress = None,
) -> Report:
    """Sends images to a Label Studio server, where people label them; pull_from_label_studio fetches their answers.

    Each image becomes one task of a project, which is made if there is none. Images that are there already are not sent
    again, so that the same command continues what was interrupted; if their files were moved since, their tasks are
    told where they are now. Rejected images are left out.

    What a model says is shown to people as a start, and those images come first of which it is least certain: by the
    field ``uncertainty`` where select_uncertain wrote it, else by the confidence. It is shown neither for images of the
    split ``test`` nor where several people are to label each image, who must not be led to agree; then the images are
    sent in that order instead.

    The address of the server is taken from LABEL_STUDIO_URL, and the token from LABEL_STUDIO_API_KEY: a personal access
    token or a legacy token.

    Args:
        project (None): title or id of the project; by default the one that was made for this dataset, whose title is
            the dataset's name. Classes that it lacks are added to it, and nothing that it has is removed
        label_field ("ground_truth"): the field that people's answers will be written to
        label_type (None): what people are asked for; by default the type of the label field, or else of the predictions
        classes (()): the classes to choose from; by default those of the dataset, and those in the two fields
        prediction_field (None): what a model says; by default ``classification``, ``detections``, ``content_tags``,
            ``segmentation`` or ``caption``, whichever is of the label type
        show_predictions (True): whether people see what the model says
        annotators (1): how many people label each image
        round (0): the same images in another round are asked about once more
        images ("auto"): whether the server reads image files where they are (``local``: it runs on this machine and has
            LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED), they are uploaded to it (``upload``), or the browsers of people
            open addresses (``url``); ``auto`` uploads them where the server cannot read them
        image_urls ({}): for ``url``, folders and the addresses that stand for them, e.g.
            ``/data/photos=https://files.example.org/photos``; by default the addresses in ``source.image_url``
        url (None): the server's address; by default that in LABEL_STUDIO_URL
        batch_size (1000): tasks per request

    Returns:
        a report with the project, its address and how many tasks it has, how images are shown, and how many tasks carry
        predictions
    """
    from .label_studio.client import Server
    from .label_studio.images import Web, find_way
    from .label_studio.push import read_keys
    from .label_studio.question import Question
    from .label_studio.sending import Push

    run = current_run()
    asked = Question.of(samples, run.dataset, label_field, label_type, classes, prediction_field)
    if image_urls and images != "url":
        raise ParameterError("image_urls", image_urls, f"is for images='url', and images is {images!r}")
    if images == "url":
        Web(image_urls)  # refuses what is no address
    shown = show_predictions and annotators == 1 and asked.predictions is not None
    server = Server(url)
    server.whoami()
    ids = active(samples).values("id")
    if left_out := samples.count() - len(ids):
        run.rejected("rejected", left_out)
    paths = _present(run, ids, images)
    target = _project(run, server, asked, project, annotators)
    known = read_keys(server, target.id)
    way, why = find_way(server, target.id, images, list(paths.values()), image_urls)
    if why:
        run.note(f"Images are uploaded to Label Studio. {why}")
    push = Push(run, server, target, asked, known, way, paths, round, shown)
    push.update_moved()
    push.add(batch_size)
    push.order()
    return run.report(push.summary())


def _present(run: Run, ids: Sequence[str], images: str) -> dict[str, str]:
    """The samples whose images are there -> their files; the others are counted as failed."""
    found: dict[str, str] = {}
    for page in pages(list(ids)):
        for sample_id, path in zip(*run.dataset.select(page, ordered=True).values(["id", "filepath"]), strict=True):
            if images == "url" or os.path.isfile(path):
                found[sample_id] = path
            else:
                run.failed(path, "missing: the file was moved or deleted; correct the sample's filepath and send again")
    return found


def _project(run: Run, server: Server, asked: Question, name: str | None, annotators: int) -> Project:
    """The project, made or extended as is needed."""
    from .label_studio.extending import extended
    from .label_studio.keys import mark_of, project_title

    dataset = run.dataset
    xml = asked.labelling.xml()
    found = server.project_of(dataset, name)
    if found is None:
        title = project_title(dataset.name) if name is None else name
        about = f"Images of the FiftyOne dataset {dataset.name!r} ({mark_of(dataset)})"
        return server.create_project(title, xml, annotators=annotators, description=about)
    if (wanted := extended(found.config_xml, xml)) != found.config_xml:
        found = server.update_config(found, wanted)
        run.note(f"The labelling configuration of project {found.title!r} was extended")
    if found.annotators != annotators:
        found = server.update_project(found, maximum_annotations=annotators)
    return found
