"""Figures of distributions against independent implementations and cases that are known."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_idsynth.quality.distribution import distances, diversity, intervals, neighbours
from fiftyone_idsynth.quality.distribution.distances import Moments


def normal(count: int, dimensions: int = 8, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, dimensions)) * scale + shift).astype(np.float32)


# -- distances --------------------------------------------------------------------------------------------------------


def test_moments_that_come_in_parts_are_those_of_the_whole() -> None:
    vectors = normal(500, 6, shift=1e4, seed=1).astype(np.float64)
    made = Moments(6)
    for part in np.array_split(vectors, 7):
        made.add(part)
    np.testing.assert_allclose(made.mean, vectors.mean(0))
    np.testing.assert_allclose(made.covariance, np.cov(vectors.T), rtol=1e-9)
    np.testing.assert_allclose(made.second, vectors.T @ vectors / 500, rtol=1e-9)


def test_frechet_distance_is_the_formula_with_scipys_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(200, 12)) + 0.7
    s1, s2 = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert distances.frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_normal_distributions() -> None:
    # |m1 - m2|^2 + sum (s1 - s2)^2 for diagonal covariances: 4 * 0.5^2 + 4 * (2 - 1)^2
    found = distances.frechet_distance(
        Moments.of(normal(200_000, 4, shift=0.5, scale=2, seed=3)), Moments.of(normal(200_000, 4, seed=4))
    )
    assert found == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize(("first", "second"), [(10, 12), (12, 200), (200, 12)])
def test_frechet_distance_with_fewer_images_than_dimensions(first: int, second: int) -> None:
    from scipy.linalg import sqrtm

    a, b = (normal(n, 64, shift, seed=seed).astype(float) for n, shift, seed in ((first, 0.3, 5), (second, 0.0, 6)))
    s1, s2 = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert distances.frechet(a, b) == pytest.approx(expected, rel=1e-4)
    assert distances.frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-4)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("shift", "true", "most"), [(0.0, 0.0, 2.6), (0.5, 4.0, 1.6)])
def test_frechet_extrapolation_takes_the_bias_away_and_the_error_is_true(
    shift: float, true: float, most: float
) -> None:
    found = [
        distances.frechet_with_error(normal(400, 16, shift, seed=n), normal(400, 16, seed=1000 + n), n)
        for n in range(30)
    ]
    values, errors, extrapolated = (np.array(column) for column in zip(*found, strict=True))
    bias = values.mean() - true
    assert bias > 0.3
    assert abs(extrapolated.mean() - true) < bias / 4
    assert 0.6 < errors.mean() / values.std() < most


def test_kernel_distance_is_the_double_sum_over_pairs() -> None:
    a, b = normal(7, 3, seed=7), normal(5, 3, shift=1, seed=8)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((np.dot(x.astype(float), y.astype(float)) / 3 + 1) ** 3)

    own = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    other = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    between = np.mean([k(x, y) for x in a for y in b])
    assert distances.squared_mmd(a, b) == pytest.approx(own + other - 2 * between)


def test_kernel_distance_is_unbiased_and_its_interval_holds() -> None:
    found = [distances.kernel_distance(normal(120, 16, seed=n), normal(150, 16, seed=500 + n), n) for n in range(30)]
    values, errors = (np.array(column) for column in zip(*found, strict=True))
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(30)
    assert 0.6 < errors.mean() / values.std() < 1.8
    far, error = distances.kernel_distance(normal(120, 16, seed=1), normal(150, 16, shift=0.5, seed=2), 0)
    assert far > 5 * error


def test_frechet_kernel_and_inception_score_agree_with_peers() -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("torch_fidelity")
    assert peer
    from torch_fidelity.metric_isc import isc_features_to_metric

    features, classifier = np.abs(normal(400, 32, seed=9)), normal(10, 32, seed=10)
    logits = torch.from_numpy(features.astype(float) @ classifier.T.astype(float))
    expected = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert distances.inception_score(features, classifier, 0, splits=1)[0] == pytest.approx(expected, rel=1e-6)

    fid = pytest.importorskip("torchmetrics.image.fid")
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = normal(300, 32, seed=11), normal(260, 32, shift=0.3, seed=12)
    one, two = Moments.of(a), Moments.of(b)
    expected = fid._compute_fid(*(torch.from_numpy(x) for x in (one.mean, one.covariance, two.mean, two.covariance)))
    assert distances.frechet_distance(one, two) == pytest.approx(float(expected), rel=1e-6)
    expected = kid.poly_mmd(torch.from_numpy(a[:260].astype(float)), torch.from_numpy(b.astype(float)))
    assert distances.squared_mmd(a[:260], b) == pytest.approx(float(expected), rel=1e-6)


def test_inception_score_of_sure_and_even_answers_is_the_number_of_classes() -> None:
    sure = np.repeat(np.eye(4, dtype=np.float32) * 100, 25, axis=0)
    score, spread = distances.inception_score(sure, np.eye(4, dtype=np.float32), 0, splits=1)
    assert score == pytest.approx(4)
    assert spread == 0
    undecided = np.zeros((40, 4), np.float32)
    assert distances.inception_score(undecided, np.eye(4, dtype=np.float32), 0)[0] == pytest.approx(1)


def test_scaling_makes_the_kernel_independent_of_the_length_of_embeddings() -> None:
    a = normal(50, 8, seed=13)
    assert (a * distances.scale_of(a)).std() == pytest.approx(1, rel=0.1)
    one = distances.kernel_distance(a, a + 1, 0, scale=distances.scale_of(a))
    ten = distances.kernel_distance(a * 10, (a + 1) * 10, 0, scale=distances.scale_of(a * 10))
    assert one == pytest.approx(ten, rel=1e-5)


# -- neighbours -------------------------------------------------------------------------------------------------------


def brute_force(vectors: np.ndarray, reference: np.ndarray, k: int) -> dict[str, float]:
    """Precision, recall, density and coverage, written down from their definitions."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a.astype(float) - b.astype(float)))

    def radii(points: np.ndarray) -> list[float]:
        return [sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)]

    real, fake = radii(reference), radii(vectors)
    d = [[distance(x, y) for y in vectors] for x in reference]
    n, m = len(reference), len(vectors)
    return {
        "precision": np.mean([any(d[i][j] < real[i] for i in range(n)) for j in range(m)]),
        "recall": np.mean([any(d[i][j] < fake[j] for j in range(m)) for i in range(n)]),
        "density": sum(d[i][j] < real[i] for i in range(n) for j in range(m)) / (k * m),
        "coverage": np.mean([any(d[i][j] < real[i] for j in range(m)) for i in range(n)]),
    }


