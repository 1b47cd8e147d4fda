"""Lighter SVG: the same picture, the same words, fewer bytes."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest

from fingerpost.lab import new_figure
from fingerpost.lab._light_svg import _relative, crowds_as_images, lighten
from fingerpost.lab.style import figure_style, svg_bytes


def plain_svg(figure) -> bytes:
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def points_of(path: bytes) -> np.ndarray:
    """End points of a path, absolute or relative."""
    here, start, found = np.zeros(2), np.zeros(2), []
    for command, words in re.findall(rb"([MmLlCcQqZz])([^MmLlCcQqZz]*)", path):
        values = np.array([float(v) for v in re.findall(rb"-?\d+\.?\d*", words)]).reshape(-1, 2)
        width = {b"c": 3, b"q": 2}.get(command.lower(), 1)
        if command in b"zZ":
            here = start
            continue
        for point in values[width - 1 :: width]:
            here = here + point if command.islower() else point
            start = here if command in b"Mm" else start
            found.append(here)
    return np.array(found)


def curve_figure(points: int = 200):
    figure, axes = new_figure()
    x = np.linspace(0, 1, points)
    axes.plot(x, np.sin(9 * x), label="y = 0.125 x")
    axes.fill_between(x, np.cos(5 * x), alpha=0.35)
    axes.set(title="rate 0.0625", xlabel="a − b")
    axes.text(0.5, 0.5, "0.375")
    return figure


def test_words_and_styles_stay_to_the_letter():
    before = plain_svg(curve_figure())
    after = lighten(before)
    written = re.compile(rb">([^<>]*\w[^<>]*)</t(?:ext|span)>")
    assert written.findall(after) == written.findall(before)
    assert b"0.375" in after
    assert b"rate 0.0625" in after
    assert set(re.findall(rb"(?:opacity|stroke-width): [0-9.]+", after)) == set(
        re.findall(rb"(?:opacity|stroke-width): [0-9.]+", before)
    )


def test_every_path_keeps_its_points_within_half_a_tenth_of_a_point():
    before = plain_svg(curve_figure())
    pairs = list(
        zip(re.findall(rb' d="([^"]*)"', before), re.findall(rb' d="([^"]*)"', lighten(before)), strict=True)
    )
    assert len(pairs) > 10
    for absolute, relative in pairs:
        np.testing.assert_allclose(points_of(relative), points_of(absolute), atol=0.0501)


def test_a_long_path_does_not_drift():
    steps = np.cumsum(np.full((5_000, 2), 0.0333), axis=0)
    path = b"M 0 0 " + b" ".join(b"L %f %f" % tuple(point) for point in steps)
    assert abs(points_of(_relative(path, 1))[-1] - steps[-1]).max() <= 0.0501


def test_paths_of_other_commands_are_left_alone():
    assert _relative(b"M 0 0 A 1 1 0 0 0 2.123 2", 1) == b"M 0 0 A 1 1 0 0 0 2.123 2"


def test_a_figure_of_curves_takes_two_thirds_and_less():
    before = plain_svg(curve_figure(2_000))
    assert len(lighten(before)) < 0.67 * len(before)


def test_references_are_kept_and_lead_somewhere():
    after = svg_bytes(curve_figure())
    used = set(re.findall(rb'(?:href="|url\()#([^")]+)', after))
    assert used
    assert used <= set(re.findall(rb' id="([^"]*)"', after))
    assert after.count(b"<g") == after.count(b"</g>")


@pytest.mark.parametrize(("count", "images"), [(40, 0), (4_000, 1)])
def test_many_marks_become_one_image_and_few_stay_shapes(count, images):
    figure, axes = new_figure()
    axes.scatter(*np.random.default_rng(0).normal(size=(2, count)))
    after = svg_bytes(figure)
    assert after.count(b"<image") == images
    assert len(after) < 120_000
    assert not any(artist.get_rasterized() for artist in axes.collections)


def test_a_figure_that_fails_to_draw_is_left_as_it_was():
    figure, axes = new_figure()
    crowd = axes.scatter(*np.random.default_rng(0).normal(size=(2, 4_000)))
    dpi = figure.dpi
    seen = []
    with contextlib.suppress(RuntimeError), crowds_as_images(figure):
        seen.append(crowd.get_rasterized())
        raise RuntimeError
    assert seen == [True]
    assert figure.dpi == dpi
    assert not crowd.get_rasterized()


def test_a_photograph_keeps_its_colours():
    figure, axes = new_figure()
    side = np.linspace(0, 1, 128)
    picture = np.stack(np.broadcast_arrays(side[:, None], side, 0.5 + 0.2 * np.sin(60 * side)), -1)
    picture += np.random.default_rng(0).uniform(0, 0.04, picture.shape)
    picture /= picture.max()
    axes.imshow(picture, interpolation="none")
    before, after = plain_svg(figure), svg_bytes(figure)
    assert b"data:image/jpeg" in after
    assert len(after) < 0.7 * len(before)
    kept = [_pixels(svg) for svg in (before, after)]
    assert kept[0].shape == kept[1].shape
    assert np.abs(kept[0] - kept[1]).mean() < 3


def _pixels(svg: bytes) -> np.ndarray:
    import base64

    from PIL import Image

    raw = re.search(rb"data:image/\w+;base64,([A-Za-z0-9+/=\s]*)", svg)
    assert raw is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(raw[1]))).convert("RGB"), dtype=float)
