"""Posteriors on grids: closed forms, circles, dimensions, products, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population import Posterior, combine_posteriors, product_grid
from fingerpost.population.posterior import onto_circle
from population.problems import CIRCLE, F64, GRID, generator, line


def normal(mean: float, spread: float, grid: torch.Tensor = GRID) -> Posterior:
    return Posterior(grid, -0.5 * ((grid - mean) / spread) ** 2)


@given(mean=st.floats(-3, 3), spread=st.floats(0.3, 1.2))
@settings(max_examples=40, deadline=None)
def test_a_gaussian_has_its_moments_entropy_and_intervals(mean: float, spread: float) -> None:
    one = normal(mean, spread)
    assert abs(float(one.mean) - mean) < 1e-7
    assert abs(float(one.variance) / spread**2 - 1) < 1e-5
    assert abs(float(one.entropy) - 0.5 * math.log(2 * math.pi * math.e * spread**2)) < 1e-5
    low, high = one.interval(0.9)
    assert abs(float(low) - (mean - 1.6448536 * spread)) < 2e-3
    assert abs(float(high) - (mean + 1.6448536 * spread)) < 2e-3
    assert abs(float(one.mode) - mean) <= 0.0250001
    assert abs(float(one.mass.sum()) - 1) < 1e-12
    assert abs(float((one.density * 0.05).sum()) - 1) < 1e-12


def test_kl_of_gaussians_is_the_closed_form_and_never_negative() -> None:
    p, q = normal(0.5, 1.0), normal(-0.5, 1.5)
    expected = math.log(1.5) + (1 + 1) / (2 * 2.25) - 0.5
    assert abs(float(p.kl(q)) - expected) < 1e-9
    assert float(p.kl(p)) == 0
    near = Posterior(GRID, p.log_density + 1e-9 * GRID.sin())
    assert 0 <= float(p.kl(near)) < 1e-17


def test_kl_is_infinite_where_the_other_has_no_mass_and_finite_where_both_have_none() -> None:
    inside = torch.where(GRID.abs() < 2.01, 0.0, -math.inf).double()
    half = torch.where(GRID.abs() < 1.01, 0.0, -math.inf).double()
    wide, narrow = Posterior(GRID, inside), Posterior(GRID, half)
    assert float(wide.kl(narrow)) == math.inf
    assert abs(float(narrow.kl(wide)) - math.log(81 / 41)) < 1e-12


def test_unequal_steps_are_weighted_by_their_cells() -> None:
    grid = torch.cat([line(-8, 0, 2001)[:-1], line(0, 8, 500)])
    one = Posterior(grid, -0.5 * (grid - 0.4) ** 2)
    assert abs(float(one.mean) - 0.4) < 1e-4
    assert abs(float(one.variance) - 1) < 1e-4


@given(mean=st.floats(0, 180), kappa=st.floats(0.01, 30))
@settings(max_examples=40, deadline=None)
def test_circular_moments_are_those_of_von_mises(mean: float, kappa: float) -> None:
    angle = 2 * math.pi * (CIRCLE - mean) / 180
    one = Posterior(CIRCLE, kappa * angle.cos(), period=180.0)
    gap = (float(one.mean) - mean + 90) % 180 - 90
    assert abs(gap) < 1e-6
    assert 0 <= float(one.mean) < 180
    bessel = torch.special.i1e(torch.tensor(kappa, dtype=F64)) / torch.special.i0e(
        torch.tensor(kappa, dtype=F64)
    )
    assert abs(float(one.resultant) - float(bessel)) < 1e-9
    d = (CIRCLE - mean + 90) % 180 - 90
    assert abs(float(one.variance) - float((one.mass * d**2).sum())) < 1e-5 * float(one.variance)


def test_a_posterior_across_the_cut_of_a_circle_is_one_across_nothing() -> None:
    gap = (CIRCLE - 179 + 90) % 180 - 90
    one = Posterior(CIRCLE, -0.5 * (gap / 4) ** 2, period=180.0)
    assert abs(float(one.mean) - 179) < 1e-9
    assert abs(float(one.variance) - 16) < 1e-6
    low, high = one.interval(0.95)
    assert abs(float(low) - (179 - 1.96 * 4)) < 0.02
    assert abs(float(high) - (179 + 1.96 * 4)) < 0.02
    assert abs(float(one.error(torch.tensor(2.0))) + 3) < 1e-9


def test_uncorrelated_axes_of_two_dimensions_are_those_of_one() -> None:
    x, y = line(-6, 6, 61), line(-8, 8, 81)
    grid = product_grid(x, y)
    level = -0.5 * (grid[:, 0] - 0.3) ** 2 - 0.5 * ((grid[:, 1] + 1) / 1.5) ** 2
    both = Posterior(grid, torch.stack([level, level]))
    torch.testing.assert_close(both.mean[0], torch.tensor([0.3, -1.0], dtype=F64), rtol=0, atol=1e-5)
    torch.testing.assert_close(both.covariance[1], torch.diag(both.variance[1]), rtol=0, atol=1e-9)
    one = normal(-1, 1.5, y)
    torch.testing.assert_close(both.marginal(1).mass[0], one.mass, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(both.interval()[0][0, 1], one.interval()[0], rtol=1e-9, atol=1e-9)
    assert both.rank(torch.zeros(2, 2)).shape == (2,)


def test_correlation_is_in_the_covariance() -> None:
    grid = product_grid(line(-6, 6, 61), line(-6, 6, 61))
    inverse = torch.linalg.inv(torch.tensor([[1.0, 0.6], [0.6, 1.5]], dtype=F64))
    one = Posterior(grid, -0.5 * torch.einsum("si,ij,sj->s", grid, inverse, grid))
    torch.testing.assert_close(one.covariance, torch.linalg.inv(inverse), rtol=0, atol=1e-4)


def test_one_axis_may_be_a_circle() -> None:
    grid = product_grid(line(-4, 4, 41), CIRCLE[::4])
    gap = (grid[:, 1] - 178 + 90) % 180 - 90
    one = Posterior(grid, -0.5 * grid[:, 0] ** 2 - 0.5 * (gap / 5) ** 2, period=(None, 180.0))
    torch.testing.assert_close(one.mean, torch.tensor([0.0, 178.0], dtype=F64), rtol=0, atol=1e-6)
    torch.testing.assert_close(one.variance[1], torch.tensor(25.0, dtype=F64), rtol=1e-4, atol=0)
    assert math.isnan(float(one.resultant[0]))


@given(m=st.floats(-2, 2), n=st.floats(-2, 2), s=st.floats(0.4, 1.2), t=st.floats(0.4, 1.2))
@settings(max_examples=40, deadline=None)
def test_products_follow_both_formulas(m: float, n: float, s: float, t: float) -> None:
    both = normal(m, s) * normal(n, t)
    assert abs(float(both.mean) - (t**2 * m + s**2 * n) / (s**2 + t**2)) < 1e-9
    assert abs(1 / float(both.variance) / (1 / s**2 + 1 / t**2) - 1) < 1e-4


def test_dividing_undoes_multiplying_and_counts_the_prior_once() -> None:
    prior, cue = normal(0, 2.0), normal(1.0, 1.0)
    torch.testing.assert_close(((cue * prior) / prior).mass, cue.mass, rtol=1e-10, atol=1e-15)
    both = combine_posteriors([cue * prior, cue * prior, cue * prior], prior)
    torch.testing.assert_close(both.mass, (cue * cue * cue * prior).mass, rtol=1e-9, atol=1e-15)
    with pytest.raises(InvalidValueError, match="prior is 0"):
        cue.divided_by(Posterior(GRID, torch.where(GRID > 0, 0.0, -math.inf)))


def test_samples_have_the_moments_and_ranks_are_uniform() -> None:
    one = normal(1.0, 0.7)
    drawn = one.sample(20000, generator())
    assert abs(float(drawn.mean()) - 1) < 0.02
    assert abs(float(drawn.var()) / 0.49 - 1) < 0.04
    level = one.log_density.expand(2000, -1)
    rank = Posterior(GRID, level).rank(one.sample(2000, generator(1)))
    assert abs(float(rank.mean()) - 0.5) < 0.02
    assert abs(float((rank < 0.2).double().mean()) - 0.2) < 0.03


def test_samples_of_a_circle_stay_in_its_period() -> None:
    one = Posterior(CIRCLE, torch.zeros_like(CIRCLE), period=180.0)
    drawn = one.sample(2000, generator())
    assert bool(((drawn >= 0) & (drawn < 180)).all())


def test_picking_trials_keeps_them_on_unequal_steps() -> None:
    grid = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=F64)
    level = torch.randn(5, 4, generator=generator(), dtype=F64)
    one = Posterior(grid, level)
    torch.testing.assert_close(one[2:4].mass, one.mass[2:4])
    torch.testing.assert_close((one * one)[1].mass, Posterior(grid, 2 * level[1]).mass)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Posterior([], []), ShapeError, "grid is empty"),
        (lambda: Posterior(GRID, torch.zeros(3)), ShapeError, "log_density has shape"),
        (lambda: Posterior(GRID.flip(0), GRID), InvalidValueError, "isn't ascending"),
        (lambda: Posterior(GRID, GRID * math.nan), InvalidValueError, "nan as its largest"),
        (
            lambda: Posterior(GRID, torch.full_like(GRID, -math.inf)),
            InvalidValueError,
            "no stimulus of the grid",
        ),
        (
            lambda: Posterior(GRID, GRID, period=20.0),
            InvalidValueError,
            "leave out the point that comes back",
        ),
        (lambda: Posterior(GRID, GRID, period=-1.0), InvalidValueError, "period is -1"),
        (lambda: normal(0, 1).interval(1.0), InvalidValueError, "level is 1"),
        (lambda: normal(0, 1) * normal(0, 1, GRID + 1), ShapeError, "other grids"),
        (lambda: normal(0, 1).kl(3), InvalidTypeError, "expected a Posterior"),  # pyright: ignore[reportArgumentType]
        (lambda: Posterior(GRID, GRID.expand(2, -1)).error(torch.zeros(3)), ShapeError, "for trials"),
        (lambda: normal(0, 1)[..., 0], ShapeError, "beyond the trials"),
    ],
)
def test_bad_posteriors_are_refused_by_name(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("value", [-1e-18, -1e-14, 180.0, 179.99999999999997, 360.0, -180.0])
@pytest.mark.parametrize("start", [0.0, 30.0, -90.0])
def test_a_place_on_a_circle_is_never_its_end(value: float, start: float) -> None:
    home = float(onto_circle(torch.tensor(value, dtype=F64), start, 180.0))
    assert start <= home < start + 180
    gap = (home - value + 90) % 180 - 90
    assert abs(gap) < 1e-12
