"""Figures of classes, splits, annotators and enhanced images, which need no embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import charts, diversity, labels
from .intervals import bootstrap_mean, wilson
from .measurement import Measurement, Unmeasured


class ContentFigures(Measurement):
    """The figures that need no embeddings; each method adds what it finds."""

    def class_balance(self) -> None:
        """How evenly classes occur, and how far that is from the reference."""
        path = labels.label_path(self.samples, self.settings.label_field, self.reference)
        if path is None:
            raise Unmeasured(
                "class balance", f"there are no labels in {', '.join(labels.DEFAULT_FIELDS)}: name a label_field"
            )
        counts = labels.count_classes(self.samples, path)
        if not counts:
            raise Unmeasured("class balance", f"no image has a label in {path.partition('.')[0]!r}")
        total = sum(counts.values())
        help = "0 to 1 (all classes equally frequent): entropy over that of as many equal classes (Pielou)"
        self.add("class_evenness", "Class evenness", diversity.evenness(counts), None, "higher", help, total)
        help = "Labels of the most frequent class for each one of the rarest"
        self.add("class_imbalance", "Class imbalance", diversity.imbalance(counts), None, "lower", help, total)
        theirs = labels.count_classes(self.reference, path) if self.reference is not None else {}
        if theirs:
            help = "Jensen-Shannon divergence of the class shares, 0 (the same) to 1 (no class shared)"
            value = diversity.class_divergence(counts, theirs)
            self.add("class_divergence", "Class divergence from the reference", value, None, "lower", help, total)
            lacking = [name for name in theirs if name not in counts]
            if lacking:
                self.run.note(f"classes of the reference that the samples lack: {', '.join(lacking[:20])}")
        rows: list[list[Any]] = [
            [name, counts.get(name, 0), counts.get(name, 0) / total, theirs.get(name, 0)]
            for name in {**counts, **theirs}
        ]
        self.tables["Classes"] = (["class", "labels", "share", "labels in the reference"], rows)
        self.charts.append(charts.class_chart(counts, theirs or None, ("samples", "reference")))

    def leakage(self) -> None:
        """Which share of each split has near-duplicates or relatives in another one."""
        from .leakage import find_leaks, read_hashes, split_of

        splits = self.settings.splits
        member = split_of(self.whole.values("tags"), splits)
        present = tuple(name for n, name in enumerate(splits) if (member == n).any())
        if len(present) < 2:
            raise Unmeasured(
                "leakage",
                f"of the tags {', '.join(splits)} the samples have {' and '.join(present) or 'none'}: run split first, "
                "or name two splits at least",
            )
        hashes, failed = read_hashes(self.whole, self.settings.num_workers)
        for what, why in failed:
            self.run.failed(what, why)
        leaks = find_leaks(self.whole, present, self.settings.threshold, hashes)
        first, others = present[0], present[1:]
        size = sum(leaks.sizes[name] for name in others)
        for key, title, counts, help in (
            ("leakage", "Near-duplicates across splits", leaks.near, "a near-duplicate"),
            ("related_leakage", "Relatives across splits", leaks.related, "a relative (parent, copy, same page)"),
        ):
            hits = sum(counts[name, first] for name in others)
            help = f"Share of the images of {', '.join(others)} that have {help} in {first}, 0 to 1"
            self.add(key, title, hits / size, wilson(hits, size), "lower", help, size)
        shares = {pair: n / leaks.sizes[pair[0]] for pair, n in leaks.near.items()}
        self.charts.append(charts.leak_chart(shares, present))
        head = ["images of", "in", "with a near-duplicate", "with a relative"]
        rows: list[list[Any]] = [[a, b, leaks.near[a, b], leaks.related[a, b]] for a, b in leaks.near]
        self.tables["Leaks between splits"] = (head, rows)
        self.tables["Near-duplicates in different splits"] = (["sample", "other"], [[a, b] for a, b in leaks.pairs])

    def label_agreement(self) -> None:
        """How far annotators agree, as ``agree`` finds it."""
        if not self.settings.annotators and not self.whole.has_field("disagreement"):
            raise Unmeasured("label agreement", "name annotators (two label fields), or run agree first")
        values = labels.agreement_of(self.whole, self.settings.annotators)
        if not len(values):
            raise Unmeasured("label agreement", "no image was judged by two annotators")
        ends = bootstrap_mean(values, self.settings.seed)
        help = "1 minus the mean disagreement of annotators (panoptic quality of pairs), 0 to 1"
        self.add("label_agreement", "Label agreement", float(values.mean()), ends, "higher", help, len(values))
        self.charts.append(charts.histogram_chart("Agreement of annotators by image", values.tolist(), "agreement"))

    def enhancement_fidelity(self) -> None:
        """PSNR and SSIM of enhanced images and the images that they were made from."""
        from ...engine import Item, batched, process
        from .fidelity import FidelityWorker, find_pairs

        pairs = find_pairs(self.whole)
        if not pairs:
            raise Unmeasured(
                "PSNR and SSIM", "no sample is an enhanced image (source.kind) with its original in the dataset"
            )
        most = self.settings.max_images
        if len(pairs) > most:
            self.run.note(f"PSNR and SSIM are of {most} of {len(pairs)} pairs, drawn at random")
            chosen = np.random.default_rng(self.settings.seed).choice(len(pairs), most, replace=False)
            pairs = [pairs[n] for n in np.sort(chosen)]

        def items() -> Iterator[Any]:
            for pair in pairs:
                yield Item(pair.id, pair.filepath, {"original": pair.original, "stage": pair.stage})

        found: list[tuple[str, float, float]] = []
        with self.run.progress(len(pairs)) as bar:
            for outcomes in process(FidelityWorker(), batched(items(), 4), num_workers=self.settings.num_workers):
                for outcome in outcomes:
                    if outcome.result is None:
                        self.run.failed(outcome.item.filepath, str(outcome.refused or outcome.error))
                    else:
                        found.append((outcome.item.values["stage"], outcome.result["psnr"], outcome.result["ssim"]))
                bar.update(len(outcomes))
        if not found:
            raise Unmeasured("PSNR and SSIM", "none of the pairs can be compared; see the failures of this run")
        self._add_fidelity(found)

    def _add_fidelity(self, found: Sequence[tuple[str, float, float]]) -> None:
        psnr, ssim = (np.array([row[n] for row in found]) for n in (1, 2))
        finite = psnr[np.isfinite(psnr)]
        if len(finite) < len(psnr):
            self.run.note(f"{len(psnr) - len(finite)} enhanced images equal their originals: they have no PSNR")
        for key, title, values, help in (
            ("psnr", "PSNR to the original, dB", finite, "How little was changed, not whether it got better"),
            ("ssim", "SSIM to the original", ssim, "Structure that was kept, -1 to 1; not whether it got better"),
        ):
            if len(values):
                ends = bootstrap_mean(values, self.settings.seed)
                self.add(key, title, float(values.mean()), ends, "neither", help, len(values))
                chart = charts.histogram_chart(f"{title}, enhanced images", values.tolist(), title)
                self.charts.append(chart)
        rows: list[list[Any]] = []
        for name in sorted({stage for stage, _, _ in found}):
            its = np.array([stage == name for stage, _, _ in found])
            has = its & np.isfinite(psnr)
            mean = float(psnr[has].mean()) if has.any() else "equal"
            rows.append([name, int(its.sum()), mean, float(ssim[its].mean())])
        self.tables["Enhanced images"] = (["made by", "pairs", "mean PSNR, dB", "mean SSIM"], rows)
