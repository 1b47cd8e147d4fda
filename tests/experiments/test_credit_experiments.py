"""The equilibrium-propagation experiments in small: they run, state their claims, and end the same every time."""

import dataclasses
import signal
import subprocess
import sys
import time

import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import load_experiment

from experiments.carrying import carry_out, results_of  # isort: skip

pytest.importorskip("sklearn", reason="the digits are inside scikit-learn's wheel")

TINY_DIGITS = {"seeds": 2, "epochs": 1, "depth": 3, "width": 16, "warm_up": 5, "steps": 5}


def test_ep_digits_names_the_sign_bug_passes_the_fix_and_repeats_to_the_bit(tmp_path):
    first = carry_out("ep-digits", tmp_path / "first", **TINY_DIGITS)
    carry_out("ep-digits", tmp_path / "second", **TINY_DIGITS)
    claims = {claim.name: claim for claim in first.claims()}
    assert claims["bug-named"].holds, claims["bug-named"].note
    assert claims["fix-passes"].holds, claims["fix-passes"].note
    assert claims["error-credit-exact"].holds, claims["error-credit-exact"].note
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")


@pytest.mark.slow
def test_ep_digits_killed_by_sigkill_and_resumed_equals_never_killed(tmp_path):
    carry_out("ep-digits", tmp_path / "whole", **TINY_DIGITS)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in TINY_DIGITS.items()]
    command = [sys.executable, "-m", "fingerpost", "run", "ep-digits", "--preset=quick", *flags]
    command.append(f"--run-dir={tmp_path / 'killed'}")
    for stages in (3, 11):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_stages(tmp_path / "killed", stages, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


def wait_for_stages(folder, count, process, seconds=120):
    limit = time.monotonic() + seconds
    while len(list((folder / "stages").glob("*.json"))) < count:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < limit, "the run did not get on"
        time.sleep(0.01)


@pytest.mark.parametrize("changes", [{"seeds": 1}, {"beta": 0.0}, {"depth": 0}, {"ema": 1.0}])
def test_ep_digits_refuses_settings_that_cannot_work(changes):
    module = load_experiment("ep-digits")
    with pytest.raises(ConfigError, match=next(iter(changes))):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))


def test_ep_synthetic_measures_both_limits_with_their_orders(tmp_path):
    run = carry_out("ep-synthetic", tmp_path / "run", depths=(2, 3), width=12, samples=64)
    claims = {claim.name: claim for claim in run.claims()}
    orders = {name: claim for name, claim in claims.items() if name.startswith("order-")}
    assert len(orders) == 4
    for claim in [
        *orders.values(),
        claims["bug-gamma"],
        claims["displacement-not-gradient"],
        claims["bug-named"],
    ]:
        assert claim.holds, (claim.name, claim.measured, claim.note)


def test_ep_synthetic_refuses_single_precision_since_limits_lie_below_its_rounding():
    module = load_experiment("ep-synthetic")
    with pytest.raises(ConfigError, match="float64"):
        module.check(dataclasses.replace(module.PRESETS["quick"], dtype="float32"))
