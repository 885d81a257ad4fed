"""Opens weights: transformers models and ONNX files, with every failure said in words."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ParameterError
from .batches import out_of_memory
from .errors import BrokenModel, ModelUnreachable, OutOfDeviceMemory, UnsafeWeights, WrongModel
from .found import PICKLES, Found
from .options import Options

_TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab")
"""Endings of what stands beside weights: configurations, vocabularies, templates."""

_MAIN = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")


def load_pretrained(auto_class: Any, found: Found, options: Options) -> Any:
    """Loads a transformers model, ready for inference.

    Args:
        auto_class: e.g. ``transformers.AutoModelForImageClassification``, or the class of a model
        found: where it is
        options: device, precision, and whether pickled weights may be opened

    Returns:
        the model, on its device

    Raises:
        UnsafeWeights: it has only pickled weights, and these are not allowed
        BrokenModel: a file is missing or damaged, or weights are missing
        OutOfDeviceMemory: the device has too little memory
        WrongModel: transformers does not know this type of model
    """
    model, report = _load(auto_class, found, options, dtype=options.torch_dtype(found.config))
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise BrokenModel(
            f"{found.name}: the files hold no weights for {len(missing)} parts of {type(model).__name__}, e.g. "
            f"{missing[0]}: it was saved from {', '.join(found.architectures) or 'another class'}, or not completely"
        )
    return model.eval().requires_grad_(False)


def load_trainable(auto_class: Any, found: Found, options: Options, classes: Sequence[str]) -> tuple[Any, set[str]]:
    """Loads a transformers model with a head for other classes, to be trained in float32.

    What has another size than in the files, or is not in them, is made anew by torch's generator of random numbers.

    Args:
        auto_class: e.g. ``transformers.AutoModelForImageClassification``
        found: where it is
        options: device, and whether pickled weights may be opened
        classes: the names of the new classes

    Returns:
        the model, on its device, and the names of the parameters that were made anew

    Raises:
        ModelError: see :func:`load_pretrained`; also if most of its parameters would be made anew
    """
    import torch

    names = {"id2label": dict(enumerate(classes)), "label2id": {name: n for n, name in enumerate(classes)}}
    with _quiet():  # what was made anew is meant to be
        model, report = _load(auto_class, found, options, dtype=torch.float32, ignore_mismatched_sizes=True, **names)
    new = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if sum(sizes.get(name, 0) for name in new) > sum(sizes.values()) / 2:
        raise WrongModel(
            f"{found.name} is {found.kind}, and most of {type(model).__name__} is not in its files, e.g. "
            f"{min(new)}: name a model of that kind"
        )
    return model, new


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of transformers."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load(auto_class: Any, found: Found, options: Options, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Loads a transformers model onto its device; returns also what was missing in the files."""
    _check_type(found)
    files = weight_files(found, options)
    folder = found.fetch([*_text_files(found), *files])
    _check_weights(folder, files)
    try:
        model, report = auto_class.from_pretrained(
            folder,
            use_safetensors=files[0].endswith(".safetensors"),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **settings,
        )
        return model.to(options.torch_device()), report
    except Exception as error:
        raise _readable(error, found) from error


def load_processor(auto_class: Any, found: Found, **options: Any) -> Any:
    """Loads the processor, image processor or tokenizer of a transformers model.

    Args:
        auto_class: e.g. ``transformers.AutoProcessor``
        found: where it is
        **options: for ``from_pretrained``

    Raises:
        BrokenModel: its files are missing or damaged
    """
    folder = found.fetch(_text_files(found))
    try:
        return auto_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # each processor complains about damaged or missing files in its own way
        raise BrokenModel(
            f"{found.name}: the files of its processor are missing or damaged (preprocessor_config.json, "
            f"processor_config.json, tokenizer files): {_first_line(error)}. Download the whole model again"
        ) from error


def onnx_session(found: Found, file: str, options: Options) -> Any:
    """Opens an ONNX file.

    Args:
        found: where it is
        file: its path in there
        options: the device

    Returns:
        an ``onnxruntime.InferenceSession``; with the device ``"auto"`` on the processor where onnxruntime was
        installed without CUDA

    Raises:
        ParameterError: CUDA was asked for, and onnxruntime was installed without it
        BrokenModel: it is missing or damaged
        OutOfDeviceMemory: the device has too little memory
    """
    import onnxruntime

    stem = file.removesuffix(".onnx")
    outside = [f for f in found.files if f.startswith((f"{stem}.onnx", f"{stem}.data")) and f != file]
    path = found.fetch([file, *outside]) / file
    available = onnxruntime.get_available_providers()
    providers: list[Any] = ["CPUExecutionProvider"]
    device = options.torch_device()
    if options.device.startswith("cuda") and "CUDAExecutionProvider" not in available:
        raise ParameterError(
            "device",
            options.device,
            f"{found.name} is an ONNX model, and onnxruntime was installed without CUDA: install onnxruntime-gpu in "
            "its place, or take 'auto' or 'cpu'",
        )
    if device.startswith("cuda") and "CUDAExecutionProvider" in available:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}))
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # its errors have no common type
        if out_of_memory(error):
            raise _readable(error, found) from error
        raise BrokenModel(
            f"{path} cannot be opened as an ONNX model: {_first_line(error)}. Download it again, or update onnxruntime"
        ) from error


