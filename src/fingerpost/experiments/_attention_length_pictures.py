"""The figures of attention-length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fingerpost.experiments import _translation_pictures as pictures
from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import Score
from fingerpost.lab import Run, legend_outside, new_figure
from fingerpost.lab.style import figure_style

if TYPE_CHECKING:
    from fingerpost.experiments._attention_length_fits import Found
    from fingerpost.experiments._attention_length_results import Judged
    from fingerpost.experiments.attention_length import Config

JOINED = "pairs joined"


def lengths(config: Config, judged: Judged, run: Run) -> None:
    """BLEU by the number of pairs joined, beside translating part by part."""
    scores = {MODELS[kind]: [own.score() for own in each] for kind, each in judged.whole.items()}
    scores[f"{MODELS['search']}, part by part"] = [own.score() for own in judged.parts["search"]]
    labels = [f"{count}\n{judged.source_words(count):.0f}" for count in judged.counts]
    figure = pictures.by_length(
        {name: [(s.mean, s.low, s.high) for s in each] for name, each in scores.items()},
        labels,
        y_label="BLEU of words",
        x_label=f"{JOINED}, and their source words on average",
        trained=config.trained,
        top=top_of(score.high for each in scores.values() for score in each),
    )
    caption = (
        "Every length has the same test pairs. Means over trainings with 95 % bootstrap intervals over joined sentences. Part "
        "by part: each pair translated by itself, and the translations joined."
    )
    run.figure("lengths", figure, title="BLEU by the number of pairs joined", caption=caption)


def top_of(values: Iterable[float]) -> float:
    """The ordinate's end: some room above all values, and above 100 no more than a mark needs."""
    return min(103.0, max(1.0, 1.1 * max(values)))


def shade(axis: Any, config: Config, longest: int) -> None:
    """The lengths that were not trained on."""
    if config.trained < longest:
        axis.axvspan(
            config.trained + 0.5, longest + 0.3, color="0.93", zorder=0, label="longer than trained on"
        )
    axis.set(xlim=(0.7, longest + 0.3))
    axis.set_xticks(range(1, longest + 1))


def failures(config: Config, measured: Mapping[str, Sequence[Mapping[str, float]]], run: Run) -> None:
    """How long translations are, and how much they repeat."""
    figure, axes = new_figure(1, 2, width=11.0, height=4.8)
    for k, (kind, each) in enumerate(measured.items()):
        counts = range(1, len(each) + 1)
        style = {"marker": pictures.MARKS[k], "label": MODELS[kind]}
        axes[0].plot(counts, [one["length"] for one in each], **style)
        axes[1].plot(counts, [100 * one["repeated words"] for one in each], **style)
    axes[0].axhline(1, color="0.5", linewidth=1, linestyle=":")
    axes[1].axhline(0, color="0.5", linewidth=1, linestyle=":")
    for axis in axes:
        shade(axis, config, len(measured["search"]))
    axes[0].set(xlabel=JOINED, ylabel="words over reference's", ylim=(0, None))
    axes[0].set_title("Length of translations")
    axes[1].set(xlabel=JOINED, ylabel="% of four-grams, less reference's")
    axes[1].set_title("Repetitions within a sentence")
    legend_outside(figure, axes[0], columns=2)
    caption = "Below 1, translations stop early. Repetitions: four-grams that a translation had before. Means over trainings."
    run.figure("failures", figure, title="What goes wrong, by length", caption=caption)


def where(
    config: Config, scored: Mapping[int, Mapping[str, Sequence[Score]]], found: Found, run: Run
) -> None:
    """Which sentence of the joined ones is lost, and how much attention each part of the source had."""
    figure, axes = new_figure(1, 2, width=11.0, height=5.0, sharex=True)
    top = top_of([s.high for each in scored.values() for s in each["search"]] or [100.0])
    chosen = sorted({config.trained, min(config.trained + 1, config.longest), config.longest})
    for k, count in enumerate(chosen):
        places = range(1, count + 1)
        style: dict[str, Any] = {"marker": pictures.MARKS[k], "label": f"{count} joined", "color": f"C{k}"}
        if count in scored:
            score = scored[count]["search"]
            (line,) = axes[0].plot(places, [one.mean for one in score], **style)
            axes[0].vlines(
                places, [s.low for s in score], [s.high for s in score], color=line.get_color(), linewidth=1.6
            )
        axes[1].plot(places, read(found, count), **style)
    axes[1].axhline(1, color="0.5", linewidth=1, linestyle=":")
    axes[0].set(xlabel="position of the sentence", ylabel="BLEU of words", ylim=(0, top))
    axes[0].set_title("Attention's translations")
    axes[1].set(xlabel="position of the part", ylabel="attention a source word", ylim=(0, None))
    axes[1].set_title("What the source received")
    axes[1].set_xticks(range(1, config.longest + 1))
    legend_outside(figure, axes[1], columns=3)
    caption = (
        f"Trained on up to {config.trained} joined. Left: translations cut at full stops, the first sentence against the "
        "reference's first, and so on, with 95 % bootstrap intervals. Right: attention from all translated words that a source "
        "word had, by the part it is in. Means over trainings."
    )
    run.figure("where", figure, title="Where in the joined sentence", caption=caption)


def read(found: Found, count: int) -> Any:
    """Mean attention that a source word had, by its part, (count,)."""
    rows = [row for one in found.tested["search"] for row in one[count - 1]["received"] if row is not None]
    return np.mean(rows, axis=0) if rows else np.full(count, np.nan)


def maps(config: Config, found: Found, run: Run) -> None:
    """Alignments of a joined sentence as long as those trained on, and of the longest, by rule."""
    drawn = []
    for count in sorted({config.trained, config.longest}):
        wanted = ("median",) if count == config.trained < config.longest else ("best", "worst")
        given = found.tested["search"][0][count - 1]["maps"]
        drawn += [(count, one) for one in given if one["which"] in wanted]
    if not drawn:
        return
    caption = (
        "Weights of each translated word (down) on the words of the source (across), ends among them, first training; lines "
        f"part the joined pairs. By rule: the sentence of median BLEU of {config.trained} joined, and the best and the worst "
        f"of {config.longest}, among those that ended."
    )
    run.figure("maps", draw(drawn), title="Alignments of joined sentences", caption=caption)


def draw(drawn: Sequence[tuple[int, Mapping[str, Any]]]) -> Any:
    """Maps side by side, each with lines between the parts of its source."""
    figure, axes = new_figure(1, len(drawn), width=4.3 * len(drawn) + 0.6, height=4.9, squeeze=False)
    with figure_style():
        shown: Any = None
        for axis, (count, one) in zip(axes.flat, drawn):
            weights, edges = np.asarray(one["weights"]), np.cumsum([0, *one["parts"]])
            shown = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axis.grid(False)
            for edge in edges[1:]:
                axis.axvline(edge - 0.5, color="#D55E00", linewidth=0.8)
            axis.set_xticks((edges[:-1] + edges[1:] - 1) / 2, [str(k) for k in range(1, count + 1)])
            step = max(5, 5 * round(len(weights) / 30))
            words = np.arange(step, len(weights) + 1, step)
            axis.set_yticks(words - 1, [str(word) for word in words])
            axis.set(xlabel="part of the source", ylabel="translated word")
            axis.set_title(f"{count} joined, {one['which']}:\nBLEU {one['bleu']:.0f}", fontsize=13)
            axis.tick_params(length=0)
        figure.colorbar(shown, ax=axes, shrink=0.7, label="weight α", aspect=30)
    return figure
