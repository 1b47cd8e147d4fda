"""Fits a molecule's force field to averages over its trajectory, and measures how far back such gradients reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, legend_outside, mean_interval, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
trainer = lazy_import("fingerpost.lab.trainer")
molecules = lazy_import("fingerpost.experiments._molecules")

SOURCE = "neural-ode.md, loss on observations: “observables from MD trajectory”"
CHAOS = "sensitivities grow as e^{λt}; Metz et al. 2021, https://arxiv.org/abs/2111.05803"
VERLET = "Hairer, Lubich and Wanner, Geometric Numerical Integration, IX.8"
TRUTH = (40.0, 1.0, 1.0, 1.0)
GUESS = (28.0, 1.08, 0.7, 0.92)
SYMBOLS = ("k", "r₀", "ε", "σ")
ALLOWED = (0.1, 0.01, 0.1, 0.01)
USEFUL = 3.0


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset. Units: bead mass, the true ε and σ are 1, time is in σ√(m/ε).

    Args:
      seed: Seed of all initial states.
      seeds: Independent fits, each with a target and initial states of its own.
      beads: Beads in the ring.
      temperature: k_B T of the initial velocities, in ε.
      copies: Trajectories in each step of each fit.
      target_copies: Trajectories behind each target.
      steps: Updates of each fit.
      rate: Adam's first step in log k and log ε, a tenth of it in log r₀ and log σ; it ends at a tenth.
      length: Time over which a trajectory is observed, the first state excluded.
      interval: Time between observations.
      windows: Parts of that time over which observables are averaged.
      step_size: Leapfrog step h; the targets are made with h/2.
      audit_copies: Trajectories in each audit, with parameters of their own.
      chaos_length: Longest trajectory for gradient norms.
      chaos_copies: Trajectories for gradient norms.
      energy_length: Time over which the energy is watched.
      device: Where to compute.
      dtype: Precision; float64, since gradients are checked by differences.
    """

    seed: int = 0
    seeds: int = 8
    beads: int = 8
    temperature: float = 0.2
    copies: int = 48
    target_copies: int = 1024
    steps: int = 240
    rate: float = 0.08
    length: float = 2.0
    interval: float = 0.1
    windows: int = 5
    step_size: float = 0.02
    audit_copies: int = 32
    chaos_length: int = 16
    chaos_copies: int = 128
    energy_length: float = 40.0
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {
    "quick": Config(
        seeds=4, copies=24, target_copies=512, steps=100, chaos_length=10, chaos_copies=64, energy_length=20.0
    ),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64":
        raise ConfigError(f"dtype is {config.dtype}; gradients are checked by differences, use float64")
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the molecule is small and made on the CPU, use cpu")
    if config.seeds < 3:
        raise ConfigError(f"seeds is {config.seeds}; intervals over fits need at least 3")
    if config.beads < 6 or config.beads % 2:
        raise ConfigError(f"beads is {config.beads}; the crown that it starts as needs an even number from 6")
    if not 0 < config.step_size <= config.interval <= config.length:
        raise ConfigError(
            f"step_size is {config.step_size}, interval {config.interval}, length {config.length}; "
            "they must be above 0 and in this order"
        )
    if config.chaos_length < max(6, 2 * config.length):
        raise ConfigError(
            f"chaos_length is {config.chaos_length}; a growth rate needs at least 6 and twice the fit's length"
        )
    if not 1 <= config.windows <= config.length / config.interval:
        raise ConfigError(
            f"windows is {config.windows}; give from 1 to the {config.length / config.interval:g} observations"
        )
    if config.audit_copies < 8:
        raise ConfigError(f"audit_copies is {config.audit_copies}; the audit needs at least 8")


@dataclass(frozen=True)
class Setting:
    """The molecule, what is observed of it, and the targets of all fits."""

    ring: Any
    observables: Any
    truth: Any
    guess: Any
    times: list[float]
    mismatch: Any


def run(config: Config, run: Run) -> None:
    """Fits the force field, checks the gradient, and measures growth of gradients and error of energies."""
    setting = _setting(config)
    run.text(
        "The molecule",
        f"A ring of {config.beads} beads in space: harmonic bonds (k, r₀), Lennard-Jones between all other pairs (ε, σ), "
        "reduced units, constant energy. A copy starts as a crown with neighbours 1.05 apart, shaken by 0.05, with "
        f"velocities at k_B T = {config.temperature:g}. It is observed every {config.interval:g} up to t = "
        f"{config.length:g}; averages are taken over each of {config.windows} parts of that time. Neither start nor "
        "protocol depends on the parameters. Targets come from half the step size and from other initial states, "
        f"{config.target_copies} for each fit.",
    )
    _check_gradient(config, run, setting)
    _fit(config, run, setting)
    _chaos(config, run, setting)
    _energy(config, run, setting)


def _setting(config: Config) -> Setting:
    ring = molecules.Ring(config.beads)
    observables = molecules.Observables(ring, torch.arange(8, 33, dtype=torch.float64) * 0.1, config.windows)
    truth, guess = (torch.tensor(theta, dtype=torch.float64) for theta in (TRUTH, GUESS))
    times = _times(config, config.length)
    rows = _rows(config, observables, truth, times, "target")
    target = observables.reduced(rows.mean(-2))
    mismatch = molecules.Mismatch(observables, target, observables.errors(rows).mean(1, keepdim=True))
    return Setting(ring, observables, truth, guess, times, mismatch)


def _times(config: Config, length: float) -> list[float]:
    return [i * config.interval for i in range(round(length / config.interval) + 1)]


def _rows(config: Config, observables: Any, theta: Any, times: Sequence[float], label: str) -> Any:
    """What each of many copies contributes, (windows, seeds, copies, columns); θ is (4,) or (seeds, 4). By half steps."""
    parts, half = [], config.step_size / 2
    for i, one in enumerate(theta.expand(config.seeds, 4)):
        start = observables.ring.starts((config.target_copies,), config.temperature, config.seed, label, i)
        parts.append(observables(molecules.watch(observables.ring, one, start, times, half)[0][1:]))
    return torch.stack(parts, 1)


# The gradient.


def _check_gradient(config: Config, run: Run, setting: Setting) -> None:
    """Checkpoint against tape, finite differences and, audited, against the exact trajectory's gradient."""
    ring, h = setting.ring, config.step_size
    start = ring.starts((config.seeds, config.copies), config.temperature, config.seed, "check")

    def loss(log: Any, gradient: str = "checkpoint") -> Any:
        return molecules.observed_loss(
            ring, log.exp().unsqueeze(1), start, setting.times,
            lambda xs: setting.mismatch.of_copies(xs).sum(), step_size=h, gradient=gradient,
        )  # fmt: skip

    log = setting.guess.log().expand(config.seeds, 4).clone().requires_grad_()
    found, taped = (torch.autograd.grad(loss(log, mode), log)[0] for mode in ("checkpoint", "tape"))
    to_tape = float((found - taped).norm() / taped.norm())
    shift, slopes = 1e-6, []
    with torch.no_grad():
        for one in torch.eye(4, dtype=torch.float64) * shift:
            slopes.append((loss(log + one) - loss(log - one)) / (2 * shift))
    slopes = torch.stack(slopes)
    to_slopes = float((found.sum(0) - slopes).norm() / slopes.norm())
    run.claim(Claim("finite-differences", "The checkpoint gradient of the observed loss is its finite difference.", SOURCE,
                    "≤ 1e-6", to_slopes, high=1e-6, unit="relative", note="central, 1e-6 in log θ, at the guess"))  # fmt: skip
    run.claim(Claim("checkpoint-is-tape", "Replaying the steps gives the tape's gradient to rounding.", SOURCE,
                    "≤ 1e-11", to_tape, high=1e-11, unit="relative"))  # fmt: skip
    _audit(config, run, setting)


def _audit(config: Config, run: Run, setting: Setting) -> None:
    """Each copy with its own parameters: leapfrog's gradient against the tape's, and against the exact trajectory's."""
    log = setting.guess.log().expand(config.audit_copies, 4).clone()
    start = setting.ring.starts((config.audit_copies,), config.temperature, config.seed, "audit")
    h, exact = config.step_size, {"method": "dop853", "rtol": 1e-8, "atol": 1e-9, "gradient": "tape"}
    pairs = {f"tape, h = {h:g}": (h, {"step_size": h, "gradient": "tape"})}
    pairs |= {f"dop853, h = {step:g}": (step, exact) for step in (h, h / 4)}
    reports = {}
    for name, (step, reference) in pairs.items():

        def signal(point: Any, step: float = step) -> Any:
            point = point.detach().requires_grad_()
            loss = molecules.losses_by_copy(
                setting.ring, setting.mismatch, setting.times, point, start, step_size=step
            )
            return torch.autograd.grad(loss.sum(), point)[0]

        def loss(point: Any, reference: dict[str, Any] = reference) -> Any:
            return molecules.losses_by_copy(
                setting.ring, setting.mismatch, setting.times, point, start, **reference
            )

        reports[name] = audit.audit(signal, loss, log, cost=False, quick=True, per_sample=True)
    rows = [[name, str(r.verdict), *_figures(r)] for name, r in reports.items()]
    caption = (
        f"{config.audit_copies} copies with their own (k, r₀, ε, σ): by checkpoints "
        "through leapfrog steps h, against another gradient."
    )
    heads = ["against", "verdict", "Γ", "‖A−G‖/‖G‖"]
    run.table("audits", Table(heads, rows, title="The gradient through leapfrog, audited", caption=caption))
    run.audit(
        "leapfrog",
        reports[f"dop853, h = {h:g}"],
        title="Leapfrog against the exact trajectory",
        caption=caption,
    )
    _claim_audits(run, list(reports.values()), h)


def _figures(report: Any) -> list[float]:
    return [report.layers[0].figures[key].value for key in ("gamma", "deviation")]


def _claim_audits(run: Run, reports: Sequence[Any], h: float) -> None:
    same, *others = reports
    run.claim(Claim("audited", "The checkpoint gradient of the observed loss passes the audit as exact.", SOURCE, "≤ 1e-10",
                    _figures(same)[1] if same.passed else math.inf, high=1e-10, unit="‖A−G‖/‖G‖",
                    note=f"{same.verdict}: {same.verdict.reason}"))  # fmt: skip
    passed = all(report.passed for report in others)
    run.claim(
        Claim(
            name="audited-exact-trajectory",
            statement="Against the gradient of the exact trajectory it passes too, the better the shorter the step.",
            source=SOURCE,
            expected="≥ 0.99 at a quarter of the step",
            measured=_figures(others[-1])[0] if passed else -1.0,
            low=0.99,
            unit="Γ",
            note="; ".join(
                f"h = {h / 4**i:g}: {r.verdict}, ‖A−G‖/‖G‖ = {_figures(r)[1]:.2g}"
                for i, r in enumerate(others)
            ),
        )
    )


# The fit.


def _fit(config: Config, run: Run, setting: Setting) -> None:
    fitted = run.once("fit", lambda: _train(config, run, setting))
    theta = torch.tensor(fitted["theta"], dtype=torch.float64)
    _paths_figure(config, run, fitted["history"])
    _claim_parameters(config, run, theta)
    _compare(config, run, setting, theta)


def _train(config: Config, run: Run, setting: Setting) -> dict[str, Any]:
    """All fits in one training: their losses add up, and Adam treats each number by itself."""
    model = molecules.Fit(setting.guess, config.seeds)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate, betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, config.rate / 10)

    def batch(step: int) -> Any:
        shape = (config.seeds, config.copies)
        return setting.ring.starts(shape, config.temperature, config.seed, "fit", step)

    def step(model: Any, start: Any) -> Mapping[str, Any]:
        loss = molecules.observed_loss(
            setting.ring, model(), start, setting.times,
            lambda xs: setting.mismatch.of_copies(xs).sum(), step_size=config.step_size,
        )  # fmt: skip
        loss.backward()
        return {"loss": loss / config.seeds, **model.named()}

    result = trainer.train(
        model, optimizer, step, batch, steps=config.steps, seed=config.seed, run=run, stage="fit",
        scheduler=schedule, ema=0.95, throw=True, split=False,
    )  # fmt: skip
    assert result.averaged is not None
    return {"history": result.history, "theta": model.theta(result.averaged["moves"]).tolist()}


