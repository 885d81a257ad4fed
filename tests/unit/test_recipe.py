"""A recipe is checked completely before anything runs; each problem comes with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiftyone_idsynth.errors import RecipeError, UsageError
from fiftyone_idsynth.recipe import load_recipe


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> dict[int, str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text))
    assert str(folder / "recipe.yaml") in str(caught.value)
    return dict(caught.value.problems)


def test_steps_in_order_with_defaults_and_references(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    recipe = load_recipe(
        write(
            tmp_path,
            "dataset: pandas\nstages:\n"
            "  - ingest: {path: photos, tags: [web]}\n"
            "  - score-quality:\n      samples: '#web'\n      task: generation\n"
            "  - deduplicate\n"
            "  - deduplicate:\n"
            "  - split: {samples: other}\n",
        )
    )
    assert [(step.stage.name, step.target, step.line) for step in recipe.steps] == [
        ("ingest", "pandas", 3), ("score_quality", "pandas#web", 4), ("deduplicate", "pandas", 7),
        ("deduplicate", "pandas", 8), ("split", "other", 9),
    ]  # fmt: skip
    assert recipe.steps[0].params["path"] == str(tmp_path / "photos")
    assert load_recipe(tmp_path / "recipe.yaml", dataset="bears").steps[1].target == "bears#web"


def test_every_problem_is_listed_with_line_key_value_and_what_is_allowed(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "datset: pandas\n"
        "stages:\n"
        "  - ingest: {path: nowhere}\n"
        "  - ingst: {}\n"
        "  - deduplicate: {treshold: 3}\n"
        "  - deduplicate:\n"
        "      threshold: many\n"
        "  - score_quality: {task: detektion}\n"
        "  - export: {format: yolo}\n"
        "  - [split]\n",
    )
    assert "unknown key 'datset': did you mean 'dataset'" in found[1]
    assert "nowhere" in found[3]
    assert "no stage 'ingst': did you mean 'ingest'" in found[4]
    assert "no parameter 'treshold': did you mean 'threshold'" in found[5]
    assert found[7].startswith("deduplicate.threshold='many': must be a whole number between 0 and 16")
    assert "score_quality.task='detektion'" in found[8]
    assert "did you mean 'detection'" in found[8]
    assert "export needs 'path'" in found[9]
    assert "a step is one stage" in found[10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "a mapping with the keys"),
        ("dataset: d\n", "stages: a list is needed"),
        ("dataset: d\nstages: []\n", "stages: a list is needed"),
        ("dataset: [1]\nstages: [deduplicate]\n", "is no name"),
        ("dataset: d\nstages:\n  - split: 3\n", "'key: value' pairs"),
        ("dataset: d\nstages: [\n", "not valid YAML"),
        ("dataset: d\ndataset: e\nstages: [split]\n", "not valid YAML"),
    ],
)
def test_wrong_shapes(tmp_path: Path, text: str, message: str) -> None:
    assert any(message in problem for problem in problems(tmp_path, text).values())


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a UTF-8 text file"):
        load_recipe(tmp_path / "binary.yaml")
