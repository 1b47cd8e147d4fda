"""What attention-length claims: within the lengths trained on, beyond them, and of what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import ABOVE_ZERO, PAPER, Score
from fingerpost.lab import Claim, Run

if TYPE_CHECKING:
    from fingerpost.experiments._attention_length_results import Judged
    from fingerpost.experiments.attention_length import Config

ROBUST = f"{PAPER}, section 5.1"
TARGET = "target set before the run"
CONTROL = "control of this experiment"
UNIT = "BLEU of words"


def state(config: Config, judged: Judged, run: Run) -> None:
    """Every claim that the settings allow."""
    claims = inside(config, judged)
    if config.longest > config.trained:
        claims += beyond(config, judged)
    for claim in claims:
        run.claim(claim)


def inside(config: Config, judged: Judged) -> list[Claim]:
    """Within the lengths trained on."""
    claims = []
    bound, trained = config.within, config.trained
    for count in range(2, trained + 1):
        claims.append(
            _claim(
                f"within-{count}",
                f"Attention translates {count} joined pairs as well as single ones, within {bound:g} BLEU.",
                TARGET,
                judged.fall("search", count),
                (-bound, bound),
                _note(config, judged, count),
            )
        )
    if trained > 1:
        claims.append(
            _claim(
                f"joined-{trained}",
                f"Attention translates {trained} joined pairs as well as the same pairs one by one and then joined, within "
                f"{bound:g} BLEU.",
                CONTROL,
                judged.parts_less_whole("search", trained),
                (-bound, bound),
                _note(config, judged, trained),
            )
        )
    for kind in judged.rivals if trained > 1 else ():
        note = _note(config, judged, trained)
        name = f"a {MODELS[kind]}"
        claims += [
            _claim(
                f"falls-{kind}",
                f"From 1 to {trained} joined pairs, lengths that were trained on, more than {bound:g} BLEU are lost by {name}.",
                f"{PAPER}, Figure 2",
                judged.fall(kind, trained),
                (bound, None),
                note,
            ),
            _claim(
                f"keeps-{kind}",
                f"From 1 to {trained} joined pairs, attention loses less than {name}.",
                f"{PAPER}, Figure 2",
                judged.fall_less_than(kind, trained),
                (ABOVE_ZERO, None),
                f"the other's fall less attention's; {note}",
            ),
            _claim(
                f"above-{kind}",
                f"Attention translates {trained} joined pairs better than {name}.",
                f"{PAPER}, Figure 2",
                judged.gap(kind, trained),
                (ABOVE_ZERO, None),
                note,
            ),
        ]
    return claims


def beyond(config: Config, judged: Judged) -> list[Claim]:
    """Longer than what was trained on."""
    claims = []
    bound, longest = config.within, config.longest
    for count in sorted({config.trained + 1, longest}):
        claims.append(
            _claim(
                f"beyond-{count}",
                f"Trained on up to {config.trained} joined pairs, attention translates {count} as well as single ones, within "
                f"{bound:g} BLEU: it does not deteriorate with length.",
                f"{ROBUST}, of sentences as long as or longer than those trained on",
                judged.fall("search", count),
                (None, bound),
                _note(config, judged, count),
            )
        )
    for kind in judged.rivals:
        note = _note(config, judged, longest)
        name = f"a {MODELS[kind]}"
        claims += [
            _claim(
                f"beyond-above-{kind}",
                f"Of {longest} joined pairs, longer than trained on, attention translates better than {name}.",
                ROBUST,
                judged.gap(kind, longest),
                (ABOVE_ZERO, None),
                note,
            ),
            _claim(
                f"beyond-keeps-{kind}",
                f"Of its score on single pairs, attention keeps more at {longest} joined than {name}.",
                ROBUST,
                judged.kept_more_than(kind, longest),
                (ABOVE_ZERO, None),
                note,
                "points of percent",
            ),
        ]
    claims.append(
        _claim(
            f"parts-{longest}",
            f"Translating {longest} sentences one by one with attention is better than translating them joined.",
            CONTROL,
            judged.parts_less_whole("search", longest),
            (ABOVE_ZERO, None),
            _note(config, judged, longest),
        )
    )
    return claims


def _note(config: Config, judged: Judged, count: int) -> str:
    trainings = f"{config.seeds} training{'s' if config.seeds > 1 else ''} of each model"
    return (
        f"{judged.number(count)} sentences of {count} pairs, {judged.source_words(count):.0f} words on average; mean over "
        f"{trainings}; 95 % bootstrap over joined sentences, paired"
    )


def _claim(
    name: str, statement: str, source: str, measured: Score, bounds: tuple[float | None, float | None], note: str,
    unit: str = UNIT,
) -> Claim:  # fmt: skip
    """That a figure is within bounds, whatever sentences are drawn."""
    low, high = bounds
    if low is None:
        expected = f"≤ {high:g}"
    elif high is None:
        expected = f"> {0 if low == ABOVE_ZERO else low:g}"
    else:
        expected = f"{low:g} to {high:g}".replace("-", "−")
    return Claim(
        name=name,
        statement=statement,
        source=source,
        expected=expected,
        measured=measured.mean,
        low=low,
        high=high,
        interval=measured.interval,
        unit=unit,
        note=note,
        decided_by="interval",
    )
