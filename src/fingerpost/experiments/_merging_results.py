"""How far recovered amplitudes are from the truth, and whether their errors are what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost._table import Table, format_interval
from fingerpost.experiments import _merging as merging
from fingerpost.experiments import _merging_pictures as pictures
from fingerpost.experiments._crystal import Observations, Reflections
from fingerpost.lab import Claim, MeanInterval, Run, mean_interval, paired_interval

FRENCH = "French and Wilson 1978, https://doi.org/10.1107/S0567739478001114"
JENSEN = "Jensen's inequality; implicit-reparameterization.md, the evidence lower bound"
NAIVE, EXACT, LEARNT = "√max(I, 0)", "exact posterior", "Rice–Woolfson, K learnt"
RICE, NORMAL = merging.KINDS
LEVELS = (0.5, 0.8, 0.95)
POINTS = 2500
KINDS = {False: "acentric", True: "centric"}


@dataclass(frozen=True)
class Arm:
    """One way to amplitudes.

    Args:
      amplitude: Estimates of |F|, electrons, (m,).
      rank: The truth's rank under its distribution, (m,); None where there is none.
      density: (e, rows) → its density, (n, rows), at e, (n, rows).
    """

    amplitude: Tensor
    rank: Tensor | None = None
    density: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Setting:
    """The crystals, what was seen of them, and merged intensities at the true scales."""

    reflections: Reflections
    seen: Observations
    merged: merging.Merged
    posterior: merging.Posterior

    @property
    def truth(self) -> Tensor:
        """|F| in units of its expected size."""
        return self.reflections.amplitude / self.merged.unit


def known_arms(setting: Setting) -> dict[str, Arm]:
    """The root of the intensity, and French and Wilson's posterior by quadrature."""
    merged, posterior = setting.merged, setting.posterior

    def density(e: Tensor, rows: Tensor) -> Tensor:
        return merging.Posterior(merged.of(rows)).density(e)

    naive = merged.mean.clamp(min=0).sqrt() * merged.unit
    return {
        NAIVE: Arm(naive),
        EXACT: Arm(posterior.mean * merged.unit, posterior.cdf(setting.truth), density),
    }


def arm_of(q: Any, merged: merging.Merged, amplitude: Tensor) -> Arm:
    """A surrogate's means, ranks and densities."""

    def density(e: Tensor, rows: Tensor) -> Tensor:
        full = torch.ones(len(e), len(merged.unit), dtype=torch.float64)
        full[:, rows] = e
        return q.log_prob(full)[:, rows].exp()

    return Arm(q.mean * merged.unit, q.cdf(amplitude / merged.unit), density)


def by_crystal(setting: Setting, value: Tensor, chosen: Tensor) -> list[float]:
    """The mean of `value` over the chosen reflections of each crystal."""
    crystals = range(int(setting.reflections.crystal.max()) + 1)
    return [float(value[chosen & (setting.reflections.crystal == i)].mean()) for i in crystals]


def scale_errors(setting: Setting) -> Tensor:
    """Least standard deviation of log K of each frame if F were known, (frames,): Cramér and Rao's bound."""
    seen = setting.seen
    signal = seen.scale[seen.frame] * setting.reflections.amplitude[seen.reflection].square() / seen.sigma
    information = torch.zeros_like(seen.scale).index_add(0, seen.frame, signal.square())
    return information.rsqrt()


# The evidence.


