"""Sums of cues hold the product of posteriors, exactly where they should; matrices and kernels that make up for differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, NumericalError, ShapeError
from fingerpost.population import (
    FanoCode,
    GaussianTuning,
    PoissonCode,
    combine,
    kernel_from_moments,
    kernel_slope,
    optimality_report,
    transfer_matrix,
)
from population.problems import F64, GRID, TILING, TUNINGS, generator, line


@pytest.mark.parametrize("name", TUNINGS)
@given(g1=st.floats(0.1, 20), g2=st.floats(0.1, 20), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_sum_holds_the_product_of_posteriors_to_1e12(name: str, g1: float, g2: float, seed: int) -> None:
    code, draw = PoissonCode(TUNINGS[name]), generator(seed)
    r1, r2 = code.encode(torch.tensor([0.3, 2.0]), g1, draw), code.encode(torch.tensor([1.3, -2.0]), g2, draw)
    product = code.decode(r1, GRID, g1) * code.decode(r2, GRID, g2)
    summed = code.decode(combine(r1, r2), GRID, g1 + g2)
    assert float((product.mass - summed.mass).abs().sum(-1).max()) < 1e-12
    assert float(summed.kl(product).max()) < 1e-12


def test_both_formulas_hold_to_1e12_for_gaussian_curves_that_tile() -> None:
    code, wide, draw = PoissonCode(TILING), line(-30, 30, 2401), generator()
    s1, s2 = line(-3, 0, 20), line(0, 3, 20)
    r1, r2 = code.encode(s1, 6.0, draw), code.encode(s2, 2.0, draw)
    p1, p2, p3 = (code.decode(r, wide, None) for r in (r1, r2, combine(r1, r2)))
    v1, v2 = p1.variance, p2.variance
    mean = (v2 * p1.mean + v1 * p2.mean) / (v1 + v2)
    assert float((p3.mean - mean).abs().max()) < 1e-12
    assert float((1 / p3.variance * (1 / (1 / v1 + 1 / v2)) - 1).abs().max()) < 1e-12


def test_a_cue_of_other_width_joins_through_its_matrix() -> None:
    wide, draw, s = GaussianTuning(line(-60, 60, 121), 6.0), generator(), line(-2, 2, 5)
    first, second = PoissonCode(TILING), PoissonCode(wide)
    r1, r2 = first.encode(s, 5.0, draw), second.encode(s, 5.0, draw)
    found = transfer_matrix(second.kernel(GRID), first.kernel(GRID))
    assert float(found.residual.max()) < 1e-9
    true = first.decode(r1, GRID, None) * second.decode(r2, GRID, None)
    joined = first.family.decode(combine(r1, r2, [None, found.matrix]), GRID, None)
    assert float(true.kl(joined).max()) < 1e-12


def test_no_matrix_carries_a_kernel_that_the_other_does_not_span() -> None:
    basis, odd = TILING.log_rates(GRID), (3 * GRID).sin()[:, None]
    assert float(transfer_matrix(odd, basis).residual.max()) > 0.5


def test_numbers_weigh_cues() -> None:
    r1, r2 = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 0.0]])
    assert combine(r1, r2, [2.0, 0.5]).tolist() == [[4.0, 4.0]]
    with pytest.raises(ShapeError, match="of 2 and 3 neurons"):
        combine(r1, torch.zeros(1, 3))
    with pytest.raises(ShapeError, match="A of the second cue has shape"):
        combine(r1, r2, [None, torch.eye(3)])
    with pytest.raises(InvalidTypeError, match="expected a pair"):
        combine(r1, r2, torch.eye(2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["Gaussian with a baseline", "von Mises", "sigmoid", "any function"])
def test_the_kernel_from_moments_is_log_f_for_poisson_counts(name: str) -> None:
    tuning, grid = TUNINGS[name], line(-4, 4, 81)
    h = kernel_from_moments(tuning, tuning, grid)
    expected = tuning(grid).log() - tuning(grid[:1]).log()
    torch.testing.assert_close(h, expected, rtol=0, atol=1e-10)
    full = kernel_from_moments(tuning, lambda s: torch.diag_embed(tuning(s)), grid)
    torch.testing.assert_close(full, h, rtol=1e-9, atol=1e-12)


def test_the_kernel_from_moments_divides_by_the_fano_factor_and_decodes_right() -> None:
    code = FanoCode(TUNINGS["Gaussian with a baseline"], 3.0)
    h = kernel_from_moments(code.tuning, lambda s: 3 * code.tuning(s), GRID)
    torch.testing.assert_close(h, code.kernel(GRID) - code.kernel(GRID[:1]), rtol=0, atol=1e-9)


def test_correlations_enter_the_kernel_and_its_slope_gives_the_fisher_information() -> None:
    tuning, s = TUNINGS["Gaussian with a baseline"], torch.tensor([0.3], dtype=F64)
    covariance = 0.2 + torch.eye(13, dtype=F64)
    slope = tuning.derivative(s)
    found = kernel_slope(tuning, lambda s: covariance.expand(*s.shape, 13, 13), s)
    information = (slope * found).sum()
    torch.testing.assert_close(
        information, slope[0] @ torch.linalg.inv(covariance) @ slope[0], rtol=1e-10, atol=0
    )


def test_a_singular_covariance_is_refused_with_its_stimulus() -> None:
    with pytest.raises(NumericalError, match="singular at the stimulus"):
        kernel_from_moments(TILING, lambda s: torch.zeros(*s.shape, 81, 81, dtype=F64), GRID)
    with pytest.raises(ShapeError, match="covariance has shape"):
        kernel_from_moments(TILING, lambda s: torch.ones(3), GRID)


def test_the_report_of_the_true_posterior_is_optimal_and_of_a_fano_factor_is_not() -> None:
    code, draw = FanoCode(TILING, 2.0), generator(4)
    shown = 20 * torch.rand(4000, generator=draw, dtype=F64) - 10
    counts = code.encode(shown, 4.0, draw)
    true = code.decode(counts, GRID, 4.0)
    best = optimality_report(true, true, shown)
    assert best.kl.value == 0
    assert best.ratio.value == best.claimed.value == 1
    assert best.calibration.low < 1 < best.calibration.high
    read = optimality_report(true, PoissonCode(TILING).decode(counts, GRID, 4.0), shown)
    assert read.kl.low > 0.1
    assert read.calibration.low < 0.5 < read.calibration.high or abs(read.calibration.value - 0.5) < 0.06
    assert abs(read.claimed.value - 0.5) < 0.04
    assert read.ratio.low > 0.98
    assert [name for name, _ in read.items()] == ["kl", "ratio", "calibration", "claimed"]


def test_the_reports_intervals_cover() -> None:
    code, draw, inside = PoissonCode(TILING), generator(5), 0
    for _ in range(60):
        shown = 10 * torch.rand(200, generator=draw, dtype=F64) - 5
        counts = code.encode(shown, 20.0, draw)
        one = code.decode(counts, GRID, 20.0)
        inside += int(optimality_report(one, one, shown, level=0.8).calibration.low < 1
                      < optimality_report(one, one, shown, level=0.8).calibration.high)  # fmt: skip
    assert 37 <= inside <= 57  # Binomial(60, 0.8) leaves this range once in a thousand


def test_a_report_of_one_trial_has_no_interval() -> None:
    one = PoissonCode(TILING).decode(torch.ones(1, 81), GRID)
    assert math.isnan(optimality_report(one, one, torch.zeros(1)).kl.low)
    with pytest.raises(ShapeError, match="posteriors are of trials"):
        optimality_report(one, PoissonCode(TILING).decode(torch.ones(2, 81), GRID), torch.zeros(1))
