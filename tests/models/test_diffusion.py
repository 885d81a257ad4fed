"""What is asked of a diffusion model decides its pictures, and nothing else does: no batch, order or other model."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_idsynth import painting
from fiftyone_idsynth.errors import ParameterError, RefusedImage
from fiftyone_idsynth.models.diffusion.schedulers import SCHEDULERS
from fiftyone_idsynth.models.errors import BrokenModel, ModelError, ModelNotFound, OutOfDeviceMemory, WrongModel
from fiftyone_idsynth.models.loading import find_model, release
from fiftyone_idsynth.models.options import Options
from fiftyone_idsynth.models.roles import Generator, Sampling, Wanted
from fiftyone_idsynth.painting import Painter
from tests.models import tiny, tiny_diffusion
from tests.models.tiny_diffusion import SIDE
from tests.models.tiny_loras import lora

CPU = Options(device="cpu", dtype="float32")
KINDS = ("text", "image", "inpaint")
TEXT = Sampling(SIDE, SIDE, steps=3)
CHANGED = replace(TEXT, steps=4, strength=0.7)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _release() -> Iterator[None]:
    yield
    release()


def generator(layout: str, options: Options = CPU) -> Generator:
    return find_model(Generator, str(tiny_diffusion.model(layout)), options)  # type: ignore[type-abstract]


def paint(model: Generator, wanted: list[Wanted], sampling: Sampling) -> list[np.ndarray]:
    made = model.paint(wanted, sampling)
    pictures = [one for one in made if isinstance(one, np.ndarray)]
    assert len(pictures) == len(wanted)
    return pictures


def asked(kind: str, count: int, negatives: tuple[str, ...] = ("",)) -> list[Wanted]:
    """Different pictures of a kind, made from different ones, in masks of different shapes."""
    photos = tiny.pictures(*[(SIDE, SIDE)] * count)
    masks = []
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[5 + number : 40, 8 : 50 - 3 * number] = True
        masks.append(mask)
    return [
        Wanted(
            f"picture {number} of a panda", 100 + number, negatives[number % len(negatives)],
            None if kind == "text" else photos[number], masks[number] if kind == "inpaint" else None,
        )
        for number in range(count)
    ]  # fmt: skip


def largest(some: list[np.ndarray], others: list[np.ndarray]) -> int:
    """The largest difference between pictures, 0..255."""
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("layout", ["sd", "sdxl", "sdxl_turbo", "lcm", "sd3", "flux", "inpainting", "depth"])
def test_one_seed_gives_one_picture_alone_in_a_batch_and_in_another_order(layout: str):
    model = generator(layout)
    for kind in model.kinds:
        for negatives in (("",), ("", "blurry")):
            wanted, sampling = asked(kind, 4, negatives), TEXT if kind == "text" else CHANGED
            alone = [paint(model, [one], sampling)[0] for one in wanted]
            together = paint(model, wanted, sampling)
            # Batches are added up in another order, which moves a value over the edge to the next one here and there.
            assert largest(alone, together) <= 1, (kind, negatives)
            assert np.mean([a != b for a, b in zip(alone, together, strict=True)]) < 0.01
            assert largest(together, paint(model, wanted[::-1], sampling)[::-1]) <= 1
            assert largest(alone, [paint(model, [one], sampling)[0] for one in wanted]) == 0
            assert min(largest([alone[0]], [other]) for other in alone[1:]) > 20


def test_a_seed_gives_the_same_picture_after_other_models_and_other_work():
    wanted = asked("text", 1)
    before = paint(generator("sd"), wanted, TEXT)
    for kind in KINDS:
        paint(generator("sdxl"), asked(kind, 2), CHANGED)
        paint(generator("sd"), asked(kind, 2), replace(CHANGED, scheduler="euler_a", guidance=1.5))
    torch.manual_seed(5)
    assert largest(before, paint(generator("sd"), wanted, TEXT)) == 0
    release()
    assert largest(before, paint(generator("sd"), wanted, TEXT)) == 0


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_gives_one_picture_for_one_seed(scheduler: str):
    for layout in ("sd", "sdxl"):
        model = generator(layout)
        for kind in KINDS:
            wanted, sampling = asked(kind, 3), replace(TEXT if kind == "text" else CHANGED, scheduler=scheduler)
            alone = [paint(model, [one], sampling)[0] for one in wanted]
            assert largest(alone, paint(model, wanted, sampling)) <= 1, (layout, kind)
            if model.complete(TEXT).scheduler != scheduler:
                assert largest(alone, paint(model, wanted, replace(sampling, scheduler="default"))) > 1


@pytest.mark.parametrize(("layout", "scheduler"), [("lcm", "ddim"), ("sd3", "euler"), ("flux", "dpm++")])
def test_schedulers_of_another_kind_are_refused(layout: str, scheduler: str):
    with pytest.raises(ParameterError, match=r"scheduler=.*works only with its own .*'default'"):
        generator(layout).complete(replace(TEXT, scheduler=scheduler))
    assert generator("lcm").complete(replace(TEXT, scheduler="lcm")).scheduler == "lcm"


@pytest.mark.parametrize("layout", ["sd", "sdxl", "flux"])
def test_prompt_seed_guidance_and_strength_decide_the_picture(layout: str):
    model = generator(layout)
    (one,) = asked("text", 1)
    plain = paint(model, [one], TEXT)
    others = [
        paint(model, [replace(one, prompt="a blue car")], TEXT),
        paint(model, [replace(one, seed=101)], TEXT),
        paint(model, [one], replace(TEXT, guidance=2.0)),
        paint(model, [one], replace(TEXT, steps=6)),
    ]
    if layout != "flux":  # it was distilled to do without
        others.append(paint(model, [replace(one, negative="blurry")], TEXT))
    assert all(largest(plain, other) > 0 for other in others)
    (change,) = asked("image", 1)
    little, much = (paint(model, [change], replace(TEXT, steps=10, strength=s)) for s in (0.1, 0.9))
    assert largest(little, much) > 20


@pytest.mark.parametrize("layout", ["sd", "sdxl", "sd3", "flux", "inpainting"])
def test_pixels_outside_the_mask_are_kept_byte_for_byte(layout: str):
    model = generator(layout)
    for strength in (1.0, 0.5):
        wanted = asked("inpaint", 3)
        for one, made in zip(wanted, paint(model, wanted, replace(CHANGED, strength=strength)), strict=True):
            assert one.picture is not None
            assert one.mask is not None
            assert np.array_equal(made[~one.mask], one.picture[~one.mask])
            assert (made[one.mask] != one.picture[one.mask]).mean() > 0.5


def test_a_mask_of_one_pixel_paints_it_alone():
    (one,) = asked("inpaint", 1)
    assert one.picture is not None
    mask = np.zeros((SIDE, SIDE), bool)
    mask[30, 20] = True
    (made,) = paint(generator("sd"), [replace(one, mask=mask)], CHANGED)
    assert np.array_equal(made[~mask], one.picture[~mask])


def test_sizes_that_the_model_cannot_make_are_refused_with_the_nearest():
    for width, height, said in ((60, 64, "width=60.*56 or 64"), (64, 100, "height=100.*96 or 104")):
        with pytest.raises(ParameterError, match=said):
            generator("sd").paint(asked("text", 1), replace(TEXT, width=width, height=height))
    with pytest.raises(ParameterError, match="width=72.*divide by 16.*64 or 80"):
        generator("flux").paint(asked("text", 1), replace(TEXT, width=72))
    (made,) = paint(generator("sd"), asked("text", 1), replace(TEXT, width=72, height=104))
    assert made.shape == (104, 72, 3)


def test_masks_and_pictures_must_be_of_the_size_that_is_asked_for_and_not_empty():
    model, (one,) = generator("sd"), asked("inpaint", 1)
    wrong = np.ones((SIDE, SIDE + 8), bool)
    with pytest.raises(ParameterError, match="mask='72x64'.*64x64"):
        model.paint([replace(one, mask=wrong)], CHANGED)
    with pytest.raises(ParameterError, match="picture='64x72'.*64x64"):
        model.paint([replace(one, picture=tiny.pictures((72, 64))[0])], CHANGED)
    with pytest.raises(ParameterError, match="mask='empty'.*at least one pixel"):
        model.paint([replace(one, mask=np.zeros((SIDE, SIDE), bool))], CHANGED)


def test_too_few_steps_for_a_strength_are_refused_with_the_number_that_will_do():
    model = generator("sd")
    with pytest.raises(ParameterError, match=r"strength=0.1: of 4 steps.*at least 10 steps"):
        model.paint(asked("image", 1), replace(CHANGED, strength=0.1))
    with pytest.raises(ParameterError, match=r"strength=0.3.*at least 4 steps"):
        model.paint(asked("inpaint", 1), replace(CHANGED, strength=0.3, steps=3))
    paint(model, asked("image", 1), replace(CHANGED, strength=0.1, steps=10))


def test_what_of_a_prompt_is_not_read_is_told():
    model = generator("sd")  # it reads 75 letters
    assert model.cut_off("a" * 75) == ""
    assert model.cut_off("a" * 75 + "bcd") == "bcd"
    long = asked("text", 1)[0]
    same = ("a" * 90, "a" * 76 + "b" * 20)
    assert largest(*(paint(model, [replace(long, prompt=prompt)], TEXT) for prompt in same)) == 0


@pytest.mark.parametrize("base", ["sd", "sdxl"])
def test_loras_of_all_tools_change_the_picture_by_their_strength_and_come_off_again(base: str, tmp_path: Path):
    model, wanted = generator(base), asked("text", 2)
    plain = paint(model, wanted, TEXT)

    def by(path: Path, strength: float) -> list[np.ndarray]:
        return paint(model, wanted, replace(TEXT, loras=((str(path), strength),)))

    encoders = [part for part in ("text_encoder", "text_encoder_2") if part in model.parts]
    for parts in (["unet"], encoders, ["unet", *encoders]):
        files = [
            lora(tmp_path / f"{layout}-{len(parts)}-{parts[0]}.safetensors", base, layout, parts)
            for layout in ("diffusers", "peft", "kohya")
        ]
        full, half = by(files[0], 1.0), by(files[0], 0.5)
        assert largest(plain, full) > 5
        assert largest(full, half) > 5
        assert largest(plain, half) > 1
        assert largest(plain, by(files[0], 0.0)) == 0
        for other in files[1:]:
            assert largest(full, by(other, 1.0)) <= 1, other  # the same weights under other names
        assert largest(plain, paint(model, wanted, TEXT)) == 0


def test_several_loras_add_up_and_one_can_be_named_by_its_folder(tmp_path: Path):
    model, wanted = generator("sd"), asked("text", 1)
    style = lora(tmp_path / "style" / "pytorch_lora_weights.safetensors")
    words = lora(tmp_path / "words.safetensors", parts=["text_encoder"])
    one, two = ((str(style.parent), 0.8),), ((str(style), 0.8), (str(words), 0.6))
    by_folder = paint(model, wanted, replace(TEXT, loras=one))
    assert largest(by_folder, paint(model, wanted, replace(TEXT, loras=two[:1]))) == 0
    assert largest(by_folder, paint(model, wanted, replace(TEXT, loras=two))) > 1
    for kind in ("image", "inpaint"):
        changed = [paint(model, asked(kind, 1), replace(CHANGED, loras=loras)) for loras in ((), one)]
        assert largest(*changed) > 1


@pytest.mark.parametrize("layout", ["diffusers", "peft", "kohya"])
def test_a_lora_for_another_base_model_is_refused_and_leaves_the_model_as_it_was(layout: Any, tmp_path: Path):
    wanted = asked("text", 1)
    for base, other in (("sd", "sdxl"), ("sdxl", "sd")):
        model = generator(base)
        plain = paint(model, wanted, TEXT)
        file = lora(tmp_path / f"{other}.safetensors", other, layout)
        with pytest.raises(WrongModel, match="made for another base model: its texts are .* wide"):
            model.paint(wanted, replace(TEXT, loras=((str(file), 1.0),)))
        assert largest(plain, paint(model, wanted, TEXT)) == 0


def test_what_is_no_lora_or_not_there_is_told(tmp_path: Path):
    model, wanted = generator("sd"), asked("text", 1)
    weights = tiny_diffusion.model("sd") / "unet" / "diffusion_pytorch_model.safetensors"
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "readme.txt").write_text("no file")
    cases: list[tuple[Path, type[ModelError], str]] = [
        (weights, WrongModel, "is no LoRA"),
        (broken, BrokenModel, "cannot be read"),
        (tmp_path / "absent.safetensors", ModelNotFound, "no folder or file"),
        (tmp_path / "none", ModelNotFound, "has no LoRA file"),
    ]
    for path, error, said in cases:
        with pytest.raises(error, match=said):
            model.paint(wanted, replace(TEXT, loras=((str(path), 1.0),)))
    assert paint(model, wanted, TEXT)


def test_a_controlnet_steers_by_its_condition():
    model, name = generator("sd"), str(tiny_diffusion.model("controlnet"))
    edges = [np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)]
    edges[1][:, 30:34] = 255
    for kind in KINDS:
        sampling = TEXT if kind == "text" else CHANGED
        (one,) = asked(kind, 1)
        plain = paint(model, [one], sampling)
        steered = replace(sampling, controlnet=name)
        made = [paint(model, [replace(one, condition=edge)], steered) for edge in edges]
        assert largest(*made) > 1, kind
        assert largest(plain, made[0]) > 1
        both = paint(model, [replace(one, condition=edge) for edge in edges], steered)
        assert largest([both[0], both[1]], [made[0][0], made[1][0]]) <= 1
        weak = paint(model, [replace(one, condition=edges[1])], replace(steered, control_scale=0.1))
        assert largest(weak, made[1]) > 1
        assert largest(plain, paint(model, [one], sampling)) == 0


def test_controlnets_that_are_missing_or_do_not_fit_are_refused(tmp_path: Path):
    model, (one,) = generator("sd"), asked("text", 1)
    steered = replace(one, condition=np.zeros((SIDE, SIDE, 3), np.uint8))
    cases: list[tuple[str, Wanted, type[Exception], str]] = [
        (str(tmp_path / "absent"), steered, ModelNotFound, "no folder or file"),
        (str(tiny_diffusion.model("controlnet_other_base")), steered, WrongModel, "another base model"),
        (str(tiny.vit_classifier(tmp_path / "tagger")), steered, WrongModel, "no ControlNet"),
        (str(tiny_diffusion.model("controlnet")), one, ParameterError, "needs a condition"),
    ]
    for name, wanted, error, said in cases:
        with pytest.raises(error, match=said):
            model.paint([wanted], replace(TEXT, controlnet=name))
    small = replace(one, condition=np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ParameterError, match="condition='32x32'"):
        model.paint([small], replace(TEXT, controlnet=str(tiny_diffusion.model("controlnet"))))


def test_the_safety_checker_refuses_when_it_is_on_and_only_then():
    strict, lenient, without = generator("sd_strict"), generator("sd_lenient"), generator("sd")
    assert (strict.has_safety_checker, lenient.has_safety_checker, without.has_safety_checker) == (True, True, False)
    for kind in KINDS:
        wanted, sampling = asked(kind, 2), TEXT if kind == "text" else CHANGED
        for refused in strict.paint(wanted, sampling):
            assert isinstance(refused, RefusedImage)
            assert refused.reason == "unsafe"
        off = paint(strict, wanted, replace(sampling, safety_checker=False))
        assert all(picture.std() > 5 for picture in off)  # a picture that was refused is black
        on = paint(lenient, wanted, sampling)
        assert largest(on, paint(lenient, wanted, replace(sampling, safety_checker=False))) == 0
        assert all(isinstance(one, RefusedImage) for one in strict.paint(wanted, sampling))
        paint(without, wanted, sampling)


@pytest.mark.parametrize(
    ("layout", "asked_for", "kept"),
    [("sd_strict", True, "on"), ("sd_strict", False, "off"), ("sd", True, "none in the model"), ("sd", False, "off")],
)
def test_what_the_safety_checker_did_is_kept_in_the_lineage(layout: str, asked_for: bool, kept: str):
    painter = Painter(str(tiny_diffusion.model(layout)), CPU, safety_checker=asked_for)
    assert painter.lineage(Wanted("", 1), SIDE, SIDE)["params"]["safety_checker"] == kept


class Run:
    """Stands for the run of a stage: takes its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.note = self.notes.append


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run()
    monkeypatch.setattr(painting, "current_run", lambda: made)
    return made


