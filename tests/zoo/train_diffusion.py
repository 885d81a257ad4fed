"""Train a tiny Stable Diffusion 1.x on scenes and wordings of what they show. Starts from the text tower of the CLIP::

    python -m tests.zoo.train_diffusion vae
    python -m tests.zoo.train_diffusion unet      # two processes; writes the whole pipeline

Latents are a quarter of the picture's side, and what they mean is asked for (see :func:`layout`): that a place is
covered by a shape is loud, of what colour is quiet. The noise of an image-to-image run therefore drowns the colour
first and the place last, and a change of the colour in place is nearer to what was there than a shape elsewhere.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo import shapes_world as world
from tests.zoo.common import MODELS, RUNS, batches, clip_tokenizer, fit, pixels
from tests.zoo.wording import wording

OUT = MODELS / "sd"
#: The autoencoder in float32, between the two stages.
VAE = RUNS / "sd-vae"
#: Words that are one token each and that no caption of the training has: free for a LoRA.
SPARE = ("zorb", "sks", "star")
#: What the latents are divided by when they leave the autoencoder, as in the published models.
SCALE = 2.0
#: Steps between two averagings of the processes.
TOGETHER = 8


def tokenizer() -> Any:
    """Returns the tokenizer of the CLIP with one more token for each of :data:`SPARE`."""
    from transformers import CLIPTokenizer

    known = clip_tokenizer()
    bpe = json.loads(known.backend_tokenizer.to_str())["model"]
    vocab, merges = dict(bpe["vocab"]), [tuple(m) for m in bpe["merges"]]
    special = [known.bos_token, known.eos_token]
    for token in special:
        vocab.pop(token)
    for word in SPARE:
        left, *rest = known.tokenize(word)
        for right in rest:
            merges.append((left, right))
            left += right
            vocab.setdefault(left, len(vocab))
    for token in special:  # the end of the text must have the highest id
        vocab[token] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=known.model_max_length)


def layout(x: torch.Tensor) -> torch.Tensor:
    """Returns the latents that the encoder shall give, from pictures in -1..1.

    Channel 0 is the brightness of the background, quieter on shapes, 1 and 2 are the colour (red against green,
    yellow against blue), and 3 tells how much of a place is saturated, that is, covered by a shape.

    Args:
        x: ``(N, 3, H, W)``

    Returns:
        ``(N, 4, H / 4, W / 4)``, scaled as the UNet sees them
    """
    r, g, b = x.unbind(1)
    covered = ((x.amax(1) - x.amin(1)) * (127.5 / 120)).clamp(0, 1)
    grey = (1 - 0.7 * covered) * 2.3 * (0.3 * r + 0.59 * g + 0.11 * b)
    parts = [grey, 0.45 * (r - g), 0.45 * (r + g - 2 * b) / 2, 2.4 * (covered - 0.15)]
    return F.avg_pool2d(torch.stack(parts, 1), 4)


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture visibly out of focus."""
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(1.8, 3.5))


