"""The parts: figures made safe, curves thinned, cells read, claims drawn."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerpost._table import Table
from fingerpost.errors import InvalidValueError, RunError
from fingerpost.lab.claims import Claim
from fingerpost.lab.report.curves import thin
from fingerpost.lab.report.markup import linkify, slug, tag
from fingerpost.lab.report.reading import read_table
from fingerpost.lab.report.scoreboard import accepted_text, expected_text, interval_plot
from fingerpost.lab.report.svg import clean_figure
from report.folders import SVG, claim
from report.parsing import Page

_OPEN = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'


def test_a_figure_keeps_what_draws() -> None:
    figure = clean_figure(SVG)
    root = ElementTree.fromstring(figure.text)
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names == ["svg", "defs", "style", "clipPath", "rect", "g", "path", "use", "text"]
    assert (figure.width, figure.height) == (480, 288)
    assert "M 10.12 20.5 L 300 150" in figure.text
    assert "href='#m1'" in figure.text
    assert "β → 0" in figure.text
    assert len(figure.text) < len(SVG)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        '<script xlink:href="https://evil.example/x.js"/>',
        '<g onclick="alert(1)" onload="alert(1)"/>',
        '<a xlink:href="javascript:alert(1)"><path d="M 0 0"/></a>',
        '<use xlink:href="https://evil.example/x.svg#y"/>',
        '<image href="https://evil.example/x.png"/>',
        '<image href="data:image/svg+xml,evil"/>',
        '<style>@import "https://evil.example/x.css";</style>',
        "<style>*{background:url(https://evil.example/x)}</style>",
        r"<style>*{background:\75rl(https://evil.example/x)}</style>",
        '<path style="fill: url( &quot;https://evil.example/x&quot; )"/>',
        '<path fill="URL(//evil.example/x)"/>',
        '<foreignObject><body xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></body></foreignObject>',
        '<animate attributeName="href" values="javascript:alert(1)"/>',
        '<set attributeName="onmouseover" to="alert(1)"/>',
        '<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>',
    ],
)
def test_a_figure_loses_what_could_act_or_call_out(attack: str) -> None:
    text = clean_figure(f"{_OPEN}{attack}</svg>").text
    assert not re.search(r"evil|alert|script|\bon\w+=", text, re.IGNORECASE)


def test_references_within_the_figure_and_embedded_pixels_stay() -> None:
    pixels = "data:image/png;base64,iVBORw0KGgo="
    source = f"{_OPEN}<path fill=\"url(#a)\" clip-path=\"url('#b')\"/><image xlink:href='{pixels}'/></svg>"
    text = clean_figure(source).text
    assert "url(#a)" in text
    assert "url(&#39;#b&#39;)" in text
    assert pixels in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>', "entities"),
        ("<svg", "well-formed"),
        ("", "well-formed"),
        ("<svg/>", "not an SVG element"),
        (_OPEN + "<g>" * 300 + "</g>" * 300 + "</svg>", "nests deeper"),
    ],
)
def test_a_figure_that_cannot_be_trusted_is_refused(source: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        clean_figure(source)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="360pt" height="216pt"', (480, 288)),
        ('width="50" height="40px"', (50, 40)),
        ('width="100%" height="100%" viewBox="0 0 30 20"', (30, 20)),
        ("", (600, 400)),
        ('viewBox="a b"', (600, 400)),
        ('width="1.2.3" height="9e99"', (600, 400)),
    ],
)
def test_the_size_of_a_figure_is_its_own_or_a_sensible_one(attributes: str, size: tuple[int, int]) -> None:
    figure = clean_figure(f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}/>')
    assert (figure.width, figure.height) == size


def test_thinning_keeps_ends_and_every_lonely_peak() -> None:
    values = [math.sin(i / 500) for i in range(20_000)]
    values[7_777], values[12_345], values[3] = 50.0, -50.0, math.nan
    kept = thin([values], 1000)
    assert {0, 7_777, 12_345, 19_999} <= set(kept)
    assert len(kept) <= 1000
    assert kept == sorted(set(kept))


@given(st.integers(1, 400), st.integers(1, 4), st.integers(4, 200))
def test_thinning_never_exceeds_the_limit_by_more_than_one_stretch(total: int, count: int, most: int) -> None:
    series = [[float((i * 7919 + j) % 101) for i in range(total)] for j in range(count)]
    kept = thin(series, most)
    assert {0, total - 1} <= set(kept) <= set(range(total))
    assert len(kept) <= max(most, 2 * count + 2)


def test_cells_come_back_as_the_table_wrote_them() -> None:
    rows = [[1, 0.1 + 0.2, "a,b", True, None], [-3, math.inf, 'x"y', False, 1e-300]]
    table = Table(["n", "x", "text", "yes", "gap"], rows)
    back = read_table(table.to_csv())
    assert [list(row) for row in back.rows] == rows
    assert list(back.columns) == list(table.columns)


def test_cells_that_only_look_like_numbers_stay_text() -> None:
    assert read_table("a\n007\n1_000\ninfinity\n0x10\n").rows == [["007"], ["1_000"], ["infinity"], ["0x10"]]


def test_an_unclosed_quote_is_refused() -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_table('a,b\n"1,2\n')


@given(st.text())
def test_any_text_survives_as_text_in_content_and_attribute(text: str) -> None:
    page = Page(tag("p", text.replace("\r", ""), title=text))
    assert page.attributes("p") == [{"title": text}]
    assert len(page.elements) == 1


@given(st.text())
def test_any_text_gives_a_plain_id(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text))


def test_only_web_addresses_become_links() -> None:
    page = Page(linkify("see (https://a.example/x?y=1&z=2), javascript:alert(1) and <b>."))
    assert [a["href"] for a in page.attributes("a")] == ["https://a.example/x?y=1&z=2"]
    assert page.words == "see ( https://a.example/x?y=1&z=2 ), javascript:alert(1) and <b>."


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"low": 0.9}, "≥ 0.9"),
        ({"low": None, "high": 2.0}, "≤ 2"),
        ({"low": 1.0, "high": 2.5}, "1 to 2.5"),
        ({"low": 1, "high": 1}, "exactly 1"),
    ],
)
def test_accepted_values_read_as_a_range(bounds: dict[str, float | None], text: str) -> None:
    assert accepted_text(Claim.from_json(claim("x", **bounds))) == text


@pytest.mark.parametrize(
    ("expected", "low", "more"),
    [("> 0", 0.0, False), ("> 0", 1e-9, False), ("> 0.05", 0.05, False), ("> 0", 0.1, True), ("> 3", 3.1, True),
     ("≥ 0.9", 0.9, False), ("positive", 1e-9, True)],
)  # fmt: skip
def test_accepted_values_are_shown_where_they_say_more(expected: str, low: float, more: bool) -> None:
    text = str(expected_text(Claim.from_json(claim("x", expected=expected, low=low))))
    assert ("accepted:" in text) == more


def places(**changes: object) -> dict[str, float]:
    page = Page(interval_plot(Claim.from_json(claim("x", **changes))) or "")
    (band,) = page.attributes("rect")
    left = float(band["x"] or "nan")
    return {
        "left": left,
        "right": left + float(band["width"] or "nan"),
        "dot": float(page.attributes("circle")[0]["cx"] or "nan"),
    }


def test_the_dot_stands_inside_the_band_exactly_when_the_claim_holds() -> None:
    inside = places(low=0.0, high=1.0, measured=0.5, interval=None)
    assert inside["left"] < inside["dot"] < inside["right"]
    outside = places(low=0.0, high=1.0, measured=2.0, interval=[1.5, 2.5])
    assert outside["dot"] > outside["right"]
    open_above = places(low=1.0, high=None, measured=0.0, interval=None)
    assert open_above["dot"] < open_above["left"]
    assert open_above["right"] == 120


@pytest.mark.parametrize("measured", [None, math.inf])
def test_nothing_is_drawn_for_a_measurement_that_is_no_number(measured: float | None) -> None:
    assert interval_plot(Claim.from_json(claim("x", measured=measured, interval=None))) is None


def test_a_plot_survives_equal_huge_and_missing_numbers() -> None:
    for numbers in (
        {"measured": 0.9, "interval": [0.9, 0.9]},
        {"measured": 1e308, "low": -1e308, "interval": [None, 1]},
    ):
        assert interval_plot(Claim.from_json(claim("x", **numbers))) is None or places(**numbers)["dot"] >= 0
