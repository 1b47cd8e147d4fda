"""The page itself: one HTML file that asks the network for nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path

from fingerpost import __version__
from fingerpost.lab.files import write_text
from fingerpost.lab.report.benchmarks import benchmarks_section
from fingerpost.lab.report.markup import Markup, join, slug, tag
from fingerpost.lab.report.reading import RunRecord, read_run
from fingerpost.lab.report.scoreboard import Entry, scoreboard
from fingerpost.lab.report.sections import experiment_section, state_mark

_SENTENCE = (
    "Each experiment states claims, says where they come from and what is expected, and measures. "
    "This page says which of them hold."
)


def build_report(
    run_dirs: Sequence[Path], output: Path, *, benchmarks: Path | None = None, show_all: bool = False
) -> Path:
    """Writes the report of some runs as one self-contained HTML file.

    Args:
      run_dirs: Run folders. Of several runs of one experiment the newest completed one is shown and the
        others are listed. Damaged and unfinished runs are shown as such.
      output: The file to write; it is replaced in one step.
      benchmarks: A folder of benchmark results (``*.json``), or None for none.
      show_all: Show every run in full, as when a person has named each of them.

    Returns:
      The path of the file.

    Raises:
      RunError: If a run folder does not exist, or the file cannot be written.
    """
    runs = [read_run(Path(directory)) for directory in run_dirs]
    output = Path(output)
    write_text(output, render(runs, benchmarks=benchmarks, show_all=show_all))
    return output


def render(runs: Sequence[RunRecord], *, benchmarks: Path | None = None, show_all: bool = False) -> str:
    """Renders the page as one string of HTML; see `build_report`."""
    groups = [([run], []) for run in runs] if show_all else _newest_first(runs)
    shown = [(run, others) for chosen, others in groups for run in chosen]
    anchors = _anchors([run for run, _ in shown])
    entries = [
        Entry(claim, run.experiment, f"{anchor}-claim-{index}", _troubled(run))
        for (run, _), anchor in zip(shown, anchors)
        for index, claim in enumerate(run.claims, 1)
    ]
    sections = [experiment_section(run, anchor, others) for (run, others), anchor in zip(shown, anchors)]
    measured = benchmarks_section(benchmarks) if benchmarks is not None else None
    links = [("scoreboard", "Scoreboard"), *zip(anchors, (run.title for run, _ in shown))]
    links += [("benchmarks", "Benchmarks")] if measured else []
    main = tag("main", scoreboard(entries, _attention(runs)), *sections, measured, id="main", tabindex="-1")
    body = join([_masthead(), tag("div", _contents(links), main, class_="columns"), _footer(runs)])
    return _document(body, with_curves='class="curve-data"' in main)


def _newest_first(runs: Sequence[RunRecord]) -> list[tuple[list[RunRecord], list[RunRecord]]]:
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.experiment, []).append(run)
    ordered = [
        sorted(group, key=lambda run: (run.state == "completed", run.time, run.identifier), reverse=True)
        for group in groups.values()
    ]
    return [(group[:1], group[1:]) for group in ordered]


def _troubled(run: RunRecord) -> Markup | None:
    return None if run.state == "completed" else state_mark(run, brief=True)


def _anchors(runs: Sequence[RunRecord]) -> list[str]:
    anchors: list[str] = []
    for run in runs:
        base = anchor = f"run-{slug(run.experiment)}"
        count = 1
        while anchor in anchors:
            count += 1
            anchor = f"{base}-{count}"
        anchors.append(anchor)
    return anchors


def _attention(runs: Sequence[RunRecord]) -> Markup | None:
    troubled = [run for run in runs if run.state != "completed"]
    if not runs:
        return tag(
            "p", "There are no runs yet. Make one: ", tag("code", "fingerpost run ep-digits --preset quick")
        )
    if not troubled:
        return None
    names = ", ".join(f"{run.identifier} ({run.state})" for run in troubled)
    count = "1 run is" if len(troubled) == 1 else f"{len(troubled)} runs are"
    return tag("p", f"{count} not complete and whole: {names}.", class_="notice", role="note")


def _masthead() -> Markup:
    title = tag(
        "div",
        tag("p", "fingerpost", class_="brand"),
        tag("h1", "What holds, and what does not"),
        class_="title",
    )
    button = tag(
        "button", "Dark theme", type="button", id="theme", class_="button needs-script", aria_pressed="false"
    )
    skip = tag("a", "Skip to the scoreboard", href="#main", class_="skip")
    return join([skip, tag("header", title, button, tag("p", _SENTENCE, class_="lead"), class_="masthead")])


def _contents(links: Sequence[tuple[str, str]]) -> Markup:
    items = [tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text in links]
    return tag("nav", tag("ul", *items), aria_label="On this page", class_="contents")


def _footer(runs: Sequence[RunRecord]) -> Markup:
    versions = sorted({f"{name} {version}" for run in runs for name, version in _packages(run).items()})
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    made = (
        f"Made by fingerpost {__version__} on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC from {count}."
    )
    measured = f" Measured with {', '.join(versions)}." if versions else ""
    drawn = " Curves are drawn by uPlot (MIT licence, © 2022 Leon Sorokin)."
    return tag("footer", tag("p", made, measured, drawn))


def _packages(run: RunRecord) -> dict[str, str]:
    packages = run.manifest.get("packages")
    return packages if isinstance(packages, dict) else {}


def asset(name: str) -> str:
    """Reads one of the report's own style sheets or scripts."""
    return (resources.files("fingerpost.lab.report") / "assets" / name).read_text(encoding="utf-8")


def _document(body: Markup, *, with_curves: bool) -> str:
    styles, scripts = [asset("report.css")], [asset("report.js")]
    if with_curves:
        licence = f"/*! uPlot\n{asset('uplot/LICENSE')}*/\n"
        styles.insert(0, asset("uplot/uPlot.min.css"))
        scripts.insert(0, licence + asset("uplot/uPlot.iife.min.js"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(styles, scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", "fingerpost report"),
        tag("link", rel="icon", href="data:,"),
        *(tag("style", Markup(style)) for style in styles),
    )
    code = (tag("script", Markup(script)) for script in scripts)
    return f"<!doctype html>\n{tag('html', head, tag('body', body, *code), lang='en')}\n"


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
