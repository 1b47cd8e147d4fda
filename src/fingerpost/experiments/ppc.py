"""Your own spike counts, decoded: held-out posteriors, their calibration, simple decoders beside, and what halves add up to."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.errors import ConfigError, FingerpostError
from fingerpost.lab import Claim, Run, derive_seed, mean_interval, paired_interval

np = lazy_import("numpy")
population = lazy_import("fingerpost.population")
recordings = lazy_import("fingerpost.experiments._ppc_recordings")
decoders = lazy_import("fingerpost.experiments._ppc_decoders")
measures = lazy_import("fingerpost.experiments._ppc_measures")
pictures = lazy_import("fingerpost.experiments._ppc_own_pictures")

SOURCE = "specification of the population experiments"
MA = "Ma et al. 2006, https://doi.org/10.1038/nn1790"
SUFFIXES = (".csv", ".tsv", ".txt", ".npz")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      data: Your recording: an .npz file with counts (trials × neurons) and stimulus (trials), or a .csv, .tsv or .txt file
        with a column "stimulus" and a column of counts for each neuron. Without, simulated neurons tuned to orientation.
      period: The circle's length if the stimulus goes round one (360, 180, 6.2832), or 0 for a line.
      folds: Parts of the trials; each is decoded by what was learnt on the others.
      points: Cells of the stimulus axis, unless few different stimuli were shown.
      bins: Parts of the stimulus between whose ends the learned kernel is linear.
      seed: Gives folds, halves and the simulated recording.
      trials: Trials of the simulated recording.
      neurons: Neurons of the simulated recording.
      jitter: Noise on what all simulated neurons see, in degrees; it makes their errors dependent.
    """

    data: str = ""
    period: float = 0.0
    folds: int = 5
    points: int = 180
    bins: int = 18
    seed: int = 0
    trials: int = 3_000
    neurons: int = 60
    jitter: float = 0.0


