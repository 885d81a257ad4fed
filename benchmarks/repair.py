"""Known defects in clean photographs: how well they are found, beside cleanvision, and what ``enhance`` makes of them.

    python benchmarks/repair.py [--data ../shared/data] [--photos 60] [--seed 7] [--json FILE]

Photographs of flowers5 and coco128 get a defect of a known size, are written to files and read again. Detection: the
area under the ROC curve of each measure, degraded photographs against the same ones as they were, whatever else is
wrong with them; cleanvision's scores for the same files, where it has one for the defect. Repair: photographs in which
``score_quality`` finds no issue, so that they can serve as the truth; PSNR in dB and SSIM against it, before and after
the repairs that the stage ``enhance`` makes and keeps on its own. A picture that it does not keep counts as unchanged.

cleanvision is optional: ``pip install 'fiftyone-idsynth[bench]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fiftyone_idsynth.enhancement.mending import mend
from fiftyone_idsynth.measures.defects import measure
from fiftyone_idsynth.measures.rating import MEASURES, Standard, judge
from fiftyone_idsynth.media import decode_image, encode_image

Pixels = np.ndarray
MIN_FIDELITY = 0.75
"""The default of ``enhance``."""


@dataclass(frozen=True)
class Defect:
    """A defect of a known size.

    Attributes:
        name: what it is
        level: its size, as it is shown
        measure: the measure that is to find it
        peer: cleanvision's name for it, if it has one
        size: its size as the measure gives it, if that is known
        make: puts it into a picture
        quality: of the JPEG file that it is written to; PNG by default
    """

    name: str
    level: str
    measure: str
    peer: str | None
    size: float | None
    make: Callable[[Pixels], Pixels]
    quality: int | None = None

    def file(self, pixels: Pixels) -> bytes:
        """The content of a file of the degraded picture."""
        return encode_image(self.make(pixels), ".jpg" if self.quality else ".png", self.quality or 95)


@dataclass
class Row:
    """What was found for one defect."""

    defect: str
    level: str
    measure: str
    auc: float
    peer_auc: float | None
    estimate: float | None = None
    within_tenth: float | None = None
    exact: float | None = None
    psnr_before: float = 0.0
    psnr_after: float = 0.0
    ssim_before: float = 0.0
    ssim_after: float = 0.0
    worst: float = 0.0
    kept: float = 0.0


def _rounded(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blurred(sigma: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma)


def _noisy(sigma: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: _rounded(pixels + np.random.default_rng(1).normal(0, sigma, pixels.shape))


def _salted(share: float) -> Callable[[Pixels], Pixels]:
    def make(pixels: Pixels) -> Pixels:
        drawn, made = np.random.default_rng(2).random(pixels.shape[:2]), pixels.copy()
        made[drawn < share / 2], made[drawn > 1 - share / 2] = 0, 255
        return made

    return make


def _lit(*gains: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: _rounded(pixels * np.array(gains))


def _faded(contrast: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: _rounded((pixels - 128.0) * contrast + 128)


def _same(pixels: Pixels) -> Pixels:
    return pixels


DEFECTS = (
    *(Defect("blur", f"sigma {s}", "blur", "blurry", None, _blurred(s)) for s in (1, 2, 3, 4)),
    *(Defect("noise", f"sigma {s}", "noise", None, s, _noisy(s)) for s in (5, 10, 20, 40)),
    *(Defect("impulse noise", f"{s} %", "impulse_noise", None, None, _salted(s / 100)) for s in (1, 5, 10)),
    *(Defect("JPEG", f"quality {q}", "jpeg_quality", None, q, _same, q) for q in (5, 10, 20, 30, 50)),
    *(Defect("exposure", f"x {g}", "underexposure", "dark", None, _lit(g)) for g in (0.3, 0.5)),
    *(Defect("exposure", f"x {g}", "overexposure", "light", None, _lit(g)) for g in (2, 3)),
    Defect("colour cast", "warm", "color_cast", None, None, _lit(1.3, 1, 0.7)),
    Defect("colour cast", "cold", "color_cast", None, None, _lit(0.6, 0.8, 1.2)),
    Defect("colour cast", "strong", "color_cast", None, None, _lit(1.4, 1, 0.5)),
    *(Defect("contrast", f"x {c}", "contrast", "low_information", None, _faded(c)) for c in (0.5, 0.3)),
)

STANDARD = Standard(MEASURES)


def read_photos(data: Path, count: int, seed: int = 7) -> list[Pixels]:
    """Photographs of both collections, the same for the same seed.

    Args:
        data: the folder with flowers5 and coco128
        count: how many
        seed (7): of the choice
    """
    chosen: list[Path] = []
    for pattern in ("flowers5/*/*.jpg", "coco128/images/**/*.jpg"):
        found = sorted(data.glob(pattern))
        chosen += random.Random(seed).sample(found, min(len(found), count // 2))
    return [decode_image(path.read_bytes()).pixels for path in chosen]


def is_clean(pixels: Pixels) -> bool:
    """Whether no issue is found in a photograph."""
    return not judge(measure(pixels), STANDARD).issues


def measured(files: Sequence[bytes]) -> list[dict[str, float | None]]:
    """The measures of image files."""

    def one(content: bytes) -> dict[str, float | None]:
        image = decode_image(content)
        return measure(image.pixels, quantization=image.quantization)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, files))


def roc_auc(good: Sequence[float], bad: Sequence[float], *, more_is_worse: bool) -> float:
    """The area under the ROC curve: the probability that a bad one is told from a good one."""
    from sklearn.metrics import roc_auc_score

    sign = 1 if more_is_worse else -1
    return float(roc_auc_score([0] * len(good) + [1] * len(bad), [sign * value for value in (*good, *bad)]))


def peer_scores(files: Sequence[bytes]) -> dict[str, list[float]]:
    """cleanvision's scores of image files, 0 (worst) to 1, by its name for the issue; empty if it is not installed."""
    if importlib.util.find_spec("cleanvision") is None:
        return {}
    from cleanvision import Imagelab

    names = ("blurry", "dark", "light", "low_information")
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        for number, content in enumerate(files):
            ending = "jpg" if content[:2] == b"\xff\xd8" else "png"
            Path(folder, f"{number:05}.{ending}").write_bytes(content)
        lab = Imagelab(data_path=folder)
        lab.find_issues({name: {} for name in names}, n_jobs=1, verbose=False)
        found = lab.issues.sort_index()
    return {name: [float(value) for value in found[f"{name}_score"]] for name in names}


