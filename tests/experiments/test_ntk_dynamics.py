"""ntk-dynamics in small: that it repeats, that its claims can fail, and that its parts measure what they say."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _tangent_training as tangent
from fingerpost.experiments import load_experiment, ntk_dynamics
from fingerpost.spectral import FourierFeatures, modes

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "seeds": 2, "widths": (32, 256), "points": 12, "steps": 40, "shares": (0.1, 1.0), "beyond": (2.5,), "beyond_steps": 80,
    "rate_width": 64,
}  # fmt: skip


def test_it_repeats_to_the_bit_and_what_it_shows_in_small_points_the_way_it_should(tmp_path):
    first = carry_out("ntk-dynamics", tmp_path / "first", **TINY)
    carry_out("ntk-dynamics", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert set(claims) == {
        "error-falls-with-width", "lazier-with-alpha", "initial-output", "eq-3-printed", "flow-at-small-rates",
        "flow-parts-from-steps", "beyond-2.5",
    }  # fmt: skip
    for name in ("error-falls-with-width", "lazier-with-alpha", "flow-at-small-rates", "beyond-2.5"):
        assert claims[name].holds, claims[name]
    assert all(
        claim.measured > 1 for name, claim in claims.items() if name in ("initial-output", "eq-3-printed")
    )


def begin(width=64, scale=1.0, points=12):
    return tangent.start(width, 2, scale, points, FourierFeatures.basic(1), seed=0)


def test_a_very_lazy_network_is_the_linear_theory_and_the_record_is_at_the_steps_it_says():
    net = begin(scale=1e4)
    y = net.f0 + ntk_dynamics.labels(net.x)
    rate, times = net.rate(0.5), [0, 1, 2, 7, 30]
    real, losses = tangent.descend(net, y, rate, times, net.x_test, None, "train")
    predicted = net.predicted(y, times, rate)
    torch.testing.assert_close(real - net.f0_test, predicted - net.f0_test, rtol=0, atol=2e-3)
    torch.testing.assert_close(real[0], net.f0_test)
    assert len(losses) == 30
    shifted = net.predicted(y, [t + 1 for t in times], rate)
    assert float((real - shifted)[1].abs().max()) > 20 * float((real - predicted)[1].abs().max())


def test_the_share_is_the_learning_rate_times_the_largest_eigenvalue():
    net = begin()
    found = modes(net.K, learning_rate=net.rate(0.5), loss="mse")
    assert float(found.values[0]) * found.step == pytest.approx(0.5, rel=1e-12)


def test_a_recording_survives_its_own_state():
    record = tangent.Record([0, 3], 2)
    record.hear(3, lambda x: x, torch.tensor([[1.0], [2.0]]))
    other = tangent.Record([0, 3], 2)
    other.load_state_dict(record.state_dict())
    assert other.outputs[1].tolist() == [1.0, 2.0]
    assert torch.isnan(other.outputs[0]).all()


def test_times_are_whole_and_end_where_they_should():
    for steps in (1, 2, 17, 256):
        times = tangent.log_spaced(steps)
        assert (times[0], times[-1]) == (0, steps)
        assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"widths": (0,)}, "at least 1"),
        ({"points": 4}, "at least 8"),
        ({"shares": (2.0,)}, r"\(0, 2\)"),
        ({"beyond": (1.0,)}, "above 2"),
        ({"beyond_steps": 10_000}, "overflows"),
        ({"scales": (0.0,)}, "above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        ntk_dynamics.check(dataclasses.replace(load_experiment("ntk-dynamics").PRESETS["quick"], **changes))