def anything(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a polygon of any colour over the picture: the autoencoder shall know more than the UNet."""
    corners = int(rng.integers(5, 13))
    radius = rng.uniform(8, 20) * np.where(np.arange(corners) % 2, 1, rng.uniform(0.35, 1))
    turn = rng.uniform(0, 7) + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None] + rng.uniform(14, 50, 2)
    colour = rng.permutation([rng.uniform(180, 250), rng.uniform(20, 220), rng.uniform(20, 80)])
    out = image.copy()
    cv2.fillPoly(out, [np.rint(points * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
    return out


def varied(scenes: Iterable[world.Scene], rng: np.random.Generator) -> list[world.Scene]:
    """Returns the scenes, every fourth with :func:`anything` over it, and every fourth of all :func:`blurred`."""
    out = []
    for scene in scenes:
        image = anything(scene.image, rng) if rng.random() < 0.25 else scene.image
        out.append(replace(scene, image=blurred(image, rng) if rng.random() < 0.25 else image))
    return out


@torch.no_grad()
def start_as_thumbnail(vae: Any, k: float = 3.0) -> None:
    """Initialises the autoencoder so that it starts as "mean of every 4x4 block, then enlarged".

    From the usual initialisation it needs thousands of steps to pass even the brightness of a place; from here it
    only has to learn the detail. The mean colour runs in channels 0 to 2, negated in 3 to 5, and +-k in 6 and 7: so
    every group norm sees mean 0 and an almost constant spread, and silu(x) - silu(-x) = x undoes the activation.
    """

    def identity(conv: nn.Conv2d, kernel: torch.Tensor) -> None:
        conv.weight.mul_(0.1)
        conv.bias.zero_()
        n = min(conv.weight.shape[:2])
        conv.weight[:n, :n] = torch.eye(n)[:, :, None, None] * kernel

    def spread(conv: nn.Conv2d) -> None:
        conv.weight.mul_(0.1)
        conv.bias.zero_()
        conv.weight[:8] = 0
        for j in range(3):
            conv.weight[j, j, 1, 1], conv.weight[3 + j, j, 1, 1] = 1, -1
        conv.bias[6], conv.bias[7] = k, -k

    def gather(conv: nn.Conv2d, channels: int) -> None:
        scale = ((1 + 2 * k * k) / channels) ** 0.5
        conv.weight.mul_(0.1)
        conv.bias.zero_()
        conv.weight[:3] = 0
        for j in range(3):
            conv.weight[j, j, 1, 1], conv.weight[j, 3 + j, 1, 1] = scale, -scale

    centre, mean = torch.zeros(3, 3), torch.zeros(3, 3)
    centre[1, 1] = 1
    mean[:2, :2] = 0.25  # diffusers pads its downsampling at the right and the bottom only
    for side in (vae.encoder, vae.decoder):
        for name, m in side.named_modules():
            if hasattr(m, "conv_shortcut"):
                m.conv2.weight.mul_(0.02)
                m.conv2.bias.zero_()
                if m.conv_shortcut is not None:
                    identity(m.conv_shortcut, torch.ones(1, 1))
            elif name.endswith("downsamplers.0"):
                identity(m.conv, mean)
            elif name.endswith("upsamplers.0"):
                identity(m.conv, centre)
        spread(side.conv_in)
        gather(side.conv_out, side.conv_norm_out.num_channels)
    colours = torch.tensor([[0.69, 1.357, 0.253], [0.45, -0.45, 0], [0.225, 0.225, -0.45]]) / SCALE  # as in layout
    for conv, matrix in ((vae.quant_conv, colours), (vae.post_quant_conv, torch.linalg.inv(colours))):
        identity(conv, torch.ones(1, 1))
        conv.weight[:3, :3, 0, 0] = matrix
    vae.quant_conv.weight[4:] = 0
    vae.quant_conv.bias[4:] = -7  # the encoder is almost certain


def train_vae(steps: int, batch: int = 10) -> None:
    """Trains the autoencoder and keeps it for the second stage."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        sample_size=world.SIZE,
        latent_channels=4,
        block_out_channels=(8, 16, 32),  # three blocks: factor 4
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=1,  # several groups of few channels cannot carry the brightness of a plain picture
        mid_block_add_attention=False,
        scaling_factor=SCALE,
    ).to(memory_format=torch.channels_last)
    start_as_thumbnail(vae)

    def loss_of(scenes: list[world.Scene], rng: np.random.Generator) -> torch.Tensor:
        x = pixels(varied(scenes, rng))
        posterior = vae.encode(x).latent_dist
        noise = torch.from_numpy(rng.standard_normal(posterior.mean.shape, np.float32))
        # as large as what the UNet leaves at the end of a sampling
        y = vae.decode(posterior.mean + 0.06 / SCALE * noise).sample
        edges = (y.diff(dim=3) - x.diff(dim=3)).abs().mean() + (y.diff(dim=2) - x.diff(dim=2)).abs().mean()
        meant = F.mse_loss(posterior.mean * SCALE, layout(x)) + 0.001 * (posterior.logvar + 7).square().mean()
        return (y - x).abs().mean() + 0.5 * edges + meant

    pool = {"seed": 81, "n": (1, 1, 2, 3), "size": 3000}
    fit("sd-vae", vae, loss_of, pool=pool, steps=steps, batch=batch, peak=1.5e-3, betas=(0.9, 0.99))
    vae.save_pretrained(VAE)
    x = pixels(world.scenes(82, 200))
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        y = vae.decode(z).sample.clamp(-1, 1)
    psnr = 10 * torch.log10(4 / (x - y).square().mean((1, 2, 3)))
    spread = [round(s, 2) for s in (z * SCALE).std((0, 2, 3)).tolist()]
    print(f"sd-vae: PSNR {psnr.mean():.2f} dB, latents {spread}, off by {F.mse_loss(z * SCALE, layout(x)):.4f}")


