"""New images from text, by Stable Diffusion or any other text-to-image model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..engine.worker import NewSample, Task, Worker
from ..errors import ParameterError, RefusedImage
from ..media import MediaStore
from ..modelling import AllowPickle, Device, DType, Offline, Revision
from ..painting import (
    SHOWN,
    DryRun,
    Guidance,
    ImageFormat,
    Loras,
    NegativePrompt,
    PaintBatch,
    Painter,
    SafetyChecker,
    Scheduler,
    Steps,
    picture_seed,
    synthetic,
)
from ..stage import (
    Bounds,
    Convert,
    ExistingPath,
    Fraction,
    Progress,
    Report,
    Samples,
    Seed,
    current_run,
    fingerprint,
    stage,
)
from .prompts import read_texts
from .wording import Prompt, choose_model, write_prompts

if TYPE_CHECKING:
    import fiftyone as fo


@stage(label="Generate images from text", group="Generate", icon="brush", unit="images", creates=True)
def generate(
    dataset: Samples,
    *,
    subject: tuple[str, ...] = (),
    count: Annotated[int, Bounds(1, 10_000_000)] = 10,
    task: Literal["detection", "classification", "segmentation", "generation"] = "detection",
    prompts: Annotated[tuple[str, ...], Convert(read_texts)] = (),
    templates: Annotated[tuple[str, ...], Convert(read_texts)] = (),
    vocabulary: Annotated[Path | None, ExistingPath()] = None,
    written_by: Literal["grid", "llm"] = "grid",
    max_similarity: Fraction = 0.8,
    model: str = "auto",
    width: Annotated[int | None, Bounds(8, 8192)] = None,
    height: Annotated[int | None, Bounds(8, 8192)] = None,
    negative_prompt: NegativePrompt = "",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = "default",
    loras: Loras = {},  # noqa: B006 (never changed)
    safety_checker: SafetyChecker = True,
    class_field: str | None = None,
    tags: tuple[str, ...] = (),
    image_format: ImageFormat = "png",
    matcher: str | None = None,
    instruction: str | None = None,
    llm_model: str = "gpt-4o-mini",
    llm_url: str | None = None,
    llm_budget: Annotated[int, Bounds(1, 100_000_000)] = 100_000,
    seed: Seed = 51,
    dry_run: DryRun = False,
    device: Device = "auto",
    dtype: DType = "auto",
    revision: Revision = None,
    offline: Offline = False,
    allow_pickle: AllowPickle = False,
    batch_size: PaintBatch = 4,
    progress: Progress = None,
) -> Report:
    """Makes images from text with Stable Diffusion, SDXL, LCM, Turbo or any text-to-image model of diffusers.

    The prompts are yours, or they are made of a template and a word list, or a language model writes them; those that
    say nearly the same as another one are left out. Look at them first: ``dry_run``. Each image has a seed of its own,
    which follows from ``seed`` and its prompt, so that the same command makes the same images, and a larger count adds
    to them. Images are stored as they come; an interrupted run goes on. How an image was made stands in ``lineage``;
    generated images have ``source.kind`` ``generated`` and the tag ``synthetic``.

    Args:
        dataset: the dataset that gets the images
        subject (()): what the images show, e.g. "red panda"; several share the count
        count (10): number of images; more than there are prompts repeat them with other seeds
        task ("detection"): what the images are for: for generation the style varies too, others are photographs
        prompts (()): your own prompts: texts, or a text file with one a line; {subject} stands for each subject
        templates (()): the patterns of prompts, as texts or a file, e.g. "a photo of {a subject} {setting}, {light}";
            by default those for the task
        vocabulary (None): a CSV file of words for the slots of templates, with the columns group and words, the words
            parted by |, and if you like where (indoor, outdoor, night, ...): words that contradict one another are not
            used together; they are added to the words there are
        written_by ("grid"): what varies the prompts: the word list (grid) or a language model (llm)
        max_similarity (0.8): prompts are left out that share a greater part of their words with another one
        model ("auto"): hub id, folder or .safetensors file; auto takes SD 1.5 for simple prompts up to 640 pixels and
            SDXL for others
        width (None): width in pixels, by default what the model was trained with
        height (None): height in pixels, by default the width
        class_field (None): a field that gets the subject as class
        tags (()): further tags of the new samples, e.g. train, since a test set should be real
        matcher (None): a model that compares texts, e.g. openai/clip-vit-base-patch32, to measure how varied prompts
            are by meaning, and to leave similar ones out
        instruction (None): what the language model is told, by default
            :data:`fiftyone_idsynth.generation.prompts.INSTRUCTION`
        llm_model ("gpt-4o-mini"): the language model, behind any OpenAI-compatible address
        llm_url (None): that address, by default OPENAI_BASE_URL or OpenAI's
        llm_budget (100_000): tokens that the language model may use
        seed (51): of every random choice
        batch_size (4): images made at once; halved when the device's memory is short

    Returns:
        a report with the variety of the prompts
    """
    from ..engine import create_samples, made_already
    from ..media import media_store
    from ..models.options import Options

    run = current_run()
    if not subject and not prompts:
        raise ParameterError("subject", subject, "say what the images shall show, e.g. 'red panda', or give prompts")
    options = Options(device, dtype, revision, offline, allow_pickle)
    texts, variety = write_prompts(run, Options(device, dtype, offline=offline, allow_pickle=allow_pickle))
    chosen, why = choose_model(texts, width, height) if model == "auto" else (model, "")
    if why:
        run.note(why)
    painter = Painter(
        chosen, options, steps=steps, guidance=guidance, scheduler=scheduler, loras=loras,
        safety_checker=safety_checker, batch_size=batch_size,
    )  # fmt: skip
    size = _size(painter, width, height)
    painter.check_prompts((prompt.text for prompt in texts), negative_prompt)
    painter.record()
    wished = (texts, count, negative_prompt, seed, fingerprint(painter.key, size, image_format))
    missing = count - len(made_already(run.dataset, (task.keys[0] for task in _tasks(*wished))))
    seconds = painter.announce(missing, *size, always=dry_run)
    shown = {"model": chosen, "size": "x".join(map(str, size)), **variety}
    if dry_run:
        run.preview = True
        examples = [prompt.text for prompt in texts[:SHOWN]]
        return run.report({**shown, "images to make": missing, "seconds": round(seconds, 1), "prompts": examples})
    worker = GenerateWorker(painter, media_store(run.dataset), size, f".{image_format}", class_field, tags)
    if class_field:
        _declare_class(run.dataset, class_field)
    create_samples(run.dataset, _tasks(*wished), worker, total=count, batch_size=batch_size)
    return run.report(shown)


@dataclass(frozen=True)
class Order:
    """An image to make.

    Attributes:
        prompt: what it shall show
        subject: the subject of the prompt
        negative: what it shall not show
        seed: its seed
    """

    prompt: str
    subject: str
    negative: str
    seed: int


class GenerateWorker(Worker):
    """Makes images from text and writes their files; its tasks hold an :class:`Order` each.

    Args:
        painter: makes them
        store: where files go
        size: width and height in pixels
        ext: ``".png"`` or ``".jpg"``
        class_field: the field that gets the subject
        tags: further tags of the samples
    """

    serial = True
    decode = None

    def __init__(
        self, painter: Painter, store: MediaStore, size: tuple[int, int], ext: str, class_field: str | None,
        tags: Sequence[str],
    ):  # fmt: skip
        self._painter, self._store, self._size, self._ext = painter, store, size, ext
        self._class_field, self._tags = class_field, tuple(tags)

    def __call__(self, tasks: Sequence[Task]) -> list[list[NewSample] | RefusedImage]:
        from ..models.roles import Wanted

        wanted = [Wanted(task.payload.prompt, task.payload.seed, task.payload.negative) for task in tasks]
        made = self._painter.paint_texts(wanted, *self._size)
        results: list[list[NewSample] | RefusedImage] = []
        for task, one, pixels in zip(tasks, wanted, made, strict=True):
            if isinstance(pixels, RefusedImage):
                results.append(pixels)
                continue
            path = self._store.write_image(pixels, self._ext)
            lineage = self._painter.lineage(one, *self._size, subject=task.payload.subject)
            sample = synthetic(task.keys[0], path, lineage, fields=self._fields(task.payload.subject))
            sample.tags += [tag for tag in self._tags if tag not in sample.tags]
            results.append([sample])
        return results

    def _fields(self, subject: str) -> dict[str, Any]:
        import fiftyone as fo

        return {self._class_field: fo.Classification(label=subject)} if self._class_field and subject else {}


def _size(painter: Painter, width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height; checked before anything is made."""
    from ..models.diffusion.generator import check_size
    from ..models.errors import WrongModel

    generator = painter.generator
    if "text" not in generator.kinds:
        raise WrongModel(f"{generator.about} cannot make images from text alone: name a text-to-image model")
    width = width or height or generator.side
    size = (width, height or width)
    check_size(*size, generator.unit, generator.about)
    return size


def _tasks(prompts: Sequence[Prompt], count: int, negative: str, seed: int, how: str) -> Iterator[Task]:
    """An image for each prompt in turn, with another seed each time that a prompt comes round again.

    The key says all that decides the image, so that the order and number of prompts may change.
    """
    times: Counter[str] = Counter()
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        time = times[prompt.text]
        times[prompt.text] += 1
        key = f"generate-{fingerprint(how, prompt.text, negative, seed, time)}"
        yield Task((key,), Order(prompt.text, prompt.subject, negative, picture_seed(seed, prompt.text, time)))


def _declare_class(dataset: fo.Dataset, name: str) -> None:
    import fiftyone as fo

    dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