def _claim_parameters(config: Config, run: Run, theta: Any) -> None:
    rows = []
    for j, (name, allowed) in enumerate(zip(molecules.NAMES, ALLOWED)):
        found = mean_interval((theta[:, j] / TRUTH[j]).tolist())
        spread = float((theta[:, j] / TRUTH[j]).std())
        rows.append([SYMBOLS[j], TRUTH[j], GUESS[j], found.mean * TRUTH[j], found.low * TRUTH[j],
                     found.high * TRUTH[j], spread, found.low <= 1 <= found.high])  # fmt: skip
        run.claim(
            Claim(
                name=f"recovers-{name}",
                statement=f"The fit recovers {SYMBOLS[j]} from averages over other trajectories.",
                source=SOURCE,
                expected=f"1 ± {allowed:g}",
                measured=found.mean,
                low=1 - allowed,
                high=1 + allowed,
                interval=found.interval,
                unit="found / true",
                note=f"mean of {len(theta)} fits, 95 % interval; the guess was {GUESS[j] / TRUTH[j]:.2f}; "
                f"the interval {'covers' if rows[-1][-1] else 'misses'} the truth",
                decided_by="interval",
            )
        )
    heads = [
        "parameter",
        "truth",
        "guess",
        "found",
        "95 % from",
        "to",
        "spread of fits / truth",
        "truth inside",
    ]
    caption = (
        f"Mean of {len(theta)} fits, each with its own target ({config.target_copies} trajectories) and its own "
        f"{config.copies} fresh trajectories a step; {config.steps} steps, averaged over about the last 20."
    )
    run.table("parameters", Table(heads, rows, title="Parameters found", caption=caption))


