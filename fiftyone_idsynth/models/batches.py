"""Batches that shrink when the device runs out of memory."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import OutOfDeviceMemory

_fits: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""Model -> the batch size that it was found to manage."""


def in_batches(
    function: Callable[[Sequence[Any]], Iterable[Any]],
    pictures: Sequence[Any],
    batch_size: int,
    note: Callable[[str], None],
) -> list[Any]:
    """Puts pictures through a model, batch by batch.

    When the device runs out of memory the batch is halved, down to one picture. The smaller size is kept for as long
    as the model exists.

    Args:
        function: a method of a model, or a ``functools.partial`` of one: takes pictures, gives a result for each
        pictures: what the method takes: arrays (RGB, uint8, of any sizes), or what is asked of a generator
        batch_size: how many pictures at once, from 1
        note: is told when fewer are taken

    Returns:
        the results, in the order of the pictures

    Raises:
        OutOfDeviceMemory: there is too little memory for one picture
    """
    owner = _owner(function)
    size = max(1, min(batch_size, _fits.get(owner, batch_size)))
    results: list[Any] = []
    while len(results) < len(pictures):
        batch = pictures[len(results) : len(results) + size]
        try:
            found = list(function(batch))
        except Exception as error:
            if not out_of_memory(error):
                raise
            about = getattr(owner, "about", "the model")
            if len(batch) == 1:
                raise OutOfDeviceMemory(
                    f"{about}: the memory of {getattr(owner, 'device', 'the device')} is too small for a single image"
                    f"{_size(batch[0])}: end other programs that use it, choose a "
                    "smaller model, or run on the processor with device='cpu'"
                ) from error
            before, size = size, max(1, len(batch) // 2)
            _fits[owner] = size
            note(f"{about}: out of memory, batch size {size} instead of {before}")
        else:
            if len(found) != len(batch):
                raise ValueError(f"{function!r} gave {len(found)} results for {len(batch)} pictures")
            results += found
            continue
        empty_cache()  # only here is the failed batch no longer held by the traceback
    return results


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, MemoryError):
        return True
    # Apple's backend, older kernels, processors and onnxruntime have no type of their own for it.
    texts = (
        "CUDA out of memory",
        "CUDA error: out of memory",
        "MPS backend out of memory",
        "Failed to allocate memory",
        "DefaultCPUAllocator: can't allocate memory",
        "DefaultCPUAllocator: not enough memory",
    )
    return any(text in str(error) for text in texts)


def empty_cache() -> None:
    """Gives memory back that torch keeps for later."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _size(thing: Any) -> str:
    return f" of {thing.shape[1]}x{thing.shape[0]} pixels" if isinstance(thing, np.ndarray) else ""


def _owner(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__self__", function)
