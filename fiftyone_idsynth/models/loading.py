"""Finds a model by its name, loads it once per process, and frees it when memory is short.

An adapter is a module with two functions::

    def fits(found: Found, role: type[Model]) -> bool       # by looking at its files and configuration
    def load(found: Found, options: Options, role: type[Model]) -> Model

``load`` sets ``name``, ``revision`` and ``device`` of the model, and raises :class:`WrongModel` for what shows only
then. A new family of models is one module and one name in :data:`ADAPTERS`.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import OrderedDict
from types import ModuleType
from typing import TypeVar

from .errors import OutOfDeviceMemory, WrongModel
from .found import Found, look_up
from .options import Options
from .roles import (
    BackgroundRemover,
    Captioner,
    DepthEstimator,
    Finder,
    Generator,
    Matcher,
    Model,
    Refiner,
    Segmenter,
    Tagger,
    Upscaler,
)

ADAPTERS: dict[type[Model], tuple[str, ...]] = {
    Tagger: ("taggers", "fiftyone_models"),
    Captioner: ("captioners",),
    Finder: ("clipseg", "openvocabulary", "yolo", "detectors", "fiftyone_models"),
    Refiner: ("sam",),
    Segmenter: ("segmenters",),
    Matcher: ("clip",),
    Generator: ("diffusion",),
    BackgroundRemover: ("backgrounds",),
    DepthEstimator: ("depth",),
    Upscaler: ("upscalers", "spandrels"),
}
"""Role -> the modules that can load a model for it, in the order in which they are asked."""

MEMORY_RESERVE = 2**30
"""Bytes of memory that loading a model must leave free before loaded ones are given up."""

AnyModel = TypeVar("AnyModel", bound=Model)

logger = logging.getLogger(__name__)

_loaded: OrderedDict[tuple[type[Model], str, Options], Model] = OrderedDict()
_lock = threading.RLock()


def find_model(role: type[AnyModel], name: str, options: Options | None = None) -> AnyModel:
    """Returns a model for a role. It is loaded once per process.

    Args:
        role: what it has to do, e.g. :class:`~fiftyone_idsynth.models.roles.Tagger`
        name: a local folder or ONNX file, a hub id (``OWNER/NAME``), an ONNX file on the hub
            (``OWNER/NAME/PATH/FILE.onnx``), ``"zoo:NAME"`` for FiftyOne's zoo, or ``"openai:MODEL"`` for a server
        options (None): device, precision, revision and what is allowed

    Returns:
        the model, ready

    Raises:
        ModelError: it cannot be found or loaded, or does not fit the role; see :mod:`fiftyone_idsynth.models.errors`
    """
    options = options or Options()
    key = (role, name, options)
    with _lock:
        if key in _loaded:
            _loaded.move_to_end(key)
        else:
            found = look_up(name, options)
            adapter = _adapter(role, found)
            _make_room(found, options)
            _loaded[key] = _load(adapter, found, options, role)
        model = _loaded[key]
    assert isinstance(model, role)
    return model


def roles_of(found: Found) -> list[type[Model]]:
    """The roles that a model can serve in, as far as its files tell."""
    return [role for role, modules in ADAPTERS.items() if any(_module(name).fits(found, role) for name in modules)]


def release() -> None:
    """Frees all loaded models that nobody else holds."""
    from .batches import empty_cache

    with _lock:
        if _loaded:
            _loaded.clear()
            empty_cache()


def _adapter(role: type[Model], found: Found) -> ModuleType:
    for module in ADAPTERS[role]:
        adapter = _module(module)
        if adapter.fits(found, role):
            return adapter
    others = [other.role for other in roles_of(found) if other is not role]
    can = f"it can serve as {' or '.join(others)}" if others else "no kind of model that is used here"
    raise WrongModel(
        f"{found.name} is {found.kind}, not {_a(role.role)} ({can}): name {_a(role.role)}, e.g. {role.example}"
    )


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _load(adapter: ModuleType, found: Found, options: Options, role: type[Model]) -> Model:
    while True:
        try:
            model: Model = adapter.load(found, options, role)
        except OutOfDeviceMemory:
            if not _loaded:
                raise
        else:
            return model
        _free_one()  # out here nothing of the failed attempt is held by its traceback


def _make_room(found: Found, options: Options) -> None:
    """Frees the models that were not used for the longest time, until there is room for another one."""
    needed = sum(size for file, size in found.sizes.items() if file.endswith((".safetensors", ".onnx", ".bin")))
    device = options.torch_device()
    while _loaded and _free_memory(device) < needed + MEMORY_RESERVE:
        _free_one()


def _free_one() -> None:
    from .batches import empty_cache

    _, model = _loaded.popitem(last=False)
    logger.info("memory is short: %s is freed", model.about)
    del model
    empty_cache()


def _free_memory(device: str) -> int:
    """Bytes that are free on a device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
