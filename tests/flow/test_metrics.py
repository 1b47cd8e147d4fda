"""Metrics: closed forms, brute force, and bad input."""

from __future__ import annotations

import builtins
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from fingerpost import flow
from fingerpost.errors import InvalidValueError, MissingExtraError, ShapeError


def normal(n: int, d: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_shift_is_at_its_own_length_and_a_permutation_at_zero() -> None:
    x = normal(200, 3)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    assert flow.wasserstein2(x[order], x) == 0
    shift = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    assert flow.wasserstein2(x[order] + shift, x) == pytest.approx(5.0, rel=1e-12)


def test_it_tends_to_the_closed_form_between_gaussians() -> None:
    """W₂² between N(0, I) and N(m, s² I) is ‖m‖² + d (s − 1)²."""
    x, y = normal(1500, seed=1), 2.5 * normal(1500, seed=2) + 3
    assert flow.wasserstein2(x, y) == pytest.approx(math.sqrt(18 + 2 * 1.5**2), rel=0.03)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_on_the_line_unequal_samples_are_as_if_repeated_to_one_size(n: int, m: int, seed: int) -> None:
    x, y = normal(n, 1, seed), normal(m, 1, seed + 1)
    repeated = [v.repeat_interleave(k, 0).sort(0).values for v, k in ((x, m), (y, n))]
    expected = math.sqrt(float((repeated[0] - repeated[1]).square().mean()))
    assert flow.wasserstein2(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_it_is_at_least_the_first_distance_of_scipy_on_the_line() -> None:
    x, y = normal(50, 1), normal(70, 1, seed=1) ** 3
    assert flow.wasserstein2(x, y) >= wasserstein_distance(x.flatten().numpy(), y.flatten().numpy())


def test_unequal_samples_in_the_plane_are_as_if_repeated_to_one_size() -> None:
    pytest.importorskip("ot")
    x, y = normal(6), normal(4, seed=1)
    expected = flow.wasserstein2(x.repeat_interleave(2, 0), y.repeat_interleave(3, 0))
    assert flow.wasserstein2(x, y) == pytest.approx(expected, rel=1e-9)


def test_unequal_samples_without_pot_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__
    import importlib

    def missing(name: str, *rest):
        if name == "ot":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"fingerpost\[ot\]"):
        flow.wasserstein2(normal(6), normal(4))


@pytest.mark.parametrize("biased", [False, True])
def test_mmd_is_its_sum_over_pairs(biased: bool) -> None:
    x, y, h = normal(5), normal(7, seed=1) + 0.5, 0.8

    def kernel(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * h**2))

    def within(z: Tensor) -> float:
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if biased or i != j]
        return sum(kernel(z[i], z[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(a, b) for a in x for b in y) / 35
    expected = within(x) + within(y) - 2 * across
    assert flow.mmd(x, y, bandwidth=h, biased=biased) == pytest.approx(expected, rel=1e-10)


def test_mmd_tends_to_the_closed_form_between_gaussians() -> None:
    """For N(0, I), N(m, I) and a Gaussian kernel: MMD² = 2 (h²/(h² + 2))^{d/2} (1 − exp(−‖m‖²/(2(h² + 2))))."""
    x, y, h = normal(2000, seed=1), normal(2000, seed=2) + 1, 1.0
    expected = 2 * (1 / 3) * (1 - math.exp(-2 / 6))
    assert flow.mmd(x, y, bandwidth=h) == pytest.approx(expected, rel=0.1)


def test_unbiased_mmd_of_one_law_has_mean_zero_and_biased_is_above() -> None:
    pairs = [(normal(20, seed=2 * i), normal(20, seed=2 * i + 1)) for i in range(200)]
    values = torch.tensor([flow.mmd(x, y, bandwidth=1.0) for x, y in pairs])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(200)
    assert min(flow.mmd(x, y, bandwidth=1.0, biased=True) for x, y in pairs) > 0


def test_the_default_bandwidth_is_the_median_distance() -> None:
    x, y = normal(10), normal(12, seed=1)
    median = float(torch.pdist(torch.cat([x, y])).median())
    assert flow.mmd(x, y) == pytest.approx(flow.mmd(x, y, bandwidth=median), rel=1e-9)


def test_nll_of_a_normal_is_its_entropy() -> None:
    law = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), torch.ones(2)), 1)
    assert flow.nll(law.log_prob, normal(50_000)) == pytest.approx(1 + math.log(2 * math.pi), abs=0.02)


def test_bad_input_is_refused() -> None:
    x = normal(5)
    with pytest.raises(ShapeError, match="rows of shape"):
        flow.wasserstein2(x, normal(5, 3))
    with pytest.raises(InvalidValueError, match="y has NaN"):
        flow.wasserstein2(x, x / 0 * 0)
    with pytest.raises(ShapeError, match="at least two"):
        flow.mmd(x, x[:1])
    with pytest.raises(InvalidValueError, match="bandwidth"):
        flow.mmd(torch.ones(3, 1), torch.ones(3, 1))
    with pytest.raises(InvalidValueError, match="bandwidth"):
        flow.mmd(x, x, bandwidth=-1.0)
    with pytest.raises(ShapeError, match="log_prob returned"):
        flow.nll(lambda x: x, x)
    with pytest.raises(InvalidValueError, match="NaN in 5 of 5 rows"):
        flow.nll(lambda x: x.sum(1) * math.nan, x)