def evidence(run: Run, setting: Setting, elbos: Mapping[str, Tensor]) -> None:
    """How much of the log evidence each surrogate's bound misses: KL(q‖posterior) of each reflection."""
    rows = []
    centric, merged = setting.reflections.centric, setting.merged
    weak = merged.mean < 3 * merged.error
    groups = {
        f"{name}, {strength}": (centric == kind) & (weak == (strength == "I < 3σ"))
        for kind, name in KINDS.items()
        for strength in ("I ≥ 3σ", "I < 3σ")
    }
    for name, elbo in elbos.items():
        gap = setting.posterior.evidence - elbo
        for group, chosen in groups.items():
            rows.append([name, group, int(chosen.sum()), float(gap[chosen].mean()), float(gap[chosen].max())])
        mean = mean_interval(by_crystal(setting, gap, torch.ones_like(centric)))
        slug = name.replace("–", "-").replace(" ", "-").lower()
        run.claim(Claim(f"bound-{slug}", f"The {name}'s bound is below the exact evidence, reflection by reflection.", JENSEN,
                        "≥ 0", float(gap.min()), low=-1e-6, unit="nats",
                        note="smallest log p(J) − ELBO, both by quadrature"))  # fmt: skip
        run.claim(Claim(f"gap-{slug}", f"The {name} misses little of the evidence.", "fingerpost: q close to the posterior",
                        "≤ 0.05", mean.mean, high=0.05, interval=mean.interval, unit="nats a reflection", decided_by="interval",
                        note="mean log p(J) − ELBO = KL(q‖posterior), 95 % interval over crystals"))  # fmt: skip
    caption = (
        "log p(J) by quadrature minus the surrogate's exact ELBO, nats a reflection: KL(q‖posterior). "
        f"The mean of log p(J) itself is {float(setting.posterior.evidence.mean()):.3g}."
    )
    heads = ["surrogate", "reflections", "number", "mean gap", "largest"]
    run.table("evidence", Table(heads, rows, title="What the bound misses", caption=caption))


# The amplitudes.


def errors(run: Run, setting: Setting, arms: Mapping[str, Arm], count: int) -> None:
    """R = Σ|F − F̂| / ΣF and the correlation by shell of resolution, and what the crystals' spread makes of them."""
    shells = _shells(setting, count)
    truth = setting.reflections.amplitude
    table = {
        name: [[_figures(truth, arm.amplitude, part) for part in parts] for parts in shells]
        for name, arm in arms.items()
    }
    ratio = setting.merged.mean / setting.merged.error
    rows = []
    for number, parts in enumerate(shells):
        whole = torch.cat(parts)
        span = setting.reflections.resolution[whole]
        row: list[Any] = [f"{span.max():.2f}–{span.min():.2f}", len(whole), float(ratio[whole].mean())]
        for figures in table.values():
            row += [
                mean_interval([r for r, _ in figures[number]]).mean,
                mean_interval([c for _, c in figures[number]]).mean,
            ]
        rows.append(row)
    heads = ["d (Å)", "number", "⟨I/σ⟩", *(f"{kind}, {name}" for name in arms for kind in ("R", "CC"))]
    caption = "R = Σ|F − F̂|/ΣF and the correlation of F̂ with F; means over crystals."
    run.table("shells", Table(heads, rows, title="Errors by resolution", caption=caption))
    middle = [float(setting.reflections.squared[torch.cat(parts)].mean()) for parts in shells]
    curves = {
        name: [mean_interval([r for r, _ in one]) for one in figures] for name, figures in table.items()
    }
    run.figure(
        "r-by-resolution",
        pictures.by_resolution(middle, curves, [float(ratio[torch.cat(parts)].mean()) for parts in shells]),
        title="Errors of amplitudes by resolution",
        caption="R against the truth, mean and 95 % t interval over crystals. Above: the mean merged I/σ of each shell.",
    )
    _claim_errors(run, setting, arms, table)


def _shells(setting: Setting, count: int) -> list[list[Tensor]]:
    """Rows of reflections by shell, from low to high resolution, and by crystal."""
    reflections = setting.reflections
    crystals = range(int(reflections.crystal.max()) + 1)
    parts = [
        rows[reflections.squared[rows].argsort(stable=True)].tensor_split(count)
        for rows in ((reflections.crystal == i).nonzero()[:, 0] for i in crystals)
    ]
    return [list(shell) for shell in zip(*parts)]


def _figures(truth: Tensor, found: Tensor, rows: Tensor) -> tuple[float, float]:
    gap = (found[rows] - truth[rows]).abs().sum() / truth[rows].sum()
    return float(gap), float(torch.corrcoef(torch.stack([found[rows], truth[rows]]))[0, 1])


