"""What attention-signal shows and claims."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.experiments import _attention_signal_audits as audits
from fingerpost.experiments import _attention_signal_pictures as pictures
from fingerpost.experiments._attention_signal_reach import STATES, fitted
from fingerpost.experiments._translation import MODELS
from fingerpost.experiments._translation_scores import decided
from fingerpost.lab import Claim, Run, mean_interval, paired_interval

if TYPE_CHECKING:
    from fingerpost.experiments.attention_signal import Config

audit = lazy_import("fingerpost.audit")

SOURCE = "summary of Bahdanau et al. 2014 (Early Implementation of Attention Mechanism, 2021)"
SPECIFICATION = "specification of the attention experiments: attention-signal, why it works"
LEVEL = 0.01
"""What a word more may change of a norm that is called level: a hundredth."""
FIXED = ("fixed", "encdec")
NAMED = {"scores": "zeroed", "sign": "sign"}
"""Faults that the audit has a name for."""
AT = {"start": "at the start", "trained": "after training"}


@dataclass
class Found:
    """What was measured: by model and seed; `reach` by model, state and seed; `reports` by model, state and pass, as JSON."""

    facts: dict[tuple[str, int], Any] = field(default_factory=dict)
    reach: dict[tuple[str, str, int], Any] = field(default_factory=dict)
    scores: dict[tuple[str, int], Any] = field(default_factory=dict)
    reports: dict[tuple[str, str, str], str] = field(default_factory=dict)


class Measured:
    """Figures of all trainings, by model, state and length."""

    def __init__(self, config: Config, found: Found) -> None:
        self.found, self.lengths = found, list(config.measured)
        self.seeds = range(config.seed, config.seed + config.seeds)
        self.inside = [n for n in self.lengths if config.shortest <= n <= config.longest]
        self.far = self.inside[-1]

    def at(self, kind: str, state: str, key: str, length: int) -> list[Any]:
        """What each training has under `key`."""
        return [self.found.reach[kind, state, seed][str(length)][key] for seed in self.seeds]

    def slopes(self, kind: str, state: str, key: str) -> list[float]:
        """Each training's slope of the log-norm at the longest length trained on."""
        return [slopes[key] for slopes in self.at(kind, state, "slopes", self.far)]

    def by_word(self, kind: str, state: str, log: bool = False) -> list[float]:
        """Each training's slope, over lengths trained on, of the log-norm at the true word: by a word, or by log length."""
        values = zip(*(self.at(kind, state, "true", n) for n in self.inside))
        x = [math.log(n) for n in self.inside] if log else self.inside
        return [fitted(row, x) for row in values]

    def score(self, kind: str, key: str, length: int) -> list[float]:
        """Each training's perplexity or share of exact translations."""
        return [self.found.scores[kind, seed][key][self.lengths.index(length)] for seed in self.seeds]


def show(config: Config, run: Run, found: Found) -> None:
    """Texts, figures, tables and claims."""
    measured = Measured(config, found)
    _texts(config, run)
    _text_of_start(run, measured)
    _figures(config, run, measured)
    _decay_table(config, run, measured)
    _length_table(config, run, measured)
    _claim_fixed(config, run, measured)
    _claim_attention(config, run, measured)
    _claim_scores(config, run, measured)
    reports = {key: audit.AuditReport.from_json(text) for key, text in found.reports.items()}
    _audit_table(config, run, reports)
    _claim_audits(run, reports)


def _texts(config: Config, run: Run) -> None:
    run.text(
        "What is measured",
        f"The task is to write a sentence's words in another order ({config.order}), so that the true source word of each "
        f"target word is known. For each target word i and source word j this is the norm of the gradient of the target "
        "word's log-odds, log p/(1 − p), by the embedding x_j. The gradient of log p itself is that times 1 − p: it vanishes "
        "where a trained model is sure, for every source word alike, and says little about paths. Both are in the table.",
    )
    run.text(
        "Which distance counts",
        "In these models the fixed context enters every step of the decoder and its output. So the shortest path from source "
        "word j to any target word has as many steps of a recurrence as lie between j and the context, S − j, or "
        "min(S − j, j − 1) where the encoder reads both ways, and none of the decoder: the slopes on the target word's place "
        "say whether the decoder's steps cost anything. With attention that path has no step of a recurrence, whatever i, j "
        "and the length.",
    )


