"""Intervals and tests against hand computations, SciPy, and their own promise of coverage."""

import pytest
import torch
from scipy import stats

from audit.subjects import normal, seeded  # isort: skip
from fingerpost.audit._statistics import (
    Resampler,
    bootstrap_cosine,
    bootstrap_scale,
    bootstrap_weights,
    cosine_of,
    holm,
    jackknife_cosine,
    mean_t,
    moments,
    one_sided_p,
    scale_of,
    slope_t,
)


def test_mean_interval_is_scipys():
    values = normal(17)
    low, high = stats.t.interval(0.9, 16, loc=values.mean(), scale=stats.sem(values))
    figure = mean_t(values, 0.9)
    assert (figure.low, figure.high) == (pytest.approx(low), pytest.approx(high))
    assert mean_t(values[:1], 0.9).low is None


def test_slope_interval_is_scipys():
    x, y = normal(12), normal(12, seed=1)
    expected = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 10) * expected.stderr
    figure = slope_t(x, y, 0.95)
    assert figure.value == pytest.approx(expected.slope)
    assert figure.high - figure.value == pytest.approx(half)


def test_one_sided_p_is_scipys():
    values = normal(20) + 0.4
    assert one_sided_p(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert one_sided_p(torch.ones(5)) == 0
    assert one_sided_p(-torch.ones(5)) == 1
    assert one_sided_p(torch.ones(1)) == 1


def test_holm_adjusts_as_by_hand():
    # sorted: 0.005·4, 0.01·3, 0.03·2, 0.04·1, each at least the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_moments_give_cosine_and_scale():
    a, g = normal(9, 4), normal(9, 4, seed=1)
    total = moments(a, g).sum(0)
    assert float(cosine_of(total)) == pytest.approx(float((a * g).sum() / a.norm() / g.norm()))
    assert float(scale_of(total)) == pytest.approx(float((a * g).sum() / g.square().sum()))


def test_bootstrap_weights_are_multinomial():
    weights = bootstrap_weights(10, seeded(), 500)
    torch.testing.assert_close(weights.sum(1), torch.ones(500, dtype=torch.float64))
    assert float((weights * 10).var(0).mean()) == pytest.approx(0.9, abs=0.05)


def test_bootstrap_interval_of_the_scale_nears_student_t_where_that_is_exact():
    noise = normal(200)
    ones = torch.ones(200, 1, dtype=torch.float64)
    figure = bootstrap_scale(moments(1 + noise[:, None], ones), Resampler(seeded()), 0.95)
    expected = mean_t(1 + noise, 0.95)
    assert figure.value == pytest.approx(expected.value)
    assert figure.high - figure.low == pytest.approx(expected.high - expected.low, rel=0.1)


def test_a_degenerate_interval_is_a_point():
    g = normal(20, 3)
    figure = bootstrap_cosine(moments(2 * g, g), Resampler(seeded()), 0.95)
    assert figure.value == pytest.approx(1)
    assert figure.low == figure.high == figure.value


def test_a_resampler_gives_all_figures_the_same_weights():
    resampler = Resampler(seeded())
    assert resampler.weights(8) is resampler.weights(8)
    assert resampler.weights(9).shape[1] == 9


def heavy_tailed(seed, samples=64, dimension=12, noise=0.75):
    """Covectors a = g + noise of g's own length, lengths log-normal (σ = 1): the batch cosine is 1/√(1 + noise²)."""
    lengths = normal(samples, 1, seed=5000 + seed).exp()
    g = lengths * normal(samples, dimension, seed=seed) / dimension**0.5
    a = g + noise * lengths * normal(samples, dimension, seed=9000 + seed) / dimension**0.5
    return moments(a, g)


@pytest.mark.parametrize("interval", ["bootstrap", "jackknife"])
def test_intervals_of_the_batch_cosine_cover_with_heavy_tailed_norms(interval):
    resampler, truth, inside = Resampler(seeded(1)), 1 / (1 + 0.75**2) ** 0.5, 0
    for seed in range(300):
        m = heavy_tailed(seed)
        figure = (
            bootstrap_cosine(m, resampler, 0.95) if interval == "bootstrap" else jackknife_cosine(m, 0.95)
        )
        inside += figure.low <= truth <= figure.high
    floor = 0.93 if interval == "bootstrap" else 0.85  # the quick mode's is known to be short
    assert stats.binomtest(inside, 300, floor, alternative="less").pvalue > 0.01, inside


def test_intervals_of_a_mean_cover():
    inside = sum(f.low <= 0 <= f.high for f in (mean_t(normal(8, seed=s), 0.95) for s in range(400)))
    assert stats.binomtest(inside, 400, 0.95).pvalue > 0.01