def _claim_errors(
    run: Run,
    setting: Setting,
    arms: Mapping[str, Arm],
    table: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
) -> None:
    outer = {name: [r for r, _ in figures[-1]] for name, figures in table.items()}
    everywhere = (torch.ones_like(setting.reflections.centric),)
    crystals = range(int(setting.reflections.crystal.max()) + 1)
    whole = {
        name: [
            _figures(
                setting.reflections.amplitude,
                arm.amplitude,
                (setting.reflections.crystal == i) & everywhere[0],
            )[0]
            for i in crystals
        ]
        for name, arm in arms.items()
    }
    note = "paired over crystals, 95 % t interval"
    gain = paired_interval(outer[RICE], outer[NAIVE])
    run.claim(Claim("beats-the-root", "In the outermost shell the learnt amplitudes are nearer to the truth than √max(I, 0).",
                    FRENCH, "< 0", gain.mean, high=0.0, interval=gain.interval, unit="R − R of √max(I, 0)",
                    decided_by="interval", note=f"R {_mean(outer[RICE])} against {_mean(outer[NAIVE])}; {note}"))  # fmt: skip
    for name in (RICE, NORMAL):
        gap = paired_interval(whole[name], whole[EXACT])
        slug = name.replace("–", "-").replace(" ", "-").lower()
        run.claim(Claim(f"exact-{slug}", f"Means of the {name} are as near to the truth as those of the exact posterior.",
                        FRENCH, "0 ± 0.005", gap.mean, low=-0.005, high=0.005, interval=gap.interval,
                        unit="R − R of the exact posterior", decided_by="interval",
                        note=f"R {_mean(whole[name])} against {_mean(whole[EXACT])}; {note}"))  # fmt: skip
    price = paired_interval(whole[LEARNT], whole[RICE])
    run.claim(Claim("price-of-scales", "Learning the frames' scales too costs little in the amplitudes.",
                    "fingerpost: the price of not knowing K", "≤ 0.01", price.mean, high=0.01, interval=price.interval,
                    unit="R − R with K known", decided_by="interval",
                    note=f"R {_mean(whole[LEARNT])} against {_mean(whole[RICE])}; {note}"))  # fmt: skip


def _mean(values: Sequence[float]) -> str:
    return f"{mean_interval(values).mean:.4f}"


# Calibration.


def calibration(run: Run, setting: Setting, arms: Mapping[str, Arm]) -> None:
    """How often central intervals hold the truth, and how its ranks are spread."""
    ranks = {name: arm.rank for name, arm in arms.items() if arm.rank is not None}
    rows = []
    for name, rank in ranks.items():
        for kind, word in KINDS.items():
            chosen = setting.reflections.centric == kind
            found = [_coverage(setting, rank, chosen, level) for level in LEVELS]
            rows.append(
                [name, word, *(cell for f in found for cell in (f.mean, format_interval(f.interval)))]
            )
            if name in (EXACT, RICE, NORMAL):
                _claim_coverage(run, name, word, found[-1])
    _claim_narrow(run, setting, ranks)
    heads = ["distribution", "reflections"]
    heads += [text for level in LEVELS for text in (f"{100 * level:g} %", f"interval of {100 * level:g} %")]
    caption = (
        "Share of reflections whose true |F| lies in the central interval; 95 % t interval over crystals."
    )
    run.table("coverage", Table(heads, rows, title="Calibration", caption=caption))
    centric = setting.reflections.centric
    run.figure(
        "calibration",
        pictures.calibration({name: ranks[name] for name in (EXACT, RICE, NORMAL, LEARNT)}, centric),
        title="Coverage of central intervals",
        caption="Share of true amplitudes inside the central interval minus its level; 0 is calibrated. The band is "
        "where 95 % of calibrated results of as many reflections lie.",
    )
    run.figure(
        "ranks",
        pictures.ranks({name: ranks[name] for name in (EXACT, RICE, NORMAL)}, centric),
        title="Ranks of the truth",
        caption="F(true |F|) under each distribution, uniform if calibrated (the probability integral transform); the band "
        "holds 95 % of the bars of a uniform one.",
    )


