"""fourier-p in small: its signals, its kernels against dense ones, its networks, its claims, and that it repeats."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _fourier_p_nets as nets
from fingerpost.experiments import _fourier_p_sweep as exact
from fingerpost.experiments import fourier_p, load_experiment
from fingerpost.spectral import FourierFeatures, predict, relu_ntk

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "points": 12, "between": 4, "band": 20, "signals": 24, "width": 64, "net_width": 48, "late": 3.0, "depth": 2,
    "powers": (0.0, 1.0, math.inf), "trained": (0.0, 1.0), "alphas": (1.0, 2.0), "time": 1.0, "share": 1.0,
}  # fmt: skip
SMALL = dataclasses.replace(fourier_p.Config(), **TINY)


def test_its_claims_are_all_stated_and_it_repeats_to_the_bit(tmp_path):
    first = carry_out("fourier-p", tmp_path / "first", **TINY)
    carry_out("fourier-p", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    settings = [f"alpha-{alpha}-{time}" for alpha in (1, 2) for time in ("paper", "late")]
    assert claims.keys() == {
        *(f"p-one-is-best-{setting}" for setting in settings),
        "low-p-overfits-alpha-1", "low-p-overfits-alpha-2", "one-p-for-all", "kernels-predict-real-networks",
        "lower-frequencies-have-larger-eigenvalues-p-0", "lower-frequencies-have-larger-eigenvalues-p-1",
        "kernels-pick-the-best-p",
    }  # fmt: skip
    assert claims["low-p-overfits-alpha-2"].holds
    assert not claims["lower-frequencies-have-larger-eigenvalues-p-0"].holds
    assert claims["lower-frequencies-have-larger-eigenvalues-p-1"].holds
    assert {path.name for path in (tmp_path / "first" / "figures").iterdir()} == {
        "sweep.svg", "time.svg", "spectra.svg", "networks.svg",
    }  # fmt: skip


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_signals_fill_their_range_and_have_their_spectrum_and_nothing_past_the_band(alpha):
    config = dataclasses.replace(SMALL, signals=3000)
    values = exact.signals(config, alpha)
    assert values.shape == (3000, 48)
    assert torch.equal(values.amin(1), torch.full((3000,), -0.5, dtype=torch.float64))
    assert torch.equal(values.amax(1), torch.full((3000,), 0.5, dtype=torch.float64))
    assert torch.fft.rfft(values)[:, 20:].abs().max() < 1e-12
    power = torch.fft.rfft(exact.drawn(config, alpha)).abs().square().mean(0)
    slope = (power[9] / power[1]).log() / math.log(10 / 2)
    assert slope.item() == pytest.approx(-2 * alpha, abs=0.05)  # standard error 0.016


def test_training_and_test_points_are_where_they_are_said_to_be():
    values = torch.arange(48, dtype=torch.float64)[None] / 48
    y, between = exact.split(SMALL, values)
    assert torch.equal(y[:, 0], torch.arange(12, dtype=torch.float64) / 12)
    assert torch.equal(between[3, :, 0], (torch.tensor([1, 2, 3]) + 12) / torch.tensor(48.0).double())


@pytest.mark.parametrize("p", [0.0, 1.0, math.inf])
def test_a_sweep_is_training_by_the_dense_kernel(p):
    times = torch.tensor([0.1, 3.0], dtype=torch.float64)
    found = exact.sweep(SMALL, 1.0, p, times)
    values = exact.signals(SMALL, 1.0)
    fine = torch.arange(48, dtype=torch.float64)[:, None] / 48
    x, mask = fine[::4], torch.arange(48) % 4 != 0
    settings = {"depth": 2, "weight_std": 1.0, "bias_std": 0.0, "width": 64}
    encoding = FourierFeatures.power(p, 12).double()
    K = relu_ntk(x, encoding=encoding, **settings)
    K_test = relu_ntk(fine[mask], x, encoding=encoding, **settings)
    y = values[:, ::4].T
    outputs = predict(K, y, times, 1.0, K_test=K_test, time="flow")
    torch.testing.assert_close(found.test, (outputs - values[:, mask].T).square().mean(1))
    torch.testing.assert_close(found.train, (predict(K, y, times, 1.0, time="flow") - y).square().mean(1))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_no_kernel_passes_the_best_linear_interpolation(alpha):
    config = dataclasses.replace(SMALL, signals=2000)
    floor = exact.floor(config, alpha)
    times = torch.tensor([0.3, 1.0, 10.0, 1000.0], dtype=torch.float64)
    for p in (0.0, 0.5, 1.0, 1.5, math.inf):
        assert (exact.sweep(config, alpha, p, times).test.mean(1) > 0.99 * floor).all()


def test_signals_below_the_nyquist_limit_have_a_floor_of_nearly_nothing_next_to_those_past_it():
    below = dataclasses.replace(SMALL, band=6, signals=200)
    assert exact.floor(below, 1.0) < 1e-3 * exact.floor(dataclasses.replace(SMALL, signals=200), 1.0)


def test_networks_start_at_their_prediction_and_stay_the_nearer_the_wider(tmp_path):
    apart = []
    for width in (32, 512):
        config = dataclasses.replace(SMALL, net_width=width)
        carry_out("fourier-p", tmp_path / str(width), **dict(TINY, net_width=width, dtype="float64"))
        stage = tmp_path / str(width) / "stages" / "net-alpha1-p1.json"
        found = nets.Trained(1.0, 1.0, **json.loads(stage.read_text())["result"])
        assert found.times[0] == 0
        assert found.apart[0] < 1e-12
        assert found.real[0] == pytest.approx(found.predicted[0], rel=1e-12)
        assert found.times[-1] == pytest.approx(config.late)
        apart.append(found.at(found.apart, 1.0))
    assert apart[1] < 0.5 * apart[0]
    assert apart[1] < 0.1


BAD = [
    ({"device": "cuda"}, "on cuda"),
    ({"dtype": "bfloat16"}, "bfloat16"),
    ({"points": 7}, "even number"),
    ({"between": 1}, "at least 2"),
    ({"band": 200}, "band is 200"),
    ({"signals": 1}, "at least 2 signals"),
    ({"powers": (0.0, 2.0, 3.0)}, "p = 1"),
    ({"trained_alphas": (3.0,)}, "not all in alphas"),
    ({"share": 2.5}, "share is below 2"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_settings_that_cannot_work_are_refused(changes, said):
    module = load_experiment("fourier-p")
    with pytest.raises(ConfigError, match=said):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
