"""Smaller SVG of the same picture: relative paths, rounded coordinates, shared styles, lighter pictures inside.

A page with every experiment has to open at once; matplotlib's own SVG is two to four times as large as it needs to be.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

DIGITS = 1
"""Decimals of a coordinate of the page, in points: a seventh of a pixel at most."""
FINE_DIGITS = 2
"""Decimals where small shapes are defined that are used many times."""
RASTER_DPI = 120
MANY_IN_AXES, MANY_IN_FIGURE, FEW_MARKS = 300, 1200, 3
"""From so many marks on, those of axes, or of the whole figure, are drawn as images inside the SVG."""
VERTICES_OF_A_MARK, THIN = 8, 1.0
"""Vertices that cost what a marker does, and the width in points up to which a line may become an image."""
COLOURS = 64
JPEG_FROM, JPEG_QUALITY = 8_000, 88

_PATH = re.compile(rb' d="([^"]*)"')
_TOKEN = re.compile(rb"[A-Za-z]|-?\d+\.?\d*(?:e-?\d+)?")
_PLACE = re.compile(rb' (?:x|y|transform)="[^"]*"')
_SCALED = (b"scale", b"matrix")
_NUMBER = re.compile(rb"-?\d+\.\d{2,}")
_IMAGE = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=\s]*)")
_DEFINITIONS = re.compile(rb"<defs>.*?</defs>", re.DOTALL)
_ALIKE = re.compile(rb'(?:[ \t]*<use [^>]*?style="([^"]*)"/>\n)(?:[ \t]*<use [^>]*?style="\1"/>\n)+')
_COMMENT = re.compile(rb"<!--.*?-->\n?", re.DOTALL)
_REFERENCE = re.compile(rb'(?:href="|url\()#([^")]+)')
_ID = re.compile(rb' id="([^"]*)"')
_GROUP = re.compile(rb"</?g(?: [^>]*)?>\n?")
_STYLE = re.compile(rb' style="[^"]*"')
_VALUES = {b"M": 2, b"L": 2, b"C": 6, b"Q": 4, b"z": 0, b"Z": 0}


def lighten(svg: bytes) -> bytes:
    """The same picture in fewer bytes; the same bytes for the same input."""
    pieces, last = [], 0
    for found in _DEFINITIONS.finditer(svg):
        pieces += [_rounded(svg[last : found.start()], DIGITS), _rounded(found[0], FINE_DIGITS)]
        last = found.end()
    whole = _unwrapped(re.sub(rb"\n\s*", b"\n", b"".join([*pieces, _rounded(svg[last:], DIGITS)])))
    return _ALIKE.sub(
        lambda found: b'<g style="' + found[1] + b'">\n' + _STYLE.sub(b"", found[0]) + b"</g>\n", whole
    )


@contextlib.contextmanager
def crowds_as_images(figure: Any) -> Iterator[None]:
    """Inside the block, artists of very many marks are set to be drawn as images, at a resolution for screens."""
    crowds = [artist for artist in _crowds(figure) if not artist.get_rasterized()]
    dpi = figure.dpi
    try:
        for artist in crowds:
            artist.set_rasterized(True)
        figure.dpi = RASTER_DPI
        yield
    finally:
        figure.dpi = dpi
        for artist in crowds:
            artist.set_rasterized(False)


def _crowds(figure: Any) -> list[Any]:
    """Marks of axes, or of a figure, that has too many of them."""
    by_axes = [
        {
            artist: count
            for artist in (*axes.lines, *axes.collections)
            if (count := _marks(artist)) >= FEW_MARKS
        }
        for axes in figure.axes
    ]
    totals = [sum(counts.values()) for counts in by_axes]
    everywhere = sum(totals) >= MANY_IN_FIGURE
    return [
        artist
        for counts, total in zip(by_axes, totals)
        if everywhere or total >= MANY_IN_AXES
        for artist in counts
    ]


def _marks(artist: Any) -> int:
    """About how many markers an artist has, in bytes of SVG; 0 for what stays lines: curves, bands, and rulers."""
    import numpy as np
    from matplotlib.collections import LineCollection, PathCollection, QuadMesh
    from matplotlib.lines import Line2D
    from matplotlib.quiver import Quiver

    if isinstance(artist, Line2D):
        points, marker = np.shape(artist.get_xydata())[0], artist.get_marker()
        if marker not in ("None", "none", "", " ", None):
            return points
        return points // VERTICES_OF_A_MARK if artist.get_linewidth() <= THIN else 0
    if isinstance(artist, PathCollection | Quiver):
        return np.shape(artist.get_offsets())[0]
    if isinstance(artist, QuadMesh):
        return int(np.size(np.asarray(artist.get_array())))
    if isinstance(artist, LineCollection):
        return sum(np.shape(path.vertices)[0] for path in artist.get_paths()) // VERTICES_OF_A_MARK
    return 0


def _unwrapped(svg: bytes) -> bytes:
    """Without comments, ids that nothing refers to, and groups that say nothing."""
    svg = _COMMENT.sub(b"", svg)
    kept: list[bool] = []
    used = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda found: found[0] if found[1] in used else b"", svg)

    def part(found: re.Match[bytes]) -> bytes:
        if found[0].startswith(b"</"):
            return found[0] if kept.pop() else b""
        kept.append(found[0].strip() != b"<g>")
        return found[0] if kept[-1] else b""

    return _GROUP.sub(part, svg)


def _rounded(text: bytes, digits: int) -> bytes:
    """Places and paths with so many decimals, pictures lighter; what is written in the picture stays as it is."""

    def place(found: re.Match[bytes]) -> bytes:
        if any(word in found[0] for word in _SCALED):
            return found[0]
        return _NUMBER.sub(lambda number: _number(float(number[0]), digits), found[0])

    text = _PATH.sub(lambda found: b' d="' + _relative(found[1], digits) + b'"', text)
    return _IMAGE.sub(_lighter_image, _PLACE.sub(place, text))


def _number(value: float, digits: int) -> bytes:
    written = f"{value:.{digits}f}".encode()
    if b"." in written:
        written = written.rstrip(b"0").rstrip(b".")
    return b"0" if written in (b"-0", b"") else written


def _relative(path: bytes, digits: int) -> bytes:
    """A path of matplotlib's absolute commands by differences of rounded points, so that nothing drifts."""
    tokens = _TOKEN.findall(path)
    if any(token.isalpha() and token not in _VALUES for token in tokens):
        return path
    unit, out = 10**digits, []
    here, start, place = (0, 0), (0, 0), 0
    while place < len(tokens):
        command = tokens[place]
        count = _VALUES[command]
        points = [round(float(token) * unit) for token in tokens[place + 1 : place + 1 + count]]
        place += 1 + count
        if not count:
            out.append((b"z", b""))
            here = start
            continue
        steps = [value - here[k % 2] for k, value in enumerate(points)]
        here = (points[-2], points[-1])
        if command == b"M":
            start = here
        out.append((command.lower(), _joined(steps, unit, digits)))
    return _commands(out)


