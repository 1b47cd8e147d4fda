"""What attention-length shows: scores by the number of pairs joined, what goes wrong, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fingerpost import attention
from fingerpost._table import Table, format_interval
from fingerpost.experiments import _attention_length_claims as claims
from fingerpost.experiments import _attention_length_fits as fits
from fingerpost.experiments import _attention_length_pictures as pictures
from fingerpost.experiments import _attention_translation_pictures as learning
from fingerpost.experiments._attention_length_fits import Found
from fingerpost.experiments._attention_length_text import Side
from fingerpost.experiments._attention_translation_fits import MEASURES
from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import Score, Scores, trainings_table
from fingerpost.experiments.attention_length import LEAST
from fingerpost.lab import Run

if TYPE_CHECKING:
    from fingerpost.experiments.attention_length import Config

METRIC = {"tokenize": "none", "lowercase": True}
"""BLEU of words: they are told apart already."""
Failures = dict[str, list[dict[str, float]]]
"""By model, for each number joined, the means over trainings of what `failure` gives."""


@dataclass(frozen=True)
class Judged:
    """Scores by model and by the number joined (from 1, at 0), all over the same joined sentences.

    Args:
      whole: Of joined sentences translated as they are.
      parts: Of the same, each part translated by itself and the translations joined.
      alone: Of the parts before they are joined, those of one joined sentence drawn together.
      lengths: Source words of each joined sentence.
    """

    whole: dict[str, list[Scores]]
    parts: dict[str, list[Scores]]
    alone: dict[str, list[Scores]]
    lengths: list[Any]

    @property
    def rivals(self) -> list[str]:
        """Models without attention."""
        return [kind for kind in self.whole if kind != "search"]

    @property
    def counts(self) -> range:
        """Numbers of pairs joined."""
        return range(1, len(self.lengths) + 1)

    def number(self, count: int) -> int:
        """Joined sentences of so many pairs."""
        return len(self.lengths[count - 1])

    def source_words(self, count: int) -> float:
        """Mean words of their sources."""
        return float(np.mean(self.lengths[count - 1]))

    def score(self, kind: str, count: int) -> Score:
        """BLEU of joined sentences."""
        return self.whole[kind][count - 1].score()

    def fall(self, kind: str, count: int) -> Score:
        """How much less than that of the same pairs one by one, as they are."""
        return self.whole[kind][count - 1].loss(self.alone[kind][count - 1])

    def fall_less_than(self, kind: str, count: int) -> Score:
        """How much more a model falls than attention."""
        own, other = ((self.whole[name][count - 1], self.alone[name][count - 1]) for name in (kind, "search"))
        return own[0].loss(own[1], other)

    def kept_more_than(self, kind: str, count: int) -> Score:
        """Percent of its score on single pairs that attention keeps, less another's."""
        own, other = ((self.whole[name][count - 1], self.alone[name][count - 1]) for name in ("search", kind))
        return own[0].share(own[1], other)

    def gap(self, kind: str, count: int) -> Score:
        """How far attention is above another model."""
        return self.whole["search"][count - 1].gap(self.whole[kind][count - 1])

    def parts_less_whole(self, kind: str, count: int) -> Score:
        """What is gained by translating part by part."""
        return self.parts[kind][count - 1].gap(self.whole[kind][count - 1])


def judge(side: Side, found: Found) -> Judged:
    """Scores every model's translations."""
    judged = Judged({}, {}, {}, [])
    metric = attention.Bleu(**METRIC)
    words = np.array([len(side.text.source_words.tokenize(line)) for line in side.text.test.source])
    judged.lengths.extend(words[places].sum(1) for places in side.places)
    for kind in found.tested:
        single = [back(lines, side.places[0]) for lines in found.words(kind, 1)]
        ungrouped = Scores(single, side.references, metric)
        for count, places in enumerate(side.places, 1):
            references = side.joined(side.references, count)
            parts = [side.joined(lines, count) for lines in single]
            judged.whole.setdefault(kind, []).append(Scores(found.words(kind, count), references, metric))
            judged.parts.setdefault(kind, []).append(Scores(parts, references, metric))
            judged.alone.setdefault(kind, []).append(ungrouped.grouped(places))
    return judged


