"""The shell: exit codes, help and messages, as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fiftyone_idsynth as ids
from tests.zoo.common import MODELS


@pytest.fixture
def idsynth() -> Any:
    """Runs ``idsynth`` in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fiftyone_idsynth.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return run


def test_help_lists_every_stage_and_every_option(idsynth: Any) -> None:
    shown = idsynth("--help")
    assert shown.returncode == 0
    for stage in ids.stages().values():
        assert stage.command in shown.stdout
    detail = idsynth("score-quality", "--help").stdout
    for parameter in ids.stages()["score_quality"].parameters:
        assert parameter == "progress" or "--" + parameter.replace("_", "-") in detail
    assert "[default: detection]" in detail
    assert "ingest" in idsynth("stages").stdout


def test_a_stage_from_the_shell(idsynth: Any, dataset: Any, photos: Path) -> None:
    shown = idsynth("ingest", dataset.name, photos / "backgrounds", "--tags", "a,b", "--class-field", "classification")
    assert shown.returncode == 0, shown.stderr
    assert "added: 19" in shown.stdout
    assert "rejected, truncated: 1" in shown.stdout
    dataset.reload()
    assert len(dataset.match_tags(["a", "b"], all=True)) == 19
    shown = idsynth("score-quality", f"{dataset.name}#a", "--task", "generation", "--quiet")
    assert shown.returncode == 0, shown.stderr
    assert "mean_score" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scor-quality", "x"], 2, "did you mean 'score-quality'"),
        (["score-quality", "no-such-dataset"], 2, "there is no dataset 'no-such-dataset'"),
        (["score-quality", "{dataset}"], 2, "has no samples"),
        (["score-quality", "{dataset}", "--task", "detektion"], 2, "did you mean 'detection'"),
        (["score-quality", "{dataset}", "--metrics", "nique"], 2, "nique"),
        (["deduplicate", "{dataset}", "--threshold", "99"], 2, "must be between 0 and 16"),
        (["deduplicate", "{dataset}", "--thresholt", "9"], 2, "--thresholt"),
        (["ingest", "{dataset}", "/nowhere"], 2, "neither a folder or file"),
        (["run", "/nowhere.yaml"], 2, "cannot read the recipe"),
        (["export", "{dataset}"], 2, "PATH"),
    ],
)
def test_wrong_input_is_one_clear_error(
    dataset: Any, arguments: list, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from fiftyone_idsynth.cli import entry

    monkeypatch.setattr(sys, "argv", ["idsynth", *(a.format(dataset=dataset.name) for a in arguments)])
    with pytest.raises(SystemExit) as stopped:
        entry()
    shown = capsys.readouterr()
    assert stopped.value.code == code, shown.err
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert dataset.list_runs() == []


def test_a_recipe_runs_and_the_second_run_does_nothing(
    idsynth: Any, dataset: Any, photos: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"dataset: {dataset.name}\nstages:\n"
        f"  - ingest: {{path: {photos / 'backgrounds'}}}\n"
        "  - score_quality: {task: detection}\n  - deduplicate\n  - split: {seed: 1}\n"
    )
    assert "is valid" in idsynth("run", recipe, "--check").stdout
    first = idsynth("run", recipe, "--quiet")
    assert first.returncode == 0, first.stderr
    dataset.reload()
    after = dataset.values(["filepath", "tags", "quality.score", "dhash", "last_modified_at"])
    runs = {key: dataset.get_run_info(key).config.serialize() for key in dataset.list_runs()}
    assert set(runs) == {"ingest", "score_quality", "deduplicate", "split"}
    second = idsynth("run", recipe, "--quiet")
    assert second.returncode == 0, second.stderr
    dataset.reload()
    assert dataset.values(["filepath", "tags", "quality.score", "dhash", "last_modified_at"]) == after
    recipe.write_text(recipe.read_text() + "  - score_quality: {label_field: boxes}\n")
    third = idsynth("run", recipe, "--quiet")
    assert third.returncode == 2
    assert f"{recipe}:7: score_quality: label_field='boxes': there is no such sample field" in third.stderr


def test_a_folder_that_cannot_be_written_fails_with_exit_code_1(
    idsynth: Any, dataset: Any, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    ids.ingest(dataset, photos / "distractors", class_field="classification")
    shown = idsynth("export", dataset.name, tmp_path / "file" / "out", "--format", "classification")
    assert shown.returncode == 1, shown.stderr
    assert "choose another folder" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_doctor_finds_nothing_broken_here(idsynth: Any) -> None:
    shown = idsynth("doctor")
    assert shown.returncode == 0, shown.stdout
    assert "ok       FiftyOne: 1." in shown.stdout
    assert "ok       database: answers" in shown.stdout
    assert "ok       torch and torchvision: " in shown.stdout


def test_the_plugin_link(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from fiftyone_idsynth.cli import entry
    from fiftyone_idsynth.plugin import install_plugin, installed

    monkeypatch.setattr(sys, "argv", ["idsynth", "install-plugin"])
    entry()
    assert "press `" in capsys.readouterr().out
    assert installed() is not None
    assert install_plugin().is_symlink(), "doing it again is fine"
    target = install_plugin(copy=True)
    assert not target.is_symlink()
    assert (target / "operators" / "form.py").is_file()
    assert install_plugin().is_symlink()
    target.unlink()
    target.mkdir()
    (target / "mine.txt").write_text("something else")
    with pytest.raises(SystemExit) as stopped:
        entry()
    assert stopped.value.code == 2
    assert "is not this plugin" in capsys.readouterr().err
    (target / "mine.txt").unlink()
    target.rmdir()


def test_doctor_says_what_to_do_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_idsynth import doctor

    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    monkeypatch.setattr(doctor, "mongod_path", lambda: None)
    finding = doctor._mongod()
    assert finding.state == "broken"
    assert "embedded-db" in finding.remedy
    assert "FIFTYONE_DATABASE_URI" in finding.remedy


def test_a_plan_from_the_shell_runs_nothing(idsynth: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    models = ("--matcher", MODELS / "clip", "--detector", MODELS / "clipseg")
    shown = idsynth(
        "build", "a plan only", "--topic", "red circle", "--sources", "wikimedia", *models, "--path", tmp_path / "out",
        "--options", "detect.threshold=0.4", "--dry-run",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "red circle" in shown.stdout
    assert "threshold: 0.4" in shown.stdout
    assert not fo.dataset_exists("a plan only")
    assert not (tmp_path / "out").exists()
    wrong = idsynth("build", "a plan only", "--task", "detektion", "--dry-run")
    assert wrong.returncode == 2
    assert "did you mean 'detection'" in wrong.stderr