def _text_of_start(run: Run, measured: Measured) -> None:
    n, power = measured.far, mean_interval(measured.by_word("search", "start", log=True)).mean
    norm = [math.exp(mean_interval(measured.at("search", state, "true", n)).mean) for state in STATES]
    share = [mean_interval(measured.at("search", state, "share", n)).mean for state in STATES]
    run.text(
        "Not so at the start",
        "Before training the weights α are all alike, and what reaches a word falls with the length: the norm at the true "
        f"word goes as the length to the power {power:.2f}, and at {n} words {100 * share[0]:.0f} % of the squared gradient is "
        f"there, where 1/(n + 1) is {100 / (n + 1):.0f} %. The path is short from the beginning, but narrow. Training makes "
        f"the norm {norm[1] / norm[0]:.0f} times as large and the share {100 * share[1]:.0f} %.",
    )


# figures


def _figures(config: Config, run: Run, measured: Measured) -> None:
    pairs = [(kind, state) for state in STATES for kind in MODELS]
    _maps(run, measured, pairs)
    curves = {
        (kind, state, key): measured.at(kind, state, key, measured.far)
        for kind, state in pairs
        for key in ("by_end", "by_apart")
    }
    caption = (
        f"Mean norm over all target words of {config.sentences} sentences of {measured.far} words, against two distances; "
        f"lines are means of {config.seeds} trainings, bands reach from the least to the largest."
    )
    picture = pictures.by_distance(curves)
    run.figure("by-distance", picture, title="How the signal falls with distance", caption=caption)
    lines = {
        (kind, state): {n: _mean_curve(measured.at(kind, state, "by_end", n)) for n in measured.lengths}
        for kind, state in pairs
    }
    caption = (
        "The same against words to the end, a line for each source length. Lines that lie on one another decay with the "
        "distance alone; lines under one another with the length."
    )
    picture = pictures.by_source_length(lines, config.longest)
    run.figure("by-source-length", picture, title="Distance and length", caption=caption)
    _length_figures(config, run, measured)


def _maps(run: Run, measured: Measured, pairs: list[tuple[str, str]]) -> None:
    seed, first = measured.seeds[0], measured.found.reach[pairs[0][0], pairs[0][1], measured.seeds[0]]
    shown = next(n for n, found in first.items() if "map" in found)
    shares = {(kind, state): measured.found.reach[kind, state, seed][shown]["map"] for kind, state in pairs}
    caption = (
        f"Each row is a target word: how its squared gradient is shared among source words, the darker the more, in the "
        f"geometric mean over sentences of {shown} words and their ends. First training."
    )
    run.figure("maps", pictures.maps(shares), title="Where a target word's gradient lands", caption=caption)


def _mean_curve(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows)]