def _paths_figure(config: Config, run: Run, history: Sequence[Mapping[str, float]]) -> None:
    figure, axes = new_figure(2, 2, width=9.6, height=6.2, sharex=True)
    for j, axis in enumerate(axes.flat):
        for i in range(config.seeds):
            values = [row[f"{molecules.NAMES[j]}_{i}"] / TRUTH[j] for row in history]
            axis.plot(
                [row["step"] for row in history],
                values,
                color="#0072B2",
                linestyle="-",
                linewidth=1,
                alpha=0.7,
            )
        axis.axhline(1, color="0.2", linewidth=1, linestyle=":")
        axis.set(title=f"{SYMBOLS[j]} (truth {TRUTH[j]:g})", ylabel="found / true")
    for axis in axes[1]:
        axis.set_xlabel("step of Adam")
    caption = f"One line for each of {config.seeds} fits, before averaging; the dotted line is the truth."
    run.figure("paths", figure, title="Parameters over training", caption=caption)


def _compare(config: Config, run: Run, setting: Setting, theta: Any) -> None:
    """Observables before and after on initial states that no fit saw, and the noise floor: the truth itself."""
    found = {}
    for name, parameters in (
        ("before", setting.guess),
        ("after", theta),
        ("the truth, other starts", setting.truth),
    ):
        rows = _rows(config, setting.observables, parameters, setting.times, "held out")
        found[name] = setting.observables.reduced(rows.mean(-2))
    misses = {name: float(setting.mismatch.of(value).mean()) for name, value in found.items()}
    found["target"] = setting.mismatch.target
    rows = [
        [name, float(v[..., 0].mean()), float(v[..., 1].mean()), misses.get(name)]
        for name, v in found.items()
    ]
    caption = "Means over fits, on initial states that no fit saw. The mismatch is in squared deviations of one copy."
    heads = ["parameters", "mean bond length", "its variance", "mismatch with the target"]
    run.table("observables", Table(heads, rows, title="Observables before and after", caption=caption))
    _radial_figure(config, run, setting, found)
    floor = misses["the truth, other starts"] / misses["before"]
    run.claim(
        Claim("matches-observables", "On new initial states the fitted molecule's observables are the target's.", SOURCE,
              "≤ 0.02", misses["after"] / misses["before"], high=0.02, unit="mismatch after / before",
              note=f"the truth itself has {floor:.2g}, from finite samples")
    )  # fmt: skip


