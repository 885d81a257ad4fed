"""The learning loop, with an oracle in place of people."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_idsynth as ids
from fiftyone_idsynth.errors import EmptyViewError, FieldError, ParameterError
from fiftyone_idsynth.learning.looping.rounds import read_rounds

TESTS = 200


@pytest.fixture
def digits(dataset: Any) -> Any:
    """600 handwritten digits as embeddings, a third of them to test with; nobody has labelled any."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[:600]
    dataset.add_samples(
        [
            fo.Sample(
                filepath=f"/nowhere/digit-{number:03}.png",
                embedding=(images[row] / 16).astype(np.float32),
                truth=fo.Classification(label=str(classes[row])),
                tags=["test"] if number < TESTS else [],
            )
            for number, row in enumerate(order)
        ],
        progress=False,
    )
    return dataset


def learn(digits: Any, folder: Path, **more: Any) -> Any:
    wishes = {"count": 20, "oracle_field": "truth", "compare": False, "budget": 80, "progress": False, **more}
    return ids.learn(digits, path=folder / "models", **wishes)


def test_the_loop_learns_and_records_every_round(digits: Any, tmp_path: Path) -> None:
    report = learn(digits, tmp_path)
    rounds = read_rounds(digits, "ground_truth")["mixed"]
    assert [one.labels for one in rounds] == [20, 40, 60, 80]
    assert "the budget is spent" in report.outputs["stopped"]
    assert rounds[-1].quality > rounds[0].quality + 0.1
    assert rounds[-1].quality > 0.8
    labelled = digits.match_tags("labelled").match_tags("test", bool=False)
    assert labelled.count() == 80
    assert digits.match_tags("test").exists("ground_truth").count() == TESTS
    assert digits.match_tags("test", bool=False).exists("ground_truth").count() == 80
    assert labelled.values("ground_truth.label") == labelled.values("truth.label")
    assert digits.count_values("learning_round") == {None: 520, 0: 20, 1: 20, 2: 20, 3: 20}
    test = digits.match_tags("test")
    said, true = test.values(["classification.label", "truth.label"])
    assert rounds[-1].quality == pytest.approx(np.mean(np.equal(said, true)))
    assert rounds[-1].lower < rounds[-1].quality
    assert rounds[0].kappa is None
    assert all(0 < one.kappa <= 1 for one in rounds[1:])
    best = max(rounds, key=lambda one: one.quality)
    assert (Path(report.outputs["best model"]) / "model.safetensors").exists()
    assert sorted(p.parent.parent.name for p in (tmp_path / "models").rglob("model.safetensors")) == sorted(
        {f"round-{n:03}" for n in (best.number, 3)}
    )
    assert (tmp_path / "models" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_does_nothing_and_a_larger_budget_goes_on(digits: Any, tmp_path: Path) -> None:
    learn(digits, tmp_path)
    before = digits.values("last_modified_at")
    again = learn(digits, tmp_path)
    assert (again.processed, again.skipped) == (0, 4)
    assert digits.values("last_modified_at") == before
    more = learn(digits, tmp_path, budget=110)
    assert (more.processed, more.skipped) == (2, 4)
    assert [one.labels for one in read_rounds(digits, "ground_truth")["mixed"]] == [20, 40, 60, 80, 100, 110]


def test_the_same_seed_asks_about_the_same_images_and_another_about_others(digits: Any, tmp_path: Path) -> None:
    picked = []
    for number, seed in enumerate((51, 51, 52)):
        copy = digits.clone()
        learn(copy, tmp_path / str(number), seed=seed)
        picked.append(dict(zip(copy.values("filepath"), copy.values("learning_round"), strict=True)))
        copy.delete()
    assert picked[0] == picked[1]
    assert picked[0] != picked[2]


def test_random_choice_is_measured_beside_it_on_a_copy(digits: Any, tmp_path: Path) -> None:
    names = set(fo.list_datasets())
    report = learn(digits, tmp_path, compare=True)
    rounds = read_rounds(digits, "ground_truth")
    assert [one.labels for one in rounds["random"]] == [one.labels for one in rounds["mixed"]]
    assert rounds["random"][0].quality == rounds["mixed"][0].quality  # both begin with the same images
    assert report.outputs["random choice"]["labels"] == 80
    (chart,) = report.charts
    assert {line["name"]: line["x"] for line in chart["data"]} == {name: [20, 40, 60, 80] for name in rounds}
    assert digits.match_tags("test", bool=False).exists("ground_truth").count() == 80
    assert set(fo.list_datasets()) == names
    assert not (tmp_path / "models" / "random").exists()


def test_labels_that_are_there_are_used_first(digits: Any, tmp_path: Path) -> None:
    pool = digits.match_tags("test", bool=False)
    for sample in pool.limit(60):
        sample["ground_truth"] = sample.truth.copy()
        sample.save()
    learn(digits, tmp_path)
    assert [one.labels for one in read_rounds(digits, "ground_truth")["mixed"]] == [60, 80]


def test_wrong_answers_are_given_as_often_as_asked(digits: Any, tmp_path: Path) -> None:
    learn(digits, tmp_path, oracle_error=0.3, budget=200, count=200)
    its = digits.exists("ground_truth")
    said, true = its.values(["ground_truth.label", "truth.label"])
    assert 0.2 < np.mean(np.not_equal(said, true)) < 0.4


def test_a_target_that_is_reached_stops_it(digits: Any, tmp_path: Path) -> None:
    report = learn(digits, tmp_path, target=0.7, budget=None)
    rounds = read_rounds(digits, "ground_truth")["mixed"]
    assert "the target is reached" in report.outputs["stopped"]
    assert rounds[-1].lower >= 0.7
    assert all(one.lower < 0.7 for one in rounds[:-1])


def test_it_ends_when_no_images_are_left(digits: Any, tmp_path: Path) -> None:
    view = digits.limit(TESTS + 30)
    report = learn(view, tmp_path, budget=None)
    assert "no images are left" in report.outputs["stopped"]
    assert read_rounds(digits, "ground_truth")["mixed"][-1].labels == 30


def _run(name: str, folder: Path) -> None:
    learn(fo.load_dataset(name), folder, budget=160)


def test_a_killed_loop_goes_on_as_if_nothing_had_happened(digits: Any, tmp_path: Path) -> None:
    copy = digits.clone()
    learn(copy, tmp_path / "whole", budget=160)
    digits.persistent = True
    started = multiprocessing.get_context("spawn")
    for wait in (2, 4):
        process = started.Process(target=_run, args=(digits.name, tmp_path / "killed"))
        process.start()
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            digits.reload()
            if len(read_rounds(digits, "ground_truth").get("mixed", [])) >= wait:
                os.kill(process.pid or 0, signal.SIGKILL)
                break
            time.sleep(0.05)
        process.join()
    digits.reload()
    learn(digits, tmp_path / "killed", budget=160)
    whole, killed = read_rounds(copy, "ground_truth")["mixed"], read_rounds(digits, "ground_truth")["mixed"]
    assert [(one.labels, one.quality, one.kappa) for one in killed] == [
        (one.labels, one.quality, one.kappa) for one in whole
    ]
    assert digits.values("learning_round") == copy.values("learning_round")
    copy.delete()


def test_what_is_wrong_is_said_before_anything_is_asked(digits: Any, tmp_path: Path) -> None:
    with pytest.raises(EmptyViewError, match="idsynth split"):
        learn(digits.match_tags("test", bool=False), tmp_path)
    with pytest.raises(ParameterError, match="299 are|takes 299"):
        learn(digits, tmp_path, target=0.99)
    with pytest.raises(ParameterError, match="masks"):
        learn(digits, tmp_path, task="segmentation")
    with pytest.raises(ParameterError, match="not of train"):
        learn(digits, tmp_path, options={"train.model": "other"})
    with pytest.raises(ParameterError, match="did you mean"):
        learn(digits, tmp_path, options={"trian.penalty": "2"})
    with pytest.raises(ParameterError, match="name another answers_field"):
        learn(digits, tmp_path, answers_field="truth")
    with pytest.raises(FieldError, match="holds no labels|filepath"):
        learn(digits, tmp_path, oracle_field="filepath")
    assert digits.get_field("ground_truth") is None
    assert not (tmp_path / "models").exists()