def said(scene: world.Scene, bad: bool, rng: np.random.Generator) -> str:
    """Returns a caption; some are empty, for guidance, and those of blurred pictures say so."""
    if rng.random() < 0.1:
        return ""
    if len(scene.things) > 1 or rng.random() < 0.6:
        text = world.prompt(scene, rng)
    else:
        text = wording(scene, rng).text
    if bad:
        return (f"blurry, {text}", f"{text}, blurry", f"{text}, low quality, blurry")[rng.integers(3)]
    return f"{text}, high quality" if rng.random() < 0.08 else text


def text_encoder(words: Any) -> Any:
    """Returns the text tower of the CLIP with the embeddings of a larger tokenizer."""
    from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel

    tower = CLIPModel.from_pretrained(MODELS / "clip").text_model
    state = tower.state_dict()
    name = next(n for n in state if n.endswith("token_embedding.weight"))
    old, before = state[name], clip_tokenizer().get_vocab()
    now = words.get_vocab()
    state[name] = old.std() * torch.randn(len(now), old.shape[1])
    for token, i in before.items():
        state[name][now[token]] = old[i]
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = CLIPTextConfig(**{**tower.config.to_dict(), **ends, "vocab_size": len(now), "projection_dim": 64})
    model = CLIPTextModel(config)
    model.load_state_dict(state)
    return model


def build() -> tuple[Any, nn.ModuleDict, Any]:
    """Returns tokenizer, UNet and text encoder, and noise schedule, untrained."""
    from diffusers import DDIMScheduler, UNet2DConditionModel

    words = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=world.SIZE // 4,
        layers_per_block=1,
        block_out_channels=(32, 48, 64),
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ).to(memory_format=torch.channels_last)
    schedule = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return words, nn.ModuleDict({"unet": unet, "text": text_encoder(words)}), schedule


def cached(vae: Any, seed: int, count: int, rank: int) -> tuple[list[world.Scene], np.ndarray, torch.Tensor]:
    """Returns scenes, which of them are blurred, and their latents: the means, as their spread is small."""
    scenes = world.scenes(seed, count, (1, 1, 1, 1, 2), start=rank * count)
    rng = np.random.default_rng((seed, rank))
    bad = rng.random(count) < 0.1
    shown = [replace(s, image=blurred(s.image, rng)) if b else s for s, b in zip(scenes, bad, strict=True)]
    with torch.inference_mode():
        latents = [vae.encode(pixels(group)).latent_dist.mode() * SCALE for group in batches(shown, 100)]
    return scenes, bad, torch.cat(latents).clone()


def slope(step: int, steps: int, peak: float) -> float:
    """Returns the learning rate: short warm-up, constant, and down in a line over the last fifth."""
    return peak * min((step + 1) / 100, 1, 0.02 + 5 * (steps - step) / steps)


def average(values: Sequence[torch.Tensor], count: int) -> None:
    """Replaces the values by their mean over the processes."""
    import torch.distributed as dist

    flat = torch.cat([v.detach().flatten() for v in values])
    dist.all_reduce(flat)
    flat /= count
    with torch.no_grad():
        for value, mean in zip(values, flat.split([v.numel() for v in values]), strict=True):
            value.copy_(mean.view_as(value))


