"""``fingerpost leakwatch`` on scripts as users write them, and ``fingerpost lint``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "leakwatch" / "scripts"


def watch(script, *words, own=()):
    """Status, output and report of a script under the command, in a process of its own."""
    line = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "fingerpost",
        "leakwatch",
        *own,
        str(SCRIPTS / script),
        *words,
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def marked(script):
    lines = (SCRIPTS / script).read_text().splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith("# leaks"))


def test_a_script_that_leaks_exits_1_with_its_line_whatever_its_own_status(tmp_path):
    report = tmp_path / "leaks.json"
    status, out, err = watch("plain.py", "--passes", "3", "--status", "4", own=("--output", report))
    assert status == 1
    assert out == "__main__ ['--passes', '3', '--status', '4'] True\n"
    assert f"plain.py:{marked('plain.py')}: step keeps 108 B at each pass; 3 passes" in err
    assert "cure   x = x / x.norm(dim=-1, keepdim=True)" in err
    [leak] = json.loads(report.read_text())["leaks"]
    assert (leak["line"], leak["count"]) == (marked("plain.py"), 3)


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [
        ("", 0, ""),
        ("3", 3, ""),
        ("message", 1, "the script's own message"),
        ("raise", 1, "ValueError: the script's own"),
    ],
)
def test_a_script_without_a_leak_keeps_its_own_status_and_traceback(ending, status, words):
    found, _, err = watch("clean.py", *([ending] if ending else []))
    assert found == status
    assert words in err
    assert "leakwatch: no leak; 6 in-place calls" in err
    assert "fingerpost" not in err.partition("leakwatch:")[0]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("processes.py", ["fork"], id="fork"),
        pytest.param("processes.py", ["spawn"], id="spawn", marks=pytest.mark.slow),
    ],
)
def test_children_run_unwatched_and_one_line_says_so(script, words):
    status, out, err = watch(script, *words)
    assert (status, out) == (0, "[81.0, 81.0]\n")
    assert err.count("\n") == 2
    assert "note   child processes not watched: 2 (multiprocessing, DataLoader workers)" in err


def test_a_training_loop_beside_dataloader_workers_is_watched():
    status, out, err = watch("loader.py")
    assert (status, out) == (1, "batches done\n")
    assert err.count("loader.py:") == 1
    assert f"loader.py:{marked('loader.py')}:" in err
    assert "child processes not watched: 2" in err


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_a_compiled_region_runs_whole_and_a_leak_beside_it_is_found(backend):
    status, out, err = watch("compiled.py", backend)
    assert (status, out) == (1, "True\n")
    assert f"compiled.py:{marked('compiled.py')}:" in err
    assert "regions of torch.compile not watched: 1" in err


@pytest.mark.parametrize(
    ("world", "note"),
    [("1", "3 in-place calls"), pytest.param("2", "child processes not watched: 2", marks=pytest.mark.slow)],
)
def test_distributed_data_parallel_trains_under_the_guard(world, note, tmp_path):
    status, out, err = watch("distributed.py", world, str(tmp_path / "store"))
    assert status == 0, err
    assert out.startswith("trained")
    assert note in err


def test_autocast_is_watched():
    status, _, err = watch("autocast.py")
    assert status == 1
    assert f"autocast.py:{marked('autocast.py')}:" in err
    assert "bfloat16[3, 8]" in err
    assert err.count("autocast.py:") == 1


def test_scripted_code_is_stepped_past_with_a_line():
    status, _, err = watch("scripted.py")
    assert status == 0
    assert "note   functions and modules of torch.jit not watched: 1" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["leakwatch", f"{SCRIPTS}/clea.py"], "did you mean 'clean.py'?"),
        (["leakwatch", "--outpt", "x", f"{SCRIPTS}/clean.py"], "did you mean '--output'?"),
        (
            ["leakwatch", "--output", "no/folder/x.json", f"{SCRIPTS}/clean.py"],
            "there is no folder 'no/folder'",
        ),
        (["leakwatch"], "needs SCRIPT"),
        (["lint"], "needs PATH"),
        (["lint", "no/such/folder"], "there is no file or folder 'no/such/folder'"),
    ],
)
def test_bad_usage_exits_2_in_one_line_before_torch_is_imported(process, words, message):
    status, out, err, loaded = process(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert "torch" not in loaded


def test_a_file_that_is_no_python_exits_2(command, tmp_path):
    (tmp_path / "broken.py").write_text("def f(:")
    status, _, err = command("leakwatch", tmp_path / "broken.py")
    assert status == 2
    assert "cannot be run: SyntaxError" in err


def test_lint_hints_exits_0_and_1_only_when_strict_and_needs_no_torch(process, command):
    path = SCRIPTS / "plain.py"
    status, out, _, loaded = process("lint", path)
    assert status == 0
    assert f"plain.py:{marked('plain.py')}: reads-itself:" in out
    assert out.endswith("1 hint in 24 lines\n")
    assert "torch" not in loaded
    assert command("lint", path, "--strict")[0] == 1
    assert command("lint", SCRIPTS / "clean.py", "--strict")[0] == 0
    assert json.loads(command("lint", path, "--json")[1])["rule"] == "reads-itself"
