"""Axes that keep fingerpost's style when they are drawn on, wherever that happens."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from fingerpost.lab.style import figure_style


class StyledAxes(Axes):
    """Axes whose lines, titles, legends and texts take their settings from `figure_style`.

    Matplotlib reads widths, the title's place and the legend's frame when a method is called, not when the
    axes are made; a caller outside the style's context would get its own defaults.
    """

    def plot(self, *arguments: Any, **options: Any) -> Any:
        """Plots lines, as `matplotlib.axes.Axes.plot`."""
        with figure_style():
            return super().plot(*arguments, **options)

    def errorbar(self, *arguments: Any, **options: Any) -> Any:
        """Plots points with intervals, as `matplotlib.axes.Axes.errorbar`."""
        with figure_style():
            return super().errorbar(*arguments, **options)

    def set_title(self, *arguments: Any, **options: Any) -> Any:
        """Sets the title, as `matplotlib.axes.Axes.set_title`."""
        with figure_style():
            return super().set_title(*arguments, **options)

    def legend(self, *arguments: Any, **options: Any) -> Any:
        """Adds the legend, as `matplotlib.axes.Axes.legend`."""
        with figure_style():
            return super().legend(*arguments, **options)

    def text(self, *arguments: Any, **options: Any) -> Any:
        """Adds a text, as `matplotlib.axes.Axes.text`."""
        with figure_style():
            return super().text(*arguments, **options)
