"""What attention-numbers shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost import attention
from fingerpost._table import Table, format_interval
from fingerpost.experiments import _attention_numbers_claims as claims
from fingerpost.experiments import _translation_pictures as pictures
from fingerpost.experiments._attention_numbers_fits import MEASURES, Found, drawn_beyond
from fingerpost.experiments._attention_numbers_text import PART, Text, language
from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import Bucket, Scores, buckets, trainings_table
from fingerpost.lab import MeanInterval, Run, mean_interval

if TYPE_CHECKING:
    from fingerpost.experiments.attention_numbers import Config

FEWEST = 20
"""Numbers that a range of lengths needs to be scored."""
FEWEST_WORDS = 4
"""Width of a range: BLEU counts runs of four words."""


class Judged(NamedTuple):
    """Scores of each model, numbers right in every word and BLEU, and the tested numbers by length."""

    name: str
    trainings: int
    right: dict[str, Scores]
    bleu: dict[str, Scores]
    lengths: list[int]
    by_length: list[Bucket]
    longest: int

    @property
    def rivals(self) -> list[str]:
        """The models with one context."""
        return [kind for kind in self.right if kind != "search"]

    @property
    def trained(self) -> Any:
        """Numbers of lengths that were trained on, (n,)."""
        return np.asarray(self.lengths) <= self.longest

    @property
    def beyond(self) -> Any:
        """Longer numbers, (n,)."""
        return ~self.trained

    @property
    def within(self) -> int:
        """How many of the ranges of lengths were trained on."""
        return sum(bucket.longest is not None and bucket.longest <= self.longest for bucket in self.by_length)

    @property
    def first(self) -> Bucket:
        """The shortest trained lengths."""
        return self.by_length[0]

    @property
    def last(self) -> Bucket:
        """The longest trained lengths."""
        return self.by_length[self.within - 1]


def judge(config: Config, text: Text, found: Found) -> Judged:
    """Scores every model's translations."""
    outputs = {kind: [one["lines"] for one in tested] for kind, tested in found.tested.items()}
    bleu, lengths = attention.Bleu(tokenize="none"), text.test.lengths
    edges = edges_of(config.longest, max(lengths))
    return Judged(
        f"{config.source_language} → {config.target_language}",
        config.seeds,
        {kind: Scores(lines, text.test.target, attention.ExactMatch()) for kind, lines in outputs.items()},
        {kind: Scores(lines, text.test.target, bleu) for kind, lines in outputs.items()},
        lengths,
        buckets(lengths, edges, FEWEST),
        config.longest,
    )