@pytest.fixture
def painter(tmp_path: Path) -> Iterator[Painter]:
    """A painter with a model of its own, which a test may change."""
    os.symlink(tiny_diffusion.model("sd"), tmp_path / "sd")
    yield Painter(str(tmp_path / "sd"), CPU, steps=3, batch_size=8)
    release()


def memory_for(part: Any, method: str, fits: Any) -> None:
    """Lets a method of a part run out of memory unless ``fits(first argument)``."""
    real = getattr(part, method)

    def limited(self: Any, first: Any, *rest: Any, **more: Any) -> Any:
        if not fits(first):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(first, *rest, **more)

    setattr(part, method, types.MethodType(limited, part))


def test_the_batch_is_halved_until_the_memory_suffices(painter: Painter, run: Run):
    wanted = asked("text", 7)
    before = painter.paint_texts(wanted, SIDE, SIDE)
    memory_for(painter.generator.parts["unet"], "forward", lambda latents: len(latents) <= 4)  # with guidance: twice
    made = painter.paint_texts(wanted, SIDE, SIDE)
    assert largest(made, before) <= 1  # type: ignore[arg-type]
    assert [note.rpartition("out of memory, ")[2] for note in run.notes] == [
        "batch size 3 instead of 8", "batch size 1 instead of 3"
    ]  # fmt: skip
    run.notes.clear()
    painter.paint_texts(wanted[:4], SIDE, SIDE)
    assert run.notes == []  # what fits is remembered