def detect(defect: Defect, photos: Sequence[Pixels], of_clean: Any, peer_clean: dict[str, list[float]]) -> Row:
    """How well a defect is told from none."""
    files = [defect.file(pixels) for pixels in photos]
    found = measured(files)
    how = MEASURES[defect.measure]
    values, clean = ([float(one[defect.measure] or 0) for one in ones] for ones in (found, of_clean))
    row = Row(
        defect.name, defect.level, defect.measure, roc_auc(clean, values, more_is_worse=how.bad > how.good), None
    )  # fmt: skip
    if defect.peer and peer_clean:
        row.peer_auc = roc_auc(peer_clean[defect.peer], peer_scores(files)[defect.peer], more_is_worse=False)
    if defect.measure == "noise":
        truth = np.hypot(defect.size, clean)  # the noise that was added and what the photo had
        ratio = np.array(values) / truth
        row.estimate, row.within_tenth = float(np.median(values)), float(np.mean(abs(ratio - 1) <= 0.1))
    if defect.quality:
        row.estimate, row.exact = float(np.median(values)), float(np.mean([v == defect.quality for v in values]))
    return row


def repair(defect: Defect, photos: Sequence[Pixels], row: Row) -> None:
    """PSNR and SSIM of photographs before and after repair, written into the row."""
    from skimage.metrics import structural_similarity

    def one(truth: Pixels) -> tuple[float, float, float, float, bool]:
        image = decode_image(defect.file(truth))
        mended = mend(image.pixels, STANDARD, quantization=image.quantization, min_fidelity=MIN_FIDELITY)
        after = mended.pixels if mended.rose else image.pixels
        similar = [structural_similarity(truth, pixels, channel_axis=2) for pixels in (image.pixels, after)]
        return cv2.PSNR(truth, image.pixels), cv2.PSNR(truth, after), *similar, mended.rose

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = np.array(list(pool.map(one, photos)), float)
    means = found.mean(axis=0)
    row.psnr_before, row.psnr_after, row.ssim_before, row.ssim_after, row.kept = map(float, means)
    row.worst = float((found[:, 1] - found[:, 0]).min())


def run(photos: Sequence[Pixels], defects: Sequence[Defect] = DEFECTS, *, peer: bool = True) -> list[Row]:
    """Measures and repairs all defects.

    Args:
        photos: photographs
        defects (DEFECTS): what is done to them
        peer (True): whether cleanvision is measured too, if it is installed
    """
    files = [encode_image(pixels) for pixels in photos]
    of_clean, peer_clean = measured(files), peer_scores(files) if peer else {}
    truths = [pixels for pixels in photos if is_clean(pixels)]
    rows = []
    for defect in defects:
        rows.append(detect(defect, photos, of_clean, peer_clean))
        repair(defect, truths, rows[-1])
        print(f"{defect.name} {defect.level}: {rows[-1].psnr_after - rows[-1].psnr_before:+.2f} dB", file=sys.stderr)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| defect | level | measure | ROC AUC | cleanvision | estimate | PSNR, dB | gain | worst | SSIM | kept |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        peer = "-" if r.peer_auc is None else f"{r.peer_auc:.3f}"
        estimate = "-"
        if r.within_tenth is not None:
            estimate = f"{r.estimate:.1f}, {r.within_tenth:.0%} within 10 %"
        if r.exact is not None:
            estimate = f"{r.estimate:.0f}, {r.exact:.0%} exact"
        lines.append(
            f"| {r.defect} | {r.level} | {r.measure} | {r.auc:.3f} | {peer} | {estimate} "
            f"| {r.psnr_before:.2f} -> {r.psnr_after:.2f} | {r.psnr_after - r.psnr_before:+.2f} | {r.worst:+.2f} "
            f"| {r.ssim_before:.3f} -> {r.ssim_after:.3f} | {r.kept:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photos = read_photos(options.data, options.photos, options.seed)
    if not photos:
        parser.error(f"{options.data} has no photographs (flowers5, coco128): name their folder with --data")
    cv2.setNumThreads(1)
    clean = sum(map(is_clean, photos))
    rows = run(photos)
    print(f"{len(photos)} photographs, {clean} of them without an issue, which are repaired. {platform.machine()}, "
          f"{os.cpu_count()} processors, Python {platform.python_version()}\n")  # fmt: skip
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
