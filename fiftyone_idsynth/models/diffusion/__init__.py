"""Diffusion models that make pictures: any text-to-image model of diffusers, by hub id, folder or single file."""

from __future__ import annotations

import logging
from typing import Any

from ..batches import out_of_memory
from ..errors import BrokenModel, ModelError, ModelUnreachable, OutOfDeviceMemory, WrongModel
from ..found import Found
from ..options import Options
from ..roles import Generator, Model
from .abilities import kinds_of
from .files import INDEX, checkpoint_class, pipeline_files, read_index
from .generator import PipelineGenerator

logger = logging.getLogger(__name__)


def fits(found: Found, role: type[Model]) -> bool:
    """Whether it is a pipeline of diffusers or a single-file checkpoint."""
    if role is not Generator or found.scheme:
        return False
    return found.file.endswith(".safetensors") or (not found.file and INDEX in found.sizes)


def load(found: Found, options: Options, role: type[Model]) -> Generator:
    """Loads a pipeline; see :mod:`fiftyone_idsynth.models.loading`."""
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

    folder = found.fetch([found.file])
    made = getattr(diffusers, checkpoint_class(folder / found.file))
    beside = {"config": str(folder)} if (folder / INDEX).is_file() else {}
    try:
        return made.from_single_file(
            str(folder / found.file), dtype=dtype, local_files_only=options.offline or bool(beside), **beside
        )
    except (OSError, ValueError, TypeError) as error:
        if beside:
            raise
        raise ModelUnreachable(
            f"{found.name}: the settings of its base model ({made.__name__}) are neither in the cache nor to be had: "
            "load it once with network, or put the base model's folder without its weights (model_index.json and the "
            f"settings of the parts) beside the file. ({str(error).splitlines()[0][:200]})"
        ) from error
