"""The Bessel functions behind von Mises and the amplitudes, against mpmath."""

from __future__ import annotations

import pytest
import torch
from mpmath import mp, mpf

from fingerpost.distributions._bessel import log_i0e, one_minus_ratio
from fingerpost.distributions._bessel_order import log_order_kernel, order_ratio_kernel

POINTS = (1e-8, 1e-3, 0.3, 1.0, 5.0, 15.0, 19.9, 20.1, 40.0, 200.0, 1e3)


def exact(t: float, order: float = 0.0) -> tuple[float, float, float, float, float]:
    """log(t^{−μ} e⁻ᵗ I_μ), r, 1 − r and the first two derivatives of 1 − r (by Riccati's equation)."""
    with mp.workdps(60):
        x, mu = mpf(t), mpf(order)
        low, high = mp.besseli(mu, x, maxterms=10**6), mp.besseli(mu + 1, x, maxterms=10**6)
        r, k = high / low, 2 * mu + 1
        first = -(1 - r**2 - k * r / x)
        second = -(2 * r * first + k * first / x + k * r / x**2)
        return tuple(map(float, (mp.log(low) - mu * mp.log(x) - x, r, 1 - r, first, second)))


@pytest.mark.parametrize("t", POINTS)
def test_functions_of_order_zero_and_their_derivatives_hold_everywhere(t):
    log_value, _, rest, slope, curve = exact(t)
    x = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    value, c = log_i0e(x), one_minus_ratio(x)
    (by_log,) = torch.autograd.grad(value, x, create_graph=True)
    (first,) = torch.autograd.grad(c, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert value.item() == pytest.approx(log_value, rel=1e-12)
    assert c.item() == pytest.approx(rest, rel=1e-14)
    assert by_log.item() == pytest.approx(-rest, rel=1e-14)
    assert first.item() == pytest.approx(slope, rel=1e-12)
    assert second.item() == pytest.approx(curve, rel=1e-10, abs=1e-12)


def test_functions_of_order_zero_stay_finite_far_out():
    t = torch.tensor([1e15, 1e200, 1e300], dtype=torch.float64)
    torch.testing.assert_close(one_minus_ratio(t) * t, torch.full_like(t, 0.5), rtol=1e-14, atol=0)
    assert bool(log_i0e(t).isfinite().all())


@pytest.mark.parametrize("df", [1.01, 1.5, 2.0, 3.0, 10.0, 61.9, 62.1, 300.0, 1e4])
def test_functions_of_any_order_and_their_derivatives_hold_everywhere(df):
    points = (1e-8, 0.3, 5.0, 20.0, 29.9, 30.1, 100.0, 1e3)
    rows = zip(*(exact(t, df / 2 - 1) for t in points))
    log_value, ratio, rest, slope, _ = (torch.tensor(row, dtype=torch.float64) for row in rows)
    t = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    order = torch.tensor(df, dtype=torch.float64)
    (r, c), value = order_ratio_kernel(t, order), log_order_kernel(t, order)
    (first,) = torch.autograd.grad(c.sum(), t)
    (by_log,) = torch.autograd.grad(value.sum(), t)
    torch.testing.assert_close(r, ratio, rtol=2e-15, atol=0)
    torch.testing.assert_close(c, rest, rtol=1e-11, atol=0)
    torch.testing.assert_close(first, slope, rtol=1e-9, atol=0)
    torch.testing.assert_close(by_log, -rest, rtol=1e-11, atol=0)
    torch.testing.assert_close(value, log_value, rtol=1e-14, atol=1e-14)
