"""Pictures of pictures: reconstructions beside the original, cut-outs, errors; small enough for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost._pictures import shrink
from fingerpost.lab import legend_outside, new_figure
from fingerpost.lab.style import LINES, PALETTE

np = lazy_import("numpy")
ticker = lazy_import("matplotlib.ticker")

SHOWN = 112  # pixels of a whole picture in a figure: five of them, with cut-outs and errors, take 300 kB
CUT = 56
ERROR_TOP = 0.4


def style_of(encoding: str) -> dict[str, Any]:
    """The line of an encoding, the same in every figure."""
    place = ("no mapping", "basic", "positional", "Gaussian").index(encoding)
    return {"color": PALETTE[place], "linestyle": LINES[place], "label": encoding}


class Window(NamedTuple):
    """A square cut-out: its first row and column, and its side, in pixels."""

    row: int
    column: int
    side: int

    def of(self, array: Any) -> Any:
        """The cut-out of a picture."""
        return array[self.row : self.row + self.side, self.column : self.column + self.side]


def where_most(gain: Any, side: int) -> Window:
    """The square in which `gain` (height, width) is largest in the mean."""
    height, width = gain.shape
    side = min(side, height, width)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = gain.cumsum(0).cumsum(1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(int(row), int(column), side)


def cut_side(height: int, width: int) -> int:
    """The side of a cut-out in which single pixels can be seen, and which is smaller than the picture."""
    short = min(height, width)
    return min(max(CUT, short // 6), 2 * short // 5)


def squared_error(picture: Any, original: Any) -> Any:
    """Squared error of each pixel, the mean over channels."""
    return ((picture.astype(np.float64) - original) ** 2).mean(-1)


def show(axis: Any, array: Any, title: str = "") -> None:
    """Draws a picture (height, width, 1 or 3) in [0, 1] at its own pixels, without axes."""
    gray = array.shape[-1] == 1
    options = {"cmap": "gray", "vmin": 0, "vmax": 1} if gray else {}
    pixels = (array[..., 0] if gray else array).clip(0, 1)
    axis.imshow(np.rint(pixels * 255) / 255, interpolation="none", **options)
    bare(axis, title)


def bare(axis: Any, title: str = "") -> None:
    """Takes ticks, grid and frame off a picture."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    if title:
        axis.set_title(title, fontsize=12, loc="center")


def mark(axis: Any, window: Window, scale: float) -> None:
    """Draws the frame of a cut-out on a picture that was shrunk by `scale`."""
    from matplotlib.patches import Rectangle

    corner = (window.column * scale - 0.5, window.row * scale - 0.5)
    size = window.side * scale
    for width, colour in ((3.0, "white"), (1.4, "black")):
        axis.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=colour, linewidth=width))


def comparison(
    original: Any, pictures: Mapping[str, Any], scores: Mapping[str, float], window: Window
) -> Any:
    """Three rows: whole pictures, the same cut-out of each, and where each errs.

    Args:
      original: (height, width, channels).
      pictures: Reconstructions by name.
      scores: Their PSNR in dB.
      window: What is cut out.
    """
    columns = 1 + len(pictures)
    tall = original.shape[0] / original.shape[1]
    figure, axes = new_figure(
        3,
        columns,
        width=2.45 * columns,
        height=2.45 * (1 + 2 * tall) + 0.9,
        gridspec_kw={"height_ratios": [tall, 1, tall]},
    )
    scale = min(1.0, SHOWN / max(original.shape[:2]))
    show(axes[0][0], shrink(original.astype(np.float32), SHOWN), "original")
    mark(axes[0][0], window, scale)
    show(axes[1][0], window.of(original), "cut-out")
    axes[2][0].set_axis_off()
    image = None
    for k, (name, picture) in enumerate(pictures.items(), 1):
        show(axes[0][k], shrink(picture.astype(np.float32), SHOWN), f"{name}\n{scores[name]:.2f} dB")
        show(axes[1][k], window.of(picture))
        error = np.sqrt(squared_error(picture, original))[..., None]
        small = shrink(error.astype(np.float32), SHOWN)[..., 0]
        image = axes[2][k].imshow(small, cmap="magma", vmin=0, vmax=ERROR_TOP, interpolation="none")
        bare(axes[2][k])
    assert image is not None, "there is at least one reconstruction"
    bar = figure.colorbar(
        image, cax=axes[2][0].inset_axes((0.06, 0.52, 0.82, 0.09)), orientation="horizontal"
    )
    bar.set_label("error of a pixel")
    bar.ax.grid(False)
    return figure


def sheet(rows: Mapping[str, tuple[Any, Mapping[str, Any], Mapping[str, float], Window]]) -> Any:
    """One row a picture: the whole with its cut-out marked, then the cut-out of the original and of each fit.

    Args:
      rows: By name: the original, reconstructions by encoding, their PSNR, and the window.
    """
    first = next(iter(rows.values()))
    columns = 2 + len(first[1])
    figure, axes = new_figure(
        len(rows), columns, width=2.1 * columns, height=2.45 * len(rows) + 0.4, squeeze=False
    )
    for line, (name, (original, pictures, scores, window)) in zip(axes, rows.items()):
        whole = shrink(original.astype(np.float32), 96)
        show(line[0], whole, name)
        mark(line[0], window, whole.shape[1] / original.shape[1])
        show(line[1], window.of(original), "cut-out")
        for axis, (encoding, picture) in zip(line[2:], pictures.items()):
            show(axis, window.of(picture), f"{encoding}\n{scores[encoding]:.2f} dB")
    return figure


def learning_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """PSNR over updates, on training pixels and on test pixels.

    Args:
      curves: By encoding, rows of update, PSNR on training pixels, PSNR on test pixels.
    """
    figure, axes = new_figure(1, 2, width=10.5, height=4.3, sharey=True)
    for column, (axis, title) in enumerate(zip(axes, ("training pixels", "test pixels")), 1):
        for name, rows in curves.items():
            axis.plot([row[0] for row in rows], [row[column] for row in rows], marker="", **style_of(name))
        axis.set_title(title)
        axis.set_xlabel("updates")
    axes[0].set_ylabel("PSNR (dB)")
    legend_outside(figure, axes[0], columns=len(curves))
    return figure


def sigma_axis(axis: Any, sigmas: Sequence[float]) -> None:
    """A logarithmic axis of σ with its own values as ticks."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(ticker.FixedLocator(list(sigmas)))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlabel("σ (cycles per unit)")


def choice(rows: Mapping[str, Sequence[Mapping[str, float]]], chosen: Mapping[str, float]) -> Any:
    """What the kernel predicts by σ, a line for each encoding, with the σ that was taken."""
    figure, axis = new_figure(width=7.2, height=4.2)
    for name, found in rows.items():
        sigmas, values = ([row[key] for row in found] for key in ("sigma", "psnr"))
        (line,) = axis.plot(sigmas, values, marker="o", **style_of(name))
        best = max(values)
        axis.plot([chosen[name]], [best], marker="o", markersize=13, fillstyle="none", color=line.get_color())
    sigma_axis(axis, sorted({row["sigma"] for found in rows.values() for row in found}))
    axis.set_ylabel("predicted PSNR (dB)")
    legend_outside(figure, axis, columns=len(rows))
    return figure
