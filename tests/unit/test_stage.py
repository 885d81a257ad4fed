"""From one function and its docstring come the call, the checks, the help and the fingerprint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

import fiftyone_idsynth
from fiftyone_idsynth.errors import ParameterError, UsageError
from fiftyone_idsynth.keys import KEYS
from fiftyone_idsynth.stage import (
    BatchSize,
    Bounds,
    Choices,
    Progress,
    Report,
    Samples,
    fingerprint,
    stage,
    stages,
    storable,
)


@stage(label="Try parameters", group="Test")
def tried(
    samples: Samples,
    *,
    task: Literal["detection", "generation"] = "detection",
    metrics: tuple[str, ...] = ("blur",),
    names: tuple[Annotated[str, Choices(lambda: ["blur", "noise"])], ...] = (),
    threshold: Annotated[float | None, Bounds(0, 1)] = None,
    weights: dict[str, Annotated[float, Bounds(0, 10)]] | None = None,
    batch_size: BatchSize = 16,
    progress: Progress = None,
) -> Report:
    """Tries every type of parameter.

    Nothing else.

    Args:
        task ("detection"): what the images are for,
            over two lines
        threshold (None): a ``number``
    """
    raise AssertionError("never called")


def test_help_comes_from_the_docstring() -> None:
    assert tried.summary == "Tries every type of parameter."
    assert tried.parameters["task"].help == "what the images are for, over two lines"
    assert tried.parameters["threshold"].help == "a number"
    assert tried.command == "tried"


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ({"task": "generation"}, "generation"),
        ({"metrics": "blur, noise"}, ("blur", "noise")),
        ({"metrics": ["blur"]}, ("blur",)),
        ({"threshold": 1}, 1.0),
        ({"threshold": "0.5"}, 0.5),
        ({"threshold": None}, None),
        ({"weights": "blur=2,noise=0.5"}, {"blur": 2.0, "noise": 0.5}),
        ({"names": ["noise"]}, ("noise",)),
        ({"batch_size": "4"}, 4),
    ],
)
def test_values_are_converted(given: dict, parsed: object) -> None:
    assert tried.parse(given)[next(iter(given))] == parsed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "detektion"}, "did you mean 'detection'"),
        ({"threshold": 1.5}, "must be between 0 and 1"),
        ({"threshold": float("nan")}, "must be between 0 and 1"),
        ({"threshold": "high"}, "must be a number between 0 and 1"),
        ({"batch_size": 0}, "must be between 1 and 4096"),
        ({"batch_size": 1.5}, "must be a whole number"),
        ({"metrics": 3}, "must be a list"),
        ({"names": ["blurr"]}, "did you mean 'blur'"),
        ({"weights": {"blur": 11}}, "must be between 0 and 10"),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(given: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        tried.parse(given)
    assert caught.value.parameter in given
    assert caught.value.exit_code == 2


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no parameter 'treshold': did you mean 'threshold'"):
        tried.parse({"treshold": 1})


def test_fingerprint_changes_with_values_and_not_with_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert storable({"a": (1, 2)}) == {"a": [1, 2]}


def test_every_module_with_a_stage_and_every_operator_is_listed() -> None:
    import yaml

    package = Path(fiftyone_idsynth.__file__).parent
    written = re.compile(r"^@stage\(.*?^def (\w+)", re.MULTILINE | re.DOTALL)
    in_files = {name for path in package.glob("*/*.py") for name in written.findall(path.read_text(encoding="utf-8"))}
    assert in_files == set(stages())
    manifest = yaml.safe_load((package.parent / "fiftyone.yml").read_text(encoding="utf-8"))
    assert set(manifest["operators"]) == set(stages()), "FiftyOne drops operators that fiftyone.yml does not list"
    assert set(manifest["secrets"]) == set(KEYS), "FiftyOne gives operators only the secrets that fiftyone.yml lists"
    assert manifest["version"] == fiftyone_idsynth.__version__


def test_requirements_are_those_of_the_project() -> None:
    import tomllib

    root = Path(fiftyone_idsynth.__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("#")] == project["dependencies"]
    assert project["version"] == fiftyone_idsynth.__version__


def test_every_stage_documents_every_parameter_with_its_default() -> None:
    assert {"ingest", "score_quality", "deduplicate", "split", "compose", "export", "restore"} <= set(stages())
    for one in stages().values():
        assert one.summary.endswith("."), one.name
        for name, parameter in one.parameters.items():
            assert parameter.help, f"{one.name}: {name} is not documented"
            if not parameter.required:
                written = one.documented[name][0]
                assert written is not None, f"{one.name}: the default of {name} is not documented"
                assert eval(written) == parameter.default, f"{one.name}: the documented default of {name} is {written}"


def test_importing_the_package_and_listing_stages_loads_nothing_heavy() -> None:
    code = (
        "import sys, fiftyone_idsynth; fiftyone_idsynth.stages(); "
        "heavy = ('torch', 'transformers', 'diffusers', 'cv2', "
        "'fiftyone', 'skimage', 'sklearn', 'pyiqa', 'ray'); print([m for m in heavy if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_importing_the_operators_loads_no_model_library() -> None:
    code = (
        "import sys, fiftyone.operators; before = set(sys.modules); import operators, operators.form; "
        "new = set(sys.modules) - before; "
        "print([m for m in ('torch', 'transformers', 'diffusers', 'cv2', 'ray', 'pyiqa') if m in new])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().splitlines()[-1] == "[]"