def back(lines: list[str], places: Any) -> list[str]:
    """Lines of single pairs in the pairs' own order."""
    ordered = [""] * len(lines)
    for line, (place,) in zip(lines, places):
        ordered[place] = line
    return ordered


def show(config: Config, side: Side, found: Found, run: Run) -> None:
    """Tables, figures and claims."""
    judged = judge(side, found)
    measured = failures(side, found)
    summary(config, judged, measured, run)
    lengths_table(config, judged, run)
    gaps_table(judged, run)
    pictures.lengths(config, judged, run)
    failures_table(judged, measured, run)
    pictures.failures(config, measured, run)
    scored = positions(config, side, found)
    positions_table(side, scored, run)
    pictures.where(config, scored, found, run)
    searches_table(config, side, found, judged, run)
    pictures.maps(config, found, run)
    run.table("trainings", trainings_table(found.facts, outcomes(judged), run.seed))
    learning.learning(side.text, found, run)  # pyright: ignore[reportArgumentType]
    examples_table(config, side, found, run)
    claims.state(config, judged, run)


def summary(config: Config, judged: Judged, measured: Failures, run: Run) -> None:
    """Up to which length each model holds, and what attention does at the first where it does not."""
    held = {kind: holds_to(config, judged, kind, judged.fall) for kind in judged.whole}
    kept = holds_to(config, judged, "search", judged.parts_less_whole)
    each = "; ".join(f"{MODELS[kind]}, up to {count}" for kind, count in held.items())
    text = (
        f"Trained on 1 to {config.trained} joined pairs and tested on 1 to {config.longest}. Within {config.within:g} BLEU of "
        f"its own score on single pairs, 95 % interval and all, each model stays up to so many joined: {each}. Within as "
        f"much of the same parts translated one by one and then joined, which has n-grams across the parts as well, attention "
        f"stays up to {kept}."
    )
    broken = held["search"] + 1
    if broken <= config.longest:
        found = measured["search"][broken - 1]
        whole, parts = (scores["search"][broken - 1].score().mean for scores in (judged.whole, judged.parts))
        text += (
            f" At {broken}, attention scores {whole:.1f} and, part by part, {parts:.1f}. Joined, its translations have "
            f"{found['length']:.2f} of the reference's words and "
            f"{found['sentences']:.1f} sentences, {100 * found['complete']:.0f} % of them ended by themselves."
        )
    run.text("Where it holds", text)


def holds_to(config: Config, judged: Judged, kind: str, lost: Callable[[str, int], Score]) -> int:
    """The length up to which what a model has lost is within bounds, at every length on the way."""
    for count in judged.counts:
        if any(abs(end) > config.within for end in lost(kind, count).interval):
            return count - 1
    return len(judged.counts)


def _cells(score: Score) -> list[Any]:
    # a thousandth of a BLEU is less than any interval, and the sums' rounding is no difference
    mean, low, high = (round(value, 3) + 0.0 for value in score)
    return [mean, format_interval((low, high), 4)]


def lengths_table(config: Config, judged: Judged, run: Run) -> None:
    """Every model at every length."""
    rows = []
    for count in judged.counts:
        for kind in judged.whole:
            over = judged.whole[kind][count - 1].over_trainings()
            rows.append(
                [
                    count, "yes" if count <= config.trained else "no", judged.number(count), judged.source_words(count),
                    MODELS[kind], *_cells(judged.score(kind, count)), "–" if np.isnan(over[0]) else format_interval(over, 4),
                    *_cells(judged.fall(kind, count)), _cells(judged.parts[kind][count - 1].score())[0],
                    *_cells(judged.parts_less_whole(kind, count)),
                ]
            )  # fmt: skip
    heads = [
        "joined", "trained on", "sentences", "source words", "model", "BLEU of words", "over sentences", "over trainings",
        "fall from single pairs", "over sentences ", "part by part", "part by part less whole", "over sentences  ",
    ]  # fmt: skip
    caption = (
        "Each length has every test pair once. The fall is from BLEU of the same pairs one by one. Part by part: each pair is "
        "translated by itself and the translations are joined, then scored like the others: joining alone may raise BLEU, by "
        "n-grams across the parts, and what is lost against it is lost by length. Means over trainings; intervals "
        "of 95 %: bootstrap over joined sentences, of differences on the same draws; Student's t over trainings. "
        f"{judged.whole['search'][0].metric.signature()}"
    )
    run.table(
        "lengths", Table(heads, rows, title="BLEU by the number of pairs joined", caption=caption, digits=4)
    )


