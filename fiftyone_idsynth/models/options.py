"""How a model is loaded: device, precision, revision, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ParameterError

Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Options:
    """How a model is loaded.

    Attributes:
        device: ``"auto"`` (cuda, else mps, else cpu), or torch's name of a device, e.g. ``"cuda:1"``
        dtype: precision of the weights; ``"auto"``: on CUDA bfloat16 for models that were trained in it and float16
            for all others; bfloat16 on processors with instructions for it; float32 elsewhere
        revision: branch, tag or commit on the hub; by default the newest
        offline: whether only local folders and the hub's cache are used
        allow_pickle: whether pickled weights may be opened, which can run any code that is in them
    """

    device: str = "auto"
    dtype: Precision = "auto"
    revision: str | None = None
    offline: bool = False
    allow_pickle: bool = False

    def torch_device(self) -> str:
        """The device that is meant, as torch names it.

        Raises:
            ParameterError: this machine has no such device
        """
        import torch

        if self.device == "auto":
            if torch.cuda.is_available():
                return "cuda"
            return "mps" if torch.backends.mps.is_available() else "cpu"
        try:
            wanted = torch.device(self.device)
        except RuntimeError as error:
            raise ParameterError("device", self.device, "must be auto, cpu, cuda, cuda:N or mps") from error
        there = {
            "cpu": 1,
            "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "mps": int(torch.backends.mps.is_available()),
        }.get(wanted.type, 0)
        if (wanted.index or 0) >= there:
            raise ParameterError(
                "device", self.device, f"this machine has no such device (CUDA devices: {torch.cuda.device_count()}); "
                "'auto' takes the best there is"
            )  # fmt: skip
        return self.device

    def torch_dtype(self, config: Mapping[str, Any] | None = None) -> Any:
        """The precision that is meant, as torch names it.

        Args:
            config (None): the model's configuration
        """
        import torch

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        device = self.torch_device()
        if device.startswith("cpu"):
            return torch.bfloat16 if has_bfloat16() else torch.float32
        if not device.startswith("cuda"):
            return torch.float32
        config = config or {}
        # In float16 the activations of models trained in bfloat16 can overflow.
        trained = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
        return torch.bfloat16 if trained == "bfloat16" and torch.cuda.is_bf16_supported() else torch.float16


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512_BF16 or AMX_BF16)."""
    import torch

    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
