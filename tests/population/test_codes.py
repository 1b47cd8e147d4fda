"""Codes: likelihoods against torch.distributions, what they draw, gains known and unknown, bad counts."""

from __future__ import annotations

import math

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population import (
    ExponentialFamilyCode,
    GammaGain,
    GaussianNoiseCode,
    GaussianTuning,
    NegativeBinomialCode,
    PoissonCode,
    Posterior,
    Tuning,
    product_grid,
)
from population.problems import CODES, F64, GRID, TILING, TUNINGS, generator, line, log_probability

SHOWN = line(-4, 4, 6)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_decoding_is_bayes_rule_with_the_full_law(name: str, gain: float) -> None:
    code = CODES[name]
    counts = code.encode(SHOWN, gain, generator())
    brute = torch.softmax(log_probability(name, counts, GRID, gain), -1)
    torch.testing.assert_close(code.decode(counts, GRID, gain).mass, brute, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", CODES)
def test_gains_of_trials_are_those_of_each_alone(name: str) -> None:
    code, gains = CODES[name], torch.tensor([1.0, 2.0, 1.0, 4.0, 2.0, 3.0], dtype=F64)
    counts = code.encode(SHOWN, gains, generator())
    together = code.decode(counts, GRID, gains).mass
    for k, gain in enumerate(gains.tolist()):
        torch.testing.assert_close(
            together[k], code.decode(counts[k], GRID, gain).mass, rtol=1e-9, atol=1e-15
        )


@pytest.mark.parametrize("name", CODES)
def test_what_is_drawn_has_the_mean_and_the_variance_of_its_law(name: str) -> None:
    code, gain, many = CODES[name], 3.0, 40000
    drawn = code.encode(torch.full((many,), 0.5, dtype=F64), gain, generator(3))
    mean = gain * code.tuning(torch.tensor(0.5, dtype=F64))  # pyright: ignore[reportAttributeAccessIssue]
    mean = 2 * mean if name == "Poisson" else mean
    variance = {"Poisson": mean, "Fano": 2 * mean, "negative binomial": mean + 0.4 * mean**2}.get(
        name, torch.full_like(mean, 1.0 if "correlated" in name else 0.5)
    )
    assert float(((drawn.mean(0) - mean) / (variance / many).sqrt()).abs().max()) < 4.5
    assert float((drawn.var(0) / variance - 1).abs().max()) < 0.12


def test_correlated_noise_is_correlated() -> None:
    code = CODES["Gaussian noise, correlated"]
    drawn = code.encode(torch.zeros(40000, dtype=F64), 1.0, generator())
    found = torch.corrcoef(drawn.T)
    assert float((found - (0.3 + 0.7 * torch.eye(13, dtype=F64))).abs().max()) < 0.03


def test_gaussian_curves_that_tile_give_a_normal_posterior_at_any_gain() -> None:
    code, wide = PoissonCode(TILING), line(-25, 25, 2001)
    counts = code.encode(SHOWN, 4.0, generator())
    spikes = counts.sum(1)
    for gain in (4.0, 1.0, None, "any", GammaGain(4.0, 0.3)):
        one = code.decode(counts, wide, gain)
        torch.testing.assert_close(one.mean, counts @ TILING.preferred / spikes, rtol=0, atol=1e-9)
        torch.testing.assert_close(one.variance, 9 / spikes, rtol=1e-9, atol=0)


def test_the_normaliser_is_kept_where_curves_do_not_tile() -> None:
    code = PoissonCode(TUNINGS["sigmoid"])
    counts = code.encode(torch.tensor([0.5], dtype=F64), 3.0, generator())
    gap = code.log_likelihood(counts, GRID, 3.0) - code.log_likelihood(counts, GRID, None)
    torch.testing.assert_close(gap[0], -3 * TUNINGS["sigmoid"](GRID).sum(1), rtol=1e-10, atol=1e-10)


def test_any_gain_is_the_flat_log_prior_integrated_and_the_best_gain_too() -> None:
    code = PoissonCode(TUNINGS["sigmoid"], 0.5)
    counts = code.encode(torch.tensor([0.5], dtype=F64), 9.0, generator())
    gains = torch.exp(line(math.log(0.02), math.log(2000.0), 4001))
    every = torch.stack([code.log_likelihood(counts[0], GRID, float(g)) for g in gains])
    spikes = counts.sum()
    weighed = torch.logsumexp(every + spikes * gains.log()[:, None], 0)
    expected = torch.softmax(weighed, -1)
    torch.testing.assert_close(code.decode(counts[0], GRID, "any").mass, expected, rtol=1e-6, atol=1e-12)
    best = (every + spikes * gains.log()[:, None]).amax(0)
    torch.testing.assert_close(torch.softmax(best, -1), expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["Poisson", "Fano"])
def test_a_gamma_gain_is_its_prior_integrated(name: str) -> None:
    code, prior = CODES[name], GammaGain(mean=2.0, spread=0.5)
    counts = code.encode(torch.tensor([0.5], dtype=F64), 2.0, generator())
    gains = line(1e-3, 20, 8001)
    law = torch.distributions.Gamma(4.0, 2.0).log_prob(gains)
    power = counts.sum() / (2.0 if name == "Fano" else 1.0)
    every = torch.stack([code.log_likelihood(counts[0], GRID, float(g)) for g in gains])
    expected = torch.softmax(torch.logsumexp(every + (law + power * gains.log())[:, None], 0), -1)
    torch.testing.assert_close(code.decode(counts[0], GRID, prior).mass, expected, rtol=1e-5, atol=1e-12)


def test_a_prior_multiplies_the_likelihood_once() -> None:
    code, prior = CODES["Poisson"], -0.5 * GRID**2
    counts = code.encode(SHOWN, 2.0, generator())
    both = code.decode(counts, GRID, 2.0, prior=prior)
    expected = torch.softmax(code.log_likelihood(counts, GRID, 2.0) + prior, -1)
    torch.testing.assert_close(both.mass, expected, rtol=1e-9, atol=1e-15)
    again = code.decode(counts, GRID, 2.0, prior=Posterior(GRID, prior))
    torch.testing.assert_close(again.mass, expected, rtol=1e-9, atol=1e-15)


def test_two_dimensions_and_any_batch_shape() -> None:
    axis = line(-6, 6, 13)
    code = PoissonCode(GaussianTuning(product_grid(axis, axis), 1.5))
    grid = product_grid(line(-3, 3, 25), line(-3, 3, 25))
    shown = torch.tensor([[[0.5, -1.0], [1.0, 1.0], [0.0, 0.0]]], dtype=F64)
    counts = code.encode(shown, 20.0, generator())
    one = code.decode(counts, grid, 20.0)
    assert one.mean.shape == (1, 3, 2)
    assert float((one.error(shown) / one.standard_deviation).abs().max()) < 4


def test_families_read_what_is_no_count() -> None:
    code = PoissonCode(TILING)
    counts = code.encode(SHOWN, 2.0, generator())
    half = code.family.decode(counts / 2, GRID, 1.0)
    torch.testing.assert_close((half * half).mass, code.decode(counts, GRID, 2.0).mass, rtol=1e-9, atol=1e-14)


def test_a_kernel_on_a_grid_is_interpolated_also_across_a_circles_end() -> None:
    grid = torch.tensor([0.0, 45.0, 90.0, 135.0], dtype=F64)
    table = torch.tensor([[0.0], [1.0], [2.0], [1.0]], dtype=F64)
    code = ExponentialFamilyCode(table, table[:, 0], grid=grid, period=180.0)
    found = code.kernel(torch.tensor([22.5, 157.5, 180.0, -22.5], dtype=F64))[:, 0]
    assert found.tolist() == [0.5, 0.5, 0.0, 0.5]
    assert code.offset(torch.tensor([67.5], dtype=F64)).tolist() == [1.5]  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(InvalidValueError, match="the kernel is known from 0 to 135"):
        ExponentialFamilyCode(table, grid=grid).kernel(torch.tensor([136.0]))


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (torch.tensor([[-1.0, 2.0]]), InvalidValueError, "hold -1 at .0, 0."),
        (torch.tensor([[1.0, 2.5]]), InvalidValueError, "hold 2.5 at .0, 1.*family"),
        (torch.tensor([[1.0, math.nan]]), InvalidValueError, "NaN or infinite"),
        (torch.tensor([[1.0, math.inf]]), InvalidValueError, "NaN or infinite"),
        (torch.tensor([[1.0, 2.0, 3.0]]), ShapeError, "of 3 neurons.*has 2"),
        (torch.tensor(1.0), ShapeError, "counts have shape"),
        (torch.tensor([[1j, 2]]), InvalidTypeError, "real numbers"),
        ("spikes", InvalidTypeError, "expected a tensor"),
    ],
)
@pytest.mark.parametrize("kind", [PoissonCode, lambda tuning: NegativeBinomialCode(tuning, 0.5)])
def test_bad_counts_are_refused_by_name(
    kind: object, counts: object, error: type[Exception], message: str
) -> None:
    code = kind(GaussianTuning([0.0, 1.0], 1.0))  # pyright: ignore[reportCallIssue]
    with pytest.raises(error, match=message):
        code.decode(counts, GRID)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda c: c.decode([1.0, 2.0], []), ShapeError, "grid is empty"),
        (lambda c: c.decode([1.0, 2.0], [[0.0]]), ShapeError, "grid has shape"),
        (lambda c: c.decode([1.0, 2.0], GRID, gain=-1.0), InvalidValueError, "gain is -1"),
        (lambda c: c.decode([1.0, 2.0], GRID, gain="some"), InvalidValueError, "'any'"),
        (lambda c: c.decode([[1.0, 2.0]], GRID, gain=[1.0, 2.0]), ShapeError, "gain has shape"),
        (lambda c: c.decode([1.0, 2.0], GRID, prior=[1.0]), ShapeError, "log_density has shape"),
        (lambda c: PoissonCode(c.tuning, 0), InvalidValueError, "duration is 0"),
        (lambda c: GammaGain(0.0), InvalidValueError, "mean of the gain"),
        (lambda c: NegativeBinomialCode(c.tuning, 0), InvalidValueError, "excess is 0"),
        (
            lambda c: NegativeBinomialCode(c.tuning, 1).decode([1.0, 2.0], GRID, None),
            InvalidTypeError,
            "depends on it",
        ),
        (
            lambda c: GaussianNoiseCode(c.tuning).decode([1.0, 2.0], GRID, "any"),
            InvalidTypeError,
            "depends on it",
        ),
        (lambda c: GaussianNoiseCode(c.tuning, -1.0), InvalidValueError, "variance is -1"),
        (
            lambda c: GaussianNoiseCode(c.tuning, [[1.0, 2.0], [2.0, 1.0]]),
            InvalidValueError,
            "positive definite",
        ),
        (
            lambda c: GaussianNoiseCode(c.tuning, [1.0, 1.0, 1.0]).decode([1.0, 2.0], GRID),
            ShapeError,
            "of 3 neurons",
        ),
        (lambda c: c.family.encode(0.0), InvalidTypeError, "decode and not draw"),
        (
            lambda c: ExponentialFamilyCode(torch.zeros(3, 2)).decode([1.0, 2.0], GRID),
            ShapeError,
            "3 stimuli",
        ),
        (
            lambda c: PoissonCode(Tuning(lambda s: s[..., None])).decode([1.0], GRID),
            InvalidValueError,
            "at least 0",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(act: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act(PoissonCode(GaussianTuning([0.0, 1.0], 1.0)))  # pyright: ignore[reportCallIssue]