def gaps_table(judged: Judged, run: Run) -> None:
    """How far attention is above each other model, by length."""
    if not judged.rivals:
        return
    rows = [
        [count, MODELS[kind], *_cells(judged.gap(kind, count)), *_cells(judged.fall_less_than(kind, count)),
         *_cells(judged.kept_more_than(kind, count))]
        for count in judged.counts
        for kind in judged.rivals
    ]  # fmt: skip
    heads = [
        "joined", "other model", "attention above by", "interval", "other falls more by", "interval ",
        "attention keeps more, points of percent", "interval  ",
    ]  # fmt: skip
    caption = (
        "BLEU of words, paired: all models on the same draws of sentences. Falls are from single pairs, and what is kept "
        "is in percent of the score on them: a model that scores little has little to lose. Intervals of 95 % over sentences."
    )
    run.table(
        "gaps", Table(heads, rows, title="Attention beside the other models", caption=caption, digits=4)
    )


# what goes wrong


def failures(side: Side, found: Found) -> Failures:
    """By model, for each number joined: length, ends, sentences and repetitions of translations, and how they were read."""
    rows: Failures = {}
    for kind, trainings in found.tested.items():
        for count in range(1, len(side.places) + 1):
            each = [failure(one[count - 1], side, count) for one in trainings]
            rows.setdefault(kind, []).append(
                {name: float(np.mean([one[name] for one in each])) for name in each[0]}
            )
    return rows  # fmt: skip