def edges_of(longest: int, most: int, parts: int = 4) -> tuple[int, ...]:
    """Longest lengths of ranges: some within the trained lengths, the last of them at their end, and as wide ones beyond."""
    width = max(FEWEST_WORDS, -(-longest // parts))
    within = [*range(width, longest, width), longest]
    return (*within, *range(longest + width, most, width), *([most] if most > longest else []))


def show(config: Config, text: Text, found: Found, run: Run) -> None:
    """Texts, tables, figures and claims."""
    judged = judge(config, text, found)
    describe(config, text, judged, run)
    scores_table(judged, run)
    length_figures(judged, run)
    errors_table(found, text, judged, run)
    map_figure(config, found, text, judged, run)
    measured = reading_of(found)
    reading_table(judged, measured, run)
    run.table("trainings", trainings_table(found.facts, outcomes(found, judged), run.seed))
    examples_table(found, text, judged, run)
    state(config, judged, measured, run)


def describe(config: Config, text: Text, judged: Judged, run: Run) -> None:
    """What was trained on and what is tested."""
    source, target = language(config.source_language), language(config.target_language)
    lines = text.test.source
    example = next(
        (k for k, line in enumerate(lines) if len(line.split()) > 4 and source.twos(line.split())), 0
    )
    order = (
        f"Units and tens stand in the other order in {target.code} than in {source.code}. "
        if reordered(config)
        else "Units and tens stand in the same order in both, as far as they are words of their own. "
    )
    run.text(
        "The numbers",
        f"Numbers of up to {config.digits} digits as num2words says them in {source.code} and {target.code}, without hyphens "
        f"and commas, long words cut into the names of small numbers: {text.test.source[example]!r} is "
        f"{text.test.target[example]!r}. {order}Trained on {len(text.train.numbers):,} numbers of at most {config.longest} "
        f"source words, tested on {len(text.test.numbers):,} others: {int(judged.trained.sum()):,} of trained lengths, "
        f"{int(judged.beyond.sum()):,} of {config.longest + 1} to {max(judged.lengths)} words. No tested number is "
        "trained on; every tested word is. Lengths are as frequent as each other where there are enough numbers; at most one "
        f"in {PART} of a trained length is tested, and none of one word.",
    )


def reordered(config: Config) -> bool:
    """Whether one language says units first and the other tens."""
    first = {language(code).units_first for code in (config.source_language, config.target_language)}
    return first == {True, False}


def _parts(judged: Judged) -> list[tuple[str, Any]]:
    """Trained lengths, those beyond, and ranges of both."""
    whole = [("trained lengths", judged.trained), ("beyond", judged.beyond)]
    ranges = [(f"{bucket.label} words", bucket.rows) for bucket in judged.by_length]
    return [part for part in (*whole, *ranges) if part[1].any()]


def scores_table(judged: Judged, run: Run) -> None:
    """Numbers right and BLEU by length."""
    rows = []
    for name, mask in _parts(judged):
        for kind, right in judged.right.items():
            each = ", ".join(f"{value:.1f}" for value in right.of_each(mask))
            above = ["–", "–"] if kind == "search" else judged.right["search"].gap(right, mask).cells
            cells = [name, int(mask.sum()), MODELS[kind], *right.score(mask).cells, each, *above]
            rows.append([*cells, *judged.bleu[kind].score(mask).cells])
    caption = (
        f"{judged.name}; means over {judged.trainings} training{'s' if judged.trainings > 1 else ''} of each model. "
        "Right: the whole output is the reference. Intervals of 95 %: bootstrap over numbers, differences paired; "
        "where all are right it has no width. "
        f"{judged.bleu['search'].metric.signature()}"
    )
    heads = [
        "numbers", "count", "model", "right (%)", "over numbers", "by training", "attention above by", "over numbers ",
        "BLEU", "over numbers  ",
    ]  # fmt: skip
    run.table("scores", Table(heads, rows, title="Scores by length", caption=caption, digits=4))


def length_figures(judged: Judged, run: Run) -> None:
    """Both scores by length."""
    labels = [bucket.label for bucket in judged.by_length]
    counts = ", ".join(f"{int(bucket.rows.sum())} of {bucket.label}" for bucket in judged.by_length)
    for name, scores, label, title in (
        ("right", judged.right, "right in every word (%)", "Numbers right by length"),
        ("bleu", judged.bleu, "BLEU of words", "BLEU by length"),
    ):
        curves = {
            MODELS[kind]: [
                (s.mean, s.low, s.high) for s in (own.score(bucket.rows) for bucket in judged.by_length)
            ]
            for kind, own in scores.items()
        }
        figure = pictures.by_length(curves, labels, y_label=label, trained=judged.within, top=105)
        caption = (
            f"{judged.name}; means over trainings, 95 % bootstrap intervals over numbers. Numbers: {counts} words. Compare "
            "the paper's Figure 2."
        )
        run.figure(name, figure, title=title, caption=caption)


def errors_table(found: Found, text: Text, judged: Judged, run: Run) -> None:
    """How outputs are wrong."""
    wanted = np.array([len(line.split()) for line in text.test.target])
    rows = []
    for name, mask in _parts(judged):
        for kind, tested in found.tested.items():
            shares = np.zeros(4)
            for one in tested:
                made = np.array([len(line.split()) for line in one["lines"]])
                right = np.array([a == b for a, b in zip(one["lines"], text.test.target)])
                for k, held in enumerate((right, made < wanted, made > wanted, ~right & (made == wanted))):
                    shares[k] += 100 * held[mask].mean() / len(tested)
            rows.append([name, MODELS[kind], *map(float, shares)])
    caption = (
        f"{judged.name}: percent of outputs, over all trainings. Outputs of fewer words than the reference leave something "
        "out, longer ones say something again, and those as long have other words."
    )
    heads = [
        "numbers",
        "model",
        "right (%)",
        "too short (%)",
        "too long (%)",
        "as long, wrong (%)",
    ]
    run.table("errors", Table(heads, rows, title="How outputs are wrong", caption=caption))


def map_figure(config: Config, found: Found, text: Text, judged: Judged, run: Run) -> None:
    """Alignments of right outputs and of a wrong one."""
    chosen = found.tested["search"][0].get("maps")
    if not chosen:
        return
    drawn, wrong = [], ""
    for one in chosen:
        length, target = len(one["source"]) - 1, list(one["target"])
        where = ", longer than trained on" if length > config.longest else ""
        if not one["right"]:
            reference = text.test.target[one["place"]]
            place = _departs(target, reference.split())
            target[place] = f"→ {target[place]}"
            wrong = f" Wrong: {reference!r} was to be said; the arrow is at the first other word."
        drawn.append(
            pictures.Map(
                one["weights"],
                one["source"],
                target,
                f"{'right' if one['right'] else 'wrong'}{where}",
            )
        )
    caption = (
        f"{judged.name}: weights of each word of the output on the source, of the first training (seed {config.seed}). By "
        f"rule: right outputs nearest half the longest trained length, {config.longest} words and "
        f"{drawn_beyond(config.longest)} words, and the wrong one nearest {config.longest + 1}.{wrong} The paper's Figure 3."
    )
    run.figure("maps", pictures.alignment_maps(drawn, cell=0.2), title="Alignments", caption=caption)


def _departs(made: Sequence[str], wanted: Sequence[str]) -> int:
    """The first place at which an output is not the reference."""
    alike = [a == b for a, b in zip(made, wanted)]
    return min(alike.index(False) if False in alike else len(alike), len(made) - 1)


def reading_of(found: Found) -> dict[str, Any]:
    """Measures of attention's reading, (trainings, numbers), NaN where there are none."""
    return {
        name: np.array([one["reading"][name] for one in found.tested["search"]], dtype=float)
        for name in MEASURES
    }


def mean_of(values: Any, rows: Any) -> MeanInterval:
    """Over the numbers that have a value in some training, of the mean over the trainings that have one."""
    chosen = values[:, rows]
    counts = np.isfinite(chosen).sum(0)
    each = np.nansum(chosen, 0)[counts > 0] / counts[counts > 0]
    return mean_interval(each.tolist()) if len(each) > 1 else MeanInterval(math.nan, math.nan, math.nan)


def reading_table(judged: Judged, measured: dict[str, Any], run: Run) -> None:
    """Order, entropy and weight where words change places, and elsewhere; of right outputs and of wrong."""
    right = judged.right["search"].statistics[..., 0].astype(bool)
    rows = []
    for name, mask in (("trained lengths", judged.trained), ("beyond", judged.beyond)):
        for what, order, entropy, weight in (
            ("tens and units", "tens_order", "tens_entropy", "tens_weight"),
            ("other neighbours", "rest_order", "rest_entropy", None),
        ):
            cells = [name, what, *_mean_cells(mean_of(measured[order], mask))]
            cells += _mean_cells(mean_of(measured[entropy], mask))
            cells += _mean_cells(mean_of(measured[weight], mask)) if weight else [None, "–"]
            rows.append(cells)
        for what, chosen in (("whole, right", right), ("whole, wrong", ~right)):
            values = [np.where(chosen, measured[key], np.nan) for key in ("order", "entropy")]
            cells = [cell for each in values for cell in _mean_cells(mean_of(each, mask))]
            rows.append([name, what, *cells, None, "–"])
    heads = [
        "numbers", "where", "order", "interval", "entropy", "interval ", "weight on the right word", "interval  ",
    ]  # fmt: skip
    caption = (
        f"{judged.name}, attention. Order: Kendall's τ of two words' weights, 1 onwards and −1 backwards; of whole outputs, of "
        "all their words. Entropy: 0 looks at one word, 1 at all alike. Right word: the same unit or ten in the source. Tens "
        "and units are those of a part like 23, other neighbours two words beside each other outside of such parts; both of "
        "right outputs alone. Means over trainings and numbers, 95 % t intervals over numbers."
    )
    run.table("reading", Table(heads, rows, title="How attention reads", caption=caption))


def _mean_cells(mean: MeanInterval) -> list[Any]:
    return [mean.mean, format_interval(mean.interval)]


def outcomes(found: Found, judged: Judged) -> dict[str, dict[str, list[Any]]]:
    """What came of each training."""
    masks = {"right, trained lengths (%)": judged.trained, "right, beyond (%)": judged.beyond}
    return {
        head: {
            kind: judged.right[kind].of_each(mask) if mask.any() else [None] * len(facts)
            for kind, facts in found.facts.items()
        }
        for head, mask in masks.items()
    }


def examples_table(found: Found, text: Text, judged: Judged, run: Run) -> None:
    """A number of each range of lengths as each model says it."""
    rows = []
    for bucket in judged.by_length:
        place = int(np.flatnonzero(bucket.rows)[0])
        rows.append([bucket.label, "number", str(text.test.numbers[place])])
        rows.append([bucket.label, "reference", text.test.target[place]])
        for kind, tested in found.tested.items():
            rows.append([bucket.label, MODELS[kind], tested[0]["lines"][place]])
    caption = f"The first tested number of each range, by the first training of each model (seed {run.seed})."
    run.table(
        "examples",
        Table(["words", "", "text"], rows, title="Translations", caption=caption),
    )


def state(config: Config, judged: Judged, measured: dict[str, Any], run: Run) -> None:
    """Claims, what is not claimed and why, and where attention fails."""
    stated = claims.of_trained(judged) + claims.of_gaps(judged)
    if judged.within > 1:
        stated += claims.of_fall(judged)
    else:
        _unclaimed(
            run, "length within what was trained on", "too few numbers of different lengths were tested"
        )
    if judged.by_length and judged.within < len(judged.by_length):
        stated += claims.of_beyond(judged)
        failing(judged, run)
    else:
        _unclaimed(run, "longer numbers", "too few are longer than those trained on; give more digits")
    if reordered(config):
        means = [mean_of(measured[f"{name}_order"], judged.trained) for name in ("tens", "rest")]
        stated += claims.of_order(judged, *means)
    else:
        _unclaimed(run, "order", "the languages do not say tens and units in opposite orders")
    for claim in stated:
        run.claim(claim)


def _unclaimed(run: Run, what: str, why: str) -> None:
    run.text(f"Not claimed: {what}", f"Nothing is claimed of {what}: {why}.")


def failing(judged: Judged, run: Run) -> None:
    """Says at which lengths attention is surely worse than on those trained on."""
    own, lost = judged.right["search"], []
    for bucket in judged.by_length[judged.within :]:
        fall = own.fall(judged.trained, bucket.rows)
        if fall.low > 0:
            lost.append(f"{bucket.label} words by {fall.mean:.1f} points {format_interval(fall.interval)}")
    said = (
        f"Attention gets surely fewer numbers right than of trained lengths at {'; '.join(lost)}."
        if lost
        else "At no length beyond those trained on does attention surely get fewer numbers right than of trained lengths."
    )
    run.text("Where attention fails", f"{said} 95 % bootstrap intervals over numbers.")
