"""Fetches what people labelled in Label Studio."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .. import fields
from ..fields import Field
from ..stage import Bounds, Fraction, Progress, Report, Samples, current_run, fingerprint, stage

if TYPE_CHECKING:
    import fiftyone as fo

    from .label_studio.client import Project, Server


fields.register(
    Field("answered", "document", "Per field, which answers of people in Label Studio were last written there"),
)  # fmt: skip


@stage(label="Pull from Label Studio", group="Learn", icon="move_to_inbox")
def pull_from_label_studio(
    samples: Samples,
    *,
    project: str | None = None,
    merge: Literal["majority", "consensus", "latest"] = "majority",
    iou: Fraction = 0.5,
    min_annotators: Annotated[int, Bounds(1, 100)] = 1,
    labels: dict[str, str] = {},  # noqa: B006
    overwrite: bool = False,
    url: str | None = None,
    progress: Progress = None,
) -> Report:
    """Fetches the answers of people from a Label Studio server and writes them to the fields they were asked for.

    Only answers that were submitted count: not what is begun, not what is skipped, and of each person the last one. An
    empty answer is an answer too: nothing is there. Samples with an answer get the tag ``labelled``, those that people
    only skipped ``skipped``. Where several people answered, what they agree on is written; where they disagree, the
    field is left empty and the sample gets the tag ``conflict``.

    Nothing is deleted by what the server does not say: deleted tasks and answers, and projects that are gone, change
    nothing. What a person made, changed or removed in FiftyOne stays, and newer answers are never replaced by older
    ones. Answers with labels that the configuration does not know fail one by one, and are read again by the next pull.
    The next pull of the same samples reads only what changed since.

    Args:
        project (None): title or id of the project; by default the one that was made for this dataset
        merge ("majority"): what counts where several people answered: what more than half of them say, what they all
            say (``consensus``), or what was said last (``latest``), which suits texts
        iou (0.5): least intersection over union of two boxes of the same object, and of masks that may be merged
        min_annotators (1): images are left alone until as many people answered
        labels ({}): labels that were renamed, as they stand in answers, and their classes, e.g. ``car=vehicle``
        overwrite (False): also replace labels that people made or changed in FiftyOne; all tasks are read again
        url (None): the server's address; by default that in LABEL_STUDIO_URL

    Returns:
        a report with the number of answers, conflicts and skips, and how far people agree: the mean, Cohen's or Fleiss'
        kappa for classes, and each person with the others
    """
    from .label_studio.client import Server
    from .label_studio.config import Labelling
    from .label_studio.pull import Pull, Rules

    run = current_run()
    server = Server(url)
    target = _project(server, run.dataset, project)
    labelling = Labelling.parse(target.config_xml)
    if not labelling.controls:
        run.note(f"Project {target.title!r} asks nothing that a field can hold")
        return run.report({"project": target.title})
    if labelling.others:
        run.note(f"Answers to {', '.join(labelling.others)} are not read: no field can hold them")
    pull = Pull(run, labelling, Rules(merge, iou, min_annotators, labels, overwrite))
    pull.prepare()
    ids = samples.values("id")
    asked = {"server": server.url, "project": target.id, "samples": fingerprint(sorted(ids))}
    # All of it is read before any of it is written: whether some is lacking is known only at the end.
    tasks = list(server.tasks(target.id, since=None if overwrite else _since(run.remembered, asked)))
    answered = pull.select(tasks, ids)
    with run.progress(len(answered)) as bar:
        pull.write(answered, bar)
    since = pull.next_since(datetime.fromisoformat(task["updated_at"]) for task in tasks)
    if since is not None:
        run.remembered = {**asked, "since": since.isoformat()}
    return run.report({"project": target.title, "tasks read": len(tasks), **pull.summary()})


def _project(server: Server, dataset: fo.Dataset, name: str | None) -> Project:
    from .label_studio.errors import ProjectError

    found = server.project_of(dataset, name)
    if found is None:
        wanted = f"no project {name!r}" if name else f"no project of dataset {dataset.name!r}"
        raise ProjectError(
            "not_found", f"Label Studio at {server.url} has {wanted}: send it samples first, or name another project"
        )
    return found


def _since(remembered: dict[str, Any], asked: dict[str, Any]) -> datetime | None:
    """From when on changes are to be read; everything if it was not these samples that were pulled before."""
    if any(remembered.get(name) != value for name, value in asked.items()):
        return None
    since = remembered.get("since")
    return datetime.fromisoformat(since) if since else None