def _length_figures(config: Config, run: Run, measured: Measured) -> None:
    def of(state: str, key: str) -> dict[str, list[Any]]:
        return {kind: [measured.at(kind, state, key, n) for n in measured.lengths] for kind in MODELS}

    panels = [
        (pictures.NAMES[state].capitalize(), "norm at the true word", of(state, "true")) for state in STATES
    ]
    caption = (
        "Geometric mean of the norm of ∂ log-odds(y_i)/∂x_j at the true source word j of each target word i; means over "
        f"{config.seeds} trainings with 95 % intervals (Student's t)."
    )
    picture = pictures.by_length(panels, measured.lengths, config.longest)
    run.figure("by-length", picture, title="The signal to the right word, by length", caption=caption)
    exact = {kind: [measured.score(kind, "exact", n) for n in measured.lengths] for kind in MODELS}
    panels = [
        ("After training", "share of the gradient at the true word", of("trained", "share")),
        ("Translations", "sentences right in all words (share)", exact),
    ]
    caption = (
        "Left: how much of a target word's squared gradient by all source words is its true word's. Right: sentences that the "
        f"models translate without a mistake, of {config.tests} a length, beam of {config.beam}. Means over {config.seeds} "
        "trainings with 95 % intervals."
    )
    picture = pictures.by_length(panels, measured.lengths, config.longest)
    run.figure("share-and-score", picture, title="Signal and success", caption=caption)


# tables


def _with_interval(values: list[float]) -> list[Any]:
    found = mean_interval(values)
    return [found.mean, format_interval(list(found.interval))]


def _decay_table(config: Config, run: Run, measured: Measured) -> None:
    rows = []
    for state in STATES:
        for kind in MODELS:
            row: list[Any] = [MODELS[kind], AT[state]]
            for key in ("path", "end", "apart", "decoder"):
                values = measured.slopes(kind, state, key)
                row += [None, "no step"] if values[0] is None else _with_interval(values)
            row += _with_interval(measured.by_word(kind, state))
            row += [mean_interval(measured.by_word(kind, state, log=True)).mean]
            rows.append(row)
    heads = [
        "model", "weights", "per step of the shortest path", "interval", "per word to the end", "interval ",
        "per word from the true one", "interval  ", "per target word", "interval   ", "true word, per word of length",
        "interval    ", "power of length",
    ]  # fmt: skip
    caption = (
        f"Slopes of the log-norm of ∂ log-odds(y_i)/∂x_j: −0.1 is a tenth lost by a step. The first four at {measured.far} "
        "words, the first three within a target word and the fourth within a source word; the last two over lengths "
        f"{measured.inside[0]} to {measured.far}. Means over {config.seeds} trainings, 95 % intervals (Student's t)."
    )
    run.table("decay", Table(heads, rows, title="Decay rates of the signal", caption=caption))


def _length_table(config: Config, run: Run, measured: Measured) -> None:
    rows = []
    for n in measured.lengths:
        for kind in MODELS:
            row: list[Any] = [n, MODELS[kind]]
            for key in ("true", "raw"):
                for state in STATES:
                    row.append(math.exp(mean_interval(measured.at(kind, state, key, n)).mean))
            for key in ("share", "near"):
                row += [mean_interval(measured.at(kind, state, key, n)).mean for state in STATES]
            for key in ("top", "alpha"):
                values = measured.at(kind, "trained", key, n)
                row.append(None if values[0] is None else 100 * mean_interval(values).mean)
            row.append(mean_interval(measured.score(kind, "perplexity", n)).mean)
            row.append(100 * mean_interval(measured.score(kind, "exact", n)).mean)
            rows.append(row)
    heads = [
        "words", "model", "norm at the start", "norm, trained", "of log p, start", "of log p, trained",
        "share at the start", "share, trained", "with neighbours, start", "with neighbours, trained",
        "largest gradient there, trained (%)", "largest α there, trained (%)", "perplexity", "exact (%)",
    ]  # fmt: skip
    caption = (
        "At the true source word: geometric mean of the norm for log-odds and for log p, and its share of the squared gradient "
        "by all source words, alone and with the words beside it. α may be largest at a neighbour, whose annotation has read "
        f"the word too. Means over {config.seeds} trainings; trained on {config.shortest} to {config.longest} words."
    )
    run.table(
        "by-length", Table(heads, rows, title="The signal and the translations by length", caption=caption)
    )


