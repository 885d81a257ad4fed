"""What the training scripts of the zoo share: tokenizers, pictures, attributes, and a loop that can be resumed."""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import cv2
import numpy as np
import torch
from torch import nn

from tests.zoo import shapes_world as world

#: Where the weights are.
MODELS = Path(__file__).resolve().parent / "models"
#: Where unfinished trainings are kept.
RUNS = Path(os.environ.get("IDSYNTH_ZOO_RUNS", Path(__file__).resolve().parents[2] / "build" / "zoo"))
#: Tokens of a text for CLIP; the longest caption has 23.
CLIP_LENGTH = 32
#: Values of the attributes that a shape has, in the order of :func:`patch_attributes`.
VALUES: dict[str, list[str]] = {
    "colour": list(world.COLOURS),
    "shape": list(world.SHAPES),
    "size": list(world.SIZES),
}


def clip_tokenizer(max_length: int = CLIP_LENGTH) -> Any:
    """Returns a ``CLIPTokenizer`` (byte-level BPE) whose merges make one token of every word of the world.

    Any other text is encoded byte by byte. ``<|endoftext|>`` has the highest id, as the pooling of CLIP requires.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.train_from_iterator(
        [w for w in world.WORDS for _ in range(8)],
        trainers.BpeTrainer(vocab_size=4000, min_frequency=2, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = [tuple(m) for m in json.loads(raw.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges)]
    vocab: dict[str, int] = {}
    for token in [*tokens, "<|startoftext|>", "<|endoftext|>"]:
        vocab.setdefault(token, len(vocab))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)
    for word in world.WORDS:  # a word in pieces would still be learnt, but much more slowly
        assert len(tokenizer(word).input_ids) == 3, (word, tokenizer.tokenize(word))
    assert tokenizer.eos_token_id == len(vocab) - 1
    return tokenizer


def bert_tokenizer(max_length: int = 32) -> Any:
    """Returns a ``BertTokenizer`` (word pieces) with the special tokens that BLIP adds."""
    from transformers import BertTokenizer

    vocab: dict[str, int] = {}
    for token in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", ".", ",", "?"]:
        vocab[token] = len(vocab)
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789":
        vocab.setdefault(letter, len(vocab))
        vocab.setdefault("##" + letter, len(vocab))
    for word in world.WORDS:
        vocab.setdefault(word, len(vocab))
    tokenizer = BertTokenizer(vocab=vocab, model_max_length=max_length)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})  # so that decoding with skip_special_tokens drops it
    return tokenizer


class Pool:
    """A window of scenes that moves on through an endless series, so that hardly a picture is learnt by heart.

    Args:
        seed: number of the series
        n: number of shapes, or the choices for it
        size (8000): scenes in the window
        fresh (16): new scenes for each step
        start (0): step at which the training begins or is resumed
    """

    def __init__(self, seed: int, n: Sequence[int], size: int = 8000, fresh: int = 16, start: int = 0) -> None:
        self.seed, self.n, self.fresh = seed, n, fresh
        self.end = start * fresh + size
        self.window = deque(world.scenes(seed, size, n, start=start * fresh), maxlen=size)

    def draw(self, rng: np.random.Generator, count: int) -> list[world.Scene]:
        """Returns scenes drawn from the window, and moves it on."""
        self.window.extend(world.scenes(self.seed, self.fresh, self.n, start=self.end))
        self.end += self.fresh
        return [self.window[i] for i in rng.integers(0, len(self.window), count)]


def worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture as it may come out of a file: some as JPEG, some a little blurred, most untouched."""
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.8))
    if rng.random() < 0.25:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 98))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def pixels(scenes: Sequence[world.Scene], rng: np.random.Generator | None = None) -> torch.Tensor:
    """Returns the pictures as ``(N, 3, H, W)`` in -1..1, :func:`worn` where a generator is given."""
    batch = np.stack([s.image if rng is None else worn(s.image, rng) for s in scenes])
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1


