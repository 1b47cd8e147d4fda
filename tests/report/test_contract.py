"""The real writers and the page agree: what `Run` leaves behind is shown, whole and undamaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fingerpost._table import Table
from fingerpost.lab.claims import Claim
from fingerpost.lab.report import build_report
from fingerpost.lab.report.reading import read_run
from fingerpost.lab.run import Run
from fingerpost.lab.style import new_figure
from report.folders import audit_report
from report.parsing import Page


class Report:
    """An audit report by shape: all that `Run.audit` asks of one."""

    def __init__(self, as_text: bool) -> None:
        self._as_text = as_text

    def to_json(self) -> object:
        return json.dumps(audit_report()) if self._as_text else audit_report()


def open_run(directory: Path) -> Run:
    return Run.open(
        directory,
        experiment="ep-test",
        title="A title",
        summary="A summary.",
        config={"seed": 3, "beta": 0.5},
        preset="quick",
        command=["fingerpost", "run", "ep-test"],
    )


def write_everything(run: Run) -> None:
    figure, axes = new_figure()
    axes.plot([0, 1, 2], [0.3, 0.1, 0.2], label="cosine")
    axes.set_xlabel("depth β")
    axes.imshow([[0.0, 1.0], [1.0, 0.0]], extent=(0, 2, 0, 0.3), aspect="auto")
    run.text("What was done", "It was measured.")
    run.figure("depth", figure, title="By depth", caption="Cosine by depth.")
    run.table("numbers", Table(["layer", "cosine"], [["h1", 0.125], ["h2", None]], "Numbers", "All of them."))
    losses = Table(["step", "loss"], [[step, 1 / (1 + step)] for step in range(100)])
    run.curve("loss", losses, x="step", series=["loss"], title="Loss by step", y_label="loss")
    run.audit("text", Report(as_text=True), title="Audit as text")
    run.audit("data", Report(as_text=False), title="Audit as data")
    run.claim(
        Claim(
            "gamma", "It points along the gradient.", "eq. 1", "≥ 0.9", 0.95, low=0.9, interval=(0.94, 0.96)
        )
    )


def test_what_a_completed_run_wrote_is_shown_undamaged(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    write_everything(run)
    run.close("completed")
    assert read_run(tmp_path / "run").problems == []
    page = Page(build_report([tmp_path / "run"], tmp_path / "report.html").read_text())
    for words in (
        "What was done",
        "Cosine by depth.",
        "Numbers",
        "Loss by step",
        "Audit as text",
        "Audit as data",
    ):
        assert words in page.words
    assert "cannot be shown" not in page.words
    assert page.words.count("FAULT(sign)") == 2
    assert "1 of 1 claim holds" in page.words
    (image,) = page.attributes("img")
    assert image["alt"] == "By depth. Cosine by depth."
    assert "data:image/png;base64," in (image["src"] or "")


@pytest.mark.parametrize(
    ("reason", "state"), [(None, "killed"), ("interrupted", "interrupted"), ("error: x", "failed")]
)
def test_a_run_that_stopped_before_its_first_claim_is_unfinished_not_damaged(
    tmp_path: Path, reason: str | None, state: str
) -> None:
    run = open_run(tmp_path / "run")
    assert read_run(tmp_path / "run").state == "running"
    run.close(reason)
    assert read_run(tmp_path / "run").state == state
