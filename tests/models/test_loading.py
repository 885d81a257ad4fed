"""Models are found by what they are, loaded once, freed when memory is short, and refused in words."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_idsynth.errors import IdsynthError, ParameterError
from fiftyone_idsynth.models import loading
from fiftyone_idsynth.models.batches import in_batches
from fiftyone_idsynth.models.errors import (
    BrokenModel,
    ModelNotFound,
    OutOfDeviceMemory,
    UnsafeWeights,
    WrongModel,
)
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Captioner, Finder, Matcher, Model, Refiner, Tag, Tagger
from tests.models import tiny

CPU = Options(device="cpu")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    release()
    yield
    release()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def _vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.vit_classifier(tmp_path_factory.mktemp("vit"))


@pytest.fixture
def vit(_vit: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(_vit, tmp_path / "vit"))


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    tiny.write_json(folder / "config.json", {**config, **changes})


def test_a_model_is_loaded_once_per_role_and_options(vit):
    first = find_model(Tagger, str(vit), CPU)
    assert find_model(Tagger, str(vit), CPU) is first
    assert find_model(Tagger, str(vit), Options(device="cpu", dtype="bfloat16")) is not first
    release()
    assert find_model(Tagger, str(vit), CPU) is not first


def test_dtype_is_kept_and_gives_nearly_the_same(vit):
    photo = tiny.pictures((40, 50))
    full = {tag.name: tag.confidence for tag in find_model(Tagger, str(vit), CPU).tag(photo)[0]}
    half = find_model(Tagger, str(vit), Options(device="cpu", dtype="bfloat16"))
    assert next(half.model.parameters()).dtype == torch.bfloat16
    assert {tag.name: tag.confidence for tag in half.tag(photo)[0]} == pytest.approx(full, abs=0.02)


def test_the_revision_of_a_folder_is_that_of_its_weights(vit):
    before = find_model(Tagger, str(vit), CPU)
    assert before.about == f"{vit}@{before.revision}"
    (vit / "notes.md").write_text("nothing that matters")
    release()
    assert find_model(Tagger, str(vit), CPU).revision == before.revision
    from safetensors.torch import load_file, save_file

    weights = load_file(vit / "model.safetensors")
    save_file({**weights, "classifier.bias": weights["classifier.bias"] + 1}, vit / "model.safetensors")
    release()
    assert find_model(Tagger, str(vit), CPU).revision != before.revision


def test_the_longest_unused_model_is_freed_when_memory_is_short(vit, tmp_path, monkeypatch):
    folders = [str(shutil.copytree(vit, tmp_path / name)) for name in ("a", "b", "c")]
    first, second = (find_model(Tagger, folder, CPU) for folder in folders[:2])
    assert find_model(Tagger, folders[0], CPU) is first  # so the second is now the longest unused
    free = iter([0, 2**40])
    monkeypatch.setattr(loading, "_free_memory", lambda device: next(free))
    find_model(Tagger, folders[2], CPU)
    assert find_model(Tagger, folders[0], CPU) is first
    monkeypatch.undo()
    assert find_model(Tagger, folders[1], CPU) is not second


def test_a_model_that_does_not_fit_is_tried_again_with_less_loaded(vit, tmp_path, monkeypatch):
    from fiftyone_idsynth.models import taggers

    other = find_model(Tagger, str(shutil.copytree(vit, tmp_path / "other")), CPU)
    real, failures = taggers.load, [OutOfDeviceMemory("full")]

    def load(*arguments: object) -> Model:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(taggers, "load", load)
    assert find_model(Tagger, str(vit), CPU).tag(tiny.pictures((20, 20)))
    assert find_model(Tagger, other.name, CPU) is not other
    release()
    failures.append(OutOfDeviceMemory("full"))
    with pytest.raises(OutOfDeviceMemory):
        find_model(Tagger, str(vit), CPU)


@pytest.mark.parametrize("role", [Captioner, Finder, Refiner, Matcher])
def test_the_wrong_kind_of_model_is_told_what_it_is(vit, role):
    with pytest.raises(WrongModel) as caught:
        find_model(role, str(vit), CPU)
    message = str(caught.value)
    assert "'vit' (ViTForImageClassification)" in message
    assert f"not a {role.role}" in message
    assert "it can serve as tagger" in message
    assert role.example in message


def test_a_model_without_a_head_is_no_tagger(vit):
    change_config(vit, architectures=["ViTModel"])
    with pytest.raises(WrongModel, match="ViTModel"):
        find_model(Tagger, str(vit), CPU)


def test_a_model_of_an_unknown_type_is_said_to_be_unknown(vit):
    change_config(vit, model_type="brand_new", auto_map={"AutoModel": "code.py"})
    with pytest.raises(WrongModel, match="brand_new"):
        find_model(Tagger, str(vit), CPU)


def test_names_that_lead_nowhere(vit, tmp_path):
    with pytest.raises(ModelNotFound, match=r"did you mean 'vit'"):
        find_model(Tagger, str(tmp_path / "vitt"), CPU)
    with pytest.raises(ModelNotFound, match="no folder"):
        find_model(Tagger, "/nowhere/at/all", CPU)
    with pytest.raises(ModelNotFound, match="is empty"):
        find_model(Tagger, "  ", CPU)
    with pytest.raises(ModelNotFound, match=r"did you mean 'zoo'"):
        find_model(Tagger, "zo:mobilenet", CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match="empty"):
        find_model(Tagger, str(tmp_path / "empty"), CPU)


def test_pickled_weights_need_consent(vit):
    weights = find_model(Tagger, str(vit), CPU).model.state_dict()
    (vit / "model.safetensors").unlink()
    torch.save(weights, vit / "pytorch_model.bin")
    with pytest.raises(UnsafeWeights, match=r"pytorch_model\.bin.*allow_pickle=True"):
        find_model(Tagger, str(vit), Options(device="cpu", offline=True))
    allowed = find_model(Tagger, str(vit), Options(device="cpu", allow_pickle=True))
    assert allowed.tag(tiny.pictures((30, 30)))


def test_sharded_weights_are_loaded_and_a_missing_part_is_named(vit):
    model = find_model(Tagger, str(vit), CPU)
    expected = model.tag(tiny.pictures((30, 30)))
    (vit / "model.safetensors").unlink()
    model.model.save_pretrained(vit, max_shard_size="40KB")
    release()
    assert len(list(vit.glob("model-*.safetensors"))) > 1
    assert find_model(Tagger, str(vit), CPU).tag(tiny.pictures((30, 30))) == expected
    release()
    part = min(vit.glob("model-*.safetensors"))
    part.unlink()
    with pytest.raises(BrokenModel, match=part.name):
        find_model(Tagger, str(vit), CPU)


@pytest.mark.parametrize("left", [0, 5, 0.5])
def test_damaged_weights_are_named(vit, left):
    file = vit / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: left if isinstance(left, int) else int(len(whole) * left)])
    with pytest.raises(BrokenModel, match=r"model\.safetensors is damaged"):
        find_model(Tagger, str(vit), CPU)


def test_weights_are_never_made_up(vit):
    from safetensors.torch import load_file, save_file

    weights = load_file(vit / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, vit / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenModel, match=r"no weights for 1 parts.*classifier\.weight"):
        find_model(Tagger, str(vit), CPU)


def test_weights_of_other_sizes_than_the_configuration_says_are_refused(vit):
    change_config(vit, hidden_size=64)
    with pytest.raises(BrokenModel, match="cannot be loaded"):
        find_model(Tagger, str(vit), CPU)


def test_missing_and_damaged_files_beside_the_weights_are_named(vit):
    (vit / "preprocessor_config.json").unlink()
    with pytest.raises(BrokenModel, match=r"preprocessor_config\.json"):
        find_model(Tagger, str(vit), CPU)
    (vit / "model.safetensors").unlink()
    with pytest.raises(BrokenModel, match=r"has no weights \(model\.safetensors\)"):
        find_model(Tagger, str(vit), CPU)
    (vit / "config.json").write_text('{"model_type": ')
    with pytest.raises(BrokenModel, match=r"config\.json is not valid JSON"):
        find_model(Tagger, str(vit), CPU)


def test_devices_that_are_not_there(vit):
    with pytest.raises(ParameterError, match="device='gpu'"):
        find_model(Tagger, str(vit), Options(device="gpu"))
    with pytest.raises(ParameterError, match="no such device"):
        find_model(Tagger, str(vit), Options(device="cuda:99"))


def test_what_cannot_be_obeyed_is_not_ignored(vit, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="revision='main'"):
        find_model(Tagger, str(vit), Options(device="cpu", revision="main"))
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime was installed with CUDA here")
    (tmp_path / "wd14").mkdir()
    folder = str(tiny.wd14(tmp_path / "wd14"))
    monkeypatch.setattr(Options, "torch_device", lambda self: "cuda")
    monkeypatch.setattr(loading, "_free_memory", lambda device: 2**40)
    with pytest.raises(ParameterError, match="onnxruntime-gpu"):
        find_model(Tagger, folder, Options(device="cuda"))
    assert find_model(Tagger, folder).device == "cpu"


class Small(Tagger):
    """A model on a device with room for a few pictures."""

    name, revision, device = "small", "", "cuda"
    categories = ("general",)

    def __init__(self, room: int):
        self.room = room
        self.sizes: list[int] = []

    def tag(self, pictures, threshold=0.0):
        self.sizes.append(len(pictures))
        if len(pictures) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [[Tag(str(picture[0, 0, 0]), 1.0)] for picture in pictures]


def test_batches_are_halved_when_memory_is_short_and_stay_so():
    photos = [np.full((2, 2, 3), n, np.uint8) for n in range(20)]
    model, notes = Small(room=5), []
    found = in_batches(model.tag, photos, 16, notes.append)
    assert [tags[0].name for tags in found] == [str(n) for n in range(20)]
    assert model.sizes == [16, 8, 4, 4, 4, 4, 4]
    assert notes == [
        "small: out of memory, batch size 8 instead of 16",
        "small: out of memory, batch size 4 instead of 8",
    ]
    assert in_batches(functools.partial(model.tag, threshold=0.5), photos[:6], 16, notes.append) == found[:6]
    assert model.sizes[7:] == [4, 2]
    assert len(notes) == 2


def test_a_picture_that_does_not_fit_alone_is_an_error_and_other_errors_pass():
    photos = tiny.pictures((10, 20))
    with pytest.raises(OutOfDeviceMemory, match="20x10 pixels.*device='cpu'") as caught:
        in_batches(Small(room=0).tag, photos, 4, lambda text: None)
    assert isinstance(caught.value, IdsynthError)
    with pytest.raises(ZeroDivisionError):
        in_batches(lambda pictures: [1 / 0], photos, 4, lambda text: None)
    assert in_batches(Small(room=1).tag, [], 4, lambda text: None) == []
