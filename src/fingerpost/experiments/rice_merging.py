"""Structure-factor amplitudes from noisy intensities, by surrogates that learn through their samples, against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, isolated_rng, mean_interval

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
trainer = lazy_import("fingerpost.lab.trainer")
crystal = lazy_import("fingerpost.experiments._crystal")
merging = lazy_import("fingerpost.experiments._merging")
results = lazy_import("fingerpost.experiments._merging_results")
pictures = lazy_import("fingerpost.experiments._merging_pictures")

SOURCE = "implicit-reparameterization.md: the Rice distribution “is important in scattering”"
WILSON = "Wilson 1949, https://doi.org/10.1107/S0365110X49000813"
CARELESS = "Dalton, Greisman and Hekstra 2022, https://doi.org/10.1038/s41467-022-35280-8"
KINDS = {False: "acentric", True: "centric"}

AUDIT_DRAWS = 16
VARIATION = 0.3  # how much frames are thought to differ in brightness before any is known


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of atoms, noise and samples.
      crystals: Independent crystals: other atoms in the same cell, for intervals over them.
      cell_a, cell_b, cell_c: Edges of the cell, Å.
      atoms: Independent atoms in the cell; symmetry makes four of each.
      wobble: Typical B of an atom, Å².
      resolution: Smallest d, Å.
      frames: Frames of each crystal, each with a brightness of its own.
      observations: Mean number of times that a reflection is recorded.
      noise: Standard deviation of an observation over the mean intensity at low resolution.
      shells: Shells of resolution with equally many reflections.
      steps: Updates of each surrogate.
      rate: Adam's first step, in units of the first guess of a reflection's error; it ends at a fiftieth.
      samples: Draws of each reflection in each update.
      audited: Weak reflections whose gradient is audited.
      redraws: Stochastic gradients in the audit.
      device: Where to compute.
      dtype: Precision; float64, since posteriors are held to a quadrature.
    """

    seed: int = 0
    crystals: int = 8
    cell_a: float = 30.0
    cell_b: float = 38.0
    cell_c: float = 45.0
    atoms: int = 500
    wobble: float = 25.0
    resolution: float = 2.0
    frames: int = 48
    observations: float = 6.0
    noise: float = 0.1
    shells: int = 10
    steps: int = 1000
    rate: float = 0.1
    samples: int = 4
    audited: int = 64
    redraws: int = 400
    device: str = "cpu"
    dtype: str = "float64"

    @property
    def cell(self) -> tuple[float, float, float]:
        """Edges of the cell, Å."""
        return self.cell_a, self.cell_b, self.cell_c