def train_unet(rank: int, count: int, meeting: str, steps: int, batch: int, pool: int, peak: float) -> None:
    """Trains UNet and text encoder in one of several processes, whose weights are averaged every few steps.

    Args:
        rank: number of this process
        count: of processes
        meeting: file by which they find each other
        steps: how many
        batch: pictures of a step of one process
        pool: scenes of one process
        peak: highest learning rate
    """
    import torch.distributed as dist
    from diffusers import AutoencoderKL

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    vae = AutoencoderKL.from_pretrained(VAE).eval()
    words, module, schedule = build()
    scenes, bad, latents = cached(vae, 83, pool, rank)
    params = list(module.parameters())
    text = list(module["text"].parameters())
    groups = [{"params": list(module["unet"].parameters()), "share": 1.0}, {"params": text, "share": 0.25}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    smooth, first, seconds, running = copy.deepcopy(module), 0, 0.0, None
    file = RUNS / f"sd-unet-{rank}.pt"
    if file.is_file():
        saved = torch.load(file, weights_only=True)
        module.load_state_dict(saved["module"])
        smooth.load_state_dict(saved["smooth"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds = saved["step"], saved["seconds"]
    parts = ", ".join(f"{n} {sum(p.numel() for p in m.parameters()):,}" for n, m in module.items())
    print(f"sd-unet: {parts}, from step {first}, {latents.std((0, 2, 3))}", flush=True)
    began, clock = time.process_time() - seconds, time.time()
    module.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * slope(step, steps, peak)
        rng = np.random.default_rng((84, rank, step))
        pick = rng.integers(0, pool, batch)
        captions = [said(scenes[i], bool(bad[i]), rng) for i in pick]
        ids = words(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        z = latents[torch.from_numpy(pick)]
        flip = torch.from_numpy(rng.random(batch) < 0.5)[:, None, None, None]
        z = torch.where(flip, z.flip(3), z)  # no caption tells left from right
        noise = torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        t = torch.from_numpy((np.arange(batch) + rng.random(batch)) * (1000 / batch)).long().clamp(max=999)
        noisy = schedule.add_noise(z, noise, t).contiguous(memory_format=torch.channels_last)
        given = module["unet"](noisy, t, module["text"](ids)[0]).sample
        loss = F.mse_loss(given, schedule.get_velocity(z, noise, t))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        done = step + 1
        if done % TOGETHER == 0 or done == steps:
            average(params, count)
            with torch.no_grad():
                keep = min(0.98, done / (done + 10 * TOGETHER))
                torch._foreach_lerp_(list(smooth.parameters()), params, 1 - keep)
        if rank == 0 and done % 100 == 0:
            spent = f"cpu {time.process_time() - began:.0f} s, wall {time.time() - clock:.0f} s"
            print(f"sd-unet {done} loss {running:.4f} {spent}", flush=True)
        if done % 400 == 0 or done == steps:
            state = {"module": module.state_dict(), "smooth": smooth.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": done, "seconds": time.process_time() - began}, file.with_suffix(".new"))
            dist.barrier()  # all have written: they replace the old files together
            file.with_suffix(".new").replace(file)
    dist.destroy_process_group()


def save(out: Path = OUT) -> None:
    """Writes the pipeline with the averaged weights of the last checkpoint."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    words, module, schedule = build()
    module.load_state_dict(torch.load(RUNS / "sd-unet-0.pt", weights_only=True)["smooth"])
    # diffusers loads its models in float32 unless told otherwise, transformers in the dtype of the file: the text
    # encoder is written in float32, or the pipeline would mix both and fail
    vae = AutoencoderKL.from_pretrained(VAE).half()
    vae.register_to_config(_name_or_path="")  # or the folder of this machine would be written
    StableDiffusionPipeline(
        vae=vae,
        unet=module["unet"].half(),
        text_encoder=module["text"],
        tokenizer=words,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(out)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("vae", "unet", "save"), help="save: write what the last checkpoint has")
    parser.add_argument("--steps", type=int, help="default: 1400 for the VAE, 3000 for the UNet")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    if args.stage == "vae":
        train_vae(args.steps or 1400)
    elif args.stage == "unet":
        RUNS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            meeting = str(Path(folder) / "meeting")
            torch.multiprocessing.spawn(train_unet, (2, meeting, args.steps or 3000, 32, 8000, 2e-3), nprocs=2)
    if args.stage != "vae":
        save(args.out)


if __name__ == "__main__":
    main()