def _radial_figure(config: Config, run: Run, setting: Setting, found: Mapping[str, Any]) -> None:
    r = setting.observables.centres
    figure, axis = new_figure(width=7.6, height=4.8)
    styles = {"target": {"linestyle": "", "marker": "o", "color": "#000000"},
              "before": {"color": "#D55E00"}, "after": {"color": "#0072B2"}}  # fmt: skip
    for name, style in styles.items():
        density = found[name][..., 2:].mean((0, 1)) / (4 * math.pi * r.square())
        axis.plot(r.tolist(), density.tolist(), label=name, **style)
    axis.set(xlabel="distance r of unbonded pairs, in σ", ylabel="p(r) / 4πr²")
    axis.legend(loc="upper right")
    caption = (
        "Soft bins 0.1 wide; mean over fits and over the observation times. A molecule on its own has no bulk density, so "
        "the distribution is divided by the shell's area alone."
    )
    run.figure("radial", figure, title="Radial distribution before and after", caption=caption)


# Chaos.


def _chaos(config: Config, run: Run, setting: Setting) -> None:
    """Gradient norms against length, their growth rate beside the Lyapunov exponent, and where their mean drowns."""
    ring, h, count = setting.ring, config.step_size, config.chaos_copies
    start = ring.starts((count,), config.temperature, config.seed, "chaos")
    lengths = [1.0, 2.0, config.length, 3.0, *(float(i) for i in range(4, config.chaos_length + 1, 2))]
    lengths = sorted(set(lengths))
    logs, rows = [], []
    for length in run.progress(lengths, "lengths"):
        gradients = molecules.gyration_gradients(ring, setting.guess, start, _times(config, length), h)
        norms = gradients.norm(dim=1)
        logs.append((length * norms).log())  # the average over t divides what grows at its end by t
        noise = (gradients.var(0).sum() / count).sqrt()
        rows.append([length, float(norms.log().mean().exp()), float(gradients.mean(0).norm() / noise)])
    slopes, first = molecules.growth(lengths, logs, 4.0), 4.0
    window = (first, lengths[-1])
    exponents = molecules.lyapunov(ring, setting.guess.expand(count, 4), start, window, h)
    _chaos_figure(config, run, rows, float(exponents.mean()), first)
    heads = ["length", "typical ‖∂R²/∂log θ‖", "mean over its standard error"]
    caption = (
        f"R², the squared radius of gyration averaged over the observations; {count} copies at the guess."
    )
    run.table("chaos", Table(heads, rows, title="Gradients of longer trajectories", caption=caption))
    _claim_chaos(config, run, rows, slopes, exponents)


