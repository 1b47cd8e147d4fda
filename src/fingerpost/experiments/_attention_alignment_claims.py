"""What attention-alignment claims; bounds were set before the full preset was run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fingerpost.experiments._translation_scores import decided
from fingerpost.lab import Claim, MeanInterval, Run, mean_interval, paired_interval

if TYPE_CHECKING:
    from fingerpost.experiments._attention_alignment_results import Measured
    from fingerpost.experiments.attention_alignment import Config

SOURCE = "summary of Bahdanau et al. 2014 (Early Implementation of Attention Mechanism, 2021)"
SPECIFICATION = "specification of the attention experiments: known-permutation tasks"
OWN = "fingerpost"
ALIKE = 0.05
"""Shares that differ by less are called alike, and an error that is less is called none."""


def far(row: list[int]) -> bool:
    """Whether other words stand between a word that agrees and its noun."""
    return row[1] > 1


def in_last(row: list[int]) -> bool:
    """Whether a word that agrees is in the last phrase."""
    return row[2] == 1


def state(config: Config, run: Run, measured: Measured) -> None:
    """All claims."""
    _alignments(config, run, measured)
    _lengths(config, run, measured)
    _directions(config, run, measured)
    _annotations(run, measured)
    _late(config, run, measured)


def _alignments(config: Config, run: Run, measured: Measured) -> None:
    note = (
        f"additive attention, lengths {measured.trained}, all orders; {config.seeds} trainings, Student's t"
    )
    share = {"unit": "share of target words", "note": note}
    error = measured.orders("additive", "error")
    decided(
        run, "aligned-exactly", "Alignments that nobody taught are as they should be: the largest weight is on the right word.",
        f"{SOURCE}, Fig. 5", f"≤ {ALIKE}", mean_interval(error), high=ALIKE, **share,
    )  # fmt: skip
    decided(
        run, "aligned-next-door", "The largest weight is on the right word or next door.",
        f"{OWN}: annotations hold their neighbours", f"≤ {ALIKE}",
        mean_interval(measured.orders("additive", "near_error")), high=ALIKE, **share,
    )  # fmt: skip
    lagging, leading = (measured.orders("additive", key) for key in ("lagging", "leading"))
    decided(
        run, "lags", "A largest weight elsewhere is more often still on the word just translated than already on the next.",
        f"{OWN}: seen in the first trial of this experiment", "> 0", paired_interval(lagging, leading),
        low=float(np.nextafter(0, 1)), unit="share of target words, difference", note=note,
    )  # fmt: skip
    decided(
        run, "mass", "More than half of a target word's weight is on its source word.",
        f"{SOURCE}, Results: α reflects the importance of h_j", "> 0.5",
        mean_interval(measured.orders("additive", "mass")), low=0.5, unit="weight", note=note,
    )  # fmt: skip
    decided(
        run, "order", "The largest weights go through the source in the rule's order: their Kendall's τ is the rule's.",
        SPECIFICATION, "≤ 0.1", mean_interval(measured.orders("additive", "tau_gap")), high=0.1,
        unit="|difference of τ|, mean over sentences", note=note,
    )  # fmt: skip
    decided(
        run, "coverage", "Every source word is read: of a weight of 1 in sum a source word lacks little.",
        SPECIFICATION, "≤ 0.2", mean_interval(measured.orders("additive", "missed")), high=0.2,
        unit="weight", note=f"{note}; a look at the same word always lacks 1 − 1/n, at all alike nothing",
    )  # fmt: skip
    decided(
        run, "own-outputs", "Along its own translations the model reads as along the right ones.",
        SPECIFICATION, f"within ±{ALIKE}", paired_interval(measured.orders("additive", "own_error"), error),
        low=-ALIKE, high=ALIKE, unit="alignment error, difference", note=f"{note}; a beam of {config.beam}",
    )  # fmt: skip


def _lengths(config: Config, run: Run, measured: Measured) -> None:
    inside, longest = measured.trained[-1], config.measured[-1]
    note = f"additive attention, all orders; {config.seeds} trainings, Student's t"
    for key, name, words in (("error", "", ""), ("near_error", "-next-door", ", next door counted as right")):
        shortest = measured.orders("additive", key, [measured.trained[0]])
        within = measured.orders("additive", key, [inside])
        beyond = measured.orders("additive", key, [longest])
        if len(measured.trained) > 1:
            decided(
                run, f"length-within{name}", f"Within the trained lengths alignments don't get worse with length{words}.",
                f"{SOURCE}, Fig. 4: robust to the length", f"≤ {ALIKE}", paired_interval(within, shortest), high=ALIKE,
                unit="alignment error, difference", note=f"{inside} words less {measured.trained[0]}; {note}",
            )  # fmt: skip
        decided(
            run, f"length-beyond{name}", f"Alignments hold on sentences longer than any trained on{words}.",
            f"{SOURCE}, Fig. 4: robust to the length", f"≤ {ALIKE}", paired_interval(beyond, within), high=ALIKE,
            unit="alignment error, difference", note=f"{longest} words less {inside}; {note}",
        )  # fmt: skip


def _directions(config: Config, run: Run, measured: Measured) -> None:
    note = f"{config.tests} sentences; {config.seeds} trainings of each, Student's t"
    share = {"unit": "share of words that agree, difference", "note": note}

    def gap(side: str, chosen: Any) -> MeanInterval:
        return paired_interval(measured.agree(side, "both", chosen), measured.agree(side, "forward", chosen))

    decided(
        run, "both-ways-needed",
        "A word decided by what stands behind, over other words, is more often right if the encoder reads both ways.",
        f"{SOURCE}, Bi-Directional RNN as the Encoder", f"> {ALIKE}", gap("right", far), low=ALIKE, **share,
    )  # fmt: skip
    decided(
        run, "mirrored-control", "If the same is decided from before, an encoder that reads onwards alone does as well.",
        f"{OWN}: control of the ablation", f"within ±{ALIKE}", gap("left", far), low=-ALIKE, high=ALIKE, **share,
    )  # fmt: skip
    both, forward = (measured.rest("right", name, "others") for name in ("both", "forward"))
    others = paired_interval(both, forward)
    decided(
        run, "others-control", "On words of the same sentences with one translation, reading onwards alone does as well.",
        f"{OWN}: control of the ablation", f"within ±{ALIKE}", others, low=-ALIKE, high=ALIKE,
        unit="share of other words, difference", note=note,
    )  # fmt: skip
    decided(
        run, "attention-looks-ahead",
        "If the next word decides, reading onwards alone does as well: attention can look at what stands behind.",
        f"{OWN}: c_i may take any annotation", f"within ±{ALIKE}", gap("right", lambda row: row[1] == 1),
        low=-ALIKE, high=ALIKE, **share,
    )  # fmt: skip


def _annotations(run: Run, measured: Measured) -> None:
    found = {key: np.array(value) for key, value in measured.found.read.items()}
    onward = np.stack([value[..., 0] for (name, _), value in found.items() if name == "forward"])
    both = np.stack([value for (name, _), value in found.items() if name == "both"])
    note = f"‖∂h_j/∂x_k‖ of one sentence, trained encoders of {len(both)} seeds, float64"
    unit = "norm"
    run.claim(
        Claim(
            "onward-reads-no-further", "An annotation of an encoder that reads onwards alone has read nothing behind its word.",
            f"{SOURCE}, Bi-Directional RNN as the Encoder", "0", float(np.triu(onward, 1).max()), high=0.0, unit=unit,
            note=note,
        )
    )  # fmt: skip
    own = np.diagonal(onward, axis1=1, axis2=2)
    run.claim(
        Claim(
            "onward-without-its-word", "Such an annotation h_j contains x_1 … x_{j−1} only, not its own word.",
            f"{SOURCE}, Bi-Directional RNN as the Encoder", "0", float(own.min()), high=0.0, unit=f"least {unit} at k = j",
            note=f"{note}; equation 2 there has x_t in h_t",
        )
    )  # fmt: skip
    together = np.sqrt(np.square(both).sum(-1))
    run.claim(
        Claim(
            "both-read-everything", "An annotation of an encoder that reads both ways has read every word.",
            f"{SOURCE}, Bi-Directional RNN as the Encoder", "> 0", float(together.min()), low=float(np.nextafter(0, 1)),
            unit=f"least {unit}", note=note,
        )
    )  # fmt: skip
    focus = [float((row.argmax(1) == np.arange(len(row))).mean()) for row in together]
    decided(
        run, "focus", "An annotation has its focus on its own word: mostly that is the word it feels most.",
        f"{SOURCE}, Bi-Directional RNN as the Encoder", "> 0.5", mean_interval(focus), low=0.5,
        unit="share of annotations", note=f"{note}; Student's t",
    )  # fmt: skip


def _late(config: Config, run: Run, measured: Measured) -> None:
    source = f"{SOURCE}, equation 8: the backward state is 0 at t = T_x"
    late = np.stack(
        [np.array(value)[..., 1] for (name, _), value in measured.found.read.items() if name == "late"]
    )
    run.claim(
        Claim(
            "late-last-word-unread", "With the backward state 0 at the last word, no backward state has read that word.",
            source, "0", float(late[:, :, -2:].max()), high=0.0, unit="norm",
            note="largest ‖∂←h_j/∂x_k‖ with k the last word or the ending signal",
        )
    )  # fmt: skip
    note = f"reading backwards alone, noun behind; {config.tests} sentences, {config.seeds} trainings, Student's t"
    share = {"unit": "share of words that agree, difference", "note": note}

    def gap(one: str, other: str, chosen: Any) -> MeanInterval:
        return paired_interval(measured.agree("right", one, chosen), measured.agree("right", other, chosen))

    decided(
        run, "late-loses-the-last", "Where the last word decides, a backward state that is 0 there costs right words.", source,
        f"> {ALIKE}", gap("backward", "late", in_last), low=ALIKE, **share,
    )  # fmt: skip
    decided(
        run, "late-guesses", "What such an encoder has left there, reading backwards alone, is guessing.", source, "0.5 ± 0.1",
        mean_interval(measured.agree("right", "late", in_last)), low=0.4, high=0.6,
        unit="share of words that agree", note=note,
    )  # fmt: skip
    backward, late = (measured.rest("right", name, "others") for name in ("backward", "late"))
    decided(
        run, "late-control", "On words with one translation, the last apart, it costs nothing.", f"{OWN}: control",
        f"≤ {ALIKE}", paired_interval(backward, late), high=ALIKE, unit="share of other words, difference", note=note,
    )  # fmt: skip
    if "ending" in config.readings:
        decided(
            run, "late-at-the-ending", "If x_{T_x} is an ending signal, equation 8 drops that alone, and costs nothing.",
            source, f"≤ {ALIKE}", gap("backward", "ending", in_last), high=ALIKE, **share,
        )  # fmt: skip
    if "both-late" in config.readings:
        decided(
            run, "late-both-ways", "An encoder that reads onwards too doesn't make up for it.", source, f"> {ALIKE}",
            gap("both", "both-late", lambda row: in_last(row) and far(row)), low=ALIKE, unit=share["unit"],
            note=note.replace("backwards alone", "both ways") + "; words stand between",
        )  # fmt: skip
