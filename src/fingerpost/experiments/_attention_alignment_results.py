"""What attention-alignment shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fingerpost._table import Table, format_interval
from fingerpost.experiments import _attention_alignment_claims as claims
from fingerpost.experiments import _attention_alignment_pictures as pictures
from fingerpost.experiments._attention_alignment_measures import OFFSETS
from fingerpost.experiments._attention_alignment_models import READINGS, VARIANTS
from fingerpost.experiments._permutations import ORDERS
from fingerpost.lab import Run, mean_interval

if TYPE_CHECKING:
    from fingerpost.experiments.attention_alignment import Config

SIDES = {"right": "noun behind", "left": "noun before"}


@dataclass
class Found:
    """What was measured.

    Attributes:
      facts: Of each training, by task, model and seed.
      orders: Scores of alignments by length and order, by variant and seed.
      agreement: Scores of words that agree, by side, reading and seed.
      read: ‖∂h_j/∂x_k‖ of both halves of annotations, by reading and seed.
      maps: Weights of one sentence of each order.
      looks: Weights of one sentence with words that agree, by reading.
    """

    facts: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    orders: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    agreement: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    read: dict[tuple[str, int], Any] = field(default_factory=dict)
    maps: list[dict[str, Any]] = field(default_factory=list)
    looks: dict[str, dict[str, Any]] = field(default_factory=dict)


Chosen = Callable[[list[int]], bool]
"""Picks from words that agree: [right or not, distance, whether in the last phrase, offset of the largest weight]."""


class Measured:
    """One figure for each training, of what was found."""

    def __init__(self, config: Config, found: Found) -> None:
        self.config, self.found = config, found
        self.seeds = range(config.seed, config.seed + config.seeds)
        self.trained = [n for n in config.measured if config.shortest <= n <= config.longest]
        rows = found.orders["additive", config.seed]
        met = {row["order"] for row in rows if row["words"] in self.trained}
        self.names = [name for name in ORDERS if name in met]

    def orders(
        self, name: str, key: str, lengths: Sequence[int] | None = None, order: str | None = None
    ) -> list[Any]:
        """Means over sentences of the given lengths (those trained on) and order (all)."""
        lengths = self.trained if lengths is None else lengths
        values = []
        for seed in self.seeds:
            rows = [
                row
                for row in self.found.orders[name, seed]
                if row["words"] in lengths and order in (None, row["order"]) and row[key] is not None
            ]
            weights = [row["count"] for row in rows]
            mean = np.average([row[key] for row in rows], axis=0, weights=weights) if rows else np.nan
            values.append(mean.tolist() if isinstance(mean, np.ndarray) else float(mean))
        return values

    def agree(
        self,
        side: str,
        reading: str,
        chosen: Chosen,
        value: Callable[[list[int]], float] = lambda row: row[0],
    ) -> list[float]:
        """Share of the chosen words that agree which are right, or the mean of another value of them."""
        values = []
        for seed in self.seeds:
            rows = [row for row in self.found.agreement[side, reading, seed]["agreeing"] if chosen(row)]
            values.append(sum(map(value, rows)) / len(rows) if rows else float("nan"))
        return values

    def rest(self, side: str, reading: str, key: str) -> list[float]:
        """Shares of the other words, the last words or the sentences that are right."""
        return [self.found.agreement[side, reading, seed][key] for seed in self.seeds]


def show(config: Config, run: Run, found: Found) -> None:
    """Texts, figures, tables and claims."""
    measured = Measured(config, found)
    _texts(run, measured)
    _order_figures(run, measured)
    _agreement_figures(run, measured)
    _variants_table(run, measured)
    _orders_table(run, measured)
    _lengths_table(run, measured)
    _agreement_table(run, measured)
    _trainings_table(run, measured)
    claims.state(config, run, measured)


def _texts(run: Run, measured: Measured) -> None:
    config = measured.config
    run.text(
        "The truth that alignments are held to",
        "Sentences of made-up words are translated word by word, and written down in one of five orders that the first word "
        "names; models see pairs alone. A sentence has each word at most once, so that each target word has one true source "
        "word. The largest weight of a target word is right if it is on that word. Ending signals are not scored.",
    )
    run.text(
        "Words that agree",
        f"The second task is word for word: up to {config.phrases} phrases of a word w that agrees, up to {config.between} "
        "words between, and a noun of class m or f that stands behind, or, mirrored, before. w has two translations: the "
        "noun's class decides, and each word x between turns it round. With a noun next door it is enough to look there; over "
        "words x the class has to be carried from the noun to w.",
    )
    before, on, behind = _offsets(measured, "additive")
    lagging, leading = (_mean(measured.orders("additive", key)) for key in ("lagging", "leading"))
    text = (
        f"On sentences of trained lengths the largest weight is on the right word for {100 * on:.1f} % of target words, on the "
        f"word before it for {100 * before:.1f} % and on the word behind it for {100 * behind:.1f} %. An annotation holds its "
        "neighbours too, so a weight next door can bring the right word; no term of the training asks for the exact place. "
        f"In the order of the translation it is still on the source word of the word before for {100 * lagging:.1f} %, and "
        f"already on that of the next for {100 * leading:.1f} %."
    )
    run.text("Attention next door", text)


def _offsets(measured: Measured, name: str, order: str | None = None) -> list[float]:
    """Shares of target words whose largest weight is a place before, at, and behind the right word; means over trainings."""
    shares = np.mean(measured.orders(name, "offsets", order=order), axis=0)
    return [float(shares[OFFSETS.index(k)]) for k in (-1, 0, 1)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _cells(values: Sequence[float]) -> list[Any]:
    mean = mean_interval(values)
    return [mean.mean, format_interval(mean.interval)]


# figures


def _order_figures(run: Run, measured: Measured) -> None:
    config, found = measured.config, measured.found
    run.figure(
        "maps",
        pictures.maps([{**given, "title": given["order"]} for given in found.maps]),
        title="Alignments beside the truth",
        caption=f"Weights of the first training (seed {run.seed}) along the right translation, for the first test sentence of "
        "each order; outlined cells are the truth. The first source word names the order.",
    )
    run.figure(
        "offsets",
        pictures.offsets(
            {name: np.array(measured.orders("additive", "offsets", order=name)) for name in measured.names}
        ),
        title="Where the largest weight is",
        caption="Additive attention, trained lengths: share of target words by the distance of the largest weight from the "
        f"right source word; 3 stands for 3 and more. Means over {config.seeds} trainings and their range.",
    )
    curves = {
        f"{VARIANTS[name]}, {words}": [
            tuple(mean_interval(measured.orders(name, key, [n]))) for n in config.measured
        ]
        for name in config.variants[:3]
        for key, words in (("error", "exact"), ("near_error", "next door counts as right"))
        if name == "additive" or key == "error"
    }
    run.figure(
        "lengths",
        pictures.lengths(curves, config.measured, len([n for n in config.measured if n <= config.longest])),
        title="Alignment error by length",
        caption="Share of target words whose largest weight is not on their source word, or neither on it nor next door; all "
        f"orders. Means over {config.seeds} trainings with 95 % t intervals.",
    )


def _agreement_figures(run: Run, measured: Measured) -> None:
    config, found = measured.config, measured.found
    distances = range(1, config.between + 2)
    panels = {
        SIDES[side]: {
            READINGS[name].words: [
                measured.agree(side, name, lambda row, d=d: row[1] == d) for d in distances
            ]
            for name in names
            if name in ("both", "forward", "backward")
        }
        for side, names in (("right", config.readings), ("left", config.mirrored))
    }
    run.figure(
        "directions",
        pictures.directions(panels, list(distances)),
        title="Words that agree, by what the encoder reads",
        caption="Share of words that agree which come out right after the right words before them. A half is what guessing the "
        f"class gives. Means over {config.seeds} trainings with 95 % t intervals.",
    )
    run.figure(
        "looks",
        pictures.maps([{**given, "title": READINGS[name].words} for name, given in found.looks.items()]),
        title="Where encoders that read less make attention look",
        caption=f"The noun behind; weights of the first trainings (seed {run.seed}) along the right translation of a sentence. "
        "Outlined cells are each word's own. w agrees with the next noun (m or f); each x between turns the class round.",
    )
    shown = [name for name in config.readings if READINGS[name].onward is False or name == "both-late"]
    run.figure(
        "late",
        pictures.late(
            {
                READINGS[name].words: [
                    measured.agree("right", name, lambda row, last=last: row[2] == last) for last in (0, 1)
                ]
                for name in shown
            }
        ),
        title="A backward unit that starts at the last word",
        caption="The noun stands behind: the last phrase's is the last word of the sentence. Share of words that agree which "
        f"come out right. Means over {config.seeds} trainings with 95 % t intervals.",
    )
    read = found.read
    run.figure(
        "read",
        pictures.read({name: np.array(read[name, config.seed]) for name in ("both", "late")}),
        title="What an annotation has read",
        caption=f"‖∂h_j/∂x_k‖ of trained encoders (seed {run.seed}) on one sentence, float64. White is exactly 0. Equation 8 "
        "with the state 0 at the last word leaves the last column of the backward unit empty, and the ending signal's.",
    )


# tables


def _variants_table(run: Run, measured: Measured) -> None:
    rows = []
    for name in measured.config.variants:
        cells: list[Any] = [VARIANTS[name]]
        for key in ("error", "near_error"):
            cells += _cells(measured.orders(name, key))
        keys = (
            "mass",
            "near_mass",
            "entropy",
            "missed",
            "repeated",
            "tau_gap",
            "exact",
            "own_error",
            "own_near_error",
        )
        rows.append(cells + [_mean(measured.orders(name, key)) for key in keys])
    heads = [
        "attention", "error", "interval", "error, ±1", "interval ", "mass", "mass, ±1", "entropy", "missed", "repeated",
        "order off by", "exact match", "own error", "own error, ±1",
    ]  # fmt: skip
    lengths = ", ".join(map(str, measured.trained))
    caption = (
        f"Sentences of {lengths} words in all orders, as trained on. Error: share of target words whose largest weight is "
        "elsewhere; ±1: more than one place away. Mass: weight on the right word. Entropy over log S. Missed, repeated: what a "
        "source word lacks to a weight of 1 in sum, or has beyond. Order: |Kendall's τ of the largest weights − the rule's|. "
        f"Own: along outputs of a beam of {measured.config.beam}. Means over {measured.config.seeds} trainings, 95 % t "
        "intervals."
    )
    run.table("attentions", Table(heads, rows, title="Alignments by attention", caption=caption))


def _orders_table(run: Run, measured: Measured) -> None:
    rows = []
    for order in measured.names:
        taken = {
            key: _mean(measured.orders("additive", key, order=order))
            for key in ("true_tau", "tau", "soft_tau", "tau_gap", "error", "near_error", "mass", "exact")
        }
        shifts = [_mean(measured.orders("additive", key, order=order)) for key in ("lagging", "leading")]
        rows.append([order, *taken.values(), *_offsets(measured, "additive", order), *shifts])
    heads = [
        "order", "the rule's τ", "τ of largest weights", "τ of all weights", "off by", "error", "error, ±1", "mass",
        "exact match", "one before", "on the word", "one behind", "lagging", "leading",
    ]  # fmt: skip
    caption = (
        "Additive attention on trained lengths. τ of all weights is an expectation over them, nearer 0 the softer they are. "
        "The last five: where the largest weight is, as shares of target words; by place in the source, and whether it is "
        "still on the right word of the target word before (lagging) or already on that of the next one (leading)."
    )
    run.table("orders", Table(heads, rows, title="Alignments by order", caption=caption))


def _lengths_table(run: Run, measured: Measured) -> None:
    rows = []
    for n in measured.config.measured:
        cells: list[Any] = [n, n in measured.trained]
        for key in ("error", "near_error"):
            cells += _cells(measured.orders("additive", key, [n]))
        keys = ("mass", "entropy", "missed", "exact", "own_error", "strange")
        rows.append(cells + [_mean(measured.orders("additive", key, [n])) for key in keys])
    heads = [
        "words", "trained on", "error", "interval", "error, ±1", "interval ", "mass", "entropy", "missed", "exact match",
        "own error", "strange words",
    ]  # fmt: skip
    caption = (
        "Additive attention, all orders. Strange: words of an output that translate no word of the source. "
        f"{measured.config.tests} sentences of each length, {measured.config.seeds} trainings."
    )
    run.table("lengths", Table(heads, rows, title="Alignments by length", caption=caption))


def _agreement_table(run: Run, measured: Measured) -> None:
    config, rows = measured.config, []
    distances = range(1, config.between + 2)
    for side, names in (("right", config.readings), ("left", config.mirrored)):
        sign = 1 if side == "right" else -1
        for name in names:
            cells: list[Any] = [SIDES[side], READINGS[name].words]
            for d in distances:
                cells += _cells(measured.agree(side, name, lambda row, d=d: row[1] == d))
            rest = [_mean(measured.agree(side, name, lambda row, k=k: row[2] == k)) for k in (0, 1)]
            rest += [_mean(measured.rest(side, name, key)) for key in ("others", "last_word", "exact")]
            looks = [
                _mean(
                    measured.agree(
                        side, name, lambda row: True, lambda row, at=sign * at: row[3] == at * row[1]
                    )
                )
                for at in (0, 1)
            ]
            rows.append([*cells, *rest, *looks])
    heads = ["task", "encoder reads"]
    for d in distances:
        heads += [f"noun {d} away", "interval" + " " * (d - 1)]
    heads += [
        "earlier phrases",
        "last phrase",
        "other words",
        "last word",
        "exact match",
        "looks at itself",
        "looks at its noun",
    ]
    caption = (
        "Shares of words that come out right after the right words before them: of words that agree, by the distance from the "
        "noun and by the phrase; of other words, the last of a sentence apart, and of that. Exact match: sentences of a beam "
        "search that are right in all words. Looks: where the largest weight of words that agree is. "
        f"{config.tests} sentences, {config.seeds} trainings, 95 % t intervals."
    )
    run.table("agreement", Table(heads, rows, title="Words that agree", caption=caption))


def _trainings_table(run: Run, measured: Measured) -> None:
    rows = []
    for (task, name, seed), facts in measured.found.facts.items():
        words = VARIANTS[name] if task == "orders" else READINGS[name].words
        rows.append(
            [
                SIDES.get(task, "orders"), words, seed, facts["parameters"], facts["updates"], facts["cpu_seconds"],
                facts["words"], facts["curve"][-1][1], facts["device"],
            ]
        )  # fmt: skip
    heads = [
        "task", "model", "seed", "parameters", "updates", "CPU seconds", "words a second", "held-out perplexity", "device",
    ]  # fmt: skip
    caption = "CPU seconds are those of the process, evaluations among them; words are target words over these seconds."
    run.table("trainings", Table(heads, rows, title="Trainings", caption=caption))
