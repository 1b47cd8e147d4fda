"""Polynomials in place of integrals: they agree with what they are fitted to, and are not used where they don't hold."""

from __future__ import annotations

import pytest
import torch

from fingerpost.distributions._incomplete_gamma import _FITS, _velocity_fitted, gamma_velocity
from fingerpost.distributions._interpolant import Interpolant


def test_an_interpolant_gives_a_polynomial_of_its_degree_to_rounding():
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 1 + x**3 * y - 2 * y**2

    fit = Interpolant(function, (-1.0, 3.0), (0.5, 2.0), (4, 3))
    x = torch.linspace(-1, 3, 50, dtype=torch.float64)
    y = torch.linspace(0.5, 2, 50, dtype=torch.float64).flip(0)
    torch.testing.assert_close(fit(x, y), function(x, y), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("fit", _FITS, ids=lambda fit: f"a from {1 / fit.y[1]:g}")
def test_fitted_velocities_of_gamma_are_those_of_the_integral(fit):
    """The integral itself is right to 1e-12 (its references); the polynomials must not lose more than that."""
    draw = torch.Generator().manual_seed(0)
    log, inverse = (
        low + (high - low) * torch.rand(20_000, generator=draw, dtype=torch.float64)
        for low, high in (fit.x, (max(fit.y[0], 1e-5), fit.y[1]))
    )
    a = 1 / inverse
    z = a * log.exp()
    slow = gamma_velocity(z, a.clone().requires_grad_()).detach()
    torch.testing.assert_close(_velocity_fitted(z, a, (z / a).log()), slow, rtol=2e-12, atol=0)