def _claim_chaos(config: Config, run: Run, rows: list[list[float]], slopes: Any, exponents: Any) -> None:
    growth, rate = mean_interval(slopes.tolist()), float(exponents.mean())
    run.claim(
        Claim("growth-is-lyapunov", "Gradients of averages over a time t grow as e^{λt} / t, λ the Lyapunov exponent.", CHAOS,
              "1 ± 0.15", growth.mean / rate, low=0.85, high=1.15, interval=(growth.low / rate, growth.high / rate),
              unit="growth rate / λ", decided_by="interval",
              note=f"growth {growth.mean:.3g} from t = 4 to {rows[-1][0]:g}; λ = {rate:.3g} from nearby trajectories; "
              f"interval over {len(slopes)} copies")
    )  # fmt: skip
    at_length = next(row for row in rows if row[0] == config.length)
    horizon = next((row[0] for row in rows if row[2] < USEFUL), math.inf)
    run.claim(
        Claim("trained-within-horizon", "Over the length of the fit the mean gradient stands out of its noise.", CHAOS,
              f"≥ {USEFUL:g}", at_length[2], low=USEFUL, unit="mean / standard error",
              note=f"length {config.length:g}, {config.chaos_copies} copies")
    )  # fmt: skip
    run.claim(
        Claim("lost-beyond-horizon", "Over long trajectories the mean gradient drowns in its noise: it is useless.", CHAOS,
              f"≤ {USEFUL:g}", max(row[2] for row in rows if row[0] >= 2 * config.length), high=USEFUL,
              unit="mean / standard error",
              note=f"largest from twice the fit's length; first below {USEFUL:g} at length {horizon:g}")
    )  # fmt: skip


