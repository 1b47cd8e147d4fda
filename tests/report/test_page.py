"""The page: whole, self-contained, escaped, and honest about what is damaged."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fingerpost.errors import RunError
from fingerpost.lab.report import build_report
from report.folders import CLAIMS, HOSTILE, block, claim, hostile_run, write_run
from report.parsing import Page


def page_of(*runs: Path, output: Path, **options: object) -> Page:
    text = build_report(runs, output, **options).read_text(encoding="utf-8")
    return Page(text)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return page_of(write_run(tmp_path / "run"), output=tmp_path / "report.html")


def test_every_element_nests_and_every_id_is_unique_and_every_link_leads_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in page.attributes("a") if (a["href"] or "").startswith("#")]
    assert len(targets) > 5
    assert set(targets) <= set(ids)
    labels = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(labels) <= set(ids)


def test_the_scoreboard_counts_and_shows_each_claim_with_source_interval_and_verdict(page: Page) -> None:
    headline = next(a for a in page.attributes("p") if a.get("class") == "headline")
    assert (headline["data-holding"], headline["data-failing"]) == ("2", "1")
    for row in CLAIMS:
        assert row["statement"] in page.words
        assert row["source"] in page.words
    assert "12.5 % [11, 14]" in page.words
    assert page.words.count("✓ holds") == 4  # each twice: in the scoreboard and in the section
    assert page.words.count("✗ does not hold") == 2


def test_everything_that_the_contents_name_is_on_the_page(page: Page) -> None:
    for name in ("What was measured", "angles", "loss", "buggy"):
        assert f"Title of {name}" in page.words
    assert "FAULT(sign)" in page.words
    assert "flip the sign" in page.words
    assert "sign : They point the opposite way; in h1, h2; explains 99 % of the residual." in page.words
    assert "-0.981 [-0.99, -0.97]" in page.words
    assert "fingerpost run ep-digits --preset quick" in page.words
    assert "2.13.0" in page.words
    assert [a["alt"] for a in page.attributes("img")] == ["Title of angles. Caption of angles."]


def test_headings_descend_one_level_at_a_time(page: Page) -> None:
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_table_has_a_caption_and_scoped_headings(page: Page) -> None:
    names = [name for name, _ in page.elements]
    assert names.count("caption") == names.count("table") >= 3
    assert all(attributes.get("scope") == "col" for attributes in page.attributes("th"))


def test_the_policy_admits_exactly_the_scripts_and_styles_on_the_page(page: Page) -> None:
    policy = next(
        a["content"] for a in page.attributes("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    code = [text for attributes, text in page.scripts() if "type" not in attributes]
    for kind, texts in (("script-src", code), ("style-src", page.blocks["style"])):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        found = re.search(f"{kind} ([^;]*)", policy)
        assert found is not None
        assert found.group(1).split() == [f"'sha256-{digest}'" for digest in digests]


def test_nothing_on_the_page_asks_for_an_outside_file_or_carries_inline_code_or_style(page: Page) -> None:
    for name, attributes in page.elements:
        assert "style" not in attributes
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "srcset", "action", "poster", "data", "background"):
            assert (attributes.get(key) or "data:").startswith("data:")
        if name == "link":
            assert attributes["href"] == "data:,"
    assert not any("url(" in style or "@import" in style for style in page.blocks["style"])


def test_hostile_strings_stay_text_wherever_they_stand(tmp_path: Path) -> None:
    page = page_of(hostile_run(tmp_path / "run"), output=tmp_path / "report.html")
    names = {name for name, _ in page.elements}
    assert page.words.count('alert("x")') > 15
    assert len([a for a in page.attributes("script") if "type" not in a]) == 2
    assert all((a["src"] or "").startswith("data:image/svg+xml") for a in page.attributes("img"))
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert not names & {"iframe", "object", "embed", "foreignobject"}
    data = [
        json.loads(text)
        for attributes, text in page.scripts()
        if attributes.get("type") == "application/json"
    ]
    assert [curve["series"][0]["label"] for curve in data] == ["</script>"]
    assert data[0]["title"] == HOSTILE
    assert data[0]["series"][0]["values"] == [None, 2]


def test_the_same_runs_fit_the_same_page_under_a_megabyte_with_large_contents(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, name) for name in ("ep-digits", "ep-synthetic", "ep-mnist", "audit-power")
    ]
    path = build_report(runs, tmp_path / "report.html")
    assert path.stat().st_size < 300_000  # each holds a curve of 5000 points: 400 kB as CSV, thinned here


def test_uplot_is_left_out_where_there_is_no_curve_and_comes_with_its_licence_where_there_is(
    tmp_path: Path,
) -> None:
    bare = build_report([write_run(tmp_path / "bare", contents=[])], tmp_path / "bare.html").read_text()
    drawn = build_report([write_run(tmp_path / "drawn")], tmp_path / "drawn.html").read_text()
    assert "var uPlot=" not in bare
    assert "var uPlot=" in drawn
    assert "Permission is hereby granted" in drawn


def test_without_runs_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    page = page_of(output=tmp_path / "report.html")
    assert "There are no runs yet" in page.words


def test_a_folder_that_does_not_exist_is_refused_by_name_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent"):
        build_report([tmp_path / "absent"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_of_several_runs_the_newest_completed_one_is_shown_and_the_others_are_listed(tmp_path: Path) -> None:
    old = write_run(
        tmp_path / "old", id="the-old-one", finished="2026-01-01T00:00:00+00:00", summary="OLD SUMMARY"
    )
    new = write_run(
        tmp_path / "new", id="the-new-one", finished="2026-02-01T00:00:00+00:00", summary="NEW SUMMARY"
    )
    later = write_run(tmp_path / "later", id="the-killed-one", finished=None, started="2026-03-01", exit=None)
    page = page_of(old, later, new, output=tmp_path / "report.html")
    assert "NEW SUMMARY" in page.words
    assert "OLD SUMMARY" not in page.words
    assert "Other runs of this experiment (2)" in page.words
    assert "the-old-one" in page.words
    assert "the-killed-one (killed)" in page.words


def test_all_runs_are_shown_in_full_when_asked_for(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, id=name, summary=f"SUMMARY {name}") for name in ("one", "two")]
    page = page_of(*runs, output=tmp_path / "report.html", show_all=True)
    assert "SUMMARY one" in page.words
    assert "SUMMARY two" in page.words
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (None, "it was killed"),
        ("interrupted", "it was interrupted"),
        ("error: no memory", "ended with error: no memory"),
    ],
)
def test_a_run_that_did_not_complete_says_so(tmp_path: Path, ending: str | None, words: str) -> None:
    page = page_of(write_run(tmp_path / "run", exit=ending), output=tmp_path / "report.html")
    assert words in page.words
    assert "1 run is not complete and whole" in page.words


def test_a_claim_without_number_does_not_hold_and_is_still_shown(tmp_path: Path) -> None:
    rows = [claim("lost", measured=None, interval=None, holds=False)]
    page = page_of(write_run(tmp_path / "run", claims=rows), output=tmp_path / "report.html")
    assert "0 of 1 claim holds; 1 does not" in page.words
    assert "✗ does not hold" in page.words


def test_benchmarks_are_shown_and_a_broken_file_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    rows = [
        {
            "system": "credit",
            "case": "6 blocks",
            "ours": 1.25,
            "peer": None,
            "unit": "ms",
            "holds": True,
            "x": [1],
            "interval": [1.0, 1.5],
        }
    ]
    (results / "credit.json").write_text(
        json.dumps({"title": "Credit <b>", "rows": rows, "environment": {"torch": "2.13"}})
    )
    (results / "cli.json").write_text(json.dumps({"median_s": 0.0625, "runs": 10}))
    (results / "torn.json").write_text('{"rows": [')
    page = page_of(write_run(tmp_path / "run"), output=tmp_path / "report.html", benchmarks=results)
    assert "Credit <b>" in page.words
    assert "yes credit 6 blocks 1.25 – ms [1] [1, 1.5]" in page.words
    assert "Measured with torch 2.13." in page.words
    assert "median_s 0.0625 runs 10" in page.words
    assert "torn.json cannot be shown" in page.words


def test_a_missing_or_empty_benchmark_folder_leaves_no_section(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"), output=tmp_path / "report.html", benchmarks=tmp_path / "none")
    assert not any(attributes.get("id") == "benchmarks" for _, attributes in page.elements)


def test_building_a_page_never_imports_torch_or_matplotlib(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from fingerpost.lab.report import build_report; "
        f"build_report([Path({str(run)!r})], Path({str(tmp_path / 'r.html')!r})); "
        "print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_kind_of_content_is_named(tmp_path: Path) -> None:
    page = page_of(
        write_run(tmp_path / "run", contents=[block("hologram", "h")]), output=tmp_path / "report.html"
    )
    assert "does not know the kind 'hologram'" in page.words
