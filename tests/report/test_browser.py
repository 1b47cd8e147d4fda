"""The page in a real headless Chromium: clicks, keys, filters, themes, printing.

The clicks need Node and playwright-core: ``FINGERPOST_PLAYWRIGHT`` names the ``node_modules`` folder with it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fingerpost.lab.report import build_report
from report.folders import SVG, claim, hostile_run, write_run

pytestmark = pytest.mark.browser

MEASURED = {"ep-digits": [0.998, 12.5, -3.0], "ep-synthetic": [0.02, 1e-5, 200.0]}
HOLDS = {0.998: True, 12.5: False, -3.0: True, 0.02: True, 1e-5: True, 200.0: False}


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed: apt-get install chromium brings one")


def _playwright() -> Path:
    folder = Path(os.environ.get("FINGERPOST_PLAYWRIGHT", "node_modules"))
    if not (folder / "playwright-core").is_dir():
        pytest.skip(
            "playwright-core is not there: npm install playwright-core, and name its node_modules folder in "
            "FINGERPOST_PLAYWRIGHT"
        )
    return folder.resolve()


def _node() -> str:
    return shutil.which("node") or pytest.skip("no node is installed")


def _claims(experiment: str) -> list[dict[str, Any]]:
    return [
        claim(
            f"c{value}",
            measured=value,
            interval=None,
            low=None if HOLDS[value] else 1000.0,
            high=None if not HOLDS[value] else 2.0,
            holds=HOLDS[value],
            unit="percent" if value == 12.5 else "",
        )
        for value in MEASURED[experiment]
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [write_run(folder / name, name, claims=_claims(name)) for name in MEASURED]
    damaged = write_run(folder / "audit-power", "audit-power", claims=[])
    (damaged / "metrics.jsonl").unlink()
    return build_report([*runs, damaged], folder / "report.html")


@pytest.fixture(scope="module")
def seen(page: Path) -> dict[str, Any]:
    """What the browser saw and did, once for all tests of this file."""
    chromium, node, modules = _chromium(), _node(), _playwright()
    hostile = build_report([hostile_run(page.parent / "hostile")], page.parent / "hostile.html")
    done = subprocess.run(
        [
            node,
            str(Path(__file__).with_name("browser.cjs")),
            chromium,
            str(page.parent / "profile"),
            page,
            hostile,
        ],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "FINGERPOST_PLAYWRIGHT": str(modules)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_dumped_page_holds_the_claims_and_what_the_script_adds(page: Path, tmp_path: Path) -> None:
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    )
    flags += " --disable-component-update --disable-sync --dump-dom"
    command = [_chromium(), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "4</span> of 6 claims hold; 2 do not." in dom
    assert "6 of 6 claims shown" in dom
    assert dom.count('class="sort"') > 12
    assert len(re.findall("<canvas", dom)) == 3
    assert "metrics.jsonl is listed in the manifest and cannot be read" in dom


def test_nothing_is_complained_about_and_nothing_is_asked_of_the_network(seen: dict[str, Any]) -> None:
    assert seen["complaints"] == []
    assert len(seen["requests"]) > 3
    assert {url.partition(":")[0] for url in seen["requests"]} <= {"file", "data", "blob"}
    assert all(url.endswith(".html") for url in seen["requests"] if url.startswith("file:"))


def test_every_figure_is_decoded(seen: dict[str, Any]) -> None:
    assert seen["figures"] == [480, 480, 480]


def test_a_click_on_measured_sorts_by_its_number_and_a_second_one_turns_it(seen: dict[str, Any]) -> None:
    values = MEASURED["ep-digits"] + MEASURED["ep-synthetic"]
    assert seen["sorting"]["before"] == values
    assert seen["sorting"]["ascending"] == sorted(values)
    assert seen["sorting"]["ascendingState"] == [None, None, None, "ascending", None]
    assert seen["sorting"]["descending"] == sorted(values, reverse=True)
    assert seen["sorting"]["descendingState"] == [None, None, None, "descending", None]


def test_tab_reaches_the_heading_with_a_visible_focus_and_enter_and_space_sort(seen: dict[str, Any]) -> None:
    keyboard = seen["keyboard"]
    values = MEASURED["ep-digits"] + MEASURED["ep-synthetic"]
    assert keyboard["visited"][0]["name"] == "Skip to the scoreboard"
    assert {"theme", "filter-text"} <= {stop["id"] for stop in keyboard["visited"]}
    assert all(stop["ring"] == "solid" for stop in keyboard["visited"])
    assert keyboard["ascending"] == sorted(values)
    assert keyboard["descending"] == sorted(values, reverse=True)


def test_the_filter_hides_by_words_and_by_verdict_and_says_how_many_are_left(seen: dict[str, Any]) -> None:
    filtering = seen["filtering"]
    assert (filtering["words"], filtering["wordsStatus"]) == (1, "1 of 6 claims shown")
    assert filtering["none"] == 0
    assert (filtering["no"], filtering["noStatus"]) == (2, "2 of 6 claims shown")
    assert filtering["yes"] == 4
    assert filtering["all"] == 6
    assert filtering["stayed"]


def test_the_theme_button_turns_page_and_curves_dark_and_back_and_is_remembered(seen: dict[str, Any]) -> None:
    themes = seen["themes"]
    light, dark = themes["light"], themes["dark"]
    assert light["background"] != dark["background"]
    assert themes["pressed"] == "true"
    assert themes["remembered"] == dark["background"]
    assert themes["back"] == light["background"]
    assert len(light["ink"]) == len(dark["ink"]) == 3
    assert all(before and after and before != after for before, after in zip(light["ink"], dark["ink"]))


def test_without_a_choice_the_page_follows_the_system(seen: dict[str, Any]) -> None:
    assert seen["systemTheme"]["light"] == seen["themes"]["light"]["background"]
    assert seen["systemTheme"]["dark"] == seen["themes"]["dark"]["background"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_the_contrast_that_wcag_aa_asks_for(seen: dict[str, Any], theme: str) -> None:
    contrast = seen["themes"][theme]["contrast"]
    assert contrast["count"] > 100
    assert contrast["ratio"] >= 4.5, contrast["where"]


def test_downloads_hold_the_table_in_full_and_the_figure(seen: dict[str, Any]) -> None:
    assert seen["csv"]["name"] == "ep-digits-angles.csv"
    assert seen["csv"]["text"] == "layer,cosine,holds\nh1,0.5,yes\nh2,-0.25,no\nh10,,yes\n"
    assert seen["svg"]["name"] == "ep-digits-angles.svg"
    assert seen["svg"]["text"].startswith("<svg xmlns='http://www.w3.org/2000/svg'")
    assert "β → 0" in SVG
    assert "β → 0" in seen["svg"]["text"]


def test_the_page_and_its_curves_fit_narrow_and_wide_windows(seen: dict[str, Any]) -> None:
    for width, extent in seen["widths"].items():
        assert extent["page"] <= int(width)
        assert extent["canvas"] <= int(width)


def test_paper_shows_every_detail_and_no_control_and_the_screen_is_as_before(seen: dict[str, Any]) -> None:
    printing = seen["printing"]
    assert printing["controls"] == 0
    assert printing["hidden"] == 0
    assert printing["before"] == printing["after"] > 0
    assert 4 <= printing["pages"] <= 12


def test_hostile_strings_do_nothing_in_a_browser(seen: dict[str, Any]) -> None:
    assert seen["hostile"] == {"canvases": 1, "strangers": 0, "legend": ["x", "</script>"]}
