"""Whatever JSON stands in a run folder, a whole page comes out, and nothing in it becomes markup."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.lab.report import build_report
from report.folders import CLAIMS, CONTENTS, HOSTILE, audit_report, manifest, write_run
from report.parsing import Page

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([HOSTILE, 10**400, "\ud800"])
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS: dict[str, Any] = {
    "manifest.json": manifest("ep-digits"),
    "claims.json": CLAIMS,
    "contents.json": CONTENTS,
    "audits/buggy.json": audit_report() | {"overall": {}, "legend": {"gamma": ["Γ", "a cosine"]}},
}


def places(document: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Lists the way to every value inside a JSON document, the whole included."""
    inside = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [here, *(way for key, value in inside for way in places(value, (*here, key)))]


def replaced(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    """Gives a copy of a document with another value at one place."""
    if not way:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    return document


WAYS = [(name, way) for name, document in DOCUMENTS.items() for way in places(document)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WAYS), ANY_JSON)
def test_any_value_at_any_place_gives_a_page(place: tuple[str, tuple[Any, ...]], value: Any) -> None:
    name, way = place
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", files={"tables/loss.csv": "step,loss,accuracy\n0,1,2\n1,2,3\n"})
        (run / name).write_text(json.dumps(replaced(DOCUMENTS[name], way, value)), encoding="utf-8")
        page = Page(build_report([run], Path(folder) / "report.html").read_text(encoding="utf-8"))
    assert "What holds, and what does not" in page.words
    assert len([a for a in page.attributes("script") if "type" not in a]) <= 2
    assert all((a["src"] or "").startswith("data:image/svg+xml") for a in page.attributes("img"))
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