def _chaos_figure(config: Config, run: Run, rows: list[list[float]], rate: float, first: float) -> None:
    figure, (left, right) = new_figure(1, 2, width=10.4, height=4.8)
    lengths, norms, ratios = zip(*rows)
    left.semilogy(lengths, norms, marker="o", label="typical gradient")
    anchor = next(row for row in rows if row[0] == first)
    late = [length for length in lengths if length >= first]
    line = [anchor[1] * math.exp(rate * (length - first)) * first / length for length in late]
    left.semilogy(late, line, label=f"e^{{λt}} / t, λ = {rate:.2f} from nearby trajectories")
    left.set(title="Length of the gradient", xlabel="length of trajectory, σ√(m/ε)", ylabel="‖∂R²/∂log θ‖")
    right.semilogy(lengths, ratios, marker="o", color="#0072B2")
    right.axhline(USEFUL, color="0.2", linewidth=1, linestyle=":")
    right.axvline(config.length, color="0.5", linewidth=1)
    right.set(title="Mean over its standard error", xlabel="length of trajectory, σ√(m/ε)")
    legend_outside(figure, left)
    caption = (
        f"Geometric mean over {config.chaos_copies} copies at the guess. Right: the dotted line is {USEFUL:g}, the upright "
        f"line the length of the fit, {config.length:g}. More copies raise the curve by their square root only."
    )
    run.figure("chaos", figure, title="How far back a gradient reaches", caption=caption)


# Energy.


def _energy(config: Config, run: Run, setting: Setting) -> None:
    """Error and drift of the energy over a long time at three step sizes."""
    start = setting.ring.starts((32,), config.temperature, config.seed, "energy")
    rows = []
    times = [0.25 * i for i in range(round(config.energy_length / 0.25) + 1)]
    for h in (config.step_size, config.step_size / 2, config.step_size / 4):
        error, slope = molecules.energy_error(setting.ring, setting.truth, start, times, h)
        rows.append([h, error, slope * config.energy_length])
    heads = ["h", "error, root mean square", f"drift over {config.energy_length:g}"]
    caption = (
        "In units of the mean kinetic energy, 32 copies at the true parameters; the drift is a fitted line's."
    )
    run.table("energy", Table(heads, rows, title="Energy along leapfrog", caption=caption))
    order = math.log(rows[1][1] / rows[2][1]) / math.log(2)
    run.claim(Claim("energy-order", "Leapfrog's energy error shrinks as h².", VERLET, "2 ± 0.3", order, low=1.7, high=2.3,
                    unit="order in h", note=f"h = {rows[1][0]:g} and {rows[2][0]:g}"))  # fmt: skip
    run.claim(
        Claim("energy-drift", "Leapfrog's energy does not drift.", VERLET, "≤ 0.001", abs(rows[0][2]), high=1e-3,
              unit="of the kinetic energy",
              note=f"over t = {config.energy_length:g} at h = {config.step_size:g}, {rows[0][1]:.2g} rms around it")
    )  # fmt: skip