def patch_attributes(scenes: Sequence[world.Scene], side: int = 8) -> torch.Tensor:
    """Returns what each patch shows.

    Args:
        scenes: pictures
        side (8): of a patch, in pixels

    Returns:
        ``(N, patches, 3)``: number of the colour, shape and size of the shape that covers the patch, 0 for none
    """
    n = world.SIZE // side
    out = np.zeros((len(scenes), n, n, len(VALUES)), np.int64)
    for grid, scene in zip(out, scenes, strict=True):
        for thing in scene.things:
            cover = thing.mask.reshape(n, side, n, side).mean((1, 3))
            grid[cover > 0.25] = [1 + values.index(getattr(thing, name)) for name, values in VALUES.items()]
    return torch.from_numpy(out.reshape(len(scenes), n * n, len(VALUES)))


class AttributeHead(nn.Linear):
    """Names colour, shape and size of each patch from its features; used in training only.

    Without it these small transformers settle on "there is some shape here" and ignore the rest for a long time.
    """

    def __init__(self, width: int) -> None:
        self.sizes = [1 + len(values) for values in VALUES.values()]
        super().__init__(width, sum(self.sizes))

    def loss(self, features: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Returns the cross entropy summed over the attributes."""
        parts = self(features).split(self.sizes, -1)
        losses = [nn.functional.cross_entropy(p.flatten(0, -2), truth[..., j].flatten()) for j, p in enumerate(parts)]
        return torch.stack(losses).sum()


def rate(step: int, steps: int, peak: float, warm: float = 0.04) -> float:
    """Returns the learning rate: linear warm-up, then cosine to 1 % of the peak."""
    share = step / steps
    if share < warm:
        return peak * (share / warm + 0.02)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm))))


def fit(
    name: str,
    module: nn.Module,
    loss_of: Callable[[list[world.Scene], np.random.Generator], torch.Tensor],
    *,
    pool: dict[str, Any],
    steps: int,
    batch: int,
    peak: float,
    betas: tuple[float, float] = (0.9, 0.98),
) -> None:
    """Trains a module for a fixed number of steps with AdamW, and takes up again where an earlier run stopped.

    Step ``k`` is a function of the weights and ``k`` only, so that runs differ by rounding alone.

    Args:
        name: of the run, for its checkpoint and its log lines
        module: everything with weights
        loss_of: maps scenes and a source of chance to a loss
        pool: arguments of :class:`Pool`
        steps: how many
        batch: pictures of a step
        peak: highest learning rate
        betas: of AdamW
    """
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    file = RUNS / f"{name}.pt"
    decay = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=betas)
    first, seconds, average = 0, 0.0, None
    if file.is_file():
        saved = torch.load(file, weights_only=True)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds = saved["step"], saved["seconds"]
    print(f"{name}: {sum(p.numel() for p in module.parameters()):,} parameters, from step {first}", flush=True)
    began = time.process_time() - seconds
    series = Pool(**pool, start=first)
    module.train()
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak)
        rng = np.random.default_rng((pool["seed"], step, 1))
        loss = loss_of(series.draw(rng, batch), rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        done = step + 1
        if done % 100 == 0 or done == steps:
            print(f"{name} {done} loss {average:.4f} cpu {time.process_time() - began:.0f} s", flush=True)
        if done % 250 == 0 or done == steps:
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            torch.save({**state, "seconds": time.process_time() - began}, file.with_suffix(".new"))
            file.with_suffix(".new").replace(file)
    module.eval()


def batches(items: Sequence[Any], size: int = 50) -> list[list[Any]]:
    """Returns the items in lists of at most ``size``."""
    rest = iter(items)
    return list(iter(lambda: list(islice(rest, size)), []))


def megabytes(folder: Path) -> float:
    """Returns the size of the files below a folder in millions of bytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
