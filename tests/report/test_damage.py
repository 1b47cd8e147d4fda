"""Damaged run folders: every damage is shown with the file's name, and the rest is still there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fingerpost.lab.report import build_report
from fingerpost.lab.report.reading import read_run
from report.folders import block, claim, write_run
from report.parsing import Page


def tear(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text((run / name).read_text()[:-5])


def remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def replace(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text)


def flip_a_byte(run: Path) -> None:
    path = run / "metrics.jsonl"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "no manifest": (remove("manifest.json"), "manifest.json"),
    "torn manifest": (tear("manifest.json"), "manifest.json"),
    "manifest of another kind": (replace("manifest.json", "[1]"), "manifest.json holds a list"),
    "nested manifest": (replace("manifest.json", "[" * 100_000), "manifest.json"),
    "no claims": (remove("claims.json"), "claims.json"),
    "torn claims": (tear("claims.json"), "claims.json"),
    "claims of another kind": (replace("claims.json", "{}"), "claims.json holds a dict"),
    "a claim that is none": (replace("claims.json", "[3]"), "claim 1 of claims.json cannot be read"),
    "no contents": (remove("contents.json"), "contents.json"),
    "flipped byte": (flip_a_byte, "metrics.jsonl is not what the run wrote"),
    "missing figure": (remove("figures/angles.svg"), "figures/angles.svg cannot be read"),
    "figure that is no SVG": (replace("figures/angles.svg", "<html/>"), "cannot be shown: the figure's root"),
    "torn figure": (tear("figures/angles.svg"), "cannot be shown: the figure is not well-formed"),
    "ragged table": (replace("tables/angles.csv", "a,b\n1\n"), "cannot be shown: the table cannot be read"),
    "empty table": (replace("tables/angles.csv", ""), "cannot be shown: the table is empty"),
    "curve without its column": (
        replace("tables/loss.csv", "step,loss\n1,2\n"),
        "the curve needs the columns",
    ),
    "curve without numbers": (replace("tables/loss.csv", "step,loss,accuracy\na,1,2\n"), "holds no number"),
    "audit that is no JSON": (replace("audits/buggy.json", "{"), "the audit report is not JSON"),
    "audit without verdict": (replace("audits/buggy.json", "{}"), "not an audit report"),
    "bytes that are no text": (
        lambda run: (run / "tables/angles.csv").write_bytes(b"\xff\xfe\x00"),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    run, whole = write_run(tmp_path / "run"), write_run(tmp_path / "whole", "ep-whole")
    damage(run)
    page = Page(build_report([run, whole], tmp_path / "report.html").read_text())
    assert words in page.words
    assert "(damaged)" in page.words
    assert "Title of ep-whole" in page.words


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/hostname", "link.txt", "", "figures", 7, None])
def test_a_path_that_leaves_the_run_folder_is_not_read(tmp_path: Path, path: object) -> None:
    (tmp_path / "secret.txt").write_text("SECRET,b\n1,2\n")
    run = write_run(tmp_path / "run", contents=[block("table", "t", path)])
    (run / "link.txt").symlink_to(tmp_path / "secret.txt")
    page = Page(build_report([run], tmp_path / "report.html").read_text())
    assert "Title of t cannot be shown" in page.words
    assert "SECRET" not in page.words


def test_a_recorded_verdict_that_its_numbers_contradict_is_corrected_and_named(tmp_path: Path) -> None:
    record = read_run(write_run(tmp_path / "run", claims=[claim("forged", measured=0.1, holds=True)]))
    assert not record.claims[0].holds
    assert record.state == "damaged"
    assert "forged" in record.problems[0]


def test_a_run_under_way_may_lack_claims_and_contents(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", exit=None, files=None)
    (run / "claims.json").unlink()
    (run / "contents.json").unlink()
    facts = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(facts | {"files": {}}))
    assert read_run(run).state == "killed"


@pytest.mark.parametrize("verdict", ["EXACT", "NULL", "INSUFFICIENT", "SOMETHING_NEW"])
def test_an_audit_with_nothing_but_a_verdict_is_shown(tmp_path: Path, verdict: str) -> None:
    files = {
        "audits/a.json": json.dumps(
            {"verdict": {"name": verdict}, "layers": [{}, {"figures": None}], "cost": 3}
        )
    }
    run = write_run(tmp_path / "run", contents=[block("audit", "a", "audits/a.json")], files=files)
    page = Page(build_report([run], tmp_path / "report.html").read_text())
    assert verdict in page.words
    assert "damaged" not in page.words