def test_for_a_single_picture_memory_is_spared_step_by_step(painter: Painter, run: Run):
    wanted = asked("text", 2)
    before = painter.paint_texts(wanted, SIDE, SIDE)
    parts = painter.generator.parts
    real = parts["vae"].decode
    memory_for(parts["vae"], "decode", lambda latents: parts["vae"].use_slicing)
    made = painter.paint_texts(wanted, SIDE, SIDE)
    assert largest(made, before) <= 1  # type: ignore[arg-type]
    assert len(run.notes) == 2
    assert "batch size 1" in run.notes[0]
    assert "now decoding one picture at a time and computing attention in slices: this takes longer" in run.notes[1]
    assert all("Sliced" in type(one).__name__ for one in parts["unet"].attn_processors.values())
    run.notes.clear()

    parts["vae"].decode = real
    memory_for(parts["vae"], "decode", lambda latents: parts["vae"].use_tiling)
    assert largest(painter.paint_texts(wanted, SIDE, SIDE), before) <= 1  # type: ignore[arg-type]
    assert len(run.notes) == 1
    assert "decoding in tiles" in run.notes[0]
    changed = painter.paint(asked("image", 1), 0.7)  # another pipeline of the same parts spares memory too
    assert isinstance(changed[0], np.ndarray)


