from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from fingerpost.lab import figure_style, new_figure
from fingerpost.lab.style import PALETTE, svg_bytes


def drawn(**options):
    figure, axes = new_figure(**options)
    axes.plot([0, 1, 2], [1, 3, 2], label="a <script>alert(1)</script> & b")
    axes.set_title("T")
    axes.legend()
    return figure


def test_the_same_data_gives_the_same_bytes():
    assert svg_bytes(drawn(), title="T") == svg_bytes(drawn(), title="T")


def test_a_figure_can_be_saved_twice():
    figure = drawn()
    assert svg_bytes(figure) == svg_bytes(figure)


def test_hostile_text_stays_text_and_the_svg_is_well_formed():
    content = svg_bytes(drawn(), title='<script>"x"</script>', description="&")
    root = ElementTree.fromstring(content)
    assert not any(element.tag.endswith("}script") for element in root.iter())
    assert b"<dc:date>" not in content


def test_nothing_global_is_changed():
    before = dict(matplotlib.rcParams)
    svg_bytes(drawn(rows=1, columns=1))
    with figure_style():
        assert matplotlib.rcParams["svg.hashsalt"] == "fingerpost"
    assert dict(matplotlib.rcParams) == before


def test_the_style_s_settings_are_restored_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), figure_style():
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_stands_out_on_the_white_card(colour):
    assert 1.05 / (luminance(colour) + 0.05) > 2.0


def test_what_is_drawn_outside_the_context_has_the_style_too():
    _, axes = new_figure()
    (line,) = axes.plot([0, 1], label="a")
    axes.set(title="T")
    assert line.get_linewidth() == 2.0
    assert axes.get_title(loc="left") == "T"
    assert axes.legend().get_frame().get_edgecolor()[3] == 0


def test_axes_come_as_a_grid():
    figure, axes = new_figure(2, 3, sharex=True)
    assert axes.shape == (2, 3)
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