def session_device(session: Any) -> str:
    """Where an ONNX session runs: ``"cuda"`` or ``"cpu"``."""
    return "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"


def weight_files(found: Found, options: Options) -> list[str]:
    """Chooses the files with the weights of a transformers model.

    Args:
        found: where it is
        options: whether pickled weights may be opened

    Raises:
        UnsafeWeights: there are only pickled weights, and these are not allowed
        ModelUnreachable: they are not in the cache
        BrokenModel: there are none
    """
    top = [file for file in found.files if "/" not in file]
    for ending in (".safetensors", ".bin"):
        files = [f for f in top if f.endswith(ending) and _MAIN.fullmatch(f)]
        whole = [f for f in files if "-of-" not in f]
        if files and ending == ".bin" and not options.allow_pickle:
            raise UnsafeWeights(_unsafe(found, files[0]))
        if files:
            index = [f"{'model' if ending == '.safetensors' else 'pytorch_model'}{ending}.index.json"]
            return whole[:1] or [*sorted(files), *(i for i in index if i in top)]
    pickles = [f for f in top if f.endswith(PICKLES)]
    if pickles and not options.allow_pickle:
        raise UnsafeWeights(_unsafe(found, pickles[0]))
    if found.repo and found.folder:
        raise ModelUnreachable(
            f"{found.name}: the cache has only a part of it (no weights). Load it once with network, or download it on "
            f"another machine (hf download {found.repo} --local-dir FOLDER) and give the path of the folder"
        )
    raise BrokenModel(f"{found.name} has no weights (model.safetensors): download the whole model, or name another one")


def _unsafe(found: Found, file: str) -> str:
    return (
        f"{found.name} has its weights only in {file}, a pickled file, which can run any code when it is opened. Name "
        "a model or revision with .safetensors files, or, if you trust its makers, set allow_pickle=True"
    )


def _text_files(found: Found) -> list[str]:
    return [f for f in found.files if "/" not in f and f.endswith(_TEXTS) and not f.endswith(".index.json")]


def _check_type(found: Found) -> None:
    from transformers import CONFIG_MAPPING

    if found.model_type in CONFIG_MAPPING:
        return
    import transformers

    own = " and brings code of its own, which is not run" if "auto_map" in found.config else ""
    raise WrongModel(
        f"{found.name} is {found.kind}, which transformers {transformers.__version__} does not know{own}: update "
        "transformers, or name another model"
    )


def _check_weights(folder: Path, files: list[str]) -> None:
    """Opens the head of each file, so that the damaged one can be named."""
    from safetensors import SafetensorError, safe_open

    for file in files:
        if file.endswith(".index.json"):
            try:
                shards = set(json.loads((folder / file).read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError) as error:
                raise BrokenModel(f"{folder / file} is damaged ({error!r}): download it again") from error
            missing = sorted(shards - set(files))
            if missing:
                raise BrokenModel(f"{folder}: {missing[0]} is missing, which {file} names: download the model again")
        elif file.endswith(".safetensors"):
            try:
                with safe_open(folder / file, framework="numpy"):
                    pass
            except SafetensorError as error:
                raise BrokenModel(
                    f"{folder / file} is damaged or not completely downloaded ({_first_line(error)}): download it again"
                ) from error


def _readable(error: Exception, found: Found) -> Exception:
    if out_of_memory(error):
        return OutOfDeviceMemory(
            f"{found.name} does not fit into the memory of the device: end other programs that use it, choose a "
            "smaller model or dtype='float16', or run on the processor with device='cpu'"
        )
    if isinstance(error, (ImportError, KeyboardInterrupt)):
        return error
    return BrokenModel(
        f"{found.name} cannot be loaded: {type(error).__name__}: {_first_line(error)}. Its files do not belong "
        "together or are damaged: download the whole model again"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300].rstrip(".") if lines else type(error).__name__
