from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fingerpost._table import Table
from fingerpost.errors import InvalidTypeError, InvalidValueError, RunError
from fingerpost.lab import Claim, Run, RunFolder, files
from fingerpost.lab.metrics import MetricsFile, format_row

CONFIG = {"seed": 0}


def open_run(directory: Path, **options) -> Run:
    return Run.open(directory, experiment="x", config=CONFIG, **options)


def a_claim(**changes) -> Claim:
    return Claim(
        **{
            "name": "c",
            "statement": "s",
            "source": "t",
            "expected": 1,
            "measured": 1.0,
            "low": 0.0,
            **changes,
        }
    )


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_names_the_path(tmp_path, monkeypatch, call):
    path = tmp_path / "claims.json"
    files.write_text(path, "old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RunError, match=r"claims\.json could not be written.*No space left"):
            files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["claims.json"]


def test_a_file_is_as_private_as_the_user_asked(tmp_path):
    before = os.umask(0o077)
    try:
        files.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_write_that_the_system_cuts_short_is_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:3]))
    files.write_text(tmp_path / "a", "a longer text")
    assert (tmp_path / "a").read_text() == "a longer text"


def test_strict_json_has_no_nan_and_keeps_scalars(tmp_path):
    value = {
        "nan": math.nan,
        "inf": -math.inf,
        "tensor": torch.tensor([1.5]),
        "numpy": np.float32(2),
        "path": Path("a"),
    }
    files.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "nan": None,
        "inf": None,
        "tensor": [1.5],
        "numpy": 2.0,
        "path": "a",
    }


def test_json_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match="object"):
        files.write_json(tmp_path / "a.json", {"a": object()})


@given(st.floats())
def test_a_metric_comes_back_exactly(value):
    row = json.loads(format_row("s", 1, {"x": value}))
    assert row["x"] is None if math.isnan(value) else row["x"] == value


def test_metrics_accept_tensors_and_keep_whole_numbers_whole():
    row = format_row("s", 3, {"a": torch.tensor(2), "b": np.float64(0.5), "c": True})
    assert json.loads(row) == {"stage": "s", "step": 3, "a": 2, "b": 0.5, "c": 1}


def test_a_torn_last_line_is_left_out_when_read_and_cut_when_resumed(tmp_path):
    run = open_run(tmp_path / "r")
    run.log("s", 1, loss=0.5)
    run.close(None)
    with open(tmp_path / "r" / "metrics.jsonl", "ab") as stream:
        stream.write(b'{"stage": "s", "st')
    assert RunFolder(tmp_path / "r").metrics() == [{"stage": "s", "step": 1, "loss": 0.5}]
    run = open_run(tmp_path / "r")
    run.log("s", 1, loss=0.5)
    run.log("s", 2, loss=math.nan)
    run.close("completed")
    first, second = RunFolder(tmp_path / "r").metrics()
    assert (first["loss"], second["step"]) == (0.5, 2)
    assert math.isnan(second["loss"])


def test_lines_logged_again_are_not_doubled_and_a_different_one_cuts(tmp_path):
    for values in ([1, 2, 3], [1, 2], [1, 5]):
        metrics = MetricsFile(tmp_path / "m")
        for value in values:
            metrics.append(format_row("s", value, {}))
        metrics.cut()
        metrics.close()
        assert [json.loads(line)["step"] for line in (tmp_path / "m").read_text().splitlines()] == values


def test_metrics_shorter_than_a_save_are_refused(tmp_path):
    metrics = MetricsFile(tmp_path / "m")
    with pytest.raises(RunError, match="fewer than the 40"):
        metrics.jump(40)


