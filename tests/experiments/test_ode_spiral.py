"""The spiral experiment in small: same training with three gradients, repeatable, wrong settings refused."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import neural_ode_spiral as spiral

from experiments.carrying import carry_out  # isort: skip

TINY = {"steps": 12, "width": 16, "batch_size": 4, "observations": 30, "segment": 4}


def claims_of(folder, **changes):
    return {
        claim.name: claim for claim in carry_out("neural-ode-spiral", folder, **{**TINY, **changes}).claims()
    }


def test_the_true_field_shrinks_the_fourth_power_norm_at_its_known_rate():
    z = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (z**4).sum().backward()
    along = (z.grad * spiral.true_field(None, z.detach())).sum(-1)  # d/dt Σ z⁴ = −0.4 Σ z⁶
    torch.testing.assert_close(along, -0.4 * (z.detach() ** 6).sum(-1))


def test_three_gradients_train_alike_and_a_second_run_repeats_the_first(tmp_path):
    claims = claims_of(tmp_path / "first", dtype="float64")
    claims_of(tmp_path / "second", dtype="float64")
    assert claims["same-training"].holds, claims["same-training"].measured
    assert claims["replay-cost"].holds, claims["replay-cost"].measured
    for name in ("claims.json", "metrics.jsonl", "figures/portrait.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("changes", [{"segment": 1}, {"segment": 101}, {"seeds": 0}, {"rtol": 0.0}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        spiral.check(dataclasses.replace(spiral.PRESETS["quick"], **changes))


@pytest.mark.parametrize("module", ["adjoint_three_losses", "neural_ode_spiral", "cnf_2d"])
def test_a_command_line_is_checked_before_torch_is_loaded(module):
    code = f"import sys, fingerpost.experiments.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
