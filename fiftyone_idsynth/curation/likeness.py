"""How well images fit a query by a model that compares images with texts, and by examples that a person marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.worker import Item
from ..errors import ParameterError, RefusedImage
from ..media import read_image
from ..modelling import ModelWorker
from ..models.roles import Matcher

if TYPE_CHECKING:
    from ..models.options import Options

NEGATIVES = (
    "a photo", "a photo of a person", "a photo of people", "a photo of food", "a photo of a building",
    "a photo of a room", "a photo of a street", "a photo of a landscape", "a photo of a vehicle",
    "a photo of a product", "a drawing", "a cartoon", "a logo", "a toy", "a screenshot", "a page of text",
)  # fmt: skip
"""What images that do not fit a query show, unless something more fitting is given."""

NEIGHBOURS = 3
"""How many good examples an image is compared with: the nearest ones."""

LEAST_EXAMPLES = 3

LEAST_SPREAD = 0.01
"""The least standard deviation of cosines."""

TWO_GROUPS = 0.75
"""Share of the variance that lies between the two groups of scores from which on there are two: that of evenly spread
scores, which have no groups, is 0.75."""

UNDECIDED = 0.5

STRANGE = 0.05
"""An image that is less like the good examples than all but this share of their kind counts as irrelevant."""


class LikenessWorker(ModelWorker):
    """Computes how well images fit a query.

    Without examples that is the probability of the query's texts against those of other things. With examples it is
    the mean of that and of the conformity with them (:func:`conformity`), cut at twice :data:`STRANGE` and scaled to 1,
    so that for both 0.5 is where images begin to fit.

    Args:
        model: the model's name
        options: how it is loaded
        topics: texts of the query
        negatives: texts of other things
        examples: image files that a person marked as good
        batch_size: images that the model gets at once
    """

    def __init__(
        self, model: str, options: Options, topics: Sequence[str], negatives: Sequence[str], examples: Sequence[str],
        batch_size: int,
    ):  # fmt: skip
        from ..engine import file_stamp

        key = [list(topics), list(negatives), [file_stamp(path) for path in sorted(examples)]]
        super().__init__(Matcher, model, options, key, batch_size)
        self._topics, self._negatives = list(topics), list(negatives)
        self._examples = self._embedded(sorted(examples)) if examples else None

    def ask(self, pictures: Sequence[np.ndarray], items: Sequence[Item]) -> Sequence[Any]:
        texts = [*self._topics, *self._negatives]
        found = np.stack(self.batches(lambda part: self.model.match(part, texts), pictures))[:, : len(self._topics)]
        scores = found.sum(1) if self.model.exclusive else found.max(1)
        if self._examples is not None:
            embedded = np.stack(self.batches(self.model.embed, pictures))
            fitting = np.minimum(conformity(embedded, self._examples) / (2 * STRANGE), 1)
            scores = (scores + fitting) / 2
        return list(np.clip(scores, 0, 1))

    def values(self, item: Item, answer: Any) -> dict[str, Any]:
        return {"relevance": float(answer)}

    def _embedded(self, paths: Sequence[str]) -> np.ndarray:
        pictures = []
        for path in paths:
            try:
                pictures.append(read_image(path).pixels)
            except RefusedImage as refusal:
                raise ParameterError(
                    "good", path, f"this example cannot be read ({refusal}): mark another one"
                ) from None
        return np.stack(self.batches(self.model.embed, pictures))


def texts_of(phrases: Sequence[str]) -> list[str]:
    """What a picture of something is called."""
    return [text for phrase in phrases for text in (f"a photo of {phrase}", phrase)]


def conformity(embedded: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Says how alike images are to examples, on the scale of how alike these are to each other.

    An image's likeness is its mean cosine with its nearest examples (:data:`NEIGHBOURS`). The result is the probability
    that an image of the examples' kind is at most as alike, which Student's t distribution gives for a further value
    of a normal distribution of which the examples' likeness to each other are a sample. Images of their kind are spread
    evenly over 0 to 1, strange ones are near 0.

    Args:
        embedded: float (images x dimensions), of length 1
        examples: float (examples x dimensions), of length 1; at least :data:`LEAST_EXAMPLES`

    Returns:
        float (images), 0 to 1
    """
    from scipy.stats import t

    among = examples @ examples.T
    np.fill_diagonal(among, -np.inf)
    count = min(NEIGHBOURS, len(examples) - 1)
    own = _nearest(among, count)
    # Examples that are copies of each other must not make everything else strange.
    spread = max(float(own.std(ddof=1)), LEAST_SPREAD) * np.sqrt(1 + 1 / len(own))
    deviation = (_nearest(embedded @ examples.T, count) - own.mean()) / spread
    result: np.ndarray = t.cdf(deviation, df=len(own) - 1)
    return result


def cut(scores: Sequence[float]) -> tuple[float, bool]:
    """Finds the score from which on images fit.

    It is Otsu's threshold (1979), which makes the variance between the scores below and above it as large as
    possible, if the scores form two groups at all (:data:`TWO_GROUPS`); else it is 0.5.

    Args:
        scores: 0 to 1

    Returns:
        the least score of those that fit, and whether there are two groups
    """
    from skimage.filters import threshold_otsu

    values = np.asarray(scores, float)
    if values.size < 2 or np.ptp(values) == 0:
        return UNDECIDED, False
    above = values > threshold_otsu(values)
    share = above.mean()
    between = share * (1 - share) * (values[above].mean() - values[~above].mean()) ** 2
    if between / values.var() < TWO_GROUPS:
        return UNDECIDED, False
    return float(values[above].min()), True


def _nearest(cosines: np.ndarray, count: int) -> np.ndarray:
    """The mean of the ``count`` greatest values of each row."""
    result: np.ndarray = np.sort(cosines, axis=1)[:, -count:].mean(1)
    return result
