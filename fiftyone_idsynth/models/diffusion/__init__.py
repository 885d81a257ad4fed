"""Diffusion models that make pictures: any text-to-image model of diffusers, by hub id, folder or single file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..batches import out_of_memory
from ..errors import BrokenModel, ModelError, ModelUnreachable, OutOfDeviceMemory, WrongModel
from ..found import Found, look_up
from ..options import Options
from ..roles import Generator, Model
from .abilities import kinds_of
from .files import INDEX, base_model, checkpoint_class, pipeline_files, read_index, settings_files
from .generator import PipelineGenerator

logger = logging.getLogger(__name__)


def fits(found: Found, role: type[Model]) -> bool:
    """Whether it is a pipeline of diffusers or a single-file checkpoint."""
    if role is not Generator or found.scheme:
        return False
    return found.file.endswith(".safetensors") or (not found.file and INDEX in found.sizes)


def load(found: Found, options: Options, role: type[Model]) -> Generator:
    """Loads a pipeline; see :mod:`fiftyone_idsynth.models.loading`."""
    from diffusers.utils import logging as talk

    talk.set_verbosity_error()  # what it says of every picture: this project's notes say what matters, once
    talk.disable_progress_bar()
    dtype = options.torch_dtype()
    try:
        pipeline = _from_file(found, options, dtype) if found.file else _from_folder(found, options, dtype)
    except ModelError:
        raise
    except Exception as error:  # each library complains about damaged or missing files in its own way
        if out_of_memory(error):
            raise OutOfDeviceMemory(
                f"{found.name} does not fit into the memory of {options.torch_device()}: choose a smaller model"
            ) from error
        first = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise BrokenModel(f"{found.name} cannot be loaded by diffusers: {first}. Download it again") from error
    if not kinds_of(pipeline):
        raise WrongModel(
            f"{found.name} ({type(pipeline).__name__}) makes pictures neither from text nor from other pictures by a "
            f"strength or a mask: name an {Generator.role}, e.g. {Generator.example}"
        )
    generator = PipelineGenerator(pipeline, options)
    generator.name, generator.revision = found.name, found.revision
    return generator


def _from_folder(found: Found, options: Options, dtype: Any) -> Any:
    import diffusers

    index = read_index(found)
    made = str(index.get("_class_name", ""))
    if not hasattr(diffusers, made):
        raise WrongModel(
            f"{found.name} is a {made or 'pipeline without a class'}, which diffusers {diffusers.__version__} does not "
            "know, and code of a model's own is not run: update diffusers, or name another model"
        )
    files, variant = pipeline_files(found, options)
    folder = found.fetch(files)
    # Stable Diffusion 3 without its third text encoder, say: diffusers wants to hear that it is meant.
    left_out = {name: None for name, part in index.items() if part == [None, None]}
    return diffusers.DiffusionPipeline.from_pretrained(
        folder, dtype=dtype, variant=variant, use_safetensors=None if options.allow_pickle else True,
        local_files_only=True, trust_remote_code=False, **left_out,
    )  # fmt: skip


def _from_file(found: Found, options: Options, dtype: Any) -> Any:
    """A checkpoint in the original layout; diffusers takes the settings of its parts from the base model."""
    import diffusers

    path = found.fetch([found.file]) / found.file
    made = getattr(diffusers, checkpoint_class(path))
    settings = path.parent if (path.parent / INDEX).is_file() else _settings_of_base(path, made.__name__, options)
    return made.from_single_file(str(path), config=str(settings), dtype=dtype, local_files_only=True)


def _settings_of_base(path: Path, made: str, options: Options) -> Path:
    """The folder with the settings of the model that a checkpoint is made from; they are fetched if need be."""
    base = base_model(path)
    try:
        found = look_up(base, Options(offline=options.offline))
        return found.fetch(settings_files(found))
    except ModelError as error:
        raise ModelUnreachable(
            f"{path}: the settings of its base model {base} ({made}) are neither in the cache nor to be had: load it "
            "once with network, or put the base model's folder without its weights (model_index.json and the settings "
            f"of the parts) beside the file. ({error})"
        ) from error
