"""Tuning curves: closed forms, derivatives, dimensions, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population import GaussianTuning, SigmoidTuning, Tuning, VonMisesTuning, product_grid
from population.problems import F64, TILING, TUNINGS, line


@pytest.mark.parametrize("name", TUNINGS)
def test_the_derivative_is_that_of_finite_differences(name: str) -> None:
    s, step = line(-4, 4, 9) + 0.1, 1e-5
    found = TUNINGS[name].derivative(s)
    expected = (TUNINGS[name](s + step) - TUNINGS[name](s - step)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", TUNINGS)
def test_log_rates_are_the_logarithm_of_rates(name: str) -> None:
    s = line(-9, 9, 19)
    torch.testing.assert_close(TUNINGS[name].log_rates(s), TUNINGS[name](s).log(), rtol=1e-12, atol=1e-12)


def test_log_rates_are_right_where_the_rate_underflows() -> None:
    tuning = GaussianTuning([0.0], 1.0)
    assert float(tuning(torch.tensor(50.0, dtype=F64))) == 0
    assert float(tuning.log_rates(torch.tensor(50.0, dtype=F64))) == -1250


def test_a_rate_of_zero_without_spikes_says_nothing_wrong() -> None:
    tuning = Tuning(lambda s: torch.stack([s.clamp_min(0), 1 + s], -1))
    assert bool(torch.isfinite(tuning.log_rates(torch.tensor([-0.5, 0.5], dtype=F64))).all())


@given(width=st.floats(1.0, 4.0), spacing=st.floats(0.2, 1.0), s=st.floats(-1.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_even_gaussian_curves_tile(width: float, spacing: float, s: float) -> None:
    preferred = torch.arange(-60, 61, dtype=F64) * spacing * width
    total = GaussianTuning(preferred, width)(torch.tensor(s * width, dtype=F64)).sum()
    expected = (2 * torch.pi) ** 0.5 / spacing
    assert abs(float(total) / expected - 1) < 1e-7


def test_von_mises_curves_come_back_and_look_gaussian_at_their_peak() -> None:
    tuning = VonMisesTuning([30.0], 400.0, period=180.0)
    width = 180 / (2 * torch.pi * 20)
    s = torch.tensor([30.0, 31.0, 31.0 - 180, 31.0 + 360], dtype=F64)
    rates = tuning(s)[:, 0]
    assert float(rates[0]) == 1
    torch.testing.assert_close(rates[1:], rates[1].expand(3), rtol=1e-10, atol=0)
    assert abs(float(rates[1].log()) + 0.5 / width**2) < 1e-3


def test_in_two_dimensions_gaussians_are_products() -> None:
    centre = product_grid([0.0, 1.0], [2.0, 3.0])
    tuning = GaussianTuning(centre, torch.tensor([[1.0, 2.0]], dtype=F64))
    s = torch.tensor([[0.3, 2.2], [1.0, 1.0]], dtype=F64)
    one = GaussianTuning(centre[:, 0], 1.0)(s[:, 0]) * GaussianTuning(centre[:, 1], 2.0)(s[:, 1])
    torch.testing.assert_close(tuning(s), one, rtol=1e-12, atol=1e-12)
    slope = tuning.derivative(s)
    assert slope.shape == (2, 4, 2)
    torch.testing.assert_close(
        slope[..., 1], -one * (s[:, None, 1] - centre[:, 1]) / 4, rtol=1e-12, atol=1e-12
    )


def test_float32_stays_float32() -> None:
    tuning = GaussianTuning(torch.arange(3.0), 1.0)
    assert tuning(torch.zeros(2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GaussianTuning([0.0], 0.0), InvalidValueError, "width has 0"),
        (lambda: GaussianTuning([0.0], 1.0, peak=-1), InvalidValueError, "peak has -1"),
        (lambda: GaussianTuning([0.0], 1.0, baseline=-0.1), InvalidValueError, "baseline has -0.1"),
        (lambda: GaussianTuning([float("nan")], 1.0), InvalidValueError, "preferred is NaN"),
        (lambda: GaussianTuning([], 1.0), ShapeError, "preferred has shape"),
        (lambda: GaussianTuning([0.0, 1.0], [1.0, 1.0, 1.0]), ShapeError, "width has shape"),
        (lambda: VonMisesTuning([0.0], 1.0, period=-3), InvalidValueError, "period has -3"),
        (lambda: SigmoidTuning([0.0], 0.0), InvalidValueError, "slope has a 0"),
        (lambda: Tuning(3), InvalidTypeError, "function is int"),  # pyright: ignore[reportArgumentType]
        (lambda: Tuning(lambda s: s)(torch.zeros(3)), ShapeError, "tuning function gives"),
        (lambda: Tuning(lambda s: s[..., None] - 1)(torch.zeros(3)), InvalidValueError, "at least 0"),
        (lambda: GaussianTuning([[0.0, 1.0]], 1.0)(torch.zeros(3)), ShapeError, "stimuli have shape"),
    ],
)
def test_bad_curves_are_refused_by_name(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # pyright: ignore[reportCallIssue]


def test_the_shared_tiling_is_flat_in_the_grid() -> None:
    total = TILING(line(-10, 10, 50)).sum(-1)
    assert float(total.max() / total.min() - 1) < 1e-9
