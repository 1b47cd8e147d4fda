"""``fingerpost audit FILE:FUNCTION``: verdicts as exit status, and bad usage in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch


def test_a_right_signal_passes_and_its_flipped_twin_is_named(command, files):
    status, out, _ = command("audit", f"{files}/signals.py:right", "--quick")
    assert status == 0
    assert "EXACT" in out or "ALIGNED" in out
    status, out, _ = command("audit", f"{files}/signals.py:flipped", "--quick")
    assert status == 1
    assert "FAULT" in out
    assert "sign" in out


def test_json_is_the_report_in_one_line(command, files):
    status, out, _ = command("audit", f"{files}/signals.py:flipped", "--json")
    assert (status, out.count("\n")) == (1, 1)
    assert json.loads(out)["verdict"]["name"] == "FAULT"


def test_the_same_seed_gives_the_same_report_and_leaves_torchs_own_generator(command, files):
    state = torch.random.get_rng_state()
    first, second, other = (
        json.loads(command("audit", f"{files}/signals.py:flipped", "--json", "--seed", seed)[1])["layers"]
        for seed in "334"
    )
    assert first == second
    assert first != other
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("signals.py", "needs FILE:FUNCTION"),
        ("signal.py:right", "there is no file"),
        ("signals.py:rihgt", "there is no function 'rihgt' in"),
        ("signals.py:zebra", "it has loss, right, flipped"),
        ("signals.py:calls", "calls in"),
        ("signals.py:two_things", "must return (signal, loss, point), and returned a tuple of 2"),
        ("signals.py:nothing", "must return (signal, loss, point), and returned a NoneType"),
        ("signals.py:signal_is_a_tensor", "and its signal is a Tensor"),
        ("signals.py:fails", "IndexError: list index out of range (line "),
        ("signals.py:wrong_shape", "shape"),
    ],
)
def test_bad_usage_exits_2_in_one_line(command, files, target, message):
    status, out, err = command("audit", f"{files}/{target}", "--quick")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_names_that_were_meant_are_suggested(command, files):
    assert "did you mean 'right'?" in command("audit", f"{files}/signals.py:rihgt")[2]
    assert "did you mean 'signals.py'?" in command("audit", f"{files}/signal.py:right")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\nx = 1 / 0\n", "ZeroDivisionError: division by zero (line 2)"),
        ("def f(:\n", "SyntaxError"),
        ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all' (line 1)"),
        ("raise SystemExit(0)\n", "SystemExit: 0 (line 1)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line_with_the_place(command, tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    status, _, err = command("audit", f"{file}:f")
    assert (status, err.count("\n")) == (2, 1)
    assert "mine.py cannot be imported" in err
    assert message in err


def test_a_missing_file_is_told_before_torch_is_imported(process):
    status, _, err, loaded = process("audit", "no_such_file.py:f")
    assert (status, err.count("\n")) == (2, 1)
    assert "torch" not in loaded


def test_a_users_file_is_audited_from_its_own_folder_by_a_real_process(files):
    words = [sys.executable, "-m", "fingerpost", "audit", "signals.py:flipped", "--quick"]
    done = subprocess.run(words, cwd=files, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAULT" in done.stdout


def test_strict_does_not_pass_a_signal_that_is_right_only_on_average(command, tmp_path):
    file = tmp_path / "noisy.py"
    file.write_text(
        "import torch\n"
        "def loss(point):\n    return (point**2).sum(dim=1)\n"
        "def noisy():\n"
        "    return (lambda p: 2 * p + 2 * torch.randn_like(p)), loss, torch.randn(64, 8)\n"
    )
    status, out, _ = command("audit", f"{file}:noisy", "--redraws", "64")
    assert "UNBIASED_NOISY" in out
    assert status == 0
    assert command("audit", f"{file}:noisy", "--redraws", "64", "--strict")[0] == 1
