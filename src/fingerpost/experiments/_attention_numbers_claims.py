"""What attention-numbers claims: within trained lengths, beyond them, and of the order in which attention reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import ABOVE_ZERO, PAPER, Score
from fingerpost.lab import Claim, MeanInterval

if TYPE_CHECKING:
    from fingerpost.experiments._attention_numbers_results import Judged

PREMISE = "premise of this experiment"
RIGHT = "% right in every word"
POINTS = "points of percent right"
SOLVED = 95.0
"""Percent right from which attention is said to have learnt the trained lengths."""
KEPT_BLEU, KEPT_RIGHT = 3.0, 5.0
"""Most that a model which holds up may lose."""


def of_trained(judged: Judged) -> list[Claim]:
    """Attention on lengths that were trained on."""
    score = judged.right["search"].score(judged.trained)
    return [
        _claim(
            judged,
            "solved",
            f"Attention gets at least {SOLVED:g} % of the numbers of trained lengths right.",
            PREMISE,
            f"≥ {SOLVED:g}",
            score,
            RIGHT,
            low=SOLVED,
            note=_each(judged, judged.trained),
        )
    ]


def of_fall(judged: Judged) -> list[Claim]:
    """Whether attention holds up from short to long numbers that were trained on, and one context does not."""
    best, ends = judged.bleu["search"], (judged.first.rows, judged.last.rows)
    note = f"from {judged.first.label} to {judged.last.label} words"
    found = [
        _claim(
            judged, "holds",
            f"Within trained lengths, attention loses at most {KEPT_BLEU:g} BLEU from short to long numbers.",
            f"{PAPER}, Figure 2", f"≤ {KEPT_BLEU:g}", best.fall(*ends), "BLEU", high=KEPT_BLEU, note=note,
        )
    ]  # fmt: skip
    for kind in judged.rivals:
        found.append(
            _claim(
                judged, f"falls-{kind}",
                f"Within trained lengths, a {MODELS[kind]}, translates long numbers worse than short ones.",
                f"{PAPER}, Figure 2", "> 0", judged.bleu[kind].fall(*ends), "BLEU lost", low=ABOVE_ZERO, note=note,
            )
        )  # fmt: skip
        found.append(
            _claim(
                judged, f"length-{kind}", f"Within trained lengths, a {MODELS[kind]}, loses more by length than attention.",
                f"{PAPER}, Figure 2", "> 0", judged.bleu[kind].fall(*ends, best), "BLEU lost", low=ABOVE_ZERO, note=note,
            )
        )  # fmt: skip
    return found


def of_gaps(judged: Judged) -> list[Claim]:
    """Attention beside each other model, within trained lengths and beyond."""
    best, found = judged.right["search"], []
    for kind in judged.rivals:
        for name, where, rows, place in (
            ("above", "Within trained lengths", judged.trained, "Table 1"),
            ("beyond", "Beyond trained lengths", judged.beyond, "Figure 2"),
        ):
            if not rows.any():
                continue
            found.append(
                _claim(
                    judged, f"{name}-{kind}", f"{where}, attention gets more numbers right than a {MODELS[kind]}.",
                    f"{PAPER}, {place}", "> 0", best.gap(judged.right[kind], rows), POINTS, low=ABOVE_ZERO,
                    note=f"{int(rows.sum())} numbers",
                )
            )  # fmt: skip
    return found


def of_beyond(judged: Judged) -> list[Claim]:
    """Whether attention holds up on numbers longer than any trained on: on all, on those a little longer, on the longest."""
    near, far = judged.by_length[judged.within], judged.by_length[-1]
    found = [
        _claim(
            judged, "holds-beyond",
            f"On numbers longer than any it was trained on, attention loses at most {KEPT_BLEU:g} BLEU.",
            f"{PAPER}, section 5.1 and Figure 2: no deterioration with length", f"≤ {KEPT_BLEU:g}",
            judged.bleu["search"].fall(judged.trained, judged.beyond), "BLEU", high=KEPT_BLEU,
            note=f"from trained lengths to all beyond, up to {max(judged.lengths)} words",
        )
    ]  # fmt: skip
    for name, which, bucket in (("right-near", "a little longer", near), ("right-far", "the longest", far)):
        if name == "right-near" and near is far:
            continue
        found.append(
            _claim(
                judged, name,
                f"Of {which} numbers, attention gets as many right as of trained lengths, to {KEPT_RIGHT:g} points.",
                f"the same claim, by numbers right in every word; {PAPER}", f"≤ {KEPT_RIGHT:g}",
                judged.right["search"].fall(judged.trained, bucket.rows), POINTS, high=KEPT_RIGHT,
                note=f"from trained lengths to {bucket.label} words; right there: {_each(judged, bucket.rows)}",
            )
        )  # fmt: skip
    return found


def of_order(judged: Judged, tens: MeanInterval, rest: MeanInterval) -> list[Claim]:
    """Whether attention reads backwards where the target says words in the other order, and onwards elsewhere."""
    source = f"{PAPER}, section 5.2.1: alignments are mostly in order, and are not where the languages' orders differ"
    note = "Kendall's τ of two words' weights, numbers translated rightly within trained lengths; t interval over numbers"
    return [
        _claim(
            judged, "backwards",
            "Where the target says units before tens and the source after them, attention reads backwards.",
            source, "< 0", Score(*tens), "τ", high=-ABOVE_ZERO, note=note,
        ),
        _claim(
            judged, "onwards", "Between all other neighbouring words, attention reads onwards.",
            source, "> 0", Score(*rest), "τ", low=ABOVE_ZERO, note=note,
        ),
    ]  # fmt: skip


def _each(judged: Judged, rows: Any) -> str:
    values = ", ".join(f"{value:.1f}" for value in judged.right["search"].of_each(rows))
    return f"{values} % by training"


def _claim(
    judged: Judged, name: str, statement: str, source: str, expected: str, measured: Score, unit: str, *,
    low: float | None = None, high: float | None = None, note: str,
) -> Claim:  # fmt: skip
    """Decided by the whole interval."""
    count = judged.trainings
    mean = f"mean over {count} trainings" if count > 1 else "one training"
    return Claim(
        name=name, statement=statement, source=source, expected=expected, measured=measured.mean, low=low, high=high,
        interval=measured.interval, unit=unit, decided_by="interval",
        note=f"{judged.name}; {note}; {mean}; 95 % interval over numbers",
    )  # fmt: skip