def _coverage(setting: Setting, rank: Tensor, chosen: Tensor, level: float) -> MeanInterval:
    inside = ((rank - 0.5).abs() <= level / 2).double()
    return mean_interval(by_crystal(setting, inside, chosen))


def _claim_coverage(run: Run, name: str, word: str, found: MeanInterval) -> None:
    slug = name.replace("–", "-").replace(" ", "-").lower()
    run.claim(
        Claim(
            name=f"covers-{slug}-{word}",
            statement=f"95 % intervals of the {name} hold 95 % of the true {word} amplitudes.",
            source=FRENCH,
            expected="0.95 ± 0.025",
            measured=found.mean,
            low=0.925,
            high=0.975,
            interval=found.interval,
            note="95 % t interval over crystals",
        )
    )


def _claim_narrow(run: Run, setting: Setting, ranks: Mapping[str, Tensor]) -> None:
    """The price of minimising KL(q‖posterior) rather than integrating."""
    every = torch.ones_like(setting.reflections.centric)
    learnt, exact = (
        by_crystal(setting, ((ranks[name] - 0.5).abs() <= 0.4).double(), every) for name in (RICE, EXACT)
    )
    gap = paired_interval(learnt, exact)
    run.claim(
        Claim(
            name="learnt-intervals-are-narrow",
            statement="80 % intervals of the Rice–Woolfson hold fewer truths than those of the exact posterior.",
            source="KL(q‖p) favours a q that is too narrow; Bishop 2006, Pattern Recognition and Machine Learning, 10.1.2",
            expected="< 0, and above −0.03",
            measured=gap.mean,
            low=-0.03,
            high=0.0,
            interval=gap.interval,
            unit="coverage − coverage of the exact posterior",
            decided_by="interval",
            note=f"{_mean(learnt)} against {_mean(exact)}, paired over crystals, 95 % t interval",
        )
    )


# Pictures of amplitudes.


def examples(run: Run, setting: Setting, arms: Mapping[str, Arm]) -> None:
    """True against recovered amplitudes, and four posteriors."""
    reflections, merged = setting.reflections, setting.merged
    outer = (reflections.squared > reflections.squared.quantile(2 / 3)).nonzero()[:, 0]
    every = -(-len(outer) // POINTS)
    outer, unit = outer[::every], merged.unit
    run.figure(
        "amplitudes",
        pictures.amplitudes(
            setting.truth[outer],
            {name: (arms[name].amplitude / unit)[outer] for name in (NAIVE, EXACT, RICE)},
            reflections.centric[outer],
        ),
        title="Amplitudes where data are weak",
        caption="The third of the reflections at highest resolution, in units of the expected amplitude; "
        + (f"one in {every} is drawn." if every > 1 else "all are drawn."),
    )
    rows = _chosen(merged)
    with torch.no_grad():
        curves = pictures.curves(setting, {name: arms[name] for name in (EXACT, RICE, NORMAL)}, rows)
    labels = [_label(merged, reflections, int(row)) for row in rows]
    run.figure(
        "posteriors",
        pictures.posteriors(curves, setting.truth[rows].tolist(), labels),
        title="Four posteriors",
        caption="Density of the amplitude in units of its expected size: by quadrature, and as learnt. The upright line "
        "is the truth.",
    )


def _chosen(merged: merging.Merged) -> Tensor:
    """The first strong and the most negative reflection of each kind."""
    ratio, found = merged.mean / merged.error, []
    for kind in KINDS:
        rows = (merged.centric == kind).nonzero()[:, 0]
        strong = rows[(ratio[rows] - 10).abs().argmin()]
        found += [strong, rows[(ratio[rows] + 1).abs().argmin()]]
    return torch.stack(found)


def _label(merged: merging.Merged, reflections: Reflections, row: int) -> str:
    indices = " ".join(map(str, reflections.hkl[row].tolist()))
    word = KINDS[bool(merged.centric[row])]
    ratio = f"{float(merged.mean[row] / merged.error[row]):.1f}".replace("-", "−")
    return f"{indices}, {word}, I/σ = {ratio}"
