"""What can be wrong with a model that somebody names; each message says what to do next."""

from __future__ import annotations

from ..errors import IdsynthError, UsageError


class ModelError(IdsynthError):
    """Base of the errors about models."""


class ModelNotFound(ModelError, UsageError):
    """There is no such folder or file, and the hub has no such model or revision."""


class ModelUnreachable(ModelError):
    """The hub cannot be asked (no network, hub down, offline mode), and the model is not in the cache."""


class GatedModel(ModelError):
    """The hub gives the model only to those who accepted its terms."""


class WrongModel(ModelError, UsageError):
    """The model exists, but cannot do what it is wanted for."""


class UnsafeWeights(ModelError, UsageError):
    """There are only pickled weights, which can run any code when they are opened."""


class BrokenModel(ModelError):
    """A file of the model is missing or damaged."""


class OutOfDeviceMemory(ModelError):
    """The device has too little memory for the model, or for a single image."""
