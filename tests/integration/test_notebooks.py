"""The notebooks run from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.common import MODELS

FOLDER = Path(__file__).parents[2] / "notebooks"
SAID = {
    "first_dataset": ("score_quality on", "complete"),
    "learning": ("learn on", "random choice", "2 more rounds", "the budget is spent"),
    "generated_images": ("generate on", "restyle on", "outpaint on", "complete"),
}
"""What the outputs of each notebook must say."""


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_notebook(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the extra 'dev'")
    import nbformat

    monkeypatch.setenv("IDSYNTH_MODEL", str(MODELS / "sd"))
    monkeypatch.setenv("IDSYNTH_SUBJECT", "red circle")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    for words in SAID[name]:
        assert words in text
