"""What attention-translation shows and claims of one direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost import attention
from fingerpost._table import Table, format_interval
from fingerpost.experiments import _attention_translation_claims as claims
from fingerpost.experiments import _attention_translation_pictures as pictures
from fingerpost.experiments._attention_translation_fits import MEASURES, Found
from fingerpost.experiments._attention_translation_text import Direction
from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import Bucket, Scores, buckets, trainings_table
from fingerpost.lab import Run, mean_interval, paired_interval

if TYPE_CHECKING:
    from fingerpost.experiments.attention_translation import Config

FEWEST = 20
"""Sentences that a part of the test set needs to be scored."""
EXAMPLES = (0.1, 0.5, 0.75, 0.95)
"""Quantiles of the source length whose nearest sentences are shown."""


class Judged(NamedTuple):
    """Scores of each model: BLEU of words, BLEU and chrF of lines; parts of the test set by length and by known words."""

    words: dict[str, Scores]
    lines: dict[str, Scores]
    letters: dict[str, Scores]
    lengths: list[int]
    by_length: list[Bucket]
    known: Any

    @property
    def some_known(self) -> bool:
        """Whether the pairs without unknown words are enough to score, and not all."""
        return FEWEST <= self.known.sum() < len(self.known)

    @property
    def parts(self) -> list[tuple[str, Any]]:
        """Names and rows of the parts of the test set."""
        parts = [("all", np.ones(len(self.known), dtype=bool))]
        if self.some_known:
            parts.append(("no unknown words", self.known))
        return parts + [(f"{bucket.label} words", bucket.rows) for bucket in self.by_length]


def edges_of(lengths: Sequence[int]) -> tuple[int, ...]:
    """The quarter, three quarters and 95 % quantiles of lengths, to the nearest five words where sentences are that long."""
    quantiles = np.quantile(lengths, [0.25, 0.75, 0.95])
    step = 5 if quantiles[-1] >= 15 else 1
    edges = {int(max(step, step * np.round(value / step))) for value in quantiles}
    return tuple(sorted(edge for edge in edges if edge < max(lengths)))


def metrics() -> tuple[Any, Any, Any]:
    """BLEU of words, BLEU of lines and chrF of lines, all without case.

    Raises:
      MissingExtraError: If sacrebleu is not installed.
    """
    bleu, plain = (attention.Bleu(tokenize=name, lowercase=True) for name in ("none", "13a"))
    return bleu, plain, attention.Chrf(lowercase=True)


def judge(config: Config, side: Direction, found: Found) -> Judged:
    """Scores every model's translations."""
    texts = side.target_words
    references = [" ".join(texts.tokenize(line)) for line in side.test.target]
    bleu, plain, chrf = metrics()
    lengths = side.lengths
    raw = {kind: [one["lines"] for one in tested] for kind, tested in found.tested.items()}
    return Judged(
        {kind: Scores(rows, references, bleu) for kind, rows in found.words.items()},
        {kind: Scores(rows, side.test.target, plain) for kind, rows in raw.items()},
        {kind: Scores(rows, side.test.target, chrf) for kind, rows in raw.items()},
        lengths,
        buckets(lengths, config.edges or edges_of(lengths), FEWEST),
        side.known,
    )


def show(config: Config, side: Direction, found: Found, run: Run) -> None:
    """Tables, figures and claims."""
    judged = judge(config, side, found)
    scores_table(side, found, judged, run)
    parts_table(side, judged, run)
    if judged.by_length:
        pictures.lengths(side, judged.words, judged.by_length, run)
    pictures.maps(side, found, run)
    alignments_table(side, found, judged, run)
    pictures.learning(side, found, run)
    title = f"Trainings, {side.name}"
    run.table(
        f"trainings{side.suffix}", trainings_table(found.facts, outcomes(found, judged), run.seed, title)
    )
    examples_table(side, found, judged, run)
    claims.state(config, side, found, judged, run)


def over_trainings(scores: Scores, rows: Any = None, other: Scores | None = None) -> str:
    """Student's t interval over trainings, of a score or of its difference from another model's, paired by seed."""
    values = scores.of_each(rows)
    if len(values) < 2:
        return "–"
    both = mean_interval(values) if other is None else paired_interval(values, other.of_each(rows))
    return format_interval(both.interval, 4)