def _audit_table(config: Config, run: Run, reports: dict[tuple[str, str, str], Any]) -> None:
    rows = []
    for (kind, state, fault), report in reports.items():
        name = "hand-written pass" if fault == audits.BY_HAND else audits.FAULTS[fault].words
        worst = min(report.layers, key=lambda layer: _number(layer, "gamma", 1.0))
        rows.append(
            [
                MODELS[kind],
                AT[state],
                name,
                str(report.verdict),
                report.overall["batch_gamma"].value,
                worst.name if _number(worst, "gamma", 1.0) < 1 - 1e-9 else "all alike",
                _number(worst, "gamma", math.nan),
                _number(worst, "scale", math.nan),
                max(_number(layer, "deviation", 0.0) for layer in report.layers),
                report.verdict.reason,
            ]
        )
        if fault == audits.BY_HAND or state == config.fault_states[-1]:
            run.audit(
                f"{kind}-{state}-{fault.replace(' ', '-')}",
                report,
                title=f"{MODELS[kind]}, {AT[state]}: {name}",
            )
    heads = [
        "model", "weights", "pass", "verdict", "cosine, all", "worst layer", "its Γ", "its scale", "largest ‖A−G‖/‖G‖",
        "in words",
    ]  # fmt: skip
    caption = (
        f"Gradients of all parameters in {config.units} parts of two sentences of 2 to {config.audit_longest} words, float64. "
        "The signal is the hand-written pass on padded batches, or autograd with a fault planted in it; the reference autograd "
        "of each sentence alone, which differences along the signal confirm."
    )
    run.table("audits", Table(heads, rows, title="The backward pass, audited", caption=caption))


def _number(layer: Any, key: str, missing: float) -> float:
    figure = layer.figures.get(key)
    return missing if figure is None or math.isnan(figure.value) else figure.value


# claims


def _claim_fixed(config: Config, run: Run, measured: Measured) -> None:
    note = f"{config.seeds} trainings, Student's t; {config.order}, trained on {config.shortest}–{config.longest} words"
    for kind in FIXED:
        for state in STATES:
            decided(
                run,
                f"{kind}-distance-{state}",
                f"Into a {MODELS[kind]}, the signal falls with every step between word and context, {AT[state]}.",
                f"{SOURCE}, Problem of the Seq2Seq Model",
                "< 0",
                mean_interval(measured.slopes(kind, state, "path")),
                high=0.0,
                unit="log-norm per step of the shortest path",
                note=f"{measured.far} words; {note}",
            )
            decided(
                run,
                f"{kind}-length-{state}",
                f"Into a {MODELS[kind]}, the signal to the right word decays with the length, {AT[state]}.",
                SPECIFICATION,
                f"< −{LEVEL}",
                mean_interval(measured.by_word(kind, state)),
                high=-LEVEL,
                unit="log-norm per word of length",
                note=f"lengths {measured.inside[0]}–{measured.far}; {note}",
            )


def _claim_attention(config: Config, run: Run, measured: Measured) -> None:
    note = f"lengths {measured.inside[0]}–{measured.far}; {config.seeds} trainings, Student's t"
    ours = measured.by_word("search", "trained")
    decided(
        run, "attention-length-trained", "With attention, trained, the signal to the right word doesn't decay with the length.",
        SPECIFICATION, f"> −{LEVEL}", mean_interval(ours), low=-LEVEL, unit="log-norm per word of length", note=note,
    )  # fmt: skip
    for kind in FIXED:
        gap = paired_interval(ours, measured.by_word(kind, "trained"))
        decided(
            run, f"attention-over-{kind}", f"It decays less with the length than into a {MODELS[kind]}, trained.",
            SPECIFICATION, "> 0", gap, low=0.0, unit="log-norm per word of length, difference", note=note,
        )  # fmt: skip
    decided(
        run, "attention-start-spreads",
        "At its start attention looks everywhere alike, and the signal to the right word falls as one over the length.",
        "fingerpost: uniform weights are 1/S; the short path is there, but training has to widen it",
        "−1", mean_interval(measured.by_word("search", "start", log=True)), low=-1.3, high=-0.7,
        unit="power of the length", note=note,
    )  # fmt: skip
    far = f"{measured.far} words; {config.seeds} trainings, Student's t"
    share = measured.at("search", "trained", "share", measured.far)
    near = mean_interval(measured.at("search", "trained", "near", measured.far)).mean
    decided(
        run, "attention-share", "Trained attention's gradient lands on the true source word for the most part.",
        SPECIFICATION, "> 0.5", mean_interval(share), low=0.5, unit="share of the squared gradient",
        note=f"{far}; with the words beside it {near:.2f}: an annotation has read its neighbours too",
    )  # fmt: skip
    for kind in FIXED:
        gap = paired_interval(share, measured.at(kind, "trained", "share", measured.far))
        decided(
            run, f"share-over-{kind}", f"More of it lands there than into a {MODELS[kind]}.",
            SPECIFICATION, "> 0", gap, low=0.0, unit="share of the squared gradient, difference", note=far,
        )  # fmt: skip


