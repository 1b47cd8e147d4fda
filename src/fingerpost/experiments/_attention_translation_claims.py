"""What attention-translation claims of one direction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import ABOVE_ZERO, PAPER, Score
from fingerpost.lab import Claim, Run

if TYPE_CHECKING:
    from fingerpost.experiments._attention_translation_fits import Found
    from fingerpost.experiments._attention_translation_results import Judged
    from fingerpost.experiments._attention_translation_text import Direction
    from fingerpost.experiments.attention_translation import Config

TARGET = "target that the run was given"
UNIT = "BLEU of words"


def state(config: Config, side: Direction, found: Found, judged: Judged, run: Run) -> None:
    """Every claim that the text and the settings allow."""
    rivals = [kind for kind in judged.words if kind != "search"]
    stated = [claim for kind in rivals for claim in of_rival(config, side, judged, kind)]
    for claim in stated + of_targets(config, side, found, judged):
        told = f"{side.name}: {claim.statement}" if config.both_directions else claim.statement
        run.claim(replace(claim, statement=told))
    if rivals and not judged.some_known:
        _unclaimed(
            side, run, "the paper's column without unknown words", "too few or all tested pairs are such"
        )
    if rivals and len(judged.by_length) < 2:
        _unclaimed(side, run, "sentence length", "the test set has too few sentences of different lengths")


def _unclaimed(side: Direction, run: Run, what: str, why: str) -> None:
    run.text(f"Not claimed, {side.name}: {what}", f"Nothing is claimed of {what}: {why}.")


def of_rival(config: Config, side: Direction, judged: Judged, kind: str) -> list[Claim]:
    """Attention beside one model with a fixed context."""
    best, other, name = judged.words["search"], judged.words[kind], f"a {MODELS[kind]}"
    gap = best.gap(other)
    note = _note(config, side, len(side.test))
    found = [
        _above(
            f"above-{kind}{side.suffix}",
            f"Attention translates better than {name}.",
            f"{PAPER}, Table 1",
            gap,
            note,
        )
    ]
    if config.target_gap > 0:
        found.append(
            Claim(
                name=f"target-gap-{kind}{side.suffix}",
                statement=f"Attention is at least {config.target_gap:g} BLEU above {name}.",
                source=TARGET,
                expected=f"≥ {config.target_gap:g}",
                measured=gap.mean,
                low=config.target_gap,
                interval=gap.interval,
                unit=UNIT,
                note=note,
            )
        )
    if judged.some_known:
        rows = judged.known
        statement = f"Where no word is unknown, attention translates better than {name}."
        found.append(
            _above(
                f"known-words-{kind}{side.suffix}", statement, f"{PAPER}, Table 1, column No UNK", best.gap(other, rows),
                _note(config, side, int(rows.sum())),
            )
        )  # fmt: skip
    if len(judged.by_length) > 1:
        found += _of_length(config, side, judged, kind)
    return found


def _of_length(config: Config, side: Direction, judged: Judged, kind: str) -> list[Claim]:
    best, other, name = judged.words["search"], judged.words[kind], f"a {MODELS[kind]}"
    short, long = judged.by_length[0], judged.by_length[-1]
    ends = short.rows, long.rows
    own, its = best.fall(*ends), other.fall(*ends)
    kept, left = best.kept(*ends), other.kept(*ends)
    note = _note(config, side, None)
    counts = f"{int(short.rows.sum())} sources of {short.label} words, {int(long.rows.sum())} of {long.label}"
    return [
        _above(
            f"length-{kind}{side.suffix}",
            f"From short to long sentences, attention loses less than {name}.",
            f"{PAPER}, Figure 2",
            other.fall(*ends, best),
            f"the other's fall {its.mean:.1f} less attention's {own.mean:.1f}; {counts}; {note}",
        ),
        _above(
            f"length-share-{kind}{side.suffix}",
            f"On long sentences, attention keeps more of its score on short ones than {name}.",
            f"{PAPER}, Figure 2",
            best.kept(*ends, other),
            f"attention keeps {kept.mean:.0f} %, the other {left.mean:.0f} %: what scores little has little to lose; {counts}; "
            f"{note}",
            "points of percent",
        ),
        _above(
            f"longest-{kind}{side.suffix}",
            f"On the longest sentences, attention translates better than {name}.",
            f"{PAPER}, Figure 2",
            best.gap(other, long.rows),
            f"{long.label} words; " + _note(config, side, int(long.rows.sum())),
        ),
    ]


def _note(config: Config, side: Direction, sentences: int | None) -> str:
    number = "" if sentences is None else f"{sentences} sentences, "
    trainings = f"{config.seeds} training{'s' if config.seeds > 1 else ''} of each"
    return f"{side.name}; {number}mean over {trainings}; 95 % bootstrap over sentences, paired"


def _above(name: str, statement: str, source: str, measured: Score, note: str, unit: str = UNIT) -> Claim:
    """That a difference is above 0, whatever sentences are drawn."""
    return Claim(
        name=name,
        statement=statement,
        source=source,
        expected="> 0",
        measured=measured.mean,
        low=ABOVE_ZERO,
        interval=measured.interval,
        unit=unit,
        note=note,
        decided_by="interval",
    )


def of_targets(config: Config, side: Direction, found: Found, judged: Judged) -> list[Claim]:
    """Whether attention reaches the figures that the run was given."""
    claims: list[Claim] = []
    wanted = config.target_bleu_back if side.prefix else config.target_bleu
    if wanted > 0:
        score = judged.words["search"].score()
        claims.append(
            Claim(
                name=f"target-bleu{side.suffix}",
                statement=f"Attention reaches {wanted:g} BLEU of words.",
                source=TARGET,
                expected=f"≥ {wanted:g}",
                measured=score.mean,
                low=wanted,
                interval=score.interval,
                unit=UNIT,
                note=f"{side.name}; mean over {config.seeds} trainings; 95 % bootstrap over sentences; "
                f"{judged.words['search'].metric.signature()}",
            )
        )
    facts: list[dict[str, Any]] = found.facts["search"]
    if config.target_minutes > 0 and all(one["device"] == "cpu" for one in facts):
        slowest = max(one["cpu_seconds"] for one in facts) / 60
        claims.append(
            Claim(
                name=f"target-minutes{side.suffix}",
                statement=f"Attention is trained within {config.target_minutes:g} CPU minutes.",
                source=TARGET,
                expected=f"≤ {config.target_minutes:g}",
                measured=slowest,
                high=config.target_minutes,
                unit="minutes",
                note=f"{side.name}; the slowest of {len(facts)} trainings, CPU time of the process",
            )
        )
    return claims