PRESETS = {
    "quick": Config(
        crystals=6, cell_a=22.0, cell_b=28.0, cell_c=33.0, atoms=200, resolution=2.2, frames=24, noise=0.15,
        steps=600, redraws=300,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64":
        raise ConfigError(f"dtype is {config.dtype}; posteriors are held to a quadrature, use float64")
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the crystals are small and made on the CPU, use cpu")
    if config.crystals < 2:
        raise ConfigError(f"crystals is {config.crystals}; intervals over crystals need at least 2")
    if min(config.cell) < 4 * config.resolution:
        raise ConfigError(
            f"resolution is {config.resolution:g} Å in a cell of {config.cell}; give at most a quarter of each edge"
        )
    if not 1 <= config.observations <= config.frames:
        raise ConfigError(
            f"observations is {config.observations:g}; give from 1 to the {config.frames} frames"
        )
    if config.audited < 8 or config.redraws < 8:
        raise ConfigError(
            f"audited is {config.audited}, redraws {config.redraws}; the audit needs at least 8 of each"
        )
    if not config.noise > 0:
        raise ConfigError(f"noise is {config.noise}; it must be above 0")


def run(config: Config, run: Run) -> None:
    """Makes the crystals, learns amplitudes, and measures errors, calibration and evidence."""
    setting = _setting(config)
    _describe(config, run, setting)
    _wilson(run, setting)
    _audit(config, run, setting)
    arms = results.known_arms(setting)
    elbos = {}
    for kind in merging.KINDS:
        arms[kind], elbos[kind] = _surrogate(config, run, setting, kind)
    arms[results.LEARNT] = _learn_scales(config, run, setting)
    results.evidence(run, setting, elbos)
    results.errors(run, setting, arms, config.shells)
    results.calibration(run, setting, arms)
    results.examples(run, setting, arms)


def _setting(config: Config) -> Any:
    reflections = crystal.crystals(
        config.crystals, config.cell, config.resolution, config.atoms, config.wobble, config.seed
    )
    seen = crystal.observe(reflections, config.frames, config.observations, config.noise, config.seed)
    merged = merging.merge(reflections, seen, seen.scale)
    return results.Setting(reflections, seen, merged, merging.Posterior(merged))


def _describe(config: Config, run: Run, setting: Any) -> None:
    count = len(setting.reflections) // config.crystals
    centric = float(setting.reflections.centric.double().mean())
    a, b, c = config.cell
    weak = float((setting.merged.mean < 0).double().mean())
    run.text(
        "The crystals",
        f"Space group P2₁2₁2₁, cell {a:g} × {b:g} × {c:g} Å, {config.atoms} atoms (C, N, O at random places, B about "
        f"{config.wobble:g} Å²) and their symmetry mates; F is the sum over atoms, so that Wilson's statistics hold only as "
        f"far as the central limit goes. To {config.resolution:g} Å there are {count} unique reflections, "
        f"{100 * centric:.0f} % of them centric. Each of {config.crystals} crystals with atoms of its own is seen on "
        f"{config.frames} frames of unequal brightness K, each reflection about {config.observations:g} times: "
        "I = K F² + noise of the background, with known σ. "
        f"{100 * weak:.0f} % of the merged intensities are negative. The prior's Σ(s) is a curve through the merged "
        "intensities in shells of resolution, not the truth. Where K is given, reflections do not depend on each other, and "
        "each posterior is an integral in one dimension: the yardstick of all that is learnt.",
    )


# The statistics of the truth.


def _wilson(run: Run, setting: Any) -> None:
    """⟨|E² − 1|⟩ tells centric from acentric, whatever the scale."""
    deviation = (setting.truth.square() - 1).abs()
    expected = {False: 2 / math.e, True: 0.968}
    for centric, name in KINDS.items():
        found = mean_interval(results.by_crystal(setting, deviation, setting.reflections.centric == centric))
        run.claim(
            Claim(
                name=f"wilson-{name}",
                statement=f"⟨|E² − 1|⟩ of the {name} reflections is Wilson's.",
                source=WILSON,
                expected=f"{expected[centric]:.3f} ± 0.06",
                measured=found.mean,
                low=expected[centric] - 0.06,
                high=expected[centric] + 0.06,
                interval=found.interval,
                note="F from atoms, Σ(s) from the merged intensities; 95 % interval over crystals",
            )
        )
    run.figure(
        "wilson",
        pictures.wilson(setting.truth, setting.reflections.centric),
        title="Amplitudes against Wilson's prior",
        caption="True |F| over its expected size, from atoms; the lines are what the prior assumes.",
    )


# The gradient.


def _audit(config: Config, run: Run, setting: Any) -> None:
    """The gradient through samples, and one that takes Rice for a normal, against the derivative of the exact ELBO."""
    with isolated_rng(config.seed, "audit"):
        weak = (setting.merged.mean < 3 * setting.merged.error).nonzero()[:, 0]
        rows = weak[torch.randperm(len(weak))[: config.audited]]
        merged = setting.merged.of(rows)
        model = merging.Surrogate(merging.KINDS[0], merged)
        point = {"loc": model.loc.detach(), "scale": model.scale.detach()}

        def loss(point: Mapping[str, Any]) -> Any:
            return -merging.exact_elbo(model.at(**point), merged)

        def signal(point: Mapping[str, Any], draw: Any = None) -> dict[str, Any]:
            leaves = {name: x.detach().clone().requires_grad_() for name, x in point.items()}
            total = -merging.sampled_elbo(model.at(**leaves), merged, AUDIT_DRAWS, draw).sum()
            return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))

        reports = {
            "velocity of Rice and folded normal": signal,
            "velocity of a normal": lambda point: signal(point, _as_normal),
        }
        reports = {
            name: audit.audit(one, loss, point, redraws=config.redraws, cost=False, per_sample=True)
            for name, one in reports.items()
        }
    _claim_audit(config, run, reports)


def _as_normal(q: Any, count: int) -> Any:
    """Samples of q that move as if they were a normal's: by 1 with loc, by (z − ν)/σ with scale."""
    z = q.sample((count,))
    still = (z - q.loc.detach()) / q.scale.detach()
    return z + (q.loc - q.loc.detach()) + still * (q.scale - q.scale.detach())


