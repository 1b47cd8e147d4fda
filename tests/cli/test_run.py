"""``fingerpost run``: settings, exit status, what is printed, stopping and going on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fingerpost.lab import RunFolder, Store


def manifest(folder: Path) -> dict:
    return RunFolder(folder).manifest


def only_run(home: Path) -> Path:
    (row,) = Store(home).list()
    return Path(row.path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sigma=-1"], "sigma is -1.0; a standard deviation is at least 0"),
        (["--sigma", "wide"], "--sigma"),
        (["--sgima", "1"], "has no flag --sgima; did you mean '--sigma'?"),
        (["--preset", "quik"], "there is no preset 'quik'; did you mean 'quick'?"),
        (["--config-json", "no/such/file.json"], "no/such/file.json cannot be read"),
        (["--resume"], "there is no run of"),
        (["--threads", "0"], "--threads is 0; give at least 1"),
    ],
)
def test_a_bad_config_exits_2_in_one_line_before_torch_is_imported(process, home, tiny, words, message):
    status, out, err, loaded = process("run", tiny, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert "torch" not in loaded
    assert not list(home.glob("*/manifest.json"))


def test_a_run_has_the_threads_asked_for_and_the_process_keeps_its_own(command, home, tiny):
    import torch

    before = torch.get_num_threads()
    assert command("run", tiny, "--preset", "quick", "--threads", "2")[0] == 0
    facts = manifest(only_run(home))
    assert facts["threads"] == 2
    assert "--threads 2" in " ".join(facts["command"]).replace("=", " ")
    assert torch.get_num_threads() == before


def test_help_of_an_experiment_shows_its_own_flags_with_the_presets_values(process, tiny):
    status, out, _, loaded = process("run", tiny, "--preset", "quick", "--help")
    assert status == 0
    assert "torch" not in loaded
    assert all(
        text in out
        for text in ["--samples INT", "(default: 10)", "--widths", "Standard deviation", "--run-dir"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs the name of an experiment"),
        (["--preset", "quick", "ep-digits"], "needs the name of an experiment before the flags"),
        (["ep-dgits"], "there is no experiment 'ep-dgits'; did you mean 'ep-digits'?"),
        (["zebra"], "there is no experiment 'zebra'; fingerpost list names them"),
        (["nowhere.py"], "there is no experiment file 'nowhere.py'"),
    ],
)
def test_a_missing_or_unknown_experiment_is_one_line(command, words, message):
    status, out, err = command("run", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_run_keeps_preset_and_typed_flags_and_says_where_it_is(command, home, tiny):
    status, out, _ = command("run", tiny, "--preset", "quick", "--seed", "3", "--widths", "7", "8", "9")
    folder = only_run(home)
    assert status == 0
    assert "1 of 1 claims hold" in out
    assert folder.name in out
    assert "fingerpost report" in out
    facts = manifest(folder)
    assert (facts["preset"], facts["seed"], facts["exit"]) == ("quick", 3, "completed")
    assert facts["config"] == {
        **{"seed": 3, "samples": 10, "sigma": 1.0, "widths": [7, 8, 9]},
        **{"data": None, "centred": True},
    }


def test_the_command_kept_in_the_manifest_repeats_the_run(command, home, tiny):
    command("run", tiny, "--preset", "quick", "--no-centred", "--sigma", "0.5", "--widths", "5")
    first = only_run(home)
    program, *words = manifest(first)["command"]
    again = home / "again"
    assert program == "fingerpost"
    assert command(*words, "--run-dir", again)[0] == 0
    assert manifest(again)["config"] == manifest(first)["config"]
    assert (again / "claims.json").read_bytes() == (first / "claims.json").read_bytes()


def test_a_claim_that_fails_exits_0_and_with_strict_1(command, tiny):
    assert command("run", tiny, "--no-centred")[0] == 0
    assert command("run", tiny, "--no-centred", "--strict")[0] == 1
    assert command("run", tiny, "--strict")[0] == 0


def test_json_prints_events_and_nothing_else(command, tiny):
    _, out, err = command("run", tiny, "--preset", "quick", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["start", "claim", "end"]
    assert events[0]["config"]["samples"] == 10
    assert (events[1]["holds"], events[2]["held"], events[2]["claims"]) == (True, 1, 1)
    assert err == ""


def test_a_config_file_lies_between_preset_and_typed_flags(command, home, tiny, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"samples": 20, "sigma": 3.0, "data": "x y", "widths": []}))
    command("run", tiny, "--preset", "quick", "--config-json", file, "--sigma", "4")
    config = manifest(only_run(home))["config"]
    assert (config["samples"], config["sigma"], config["data"], config["widths"]) == (20, 4.0, "x y", [])


def test_a_folder_that_holds_a_run_gives_its_settings_to_the_next_command(command, tiny, tmp_path):
    folder = tmp_path / "mine"
    command("run", tiny, "--preset", "quick", "--samples", "12", "--run-dir", folder)
    before = (folder / "manifest.json").read_bytes()
    assert command("run", tiny, "--run-dir", folder)[0] == 0
    assert (folder / "manifest.json").read_bytes() == before


def test_a_folder_that_holds_another_run_is_refused_in_one_line(command, tiny, tmp_path):
    folder = tmp_path / "mine"
    command("run", tiny, "--preset", "quick", "--run-dir", folder)
    before = (folder / "manifest.json").read_bytes()
    status, _, err = command("run", tiny, "--run-dir", folder, "--samples", "13")
    assert (status, err.count("\n")) == (1, 1)
    assert "samples" in err
    assert (folder / "manifest.json").read_bytes() == before


def test_several_experiments_run_in_turn_and_none_when_one_is_wrong(command, home, tiny):
    status, _, err = command("run", tiny, "ep-dgits")
    assert (status, Store(home).list()) == (2, [])
    assert "ep-dgits" in err
    assert command("run", tiny, tiny, "--preset", "quick")[0] == 0
    assert len(Store(home).list()) == 2
    status, _, err = command("run", tiny, tiny, "--run-dir", "x")
    assert status == 2
    assert "--run-dir names the folder of one run" in err


def test_an_error_of_the_experiment_keeps_its_traceback(tmp_path, home):
    file = tmp_path / "broken.py"
    file.write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    seed: int = 0\n"
        "PRESETS = {'full': Config()}\ndef run(config, run):\n    raise ZeroDivisionError('by nothing')\n"
    )
    done = subprocess.run([sys.executable, "-m", "fingerpost", "run", file], capture_output=True, text=True)
    assert done.returncode == 1
    assert "broken.py" in done.stderr
    assert "ZeroDivisionError: by nothing" in done.stderr
    assert manifest(only_run(home))["exit"] == "error: ZeroDivisionError: by nothing"


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_exits_130_and_its_one_line_goes_on_to_the_same_claims(command, home, tiny, tmp_path):
    folder, never_stopped = tmp_path / "stopped", tmp_path / "never stopped"
    words = ["run", tiny, "--preset", "quick", "--run-dir", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "fingerpost", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FINGERPOST_HOME": str(home), "TINY_PAUSE": "60"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(folder / "stages" / "mean.json", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert len(err.split("\n", 1)[1].splitlines()) == 1
    assert "Traceback" not in err
    assert manifest(folder)["exit"] == "interrupted"

    words = shlex.split(err.partition("to go on: ")[2])
    assert words == ["fingerpost", "run", tiny, "--run-dir", str(folder)]
    assert command(*words[1:])[0] == 0
    assert manifest(folder)["exit"] == "completed"
    command("run", tiny, "--preset", "quick", "--run-dir", never_stopped)
    for name in ("claims.json", "metrics.jsonl", "stages/mean.json"):
        assert (folder / name).read_bytes() == (never_stopped / name).read_bytes()


def test_resume_finds_the_newest_unfinished_run_and_its_settings(command, home, tiny, tmp_path):
    file = tmp_path / "flaky.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom pathlib import Path\n"
        "@dataclass(frozen=True)\nclass Config:\n"
        "    seed: int = 0\n    n: int = 1\nPRESETS = {'full': Config()}\ndef run(config, run):\n"
        "    if not Path(__file__).with_name('mended').exists():\n        raise KeyboardInterrupt\n"
    )
    assert command("run", file, "--n", "5")[0] == 130
    (tmp_path / "mended").touch()
    assert command("run", file, "--resume")[0] == 0
    facts = manifest(only_run(home))
    assert (facts["config"]["n"], facts["exit"], len(facts["resumed"])) == (5, "completed", 1)
    status, _, err = command("run", file, "--resume")
    assert status == 2
    assert "there is no run of" in err