def _joined(steps: list[int], unit: int, digits: int) -> bytes:
    words = [_number(step / unit, digits) for step in steps]
    return b"".join(
        word if not place or word.startswith(b"-") else b" " + word for place, word in enumerate(words)
    )


def _commands(out: list[tuple[bytes, bytes]]) -> bytes:
    """Commands in a row that are alike are named once; after a move, lines need no name."""
    text, before = [], b""
    for command, words in out:
        named = command != before or command in b"mz"
        text.append(command if named else (b"" if words.startswith(b"-") else b" "))
        text.append(words)
        before = command
    return b"".join(text)


def _lighter_image(found: re.Match[bytes]) -> bytes:
    """An image with transparency by few colours, an opaque one of some size as JPEG; as it was where that saves nothing."""
    from PIL import Image

    raw = base64.b64decode(found[1])
    image: Any = Image.open(io.BytesIO(raw))
    buffer, kind = io.BytesIO(), b"png"
    if image.mode == "RGBA" and image.getextrema()[3][0] < 255:
        few = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)
        few.save(buffer, "png", optimize=True)
    elif len(raw) >= JPEG_FROM:
        kind = b"jpeg"
        image.convert("RGB").save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    if not buffer.tell() or buffer.tell() >= len(raw):
        return b"data:image/png;base64," + base64.b64encode(raw)
    return b"data:image/" + kind + b";base64," + base64.b64encode(buffer.getvalue())