def _claim_audit(config: Config, run: Run, reports: Mapping[str, Any]) -> None:
    right, wrong = reports.values()
    caption = (
        f"Gradients of the ELBO of {config.audited} weak reflections (I < 3σ) at the first guess, by {AUDIT_DRAWS} "
        f"samples each, {config.redraws} redraws, against the derivative of the same expectation by quadrature. A sample near "
        "0 does not move as a normal number does."
    )
    rows = [
        [name, str(report.verdict), layer.name, *_bias(layer), layer.figures["variance"].value]
        for name, report in reports.items()
        for layer in report.layers
    ]
    heads = ["samples move by", "verdict", "parameter", "bias²", "interval", "variance"]
    run.table("audits", Table(heads, rows, title="The gradient through samples, audited", caption=caption))
    run.audit("elbo", right, title="The ELBO's gradient by samples", caption=caption)
    worst = max((layer.figures["bias"] for layer in right.layers), key=lambda figure: figure.high)
    run.claim(
        Claim(
            name="gradient-unbiased",
            statement="The ELBO's gradient by samples of Rice and folded normal is unbiased.",
            source=SOURCE,
            expected="0, within 0.01: a bias of a tenth of the gradient",
            measured=worst.value if right.verdict.name == "UNBIASED_NOISY" else math.nan,
            low=-0.01,
            high=0.01,
            interval=(worst.low, worst.high),
            unit="bias²/‖∇‖²",
            decided_by="interval",
            note=f"verdict {right.verdict}; the parameter whose interval reaches highest",
        )
    )
    biased = max((layer.figures["bias"] for layer in wrong.layers), key=lambda figure: figure.low)
    run.claim(
        Claim(
            name="normal-velocity-is-biased",
            statement="With the velocity of a normal in its place the gradient is biased.",
            source="fingerpost: the audit has to be able to see it",
            expected="≥ 0.01",
            measured=biased.value,
            low=0.01,
            interval=(biased.low, biased.high),
            unit="bias²/‖∇‖²",
            decided_by="interval",
            note=f"verdict {wrong.verdict}; the parameter whose interval lies highest",
        )
    )


def _bias(layer: Any) -> tuple[float, str]:
    bias = layer.figures["bias"]
    return bias.value, format_interval((bias.low, bias.high))


# Learning.


def _surrogate(config: Config, run: Run, setting: Any, kind: str) -> tuple[Any, Any]:
    """One surrogate at the true scales, and its exact ELBO of each reflection."""
    merged = setting.merged
    model = merging.Surrogate(kind, merged)

    def step(model: Any, _: Any) -> Mapping[str, Any]:
        loss = -merging.sampled_elbo(model(), merged, config.samples).sum()
        loss.backward()
        return {"loss": loss / len(merged.mean)}

    learnt = run.once(kind.replace(" ", "-").replace("–", "-"), lambda: _train(config, run, model, step))
    q = model.at(*(torch.tensor(learnt[name], dtype=torch.float64) for name in ("loc", "scale")))
    return results.arm_of(q, merged, setting.reflections.amplitude), merging.exact_elbo(q, merged)


def _train(config: Config, run: Run, model: Any, step: Callable[..., Any]) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, config.rate / 50)
    stage = "learnt" if hasattr(model, "log_k") else model.kind.split()[0].replace("–", "-").lower()
    trainer.train(
        model, optimizer, step, lambda k: k, steps=config.steps, seed=config.seed, run=run, stage=stage,
        scheduler=schedule, log_every=10, throw=True,
    )  # fmt: skip
    return {name: value.tolist() for name, value in model.state_dict().items()}


def _learn_scales(config: Config, run: Run, setting: Any) -> Any:
    """Amplitudes and the frames' scales together, as a merging program has to."""
    merged = merging.merge(setting.reflections, setting.seen, torch.ones_like(setting.seen.scale))
    times = torch.bincount(setting.seen.reflection, minlength=len(merged.mean))
    guess = merged.widened(VARIATION / times.sqrt())
    model = merging.Surrogate(merging.KINDS[0], guess, len(setting.seen.scale))

    def step(model: Any, _: Any) -> Mapping[str, Any]:
        loss = -merging.scaled_elbo(model, merged, setting.seen, config.samples, config.frames)
        loss.backward()
        return {"loss": loss / len(merged.mean)}

    learnt = run.once("learnt-scales", lambda: _train(config, run, model, step))
    loc, scale, log_k = (
        torch.tensor(learnt[name], dtype=torch.float64) for name in ("loc", "scale", "log_k")
    )
    error = merging.centred(log_k, config.frames) - setting.seen.scale.log()
    least = results.scale_errors(setting)
    spread = float(setting.seen.scale.log().std())
    run.claim(
        Claim(
            name="scales-recovered",
            statement="Learnt together with the amplitudes, the frames' scales come near what true amplitudes would allow.",
            source=CARELESS,
            expected="≤ 1.5",
            measured=float((error / least).square().mean().sqrt()),
            high=1.5,
            unit="error of log K / Cramér–Rao bound with F known",
            note=f"{len(error)} frames, log K with a standard deviation of {spread:.2f} and a root mean square error of "
            f"{float(error.square().mean().sqrt()):.3f}",
        )
    )
    return results.arm_of(model.at(loc, scale), merged, setting.reflections.amplitude)