def _claim_scores(config: Config, run: Run, measured: Measured) -> None:
    ours = measured.score("search", "exact", measured.far)
    for kind in FIXED:
        gap = paired_interval(ours, measured.score(kind, "exact", measured.far))
        decided(
            run, f"exact-over-{kind}", f"With attention more long sentences come out right than through a {MODELS[kind]}.",
            f"{SOURCE}, Fig. 4", "> 0", gap, low=0.0, unit="share of sentences, difference",
            note=f"{measured.far} words, {config.tests} sentences; {config.seeds} trainings, the same updates for both",
        )  # fmt: skip


def _claim_audits(run: Run, reports: dict[tuple[str, str, str], Any]) -> None:
    healthy = {key: report for key, report in reports.items() if key[2] == audits.BY_HAND}
    planted = {key: report for key, report in reports.items() if key[2] != audits.BY_HAND}
    run.claim(
        Claim(
            name="by-hand-exact",
            statement="Backpropagation through time as written by hand is the gradient, for both models.",
            source="specification of the audit: EXACT, equal to the gradient within rounding",
            expected=f"all {len(healthy)} EXACT",
            measured=float(sum(report.verdict.name == "EXACT" for report in healthy.values())),
            low=float(len(healthy)),
            unit=f"EXACT of {len(healthy)} audits",
            note="at the start and after training; worst ‖A−G‖/‖G‖ of a layer "
            f"{max(_number(layer, 'deviation', 0.0) for r in healthy.values() for layer in r.layers):.1e}",
        )
    )
    lenient = sum(report.passed for report in planted.values())
    run.claim(
        Claim(
            name="faults-refused",
            statement="No planted fault passes for the gradient.",
            source="specification of the audit",
            expected="none EXACT",
            measured=float(sum(report.verdict.name == "EXACT" for report in planted.values())),
            high=0.0,
            unit=f"EXACT of {len(planted)} audits with a fault",
            note=f"{lenient} of them are ALIGNED: wrong, but they would still descend",
        )
    )
    for fault, name in NAMED.items():
        found = [report for key, report in planted.items() if key[2] == fault]
        if found:
            run.claim(
                Claim(
                    name=f"fault-{fault}-named",
                    statement=f"The audit names the fault “{audits.FAULTS[fault].words}” and where it is.",
                    source="specification of the audit",
                    expected=f"{name}, in layers of the attention",
                    measured=float(sum(_named(report, name) for report in found)),
                    low=float(len(found)),
                    unit=f"named of {len(found)} audits",
                    note=found[-1].verdict.reason,
                )
            )


def _named(report: Any, name: str) -> bool:
    """Whether a fault of this name is found in the attention, and nothing else in other layers."""
    layers = [layer for fault in report.faults if fault.name == name for layer in fault.layers]
    return bool(layers) and all(layer.startswith("decoder.attention.") for layer in layers)