def test_when_nothing_helps_it_says_what_does(painter: Painter, run: Run):
    memory_for(painter.generator.parts["unet"], "forward", lambda _: False)
    with pytest.raises(OutOfDeviceMemory, match="too small for a single image.*choose a smaller model"):
        painter.paint_texts(asked("text", 2), SIDE, SIDE)
    assert [note.partition("now ")[2].partition(":")[0] for note in run.notes[1:]] == [
        "decoding one picture at a time and computing attention in slices",
        "decoding in tiles, which may alter fine details",
    ]  # fmt: skip


def test_after_sdxl_ran_out_of_memory_while_decoding_it_goes_on(run: Run):
    painter = Painter(str(tiny_diffusion.model("sdxl")), Options(device="cpu", dtype="float16"), steps=2, batch_size=4)
    vae = painter.generator.parts["vae"]  # decodes in float32 for the time being
    real = vae.decode
    try:
        memory_for(vae, "decode", lambda latents: len(latents) == 1)
        made = painter.paint_texts(asked("text", 2), SIDE, SIDE)
    finally:
        vae.decode = real
    assert all(isinstance(one, np.ndarray) for one in made)
    assert vae.dtype == torch.float16


def test_sizes_may_differ_between_pictures(painter: Painter, run: Run):
    wide, high = tiny.pictures((64, 96), (96, 64))
    wanted = [Wanted("a panda", seed, picture=picture) for seed, picture in enumerate((wide, high, wide))]
    made = painter.paint(wanted, 0.7)
    assert [one.shape for one in made if isinstance(one, np.ndarray)] == [(64, 96, 3), (96, 64, 3), (64, 96, 3)]


def test_how_long_it_takes_is_measured_and_said(painter: Painter, run: Run):
    seconds = painter.announce(1000, SIDE, SIDE)
    assert 0 < seconds < 1000
    assert "1000 images of 64x64 take about" in run.notes[0]
    few, many = (painter.generator.seconds_per_image(replace(TEXT, steps=steps)) for steps in (1, 200))
    assert many > 5 * few
