"""spectral-bias in small: that it repeats, and that rates, frequencies and orders are measured as they say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _spectral_bias_results as results
from fingerpost.experiments import load_experiment, spectral_bias

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"seeds": 2, "widths": (32, 256), "points": 12, "steps": 60}
QUICK = load_experiment("spectral-bias").PRESETS["quick"]


def test_it_repeats_to_the_bit_and_modes_decay_as_predicted_in_small(tmp_path):
    first = carry_out("spectral-bias", tmp_path / "first", **TINY)
    carry_out("spectral-bias", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert len(claims) == 12
    for name in ("decay-p-1", "decay-p-0", "decay-by-width-p-0", "kernel-order-p-inf", "kernel-order-p-1"):
        assert claims[name].holds, claims[name]
    assert claims["learned-order-p-1"].measured > claims["learned-order-p-0"].measured + 0.3


def config(**changes):
    return dataclasses.replace(QUICK, **changes)


def test_a_rate_is_read_off_its_first_e_folds_and_not_off_what_comes_after():
    times = spectral_bias.times_of(config(steps=200))
    t = torch.tensor(times, dtype=torch.float64)
    errors = torch.exp(-0.02 * t)
    errors[t > 60] = 0.3  # a floor that other modes leak into
    assert spectral_bias.measured_rate(errors, times, 0.02, config(steps=200)) == pytest.approx(
        0.02, rel=1e-9
    )
    assert spectral_bias.measured_rate(errors, times, 0.001, config(steps=200)) is None
    fast = torch.exp(-3.0 * t)
    assert spectral_bias.measured_rate(fast, times, 3.0, config(steps=200)) == pytest.approx(3.0, rel=1e-9)


def test_a_rate_that_differs_from_the_prediction_shows():
    times = spectral_bias.times_of(config(steps=200))
    errors = torch.exp(-0.03 * torch.tensor(times, dtype=torch.float64))
    assert spectral_bias.measured_rate(errors, times, 0.02, config(steps=200)) == pytest.approx(
        0.03, rel=1e-9
    )


@pytest.mark.parametrize("n", [9, 12])
def test_frequencies_of_sines_and_cosines_are_their_own(n):
    v = torch.arange(n, dtype=torch.float64) / n
    waves = torch.stack([torch.cos(2 * math.pi * j * v + 0.3) for j in range(n // 2 + 1)], 1)
    found = spectral_bias.mean_frequency(waves)
    torch.testing.assert_close(found, torch.arange(n // 2 + 1, dtype=torch.float64), atol=1e-10, rtol=0)
    mixed = (waves[:, 1] / waves[:, 1].norm() + waves[:, 3] / waves[:, 3].norm())[:, None]
    assert float(spectral_bias.mean_frequency(mixed)) == pytest.approx(2.0)


def test_what_is_left_is_taken_when_the_median_frequency_has_lost_half():
    v = torch.arange(12, dtype=torch.float64) / 12
    rates = torch.tensor([1.0, 0.5, 0.1, 0.02, 0.01])
    errors = torch.stack(
        [
            sum(torch.exp(-r * t) * torch.cos(2 * math.pi * (j + 1) * v) for j, r in enumerate(rates))
            + torch.cos(math.pi * 12 * v)
            for t in torch.arange(0, 40.0)
        ]
    )
    left = spectral_bias.left_at_half(errors)
    assert left == sorted(left)
    assert left[-1] == pytest.approx(1.0)
    assert sorted(left)[2] <= 0.5 < math.exp(0.1) * sorted(left)[2]


def test_orders_are_rank_correlations_that_leave_out_the_constant():
    low_first = {
        "frequencies": [0.0, 1.0, 2.0, 3.0],
        "eigenvalues": [0.1, 0.9, 0.5, 0.2],
        "left": [0.1, 0.2, 0.9],
    }
    flat = {"frequencies": [0.0, 1.0, 2.0, 3.0], "eigenvalues": [9.0, 0.2, 0.5, 0.3], "left": [0.5, 0.1, 0.3]}
    kernel, trained = results.orders([low_first, flat])
    assert (kernel[0], trained[0]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert kernel[1] < 0
    assert trained[1] < 0


def test_statistics_of_rates_are_geometric_and_a_mode_that_grew_counts_against_them():
    result = {"measured": [0.2, 0.05, None, -0.01], "predicted": [0.1, 0.1, 0.1, 0.1]}
    assert results.ratios(result).tolist() == [2.0, 0.5, 0.01]
    assert results.middle({**result, "measured": [0.2, 0.05, None, None]}) == pytest.approx(1.0)
    assert results.spread({**result, "measured": [0.2, 0.05, None, None]}) == pytest.approx(math.log(2))
    assert results.slope({"measured": [0.01, 0.1, 1.0], "predicted": [0.1, 0.2, 0.4]}) == pytest.approx(
        math.log(100) / math.log(4)
    )
    assert math.isnan(results.slope(result))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"widths": (0,)}, "at least 1"),
        ({"points": 4}, "at least 8"),
        ({"share": 1.5}, r"\(0, 1\)"),
        ({"least": 2.0}, "least ≤ folds"),
        ({"powers": (math.nan,)}, "numbers or inf"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        spectral_bias.check(config(**changes))
