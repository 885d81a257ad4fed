"""The demo: a small detection dataset from photographs that are installed with scikit-image and scikit-learn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError, storage_error
from ..stage import Progress, Report

RECIPE = Path(__file__).parent / "recipe.yaml"


def run_demo(
    path: Path, *, dataset: str | None = None, progress: Progress = None, say: Callable[[str], object] = print
) -> list[Report]:
    """Writes photographs and a recipe into a folder and runs the recipe; again, it continues where it stopped.

    Args:
        path: the folder; made if it is missing
        dataset (None): the name of the dataset, instead of the recipe's ``idsynth-demo``
        progress (None): FiftyOne's progress setting
        say (print): is given every line that the user should read

    Returns:
        the stages' reports
    """
    from ..recipe import load_recipe
    from .photos import write_photos

    folder = path.expanduser().absolute()
    recipe = folder / "recipe.yaml"
    if folder.exists() and any(folder.iterdir()) and not recipe.is_file():
        raise UsageError(f"path={str(path)!r} has other files in it: choose another folder with --path")
    try:
        if not recipe.is_file():
            say(f"Writing photographs that come with scikit-image and scikit-learn into {folder / 'photos'}")
            write_photos(folder / "photos")
            shutil.copy(RECIPE, recipe)  # last: a folder with a recipe is complete
    except OSError as error:
        raise storage_error(error, str(folder)) from error

    loaded = load_recipe(recipe, dataset=dataset)
    say(f"Running {recipe}\n")
    reports = []
    for step in loaded.run(progress=progress):
        say(str(step))
        reports.append(step)
    say(_where(loaded.dataset, folder))
    return reports


def _where(dataset: str, folder: Path) -> str:
    from ..plugin import installed

    plugin = "" if installed() else "  idsynth install-plugin                  # once: shows the stages in the App\n"
    return (
        f"\nThe dataset {dataset!r} is in FiftyOne; its exports are in {folder / 'exports'}.\n"
        f"Its recipe, {folder / 'recipe.yaml'}, can be edited and run again with idsynth run.\n"
        f"To look at it:\n{plugin}"
        f"  fiftyone app launch {dataset}\n"
        "In the App, press the backtick key (`) for the stages; the saved view 'rejected' shows what was left out."
    )