def failure(tested: dict[str, Any], side: Side, count: int) -> dict[str, float]:
    """The same of one training at one length."""
    references = side.joined(side.references, count)
    words = [sum(len(line.split()) for line in lines) for lines in (tested["words"], references)]
    found = {
        "length": words[0] / words[1],
        "complete": float(np.mean(tested["complete"])),
        "sentences": float(np.mean([len(fits.cut(line)) for line in tested["words"]])),
        "repeated words": fits.repeated_share(tested["words"]) - fits.repeated_share(references),
    }
    for name in MEASURES if "entropy" in tested else ():
        values = np.array(tested[name], dtype=float)
        found[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return found


def failures_table(judged: Judged, measured: Failures, run: Run) -> None:
    """What translations lack or have too much of, by length."""
    rows = []
    for count in judged.counts:
        for kind, each in measured.items():
            one = each[count - 1]
            read = [one.get(name) for name in MEASURES]
            plain = [one["length"], 100 * one["complete"], one["sentences"], 100 * one["repeated words"]]
            rows.append([count, MODELS[kind], *plain, *read])
    heads = [
        "joined", "model", "length", "ended, %", "sentences", "repetitions, % of four-grams", "entropy", "order", "missed",
        "read again",
    ]  # fmt: skip
    caption = (
        "Length: words of translations over those of references; 1 is right, less is stopped early. Ended: translations with "
        "an end within the search's limit. Sentences: those that marks end, of one translation. Repetitions: four-grams that "
        "their translation has before, less the same of the references. Of attention: entropy, 0 looks at one word, 1 at all "
        "alike; order, Kendall's τ of target and source places; attention that a source word lacks to 1 (missed) or has "
        "beyond. Means over trainings."
    )
    run.table("failures", Table(heads, rows, title="What goes wrong", caption=caption))


def clean(side: Side, count: int) -> Any:
    """Joined sentences whose every part is one sentence, so that translations can be cut at marks."""
    return fits.whole(side.references)[side.places[count - 1]].all(1)


def positions(config: Config, side: Side, found: Found) -> dict[int, dict[str, list[Score]]]:
    """BLEU of the first, second, … sentence of translations; by how many were joined, then by model."""
    metric, scored = attention.Bleu(**METRIC), {}
    for count in sorted({config.trained, min(config.trained + 1, config.longest), config.longest} - {1}):
        rows = np.flatnonzero(clean(side, count))
        if len(rows) < LEAST:
            continue
        references = fits.positions([side.joined(side.references, count)[k] for k in rows], count)
        scored[count] = {
            kind: by_position([[lines[k] for k in rows] for lines in found.words(kind, count)], references, metric)
            for kind in found.tested
        }  # fmt: skip
    return scored


def by_position(outputs: list[list[str]], references: list[list[str]], metric: Any) -> list[Score]:
    """BLEU of each position's sentence over several trainings."""
    cuts = [fits.positions(lines, len(references)) for lines in outputs]
    return [Scores([one[k] for one in cuts], side, metric).score() for k, side in enumerate(references)]


def positions_table(side: Side, scored: dict[int, dict[str, list[Score]]], run: Run) -> None:
    """BLEU by the place of a sentence in the joined one."""
    if not scored:
        run.text(
            "Not shown: BLEU by position", "Too few joined sentences can be cut at marks into their parts."
        )
        return
    rows = [
        [count, int(clean(side, count).sum()), MODELS[kind], place, *_cells(score)]
        for count, by_kind in scored.items()
        for kind, each in by_kind.items()
        for place, score in enumerate(each, 1)
    ]
    caption = (
        f"Translations are cut after {' '.join(fits.MARKS)}; the first sentence is scored against the reference's first, and "
        "so on, one that is not there as an empty one. What skips a sentence therefore misses all that follow. Only joined "
        "sentences whose every part is one sentence. Means over trainings, 95 % bootstrap over sentences."
    )
    heads = ["joined", "sentences", "model", "position", "BLEU of words", "interval"]
    run.table(
        "positions", Table(heads, rows, title="BLEU by position in the joined sentence", caption=caption, digits=4)
    )  # fmt: skip


def searches_table(config: Config, side: Side, found: Found, judged: Judged, run: Run) -> None:
    """Whether another search would find more at the longest."""
    count = config.longest
    references = side.joined(side.references, count)
    by_search = [one[count - 1]["searches"] for one in found.tested["search"]]
    outputs = {f"beam of {config.beam}, as above": found.words("search", count)}
    outputs |= {row["name"]: [one[k]["words"] for one in by_search] for k, row in enumerate(by_search[0])}
    rows = []
    usual = judged.whole["search"][count - 1]
    for name, lines in outputs.items():
        scores = Scores(lines, references, usual.metric)
        words = [sum(len(line.split()) for line in each) for each in (*lines, references)]
        rows.append(
            [
                name,
                *_cells(scores.score()),
                *_cells(scores.gap(usual)),
                float(np.mean(words[:-1])) / words[-1],
            ]
        )
    caption = (
        f"Attention on {count} joined pairs, translated by other searches. A greater score over lengths, or a least length, "
        "is against stopping early: if it does not bring the score back, the model has lost its place and not only its end. "
        "Means over trainings, 95 % bootstrap over sentences, differences paired."
    )
    heads = ["search", "BLEU of words", "interval", "above the usual by", "interval ", "length"]
    run.table("searches", Table(heads, rows, title="Other searches", caption=caption, digits=4))


def outcomes(judged: Judged) -> dict[str, dict[str, list[float]]]:
    """What came of each training, of single pairs and of the most that are joined."""
    places = {"BLEU alone": 0, "BLEU of the longest": -1}
    return {
        head: {kind: whole[place].of_each() for kind, whole in judged.whole.items()}
        for head, place in places.items()
    }


def examples_table(config: Config, side: Side, found: Found, run: Run) -> None:
    """One joined sentence longer than those trained on, or as long, of median length."""
    count = min(config.trained + 1, config.longest)
    sources = side.joined(side.text.test.source, count)
    lengths = np.array([len(line.split()) for line in sources])
    place = int(np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")[0])
    rows = [["source", sources[place]], ["reference", side.joined(side.references, count)[place]]]
    rows += [[MODELS[kind], found.words(kind, count)[0][place]] for kind in found.tested]
    caption = (
        f"{count} pairs joined: the first test sentence of median length, not chosen otherwise (line {place + 1} of "
        f"predictions/{count}-*.txt); translations of the first training of each model (seed {run.seed})."
    )
    run.table("examples", Table(["", "text"], rows, title="A translation", caption=caption))
