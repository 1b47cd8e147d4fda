"""What is done with runs that stand: ls, show, compare, report, sweep."""

from __future__ import annotations

import json

import pytest

from fingerpost.lab import Store


@pytest.fixture
def two_runs(command, home, tiny):
    """Two finished runs that differ in sigma."""
    for name, sigma in (("a", "1"), ("b", "2")):
        assert command("run", tiny, "--preset", "quick", "--sigma", sigma, "--run-dir", home / name)[0] == 0
    return home / "a", home / "b"


def test_ls_without_runs_says_how_to_make_one(command):
    status, out, _ = command("ls")
    assert status == 0
    assert "There are no runs" in out
    assert "fingerpost run" in out


def test_ls_lists_finished_and_damaged_runs(command, two_runs):
    (two_runs[1] / "manifest.json").write_text("{")
    _, out, _ = command("ls", "--rebuild")
    assert any("completed" in line and "1 of 1" in line for line in out.splitlines())
    assert any(line.startswith("b ") and "damaged" in line for line in out.splitlines())
    rows = [json.loads(line) for line in command("ls", "--json")[1].splitlines()]
    assert sorted(row["status"] for row in rows) == ["completed", "damaged"]


def test_show_prints_claims_settings_and_origin(command, two_runs):
    status, out, _ = command("show", "a")
    assert status == 0
    assert all(text in out for text in ["The mean is near zero.", "sigma", "widths", "torch", "completed"])
    record = json.loads(command("show", two_runs[0], "--json")[1])
    assert (record["experiment"], record["claims"][0]["holds"]) == ("tiny", True)


def test_show_verify_exits_1_when_a_file_has_changed(command, two_runs):
    status, out, _ = command("show", "a", "--verify")
    assert status == 0
    assert "Every file is as the run left it." in out
    with open(two_runs[0] / "metrics.jsonl", "a") as stream:
        stream.write("\n")
    status, _, err = command("show", "a", "--verify")
    assert status == 1
    assert "metrics.jsonl has changed" in err


def test_an_unknown_run_is_one_line(command):
    for words in (["show", "zebra"], ["compare", "zebra", "zebra"], ["report", "zebra"]):
        status, out, err = command(*words)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert "there is no run 'zebra'" in err


def test_compare_shows_the_setting_that_differs(command, two_runs):
    status, out, _ = command("compare", "a", "b")
    assert status == 0
    assert any(line.split() == ["sigma", "1", "2"] for line in out.splitlines())
    assert not any(line.startswith("samples ") for line in out.splitlines())


def test_report_of_all_runs_and_of_one(command, home, two_runs, tmp_path, monkeypatch):
    assert command("report")[0] == 0
    assert "The mean is near zero." in (home / "report.html").read_text()
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    page = tmp_path / "one.html"
    assert command("report", "a", "--output", page, "--open")[0] == 0
    assert opened == [page.as_uri()]
    assert page.exists()


def test_report_says_when_no_browser_could_be_opened(command, two_runs, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert "open the file in one by hand" in command("report", "--open")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs --over"),
        (["--over", "sgima=1,2"], "'sgima', which is not one; did you mean 'sigma'"),
        (["--over", "sigma=1,wide"], "--sigma"),
        (["--over", "sigma=1,-1"], "sigma is -1.0"),
        (["--over", "sigma"], "write name=1,2,5"),
        (["--over", "seed=0:2", "--executor", "slurm"], "comes with a later version"),
    ],
)
def test_a_wrong_sweep_exits_2_in_one_line_before_a_run_starts(command, home, tiny, words, message):
    status, out, err = command("sweep", tiny, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not home.exists() or not list(home.rglob("manifest.json"))


def test_sweep_runs_every_combination_and_the_same_folder_finds_them_finished(command, home, tiny, tmp_path):
    words = [
        "sweep",
        tiny,
        "--preset",
        "quick",
        "--over",
        "sigma=1,2",
        "--sweep-dir",
        tmp_path / "s",
        "--json",
    ]
    status, out, _ = command(*words)
    tasks = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(task["settings"], task["status"]) for task in tasks] == [
        ({"sigma": 1}, "completed"),
        ({"sigma": 2}, "completed"),
    ]
    assert sorted(row.status for row in Store(home).list()) == ["completed", "completed"]
    again = [json.loads(line) for line in command(*words)[1].splitlines()]
    assert all(task["status"] == "completed" and task["tries"] == 0 for task in again)


def test_ctrl_c_in_a_sweep_prints_how_to_go_on(command, tiny, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fingerpost.cli.sweep.sweep", stop)
    status, _, err = command("sweep", tiny, "--over", "seed=0:2", "--sweep-dir", tmp_path / "s")
    assert status == 130
    assert err.rstrip().endswith(
        f"to go on: fingerpost sweep {tiny} --over seed=0:2 --sweep-dir {tmp_path}/s"
    )