def as_means(found: neighbours.Overlap) -> dict[str, float]:
    return {
        "precision": found.precise.mean(), "recall": found.recalled.mean(), "density": found.density.mean(),
        "coverage": found.covered.mean(),
    }  # fmt: skip


@pytest.mark.parametrize(("shift", "scale", "k"), [(0.0, 1.0, 3), (1.0, 0.5, 5), (0.3, 2.0, 1)])
def test_overlap_is_what_its_definition_says(
    monkeypatch: pytest.MonkeyPatch, shift: float, scale: float, k: int
) -> None:
    monkeypatch.setattr(neighbours, "_ROWS", 16)  # several parts
    vectors, reference = normal(70, 4, shift, scale, seed=14), normal(60, 4, seed=15)
    assert as_means(neighbours.overlap(vectors, reference, k)) == pytest.approx(brute_force(vectors, reference, k))


def test_overlap_agrees_with_the_authors_code() -> None:
    prdc = pytest.importorskip("prdc")
    vectors, reference = normal(300, 16, 0.2, seed=16), normal(280, 16, seed=17)
    expected = prdc.compute_prdc(real_features=reference, fake_features=vectors, nearest_k=5)
    assert as_means(neighbours.overlap(vectors, reference, 5)) == pytest.approx(expected)


def test_copies_are_found_and_new_images_are_not() -> None:
    real, new = normal(1000, 16, seed=18), normal(1000, 16, seed=19)
    fresh = neighbours.nearest_real(new, real)
    assert fresh.copies.mean() < 0.03
    assert fresh.authentic.mean() == pytest.approx(fresh.expected_authenticity, abs=0.06)
    copied = np.concatenate([new[:700], real[:300] + normal(300, 16, scale=1e-3, seed=20)])
    found = neighbours.nearest_real(copied, real)
    assert found.copies[700:].all()
    assert found.row[700:].tolist() == list(range(300))
    assert found.copies[:700].mean() < 0.03
    assert not found.authentic[700:].any()


def test_an_exact_copy_counts_although_real_images_have_exact_copies_too() -> None:
    real = np.concatenate([normal(50, 8, seed=21)] * 2)
    found = neighbours.nearest_real(np.concatenate([real[:5], normal(5, 8, seed=22)]), real)
    assert found.copies.tolist() == [True] * 5 + [False] * 5


# -- variety ----------------------------------------------------------------------------------------------------------


def test_vendi_score_counts_different_images() -> None:
    assert diversity.vendi_score(np.eye(20, dtype=np.float32)) == pytest.approx(20)
    assert diversity.vendi_score(np.ones((30, 5), np.float32)) == pytest.approx(1)
    assert diversity.vendi_score(np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)) == pytest.approx(4)


def test_vendi_score_is_the_same_by_both_matrices_and_by_the_authors_code() -> None:
    vectors = normal(40, 30, seed=23)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit.astype(float) @ unit.T / 40)
    values = values[values > 1e-12]
    expected = np.exp(-(values * np.log(values)).sum())
    assert diversity.vendi_score(vectors) == pytest.approx(expected, rel=1e-5)
    assert diversity.vendi_score(vectors.T[:, :25], None) > 0
    peer = pytest.importorskip("vendi_score.vendi")
    assert diversity.vendi_score(vectors) == pytest.approx(peer.score_dual(vectors, normalize=True), rel=1e-4)
    assert diversity.vendi_score(vectors, np.arange(20)) == pytest.approx(
        peer.score_dual(vectors[:20], normalize=True), rel=1e-4
    )


def test_class_balance() -> None:
    assert diversity.evenness({"a": 5, "b": 5}) == pytest.approx(1)
    assert diversity.evenness({"a": 99, "b": 1}) == pytest.approx(0.0808, abs=1e-3)
    assert diversity.imbalance({"a": 90, "b": 30, "c": 0}) == 3
    assert diversity.class_divergence({"a": 2, "b": 2}, {"a": 10, "b": 10}) == pytest.approx(0)
    assert diversity.class_divergence({"a": 2}, {"b": 3}) == pytest.approx(1)


# -- uncertainty ------------------------------------------------------------------------------------------------------


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(24)
    hits = rng.binomial(40, 0.1, size=2000)
    low, high = np.array([intervals.wilson(int(h), 40) for h in hits]).T
    assert ((low <= 0.1) & (high >= 0.1)).mean() > 0.92
    assert intervals.wilson(0, 10)[1] == pytest.approx(0.278, abs=0.001)
    means = [intervals.bootstrap_mean(rng.exponential(size=60), n, 200) for n in range(200)]
    assert np.mean([a <= 1 <= b for a, b in means]) > 0.86