def scores_table(side: Direction, found: Found, judged: Judged, run: Run) -> None:
    """Every model on the whole test set."""
    rows = []
    for kind, tested in found.tested.items():
        cells = judged.words[kind].score().cells
        cells += [over_trainings(judged.words[kind]), *judged.lines[kind].score().cells]
        perplexity = float(np.mean([one["perplexity"] or np.nan for one in tested]))
        rows.append([MODELS[kind], *cells, *judged.letters[kind].score().cells, perplexity])
    signatures = "; ".join(
        part["search"].metric.signature() for part in (judged.words, judged.lines, judged.letters)
    )
    count = len(found.tested["search"])
    caption = (
        f"{side.name}, {len(side.test):,} sentences, means over {count} training{'s' if count > 1 else ''} of each model. "
        "Intervals of 95 %: bootstrap over sentences, Student's t over trainings. BLEU of words is of tokens, the others of "
        f"lines as they are written; none sees case. Perplexity is of the references, unknown words among them. "
        f"{signatures}"
    )
    heads = [
        "model", "BLEU of words", "over sentences", "over trainings", "BLEU of lines", "over sentences ", "chrF",
        "over sentences  ", "perplexity",
    ]  # fmt: skip
    run.table(
        f"scores{side.suffix}", Table(heads, rows, title=f"Scores, {side.name}", caption=caption, digits=4)
    )


def parts_table(side: Direction, judged: Judged, run: Run) -> None:
    """BLEU of words of each part of the test set, and how far attention is above."""
    rows = []
    best = judged.words["search"]
    for name, mask in judged.parts:
        for kind, scores in judged.words.items():
            cells = [name, int(mask.sum()), MODELS[kind], *scores.score(mask).cells]
            apart: list[Any] = [None, "–", "–"]
            if kind != "search":
                apart = [*best.gap(scores, mask).cells, over_trainings(best, mask, scores)]
            rows.append(cells + apart)
    heads = [
        "sentences", "number", "model", "BLEU of words", "over sentences", "attention above by", "over sentences ",
        "over trainings",
    ]  # fmt: skip
    caption = (
        "Parts of the test set: pairs without an unknown word in source and reference, and sources by their words (parts of "
        f"fewer than {FEWEST} sentences are left out). Differences are paired: both models are scored on the same draws of "
        "sentences, and by seed over trainings. Intervals of 95 %."
    )
    run.table(
        f"parts{side.suffix}",
        Table(heads, rows, title=f"Parts of the test set, {side.name}", caption=caption, digits=4),
    )


def alignments_table(side: Direction, found: Found, judged: Judged, run: Run) -> None:
    """How attention read, by length."""
    tested = found.tested["search"]
    values = {name: np.array([one[name] for one in tested], dtype=float) for name in MEASURES}
    rows = []
    for name, mask in judged.parts:
        if name == "no unknown words":
            continue
        cells: list[Any] = [name, int(mask.sum())]
        for measured in values.values():
            each = measured[:, mask]
            each = each[:, np.isfinite(each).all(0)].mean(0)
            mean = mean_interval(each.tolist()) if len(each) > 1 else None
            cells += [mean.mean, format_interval(mean.interval)] if mean else [None, "–"]
        rows.append(cells)
    heads = [
        "sentences", "number", "entropy", "interval", "order", "interval ", "missed", "interval  ", "repeated", "interval   ",
    ]  # fmt: skip
    caption = (
        "Weights of each translation's words on the source's, ends among them. Entropy: 0 looks at one word, 1 at all alike. "
        "Order: Kendall's τ of target and source places, 1 for left to right. Missed and repeated: attention that a source "
        "word lacks to 1, or has beyond. Means over trainings and sentences, 95 % t intervals over sentences."
    )
    run.table(
        f"alignments{side.suffix}", Table(heads, rows, title=f"Alignments, {side.name}", caption=caption)
    )


def outcomes(found: Found, judged: Judged) -> dict[str, dict[str, list[Any]]]:
    """What came of each training."""
    return {
        "empty outputs": {
            kind: [sum(not line for line in one["lines"]) for one in tested]
            for kind, tested in found.tested.items()
        },
        "BLEU of words": {kind: scores.of_each() for kind, scores in judged.words.items()},
    }


def examples_table(side: Direction, found: Found, judged: Judged, run: Run) -> None:
    """A few translations, chosen by the length of their source."""
    lengths, rows = np.asarray(judged.lengths), []
    places: list[int] = []
    for wanted in np.quantile(lengths, EXAMPLES):
        order = np.argsort(np.abs(lengths - wanted), kind="stable")
        places.append(next((int(k) for k in order if k not in places), int(order[0])))
    for place in places:
        given = [("source", side.test.source[place]), ("reference", side.test.target[place])]
        given += [(MODELS[kind], tested[0]["lines"][place]) for kind, tested in found.tested.items()]
        rows += [[place + 1, int(lengths[place]), *row] for row in given]
    caption = (
        "Sentences whose lengths are nearest the 10, 50, 75 and 95 % quantiles, not chosen otherwise; translations of the "
        f"first training of each model (seed {run.seed}). Numbers of sentences are lines of predictions/*.txt."
    )
    heads = ["sentence", "words", "", "text"]
    run.table(
        f"examples{side.suffix}", Table(heads, rows, title=f"Translations, {side.name}", caption=caption)
    )
