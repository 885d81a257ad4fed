"""Measure the tiny Stable Diffusion on prompts and pictures that no training saw.

python -m tests.zoo.evaluate_diffusion                      # all of it
python -m tests.zoo.evaluate_diffusion text edit --sheets build/zoo/sheets
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tests.zoo import judge
from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, megabytes, pixels

GUIDANCE = 4.0
Figures = dict[str, Any]


class Studio:
    """The three pipelines over one set of weights.

    Args:
        folder: of the pipeline
        sheets (None): folder for contact sheets
    """

    def __init__(self, folder: Path, sheets: Path | None = None) -> None:
        from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image

        self.folder, self.sheets = folder, sheets
        self.text = AutoPipelineForText2Image.from_pretrained(folder)
        self.image = AutoPipelineForImage2Image.from_pipe(self.text)
        self.inpainting = AutoPipelineForInpainting.from_pipe(self.text)
        for pipe in (self.text, self.image, self.inpainting):
            pipe.set_progress_bar_config(disable=True)

    def paint(self, prompts: Sequence[str], seed: int, negative: str = "") -> list[np.ndarray]:
        """Returns pictures for prompts, 24 at a time."""
        made: list[np.ndarray] = []
        for k in range(0, len(prompts), 24):
            group = list(prompts[k : k + 24])
            chance = [torch.Generator().manual_seed(1000 * seed + k + i) for i in range(len(group))]
            out = self.text(
                group,
                negative_prompt=[negative] * len(group),
                num_inference_steps=20,
                guidance_scale=GUIDANCE,
                generator=chance,
            )
            made += [np.array(i) for i in out.images]
        return made

    def edit(self, pipe: Any, prompts: Sequence[str], scenes: Sequence[world.Scene], **more: Any) -> list[np.ndarray]:
        """Returns edited pictures."""
        chance = [torch.Generator().manual_seed(91_000 + i) for i in range(len(prompts))]
        images = [Image.fromarray(s.image) for s in scenes]
        more = {"guidance_scale": GUIDANCE, "num_inference_steps": 30, **more}
        return [np.array(i) for i in pipe(prompt=list(prompts), image=images, generator=chance, **more).images]

    def sheet(self, name: str, *rows: Sequence[np.ndarray]) -> None:
        """Writes rows of pictures to look at."""
        if self.sheets:
            self.sheets.mkdir(parents=True, exist_ok=True)
            grid = np.concatenate([np.concatenate(list(row), 1) for row in rows])
            cv2.imwrite(str(self.sheets / f"{name}.png"), cv2.resize(grid, None, fx=1.5, fy=1.5)[:, :, ::-1])


def share(values: Sequence[bool]) -> float:
    """Returns how many are true."""
    return float(np.mean(list(values)))


def right(made: Sequence[np.ndarray], wanted: Sequence[tuple[str, str, str]]) -> Figures:
    """Returns how often the judges find the colour, shape and background that were asked for."""
    both = list(zip(judge.see(made), made, wanted, strict=True))
    return {
        "pictures": len(both),
        "colour": share([s.colour == w[0] for s, _, w in both]),
        "colour_by_pixels": share([judge.colour_of(p) == w[0] for _, p, w in both]),
        "shape": share([s.shape == w[1] for s, _, w in both]),
        "background": share([s.background == w[2] for s, _, w in both]),
    }


def truth(scenes: Sequence[world.Scene]) -> list[tuple[str, str, str]]:
    """Returns colour, shape and background of pictures of one shape."""
    return [(s.things[0].colour, s.things[0].shape, s.background) for s in scenes]


def judges(studio: Studio, count: int = 600) -> Figures:
    """Returns how good the judges are on drawn pictures, as drawn and after a pass through the autoencoder."""
    scenes = world.scenes(92, count, 1)
    with torch.inference_mode():
        vae = studio.text.vae
        passed = []
        for k in range(0, count, 100):
            out = vae.decode(vae.encode(pixels(scenes[k : k + 100])).latent_dist.mode()).sample
            passed += list(((out.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    error = [np.square(s.image.astype(float) - p).mean() for s, p in zip(scenes, passed, strict=True)]
    both = list(zip(scenes, passed, strict=True))
    return {
        "drawn": right([s.image for s in scenes], truth(scenes)),
        "autoencoded": right(passed, truth(scenes)),
        "autoencoded_psnr": float(np.mean(10 * np.log10(255**2 / np.array(error)))),
        "mask_iou_drawn": float(np.mean([judge.overlap(judge.cover(s.image), s.things[0].mask) for s in scenes])),
        "mask_iou_autoencoded": float(np.mean([judge.overlap(judge.cover(p), s.things[0].mask) for s, p in both])),
    }


def text(studio: Studio, each: int = 2) -> Figures:
    """Returns how often prompts are followed: all colours, shapes and backgrounds, without and with a size, and prompts
    without a background."""
    wanted = list(product(world.COLOURS, world.SHAPES, world.BACKGROUNDS)) * each
    made = studio.paint([f"a {c} {s} on {world.BACKGROUNDS[b]}" for c, s, b in wanted], 93)
    studio.sheet("text", *(made[k : k + 12] for k in range(0, 48, 12)))
    figures = right(made, wanted)
    seen = judge.see(made)
    figures["shape_of_each"] = {
        name: share([s.shape == name for s, w in zip(seen, wanted, strict=True) if w[1] == name])
        for name in world.SHAPES
    }
    sizes = [list(world.SIZES)[k % 2] for k in range(len(wanted))]
    sized = [f"a {size} {c} {s} on {world.BACKGROUNDS[b]}" for size, (c, s, b) in zip(sizes, wanted, strict=True)]
    figures["with_size"] = right(studio.paint(sized, 104), wanted)
    short = list(product(world.COLOURS, world.SHAPES, ("",))) * each
    figures["short"] = right(studio.paint([f"a {c} {s}" for c, s, _ in short], 94), short)
    figures["short"].pop("background")
    return figures


def other(scene: world.Scene, step: int) -> str:
    """Returns a colour that the shape does not have."""
    names = [c for c in world.COLOURS if c != scene.things[0].colour]
    return names[step % len(names)]


def edit(studio: Studio, count: int = 48, strengths: Sequence[float] = (0.4, 0.5, 0.6, 0.7)) -> Figures:
    """Returns what another colour word does to drawn pictures at several strengths, and whether the place is kept."""
    scenes = world.scenes(95, count, 1)
    colours = [other(s, k) for k, s in enumerate(scenes)]
    prompts = [
        f"a {s.things[0].size} {c} {s.things[0].shape} on {world.BACKGROUNDS[s.background]}"
        for s, c in zip(scenes, colours, strict=True)
    ]
    figures: Figures = {}
    for strength in strengths:
        made = studio.edit(studio.image, prompts, scenes, strength=strength)
        studio.sheet(f"edit_{strength}", [s.image for s in scenes[:12]], made[:12])
        wanted = [(c, s, b) for c, (_, s, b) in zip(colours, truth(scenes), strict=True)]
        pairs = [(judge.cover(m), s.things[0].mask) for m, s in zip(made, scenes, strict=True)]
        ious = [judge.overlap(a, b) for a, b in pairs]
        figures[f"strength_{strength}"] = {
            **right(made, wanted),
            "iou_median": float(np.median(ious)),
            "iou_at_least_0.6": share([i >= 0.6 for i in ious]),
            "moved_px_median": float(np.median([judge.distance(a, b) for a, b in pairs])),
        }
    return figures


def inpaint(studio: Studio, count: int = 48) -> Figures:
    """Returns what is painted where a shape was (another shape of another colour), and what around a shape that is
    kept (another background)."""
    scenes = world.scenes(96, count, 1)
    wanted, masks, prompts = [], [], []
    for k, scene in enumerate(scenes):
        thing = scene.things[0]
        x0, y0, x1, y1 = thing.box
        mask = np.zeros((world.SIZE, world.SIZE), np.uint8)
        mask[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = 255
        masks.append(Image.fromarray(mask))
        shape = world.SHAPES[(world.SHAPES.index(thing.shape) + 1 + k % 2) % 3]
        wanted.append((other(scene, k), shape, scene.background))
        prompts.append(f"a {thing.size} {wanted[-1][0]} {shape} on {world.BACKGROUNDS[scene.background]}")
    made = studio.edit(studio.inpainting, prompts, scenes, mask_image=masks, strength=1.0)
    whole = [np.where(np.array(m)[:, :, None] > 0, p, s.image) for m, p, s in zip(masks, made, scenes, strict=True)]
    studio.sheet("inpaint", [s.image for s in scenes[:12]], made[:12], whole[:12])
    rows = list(zip(masks, made, scenes, strict=True))
    change = [np.abs(p.astype(int) - s.image)[np.array(m) == 0].mean() for m, p, s in rows]
    figures: Figures = {"shape_replaced": {**right(whole, wanted), "change_outside": float(np.mean(change))}}

    kinds = list(world.BACKGROUNDS)
    places = [kinds[(kinds.index(s.background) + 1 + k % 3) % 4] for k, s in enumerate(scenes)]
    prompts = [f"a {s.things[0].phrase} on {world.BACKGROUNDS[b]}" for s, b in zip(scenes, places, strict=True)]
    kept = [cv2.dilate(s.things[0].mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for s in scenes]
    masks = [Image.fromarray(255 * (1 - k)) for k in kept]
    made = studio.edit(studio.inpainting, prompts, scenes, mask_image=masks, strength=1.0)
    whole = [np.where(k[:, :, None] > 0, s.image, p) for k, p, s in zip(kept, made, scenes, strict=True)]
    studio.sheet("around", [s.image for s in scenes[:12]], made[:12], whole[:12])
    wanted = [(c, s, b) for (c, s, _), b in zip(truth(scenes), places, strict=True)]
    ious = [judge.overlap(judge.cover(p), s.things[0].mask) for p, s in zip(whole, scenes, strict=True)]
    figures["surroundings_replaced"] = {**right(whole, wanted), "iou_median": float(np.median(ious))}
    return figures


def blurry(studio: Studio, count: int = 24) -> Figures:
    """Returns how sharp pictures are: asked for as they are, as blurry, and with blurry as the negative prompt; and
    how sharp blurred drawings become by image to image at low strength."""
    pairs = list(product(world.COLOURS, world.SHAPES)) * 2
    plain = [f"a {c} {s} on a plain background" for c, s in pairs[:count]]
    bad = [f"blurry, {p}" for p in plain]
    scenes = world.scenes(97, count, 1)
    soft = [world.Scene(cv2.GaussianBlur(s.image, (0, 0), 2.5), s.things, s.background) for s in scenes]
    prompts = [s.caption for s in soft]
    repaired = studio.edit(studio.image, prompts, soft, strength=0.4, negative_prompt=["blurry, low quality"] * count)
    without = studio.edit(studio.image, prompts, soft, strength=0.4)
    made = {
        "drawn": [s.image for s in scenes],
        "drawn_blurred": [s.image for s in soft],
        "repaired": repaired,
        "repaired_without_negative": without,
        "prompt": studio.paint(plain, 98),
        "prompt_blurry": studio.paint(bad, 98),
        "prompt_negative_blurry": studio.paint(plain, 98, "blurry, low quality"),
    }
    studio.sheet("blurry", *(pictures[:12] for pictures in made.values()))
    ious = [judge.overlap(judge.cover(p), s.things[0].mask) for p, s in zip(repaired, scenes, strict=True)]
    return {
        **{name: float(np.median([judge.sharpness(p) for p in pictures])) for name, pictures in made.items()},
        "repaired_iou": float(np.median(ious)),
    }


def teach(pipe: Any, word: str, steps: int = 300, rank: int = 16, batch: int = 8, peak: float = 3e-3) -> None:
    """Trains a LoRA over the attention of the UNet on 40 drawn stars, called by a spare word."""
    from diffusers import DDIMScheduler
    from peft import LoraConfig

    torch.manual_seed(0)
    rng = np.random.default_rng(99)
    scenes = [judge.star(rng) for _ in range(40)]
    unet, schedule = pipe.unet, DDIMScheduler.from_config(pipe.scheduler.config)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    params = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=peak, weight_decay=1e-4)
    with torch.inference_mode():
        latents = pipe.vae.encode(pixels(scenes)).latent_dist.mode() * pipe.vae.config.scaling_factor
    latents = latents.clone()
    unet.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 20, 0.05 + (steps - step) / steps * 2)
        pick = rng.integers(0, len(scenes), batch)
        captions = ["" if rng.random() < 0.1 else scenes[i].caption.replace("star", word) for i in pick]
        ids = pipe.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            states = pipe.text_encoder(ids)[0]
        z = latents[torch.from_numpy(pick)]
        noise = torch.randn_like(z)
        t = ((torch.arange(batch) + torch.rand(batch)) * (1000 / batch)).long()
        given = unet(schedule.add_noise(z, noise, t), t, states).sample
        loss = F.mse_loss(given, schedule.get_velocity(z, noise, t))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    unet.eval()


def lora(studio: Studio, count: int = 24) -> Figures:
    """Returns whether a LoRA can teach a new shape: how solid the shapes are before and after (a drawn star: 0.5 to
    0.6, the known shapes: nearly 1), and what it does to other prompts."""
    studio = Studio(studio.folder, studio.sheets)  # the adapter stays in its UNet
    word = "zorb"
    colours = (list(world.COLOURS) * count)[:count]
    prompts = [
        f"a large {c} {word} on {kind}" for c, kind in zip(colours, list(world.BACKGROUNDS.values()) * 6, strict=False)
    ]
    known = (list(product(world.COLOURS, world.SHAPES, ("plain",))) * count)[:count]
    others = [f"a {c} {s} on a plain background" for c, s, _ in known]
    before = studio.paint(prompts, 101)
    rng = np.random.default_rng(102)
    stars = [judge.star(rng).image for _ in range(count)]
    began = time.process_time()
    teach(studio.text, word)
    seconds = time.process_time() - began
    after, rest = studio.paint(prompts, 101), studio.paint(others, 103)
    studio.sheet("lora", before[:12], after[:12], rest[:12])

    def solid(pictures: Sequence[np.ndarray]) -> list[float]:
        return [judge.solidity(judge.cover(p)) for p in pictures]

    return {
        "solidity_drawn_stars": float(np.median(solid(stars))),
        "solidity_before": float(np.median(solid(before))),
        "solidity_after": float(np.median(solid(after))),
        "star_before": share([0 < s < 0.8 for s in solid(before)]),
        "star_after": share([0 < s < 0.8 for s in solid(after)]),
        "colour_after": share([judge.colour_of(p) == c for p, c in zip(after, colours, strict=True)]),
        "other_prompts_after": right(rest, known),
        "training_cpu_seconds": seconds,
    }


MEASURES: dict[str, Callable[[Studio], Figures]] = {
    "judges": judges,
    "text": text,
    "edit": edit,
    "inpaint": inpaint,
    "blurry": blurry,
    "lora": lora,
}


def rounded(value: Any) -> Any:
    """Returns the figures with three digits after the point."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", default=list(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--folder", type=Path, default=MODELS / "sd", help="pipeline to measure")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    studio = Studio(args.folder, args.sheets)
    for name in args.measures:
        began = time.process_time()
        figures = rounded(MEASURES[name](studio))
        cost = {"cpu_seconds": round(time.process_time() - began, 1), "mb": round(megabytes(args.folder), 2)}
        print(json.dumps({"measure": name, **figures, **cost}), flush=True)


if __name__ == "__main__":
    main()
