"""The one figure style: readable at half size, colour-blind-safe, the same bytes for the same data.

Figures stand on a white card, so that they are legible on light and dark pages. Nothing here touches
matplotlib's global settings or pyplot: settings hold inside `figure_style` alone, and `new_figure` gives a
Figure of its own.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fingerpost.lab._light_svg import crowds_as_images, lighten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), dark enough on white; its yellow is left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    "-.",
    (0, (1, 1.2)),
    (0, (8, 2, 1, 2, 1, 2)),
    (0, (3, 1)),
    (0, (1, 3)),
)
INK = "#1f2328"
FAINT = "#d0d4d9"
_HASHED = re.compile(rb'id="([a-zA-Z][0-9a-f]{10})"')
_USED = re.compile(rb'(?<=[#"])[a-zA-Z][0-9a-f]{10}(?=[")])')
_DOCTYPE = re.compile(rb"<!DOCTYPE[^>]*>\s*")

_SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 13,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 13,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.fontsize": 12,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "legend.framealpha": 0.85,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "fingerpost",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 12,
    "ytick.color": INK,
    "ytick.labelsize": 12,
}


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Holds fingerpost's figure settings inside the block; matplotlib's own are as before outside it."""
    import matplotlib
    from cycler import cycler

    colours = cycler(color=PALETTE) + cycler(linestyle=LINES)
    with matplotlib.rc_context({**_SETTINGS, "axes.prop_cycle": colours}):
        yield


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 4.0, **options: Any
) -> tuple[Figure, Any]:
    """Makes a Figure in fingerpost's style, outside pyplot, with a grid of axes.

    Lines differ in colour and in dashes, so that they can be told apart in black and white too.

    Args:
      rows: Rows of axes.
      columns: Columns of axes.
      width: Inches; text is 13 pt, so that a figure of 7 inches can be read at half size.
      height: Inches.
      **options: Passed to ``Figure.subplots`` (``sharex``, ``squeeze``, …).

    Returns:
      The figure, and its axes as ``Figure.subplots`` gives them: one Axes, or an array of them.

    Example:
      >>> figure, axes = new_figure()
      >>> _ = axes.plot([0, 1], [1, 0], label="loss")
      >>> svg_bytes(figure).startswith(b"<?xml")
      True
    """
    from matplotlib.figure import Figure

    from fingerpost.lab._axes import StyledAxes

    kind = {"axes_class": StyledAxes, **options.pop("subplot_kw", {})}
    with figure_style():
        figure = Figure(figsize=(width, height))
        return figure, figure.subplots(rows, columns, subplot_kw=kind, **options)


def legend_outside(figure: Figure, axis: Any, *, place: str = "lower center", columns: int = 2) -> None:
    """Puts the legend of `axis` outside all axes of the figure, where it covers no data.

    Args:
      figure: The figure, which makes room.
      axis: The axes whose labelled series are listed.
      place: Where: ``"lower center"``, ``"upper right"``, … (matplotlib's ``loc`` after ``outside``).
      columns: Columns of the legend.
    """
    with figure_style():
        where: Any = f"outside {place}"
        figure.legend(*axis.get_legend_handles_labels(), loc=where, ncols=columns)


def svg_bytes(figure: Figure, *, title: str = "", description: str = "") -> bytes:
    """Renders a figure as SVG: the same bytes for the same data (no date, fixed ids, no document type).

    Text stays text: small, searchable and selectable; where DejaVu Sans is absent, Verdana has its widths. Artists of
    several hundred marks become images inside the SVG, and coordinates have one decimal of a point.

    Args:
      figure: A matplotlib Figure.
      title: Stored as the SVG's metadata title.
      description: Stored as the SVG's metadata description.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Title": title, "Description": description}
    with figure_style():
        canvas = figure.canvas
        with crowds_as_images(figure):
            FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
        figure.set_canvas(canvas)
    return lighten(_numbered(_DOCTYPE.sub(b"", buffer.getvalue(), count=1)))


def _numbered(svg: bytes) -> bytes:
    """Numbers ids in the order of their definition: matplotlib makes them of coordinates to the last bit, which vary."""
    names = dict.fromkeys(_HASHED.findall(svg))
    order = {name: b"%c%d" % (name[0], place) for place, name in enumerate(names)}
    return _USED.sub(lambda found: order.get(found[0], found[0]), svg) if order else svg