def test_a_damaged_metrics_line_is_named(tmp_path):
    open_run(tmp_path / "r").close("completed")
    (tmp_path / "r" / "metrics.jsonl").write_text('{"stage": "s", "step": 1}\nnot json\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl line 2"):
        RunFolder(tmp_path / "r").metrics()


def test_claims_and_contents_are_replaced_by_name_in_place(tmp_path):
    run = open_run(tmp_path / "r")
    run.claim(a_claim(name="a"))
    run.claim(a_claim(name="b"))
    run.claim(a_claim(name="a", measured=2.0))
    run.text("t", "one")
    run.table("n", Table(("x",), [(1,)], title="T", caption="C"))
    run.text("t", "two")
    run.table("hidden", Table(("x",), [(1,)]), show=False)
    folder = RunFolder(tmp_path / "r")
    assert [(claim.name, claim.measured) for claim in folder.claims()] == [("a", 2.0), ("b", 1.0)]
    assert [(row["kind"], row["title"], row["caption"]) for row in folder.contents()] == [
        ("text", "t", "two"),
        ("table", "T", "C"),
    ]
    assert (tmp_path / "r" / "tables" / "hidden.csv").exists()
    run.close(None)


def test_a_curve_must_have_its_columns(tmp_path):
    run = open_run(tmp_path / "r")
    with pytest.raises(InvalidValueError, match="no column 'y'"):
        run.curve("c", Table(("x",), [(1,)]), x="x", series=["y"])
    run.close(None)


def test_an_audit_is_kept_as_json(tmp_path):
    class Report:
        def to_json(self):
            return {"format": 1, "value": math.nan}

    run = open_run(tmp_path / "r")
    run.audit("a", Report(), title="T")
    run.close("completed")
    assert json.loads((tmp_path / "r" / "audits" / "a.json").read_text()) == {"format": 1, "value": None}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 200, "a b", "a\nb"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    run = open_run(tmp_path / "r")
    with pytest.raises(InvalidValueError, match="cannot name a file"):
        run.once(name, lambda: 1)
    run.close(None)


def test_a_stage_runs_once_and_gives_what_json_gives_back(tmp_path):
    calls = []
    for _ in range(2):
        run = open_run(tmp_path / "r")
        result = run.once("s", lambda: calls.append(1) or {"pair": (1, 2.5), "nan": math.nan})
        assert result["pair"] == [1, 2.5]
        assert math.isnan(result["nan"])
        run.close(None)
    assert calls == [1]


def test_two_stages_of_one_name_are_refused_rather_than_confused(tmp_path):
    run = open_run(tmp_path / "r")
    run.once("s", lambda: 1)
    with pytest.raises(InvalidValueError, match="'s' was run before"):
        run.once("s", lambda: 2)
    run.checkpoint_folder("t")
    with pytest.raises(InvalidValueError, match="'t' was trained before"):
        run.checkpoint_folder("t")
    run.close(None)


def test_a_stage_that_returns_no_json_is_refused(tmp_path):
    run = open_run(tmp_path / "r")
    with pytest.raises(InvalidTypeError, match="stage 's' returned something that JSON cannot hold"):
        run.once("s", lambda: torch.ones(2))
    run.close(None)


def test_stages_draw_the_same_numbers_whatever_ran_before_and_leave_no_trace(tmp_path):
    run = open_run(tmp_path / "r")
    state = torch.get_rng_state()
    first = run.once("a", lambda: torch.rand(2).tolist())
    torch.rand(3)
    other = Run.open(tmp_path / "other", experiment="x", config=CONFIG)
    after = torch.get_rng_state()
    assert other.once("a", lambda: torch.rand(2).tolist()) == first
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(state, after)
    run.close(None)
    other.close(None)


@pytest.mark.parametrize("name", ["manifest.json", "claims.json", "contents.json", "stages/s.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"null"])
def test_a_damaged_file_is_refused_with_its_path_and_nothing_is_overwritten(tmp_path, name, damage):
    run = open_run(tmp_path / "r")
    run.claim(a_claim())
    run.text("t", "p")
    run.once("s", lambda: 1)
    run.close("interrupted")
    path = tmp_path / "r" / name
    path.write_bytes(damage)
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=path.name):
        open_run(tmp_path / "r").once("s", lambda: 2)
    after = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    changed = {p.name for p in before if before[p] != after[p]}
    assert changed <= ({"manifest.json", ".lock"} if name.startswith("stages") else {".lock"})


def test_another_configuration_is_refused_and_named(tmp_path):
    open_run(tmp_path / "r").close("interrupted")
    with pytest.raises(RunError, match="seed = 0, where 1 was asked"):
        Run.open(tmp_path / "r", experiment="x", config={"seed": 1})
    with pytest.raises(RunError, match="another experiment than 'y'"):
        Run.open(tmp_path / "r", experiment="y", config=CONFIG)


def test_a_standing_run_is_refused_without_resume(tmp_path):
    open_run(tmp_path / "r").close("interrupted")
    with pytest.raises(RunError, match="holds a run already"):
        open_run(tmp_path / "r", resume=False)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        open_run(tmp_path)
    assert [item.name for item in tmp_path.iterdir() if item.name != "home"] == ["thesis.tex"]


def test_one_run_has_one_writer(tmp_path):
    run = open_run(tmp_path / "r")
    with pytest.raises(RunError, match=f"being written by process {os.getpid()}"):
        open_run(tmp_path / "r")
    run.close(None)
    open_run(tmp_path / "r").close(None)


def test_a_finished_run_cannot_be_written(tmp_path):
    open_run(tmp_path / "r").close("completed")
    run = open_run(tmp_path / "r")
    assert run.finished
    with pytest.raises(RunError, match="finished: nothing can be written"):
        run.log("s", 1, x=1)


def test_the_manifest_says_who_what_and_where(tmp_path):
    run = Run.open(
        tmp_path / "r", experiment="x", config=CONFIG, preset="quick", command=["fingerpost", "run", "x"]
    )
    run.claim(a_claim())
    run.close("completed")
    facts = RunFolder(tmp_path / "r").manifest
    assert facts["command"] == ["fingerpost", "run", "x"]
    assert (facts["preset"], facts["seed"], facts["config"], facts["exit"]) == (
        "quick",
        0,
        CONFIG,
        "completed",
    )
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["hardware"]["cores"] >= 1
    assert facts["threads"] == torch.get_num_threads()
    assert set(facts["files"]) == {"claims.json", "contents.json", "metrics.jsonl"}


def test_outside_git_the_manifest_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    open_run(tmp_path / "r").close("completed")
    assert RunFolder(tmp_path / "r").manifest["git"] is None