PRESETS = {"quick": Config(trials=1_000, neurons=40), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them a missing file; imports no torch."""
    if config.data:
        path = Path(config.data).expanduser()
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(
                f"{config.data} ends in {path.suffix!r}; --data takes spike counts: {', '.join(SUFFIXES)}"
            )
        if not path.is_file():
            raise ConfigError(
                f"there is no file {config.data!r}; --data takes spike counts: {', '.join(SUFFIXES)}"
            )
    if not (config.period >= 0 and math.isfinite(config.period)):
        raise ConfigError(f"period is {config.period}; give the circle's length, or 0 for a line")
    if config.folds < 2:
        raise ConfigError(f"folds is {config.folds}; held-out trials need at least 2")
    if config.points < 32 or config.bins < 4:
        raise ConfigError(f"points is {config.points}, bins {config.bins}; at least 32 and 4 are needed")
    if config.trials < 60 or config.neurons < 4 or config.jitter < 0:
        raise ConfigError(
            f"trials={config.trials}, neurons={config.neurons}, jitter={config.jitter}; the simulated recording needs at "
            "least 60 trials and 4 neurons, and a jitter of 0 or more"
        )


@dataclass(frozen=True)
class Recording:
    """Counts, stimuli and names, with the period of the stimulus or 0."""

    counts: Any
    stimuli: Any
    neurons: tuple[str, ...]
    period: float


def load(config: Config) -> Recording:
    """The recording; what is wrong with a file is a ConfigError."""
    if not config.data:
        counts, stimuli = recordings.simulated(config.trials, config.neurons, config.seed, config.jitter)
        return Recording(counts, stimuli, tuple(f"neuron {k + 1}" for k in range(config.neurons)), 180.0)
    try:
        table = population.read_counts(config.data)
    except FingerpostError as error:
        raise ConfigError(_with_names(str(error))) from error
    counts, stimuli = table.counts.numpy(), table.stimuli.numpy()
    if stimuli.ndim == 2:
        if stimuli.shape[1] != 1:
            raise ConfigError(
                f"{config.data}: stimuli have shape {stimuli.shape}; ppc decodes one number a trial"
            )
        stimuli = stimuli[:, 0]
    recordings.check_recording(counts, stimuli, config.period, config.folds)
    return Recording(counts, stimuli, table.neurons, config.period)


def _with_names(message: str) -> str:
    """What the reader says of its argument, in the words of the command line, which has no flag for the column."""
    return message.replace("name the stimulus's column", "call the stimulus's column 'stimulus'")


def run(config: Config, run: Run) -> None:
    """Fits, decodes trials that were held out, measures, writes decoded.csv, and states what held."""
    recording = load(config)
    axis = recordings.Axis.of(recording.stimuli, recording.period, config.points)
    found = decode(config, recording, axis, run)
    _describe(config, recording, axis, run)
    _write(run.directory / "decoded.csv", recording, axis, found)
    _tuning(recording, axis, run)
    _show_decoders(recording, axis, found, run)
    _show_calibration(recording, axis, found, run)
    sums = _sums(config, recording, axis, found)
    _show_sums(sums, run)
    _claim(config, found, sums, run)


def decode(config: Config, recording: Recording, axis: Any, run: Run) -> dict[str, Any]:
    """Every trial decoded by what was learnt on the other folds.

    Returns:
      ``fold`` (trials,), ``prior`` (trials, cells), ``decoded`` by decoder, and what the sums of halves need.
    """
    fold = recordings.folds(len(recording.stimuli), config.folds, config.seed)
    side = (
        np.random.default_rng(derive_seed(config.seed, "halves")).permutation(recording.counts.shape[1]) % 2
    )
    size = (len(fold), len(axis.grid))
    prior, masses, parts = np.empty(size), {}, []
    for number in run.progress(range(config.folds), "folds"):
        test = fold == number
        learnt = decoders.Fold(recording.counts[~test], recording.stimuli[~test], axis, config.bins, side)
        prior[test] = learnt.prior
        for name, mass in learnt.masses(recording.counts[test]).items():
            masses.setdefault(name, np.empty(size))[test] = mass
        parts.append(learnt.sums(recording.counts[test], recording.stimuli[test]))
    seed = derive_seed(config.seed, "ranks")
    decoded = {
        name: measures.measured(mass, recording.stimuli, prior, axis, seed) for name, mass in masses.items()
    }
    return {"fold": fold, "prior": prior, "decoded": decoded, "parts": parts}


def _describe(config: Config, recording: Recording, axis: Any, run: Run) -> None:
    counts = recording.counts
    where = "a line"
    if axis.period:
        where = f"a circle of length {axis.period:g}"
    cells = (
        f"{len(axis.grid)} stimuli that were shown"
        if axis.listed
        else f"{len(axis.grid)} cells of the stimulus"
    )
    if config.data:
        name = Path(config.data).name
    else:
        noise = f"; all see the stimulus through noise of {config.jitter:g}°" if config.jitter else ""
        name = (
            f"Simulated neurons tuned to orientation, with {recordings.FANO:g} times the variance of Poisson's spikes and a "
            f"gain that all share and that varies by {recordings.SHARED:.0%}{noise}"
        )
    run.text(
        "The recording",
        f"{name}: {counts.shape[0]:,} trials, {counts.shape[1]} neurons, {counts.sum(1).mean():.3g} spikes a trial; stimuli "
        f"on {where}, from {recording.stimuli.min():.4g} to {recording.stimuli.max():.4g}. Posteriors are held on {cells}. "
        f"Each of {config.folds} parts of the trials is decoded by what was learnt on the others; all figures are of trials "
        "held out.",
    )
    run.text(
        "The decoders",
        "Poisson tuning: mean counts by stimulus, smoothed by leave-one-out likelihood, read as independent Poisson with "
        "the gain that they have on average, −Σ f kept. Any gain: the same curves with the gain integrated out, h = "
        "log(f / Σ f). With a Fano factor: that kernel over one number, chosen on trials held out of the curves. Learned "
        "kernel: p(s | r) ∝ exp(h(s) · r + b(s)), by the likelihood of the stimuli given the counts, which asks nothing of "
        "the noise but its family. The population vector and the linear regression give a point, with one spread for all "
        "trials. decoded.csv in the run's folder has every trial's mean, standard deviation and central 95 % region by "
        "each.",
    )


def _write(path: Any, recording: Recording, axis: Any, found: dict[str, Any]) -> None:
    heads, columns = ["trial", "fold", "stimulus"], []
    columns += [np.arange(1, len(recording.stimuli) + 1), found["fold"] + 1, recording.stimuli]
    for name, one in found["decoded"].items():
        low, high = measures.regions(one, axis)
        stem = name.lower().replace(" ", "_")
        heads += [f"{stem}_mean", f"{stem}_sd", f"{stem}_low", f"{stem}_high"]
        columns += [one.mean, one.deviation, low, high]
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(heads)
        for row in zip(*(column.tolist() for column in columns)):
            writer.writerow([cell if isinstance(cell, int) else f"{cell:.6g}" for cell in row])


def _tuning(recording: Recording, axis: Any, run: Run) -> None:
    cells = axis.cells(recording.stimuli)
    rates, _, width = decoders.smooth_tuning(recording.counts, cells, axis)
    order = np.argsort(-(rates.max(0) - rates.min(0)), kind="stable")[: pictures.SHOWN]
    chosen = sorted(order.tolist())
    points = [measures.by_stimulus(recording.counts[:, k], recording.stimuli, axis) for k in chosen]
    how = f"smoothed over {width:.3g}" if width else "for each stimulus"
    run.figure(
        "tuning",
        pictures.tuning(
            [recording.neurons[k] for k in chosen], axis.grid, rates[:, chosen], points, axis.listed
        ),
        title="Tuning curves",
        caption=f"Mean counts of the {len(chosen)} neurons that the stimulus changes most: lines {how}, points with 95 % "
        "intervals.",
    )


def _show_decoders(recording: Recording, axis: Any, found: dict[str, Any], run: Run) -> None:
    rows = []
    for name, one in found["decoded"].items():
        square, bits = mean_interval((one.error**2).tolist()), mean_interval(one.bits.tolist())
        root = [max(x, 0.0) ** 0.5 for x in square]
        value = measures.calibration(one)
        rows.append([
            name, root[0], format_interval(root[1:]), float(np.median(np.abs(one.error))), bits.mean,
            format_interval(bits.interval), value[0], format_interval(value[1:]), float((one.rank <= 0.95).mean()),
        ])  # fmt: skip
    heads = ["decoder", "error", "error interval", "median error", "bits a trial", "bits interval"]
    heads += ["claimed / real variance", "its interval", "inside 95 % regions"]
    caption = (
        f"{len(recording.stimuli):,} held-out trials. Error: root mean square of the posterior mean, in the stimulus's "
        "unit, the short way round on a circle. Bits: log₂ of the posterior over the prior at the stimulus, a lower bound "
        "on what the counts tell. A claimed variance below the real one means overconfidence."
    )
    run.table("decoders", Table(heads, rows, title="Trials held out", caption=caption))
    curves = {
        name: measures.by_stimulus(one.error**2, recording.stimuli, axis)
        for name, one in found["decoded"].items()
    }
    run.figure(
        "error",
        pictures.error_by_stimulus(curves),
        title="Error by stimulus",
        caption="Root mean square error of held-out trials with 95 % intervals.",
    )


def _show_calibration(recording: Recording, axis: Any, found: dict[str, Any], run: Run) -> None:
    decoded = found["decoded"]
    run.figure(
        "calibration",
        pictures.calibration(
            {name: measures.coverage(one) for name, one in decoded.items()},
            {
                name: measures.reliability(one)
                for name, one in decoded.items()
                if name in decoders.PROBABILISTIC
            },
            len(recording.stimuli),
        ),
        title="Calibration",
        caption="Left: how often the smallest region of a given mass holds the stimulus, minus that mass; below 0 is "
        "overconfident; gray: what chance alone does, 95 %. Right: trials in fifths by the uncertainty that is decoded on "
        "them, against their real error with 95 % intervals; the line is equality.",
    )


def _sums(config: Config, recording: Recording, axis: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Figures of `measures.halves` for both kinds of halves and each probabilistic decoder."""
    seed, results = derive_seed(config.seed, "sum ranks"), {}
    for kind in decoders.KINDS:
        for name in decoders.PROBABILISTIC:
            joined = [[part[kind][name][k] for part in found["parts"]] for k in range(3)]
            stimuli = [
                np.concatenate([part[kind]["stimuli"][k] for part in found["parts"]]) for k in range(3)
            ]
            prior = np.concatenate([part[kind]["prior"] for part in found["parts"]])
            read = [
                measures.measured(np.concatenate(mass), s, prior, axis, seed)
                for mass, s in zip(joined, stimuli)
            ]
            results[f"{kind}: {name}"] = measures.halves(*read, stimuli[2], axis)
    return results


def _show_sums(sums: dict[str, Any], run: Run) -> None:
    rows = []
    for name, one in sums.items():
        row: list[Any] = [name, *one["errors"]]
        for key in ("real", "claimed", "correlation"):
            row += [one[key][0], format_interval(one[key][1:])]
        rows.append(row)
    heads = [
        "halves and decoder",
        "error of one",
        "of the other",
        "of both",
        "by the formula",
        "variance / formula",
    ]
    heads += [
        "interval",
        "claimed / real variance",
        "interval of it",
        "correlation of errors",
        "its interval",
    ]
    caption = (
        "Two trials: counts of two held-out trials of nearly one stimulus are added, r₁ + r₂, and read by the kernel of "
        "one with twice the gain. Two halves of neurons: each decodes alone, and their likelihoods are multiplied. The "
        "formula is 1/σ² = 1/σ₁² + 1/σ₂² of the halves' real square errors: above 1, the combination is worse than "
        "independent cues. Errors of two halves that correlate at one stimulus share noise, which no sum takes out."
    )
    run.table("sums", Table(heads, rows, title="Do halves add up?", caption=caption))


def _claim(config: Config, found: dict[str, Any], sums: dict[str, Any], run: Run) -> None:
    decoded = found["decoded"]
    best = max(decoders.PROBABILISTIC, key=lambda name: float(decoded[name].bits.mean()))
    note = f"{best}, of the decoders here the one with most bits a trial" + (
        "" if config.data else "; simulated recording"
    )
    for claim in _calibrated(decoded[best], note):
        run.claim(claim)
    if not config.data:
        run.claim(_overconfident(decoded[decoders.POISSON]))
    for rival in decoders.SIMPLE:
        run.claim(_beaten(rival, decoded[best], decoded[rival], note))
    for kind, statement in decoders.KINDS.items():
        run.claim(_added(kind, statement, best, sums[f"{kind}: {best}"]))


def _calibrated(best: Any, note: str) -> list[Claim]:
    value, inside = measures.calibration(best), best.rank <= 0.95
    return [
        Claim(
            name="calibrated-variance",
            statement="On trials held out the posterior's variance is its mean's real square error.",
            source=SOURCE,
            expected="1, within 25 %",
            measured=value[0],
            low=1 / 1.25,
            high=1.25,
            interval=value[1:],
            unit="claimed / real variance",
            note=note,
        ),
        Claim(
            name="calibrated-regions",
            statement="Regions of 95 % hold 95 % of the stimuli held out.",
            source=SOURCE,
            expected="0.95, within 0.03",
            measured=float(inside.mean()),
            low=0.92,
            high=0.98,
            interval=measures.wilson(int(inside.sum()), len(inside)),
            note=note,
        ),
    ]


def _overconfident(decoded: Any) -> Claim:
    poisson = measures.calibration(decoded)
    return Claim(
        name="poisson-overconfident",
        statement="Spikes more variable than Poisson's, read as Poisson, claim more than they tell.",
        source=f"fingerpost: the simulated Fano factor is {recordings.FANO:g} on top of a varying gain",
        expected=f"≤ {1 / recordings.FANO:.2g}, one over the Fano factor",
        measured=poisson[0],
        high=1 / recordings.FANO,
        interval=poisson[1:],
        unit="claimed / real variance",
        note="Poisson tuning with the mean gain; curves of any heights, which don't tile",
    )


def _beaten(rival: str, best: Any, other: Any, note: str) -> Claim:
    gap = paired_interval((best.error**2).tolist(), (other.error**2).tolist())
    bits = paired_interval(best.bits.tolist(), other.bits.tolist())
    return Claim(
        name=f"beats-{rival.replace(' ', '-')}",
        statement=f"The posterior is worth more bits a trial than the {rival} with one spread.",
        source=SOURCE,
        expected="≥ 0",
        measured=bits.mean,
        low=0.0,
        interval=bits.interval,
        unit="bits a trial, paired",
        note=f"{note}; its square error is {gap.mean:+.3g} [{gap.low:.3g}, {gap.high:.3g}] beside",
    )


def _added(kind: str, statement: str, best: str, one: dict[str, Any]) -> Claim:
    real, rho = one["real"], one["correlation"]
    return Claim(
        name=f"sum-of-{kind.split()[-1]}",
        statement=statement,
        source=f"{MA}; population-codes.md: sums of populations are products of posteriors",
        expected="1, within 25 %",
        measured=one["claimed"][0],
        low=1 / 1.25,
        high=1.25,
        interval=one["claimed"][1:],
        unit="claimed / real variance of the combination",
        note=f"{best}; real variance over 1/(1/σ₁² + 1/σ₂²) of the parts' {real[0]:.3g} [{real[1]:.3g}, "
        f"{real[2]:.3g}]: below 1 where errors are no Gaussians of one width; the parts' errors correlate by "
        f"{rho[0]:.2g} [{rho[1]:.2g}, {rho[2]:.2g}] at a given stimulus",
    )
