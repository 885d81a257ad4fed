"""Strategies of scikit-activeml, by name: an optional package.

They are given the probabilities that the model has given, instead of training a classifier of their own. So strategies
that ask the classifier about other samples than those to choose from (``ContrastiveAL``, ``DropQuery``), or several
classifiers (``QueryByCommittee``), are not among them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from .acquisition import Pool


def query(strategy: str, pool: Pool, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Lets scikit-activeml choose samples.

    Args:
        strategy: the name of a class of ``skactiveml.pool``, one of :data:`.acquisition.PEERS`
        pool: see :class:`.acquisition.Pool`
        rows: the samples to choose from
        count: how many
        seed: of its random choices

    Returns:
        the rows that it chose

    Raises:
        MissingExtraError: scikit-activeml is not installed
    """
    require(strategy)
    import skactiveml.pool

    found, covered = pool.embed(rows), pool.covered()
    embeddings = np.concatenate([found, covered.reshape(len(covered), found.shape[1])]).astype(np.float64)
    labels = np.full(len(embeddings), np.nan)
    labels[len(rows) :] = 0  # these strategies look at which samples are labelled, not at how
    settings: dict[str, Any] = {"random_state": seed}
    asked: dict[str, Any] = {"X": embeddings, "y": labels, "candidates": np.arange(len(rows)), "batch_size": count}
    if strategy == "ProbCover":
        settings["n_classes"] = pool.shares(rows[:1]).shape[1]
    elif strategy in ("Badge", "Falcun"):
        asked |= {"clf": _classifier(embeddings[: len(rows)], pool.shares(rows)), "fit_clf": False}
    elif strategy == "Clue":
        asked |= {"estimator": _classifier(embeddings[: len(rows)], pool.shares(rows)), "fit_estimator": False}
    with warnings.catch_warnings(), _seeded(seed):
        warnings.simplefilter("ignore")  # of clusters with too few different samples, and of its own deprecations
        chosen = getattr(skactiveml.pool, strategy)(**settings).query(**asked)
    result: np.ndarray = rows[np.asarray(chosen, int)]
    return result


def require(strategy: str) -> None:
    """Raises :class:`~fiftyone_idsynth.errors.MissingExtraError` unless scikit-activeml is installed."""
    try:
        import skactiveml  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("scikit-activeml", extra="activeml", why=f"strategy={strategy!r}") from error


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's common generator, which some of the strategies draw from whatever their own seed is."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _classifier(embeddings: np.ndarray, shares: np.ndarray) -> Any:
    """A classifier that gives the probabilities that are known of samples, found by their embeddings."""
    from skactiveml.base import SkactivemlClassifier

    known = {row.tobytes(): number for number, row in enumerate(embeddings)}

    class Given(SkactivemlClassifier):  # type: ignore[misc]
        def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Given:
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return shares[[known[np.ascontiguousarray(row).tobytes()] for row in X]]

    given = Given(classes=list(range(shares.shape[1])), random_state=0)
    given.classes_ = np.arange(shares.shape[1])
    return given
