"""The figures of attention-translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fingerpost.experiments import _translation_pictures as pictures
from fingerpost.experiments._translation import MODELS
from fingerpost.lab import Run, legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments._attention_translation_fits import Found
    from fingerpost.experiments._attention_translation_text import Direction
    from fingerpost.experiments._translation_scores import Bucket, Scores

TICKS = [digit * 10**power for power in range(6) for digit in (1, 2, 3, 5)]
"""Perplexities that are named on the ordinate."""


def lengths(side: Direction, scores: Mapping[str, Scores], by_length: Sequence[Bucket], run: Run) -> None:
    """BLEU of words by the length of the source."""
    curves = {
        MODELS[kind]: [(s.mean, s.low, s.high) for s in (own.score(bucket.rows) for bucket in by_length)]
        for kind, own in scores.items()
    }
    figure = pictures.by_length(curves, [bucket.label for bucket in by_length], y_label="BLEU of words")
    counts = ", ".join(f"{int(bucket.rows.sum())} of {bucket.label}" for bucket in by_length)
    caption = (
        f"{side.name}; means over trainings with 95 % bootstrap intervals over sentences. Sentences: {counts} words. "
        "The paper's Figure 2."
    )
    run.figure(
        f"lengths{side.suffix}", figure, title=f"BLEU by sentence length, {side.name}", caption=caption
    )


def maps(side: Direction, found: Found, run: Run) -> None:
    """Alignments of a few translations, chosen by rule."""
    chosen = found.tested["search"][0].get("maps")
    if not chosen:
        return
    drawn = [
        pictures.Map(
            one["weights"],
            one["source"],
            one["target"],
            f"sentence {one['place'] + 1}, order {one['order']:.2f}",
        )
        for one in chosen
    ]
    caption = (
        f"{side.name}: weights of each translated word on the words of the source, of the first training. By "
        "rule: the first sentences are nearest the median length, the last are those read least in order (Kendall's τ, "
        "1 is left to right), of the sharper half. The paper's Figure 3."
    )
    run.figure(
        f"maps{side.suffix}",
        pictures.alignment_maps(drawn),
        title=f"Alignments, {side.name}",
        caption=caption,
    )


def learning(side: Direction, found: Found, run: Run) -> None:
    """Held-out perplexity by epoch."""
    figure, axes = new_figure(width=7.0, height=4.4)
    for k, (kind, facts) in enumerate(found.facts.items()):
        curves = np.array([one["curve"] for one in facts])
        epochs, values = curves[0, :, 0], curves[:, :, 1]
        (line,) = axes.plot(epochs, values.mean(0), marker=pictures.MARKS[k], label=MODELS[kind])
        axes.fill_between(
            epochs, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set(xlabel="epoch", ylabel="held-out perplexity", yscale="log")
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_outside(figure, axes, columns=2)
    caption = (
        f"{side.name}; perplexity of {len(side.corpus.held):,} pairs that were held out, ends of sentences and unknown words "
        "among the words. Means over trainings and their range."
    )
    run.figure(f"learning{side.suffix}", figure, title=f"Learning curves, {side.name}", caption=caption)
