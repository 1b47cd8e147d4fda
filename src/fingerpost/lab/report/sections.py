"""One section of the page per experiment: what was measured, its pictures and tables, how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fingerpost._table import format_number
from fingerpost.errors import InvalidValueError, RunError
from fingerpost.lab.report.audits import audit_block
from fingerpost.lab.report.curves import curve
from fingerpost.lab.report.markup import Markup, join, linkify, slug, tag
from fingerpost.lab.report.reading import RunRecord, State, read_table
from fingerpost.lab.report.scoreboard import measured_text, verdict_mark
from fingerpost.lab.report.svg import clean_figure
from fingerpost.lab.report.tables import definitions, table_block

STATES: dict[State, tuple[str, str]] = {
    "completed": ("✓", "completed"),
    "running": ("…", "unfinished: it is running now"),
    "killed": ("…", "unfinished: it was killed, and can be resumed"),
    "interrupted": ("…", "unfinished: it was interrupted, and can be resumed"),
    "failed": ("✗", "ended with an error"),
    "damaged": ("✗", "damaged"),
}


def state_mark(run: RunRecord, *, brief: bool = False) -> Markup:
    """Says how a run ended, by word and shape; `brief` gives one word."""
    shape, words = STATES[run.state]
    words = run.state if brief else words
    return tag(
        "span",
        tag("span", shape, class_="shape", aria_hidden="true"),
        " ",
        words,
        class_=f"state state-{run.state}",
    )


def experiment_section(run: RunRecord, anchor: str, others: Sequence[RunRecord] = ()) -> Markup:
    """Renders one run.

    Args:
      run: The run to show.
      anchor: The id of its section; claim number i gets ``<anchor>-claim-i``.
      others: Further runs of the same experiment, listed but not shown.
    """
    heading = f"{anchor}-title"
    return tag(
        "section",
        _header(run, heading),
        _troubles(run),
        _claims(run, anchor),
        *(_block(run, row, f"{anchor}-{index}") for index, row in enumerate(run.contents, 1)),
        _run_again(run),
        _configuration(run),
        _environment(run),
        _other_runs(others),
        class_="experiment",
        id=anchor,
        aria_labelledby=heading,
    )


def _header(run: RunRecord, heading: str) -> Markup:
    manifest = run.manifest
    facts = [run.experiment]
    facts += [f"{manifest['preset']} preset"] if manifest.get("preset") else []
    facts += [f"seed {manifest['seed']}"] if manifest.get("seed") is not None else []
    facts += [text for text in (_when(manifest), _duration(manifest)) if text]
    summary = manifest.get("summary")
    return tag(
        "header",
        tag("p", " · ".join(facts), class_="eyebrow"),
        tag("h2", run.title, id=heading),
        tag("p", str(summary), class_="lead") if summary else None,
        None if run.state == "completed" else tag("p", state_mark(run)),
    )


def _when(manifest: Mapping[str, Any]) -> str:
    moment = _moment(manifest.get("finished") or manifest.get("started"))
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else ""


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _duration(manifest: Mapping[str, Any]) -> str:
    started, finished = _moment(manifest.get("started")), _moment(manifest.get("finished"))
    if started is None or finished is None or (started.tzinfo is None) != (finished.tzinfo is None):
        return ""
    seconds = (finished - started).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _troubles(run: RunRecord) -> Markup | None:
    troubles = list(run.problems)
    ending = str(run.manifest.get("exit") or "")
    if ending not in ("", "completed", "interrupted"):
        troubles.append(f"the run ended with {ending}")
    if not troubles:
        return None
    items = (tag("li", trouble) for trouble in troubles)
    return notice(tag("p", "Read what follows with care:"), tag("ul", *items))


def notice(*content: Any) -> Markup:
    """A framed warning that assistive technology announces as a note."""
    return tag("div", *content, class_="notice", role="note")


def _claims(run: RunRecord, anchor: str) -> Markup | None:
    if not run.claims:
        return None
    items = []
    for index, claim in enumerate(run.claims, 1):
        note = tag("span", " ", linkify(claim.note), class_="note") if claim.note else None
        words = tag("span", claim.statement, " ", measured_text(claim), note)
        items.append(tag("li", verdict_mark(claim.holds), " ", words, id=f"{anchor}-claim-{index}"))
    return join([tag("h3", "Claims"), tag("ul", *items, class_="claim-list")])


def _block(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    render = _BLOCKS.get(str(row.get("kind")))
    title = str(row.get("title") or row.get("name") or "")
    if render is None:
        return notice(tag("p", f"{title}: this page does not know the kind {row.get('kind')!r}."))
    try:
        return render(run, row, anchor)
    except (RunError, InvalidValueError) as error:
        return notice(tag("p", tag("strong", title or str(row.get("kind"))), f" cannot be shown: {error}"))


def _text(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    title = row.get("title")
    body = str(row.get("caption") or row.get("text") or "")
    paragraphs = [tag("p", linkify(part.strip())) for part in body.split("\n\n") if part.strip()]
    return join([tag("h3", str(title)) if title else None, *paragraphs])


def _figure(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    figure = clean_figure(run.read_text(row.get("path")))
    title, caption = str(row.get("title") or row.get("name") or "Figure"), str(row.get("caption") or "")
    source = Markup(figure.uri.replace("&", "&amp;").replace('"', "&quot;"))
    alt = f"{title}. {caption}".strip()
    image = tag("img", src=source, alt=alt, width=figure.width, height=figure.height)
    name = slug(f"{run.experiment} {row.get('name') or title}")
    return tag(
        "figure", image, tag("figcaption", tag("strong", title), " ", linkify(caption)), data_name=name
    )


def _table(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    title, caption = str(row.get("title") or row.get("name") or "Table"), str(row.get("caption") or "")
    name = slug(f"{run.experiment} {row.get('name') or title}")
    return table_block(read_table(run.read_text(row.get("path")), title, caption), name)


def _curve(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    return curve(row, read_table(run.read_text(row.get("path"))))


def _audit(run: RunRecord, row: Mapping[str, Any], anchor: str) -> Markup:
    return audit_block(row, run.read_text(row.get("path")), anchor)


_BLOCKS: dict[str, Callable[[RunRecord, Mapping[str, Any], str], Markup]] = {
    "text": _text,
    "figure": _figure,
    "table": _table,
    "curve": _curve,
    "audit": _audit,
}


def _run_again(run: RunRecord) -> Markup | None:
    command = run.manifest.get("command")
    if not command:
        return None
    words = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
    block = tag("div", tag("pre", tag("code", words)), class_="command")
    return join([tag("h3", "Run it again"), block])


def _details(title: str, content: Markup) -> Markup:
    return tag("details", tag("summary", title), content)


def _configuration(run: RunRecord) -> Markup | None:
    config = run.manifest.get("config")
    if not isinstance(config, dict) or not config:
        return None
    return _details("Configuration", definitions(config.items()))


def _environment(run: RunRecord) -> Markup | None:
    facts = {key: run.manifest.get(key) for key in ("id", "python", "platform", "threads", "git", "packages")}
    hardware = run.manifest.get("hardware")
    if isinstance(hardware, dict):
        memory = hardware.get("memory_bytes")
        facts["memory"] = f"{format_number(memory / 2**30)} GiB" if isinstance(memory, (int, float)) else None
        facts |= {key: hardware.get(key) for key in ("cpu", "cores", "gpus")}
    if not any(facts.values()):
        return None
    facts["folder"] = str(run.directory)
    return _details("Environment", definitions(facts.items()))


def _other_runs(others: Sequence[RunRecord]) -> Markup | None:
    if not others:
        return None
    items = [
        tag(
            "li",
            tag("code", other.identifier),
            f" {_when(other.manifest)} ",
            _score(other),
            " ",
            state_mark(other),
        )
        for other in others
    ]
    return _details(f"Other runs of this experiment ({len(others)})", tag("ul", *items, class_="runs"))


def _score(run: RunRecord) -> str:
    return f"{sum(claim.holds for claim in run.claims)} of {len(run.claims)} claims hold"
