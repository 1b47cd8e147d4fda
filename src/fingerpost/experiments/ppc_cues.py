"""Two cues in population codes: the sum's posterior against the product of posteriors and the two formulas; an observer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, derive_seed

torch = lazy_import("torch")
population = lazy_import("fingerpost.population")
cues = lazy_import("fingerpost.experiments._ppc_cues")
measures = lazy_import("fingerpost.experiments._ppc_measures")
pictures = lazy_import("fingerpost.experiments._ppc_pictures")

SOURCE = "population-codes.md"
MA = "Ma et al. 2006, https://doi.org/10.1038/nn1790"
PAIRS = ((1.0, 1.0), (1.0, 4.0), (4.0, 1.0), (4.0, 4.0), (2.0, 12.0))
CONFLICTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # in widths of tuning
OBSERVED = ((1.0, 1.0), (1.0, 4.0), (8.0, 4.0))
APART = (0.0, 1.0, 2.0, 4.0, 6.0)  # s₂ − s₁ of the observer's trials; the tuning's width is 3


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the spikes.
      trials: Trials of each pair of gains at each conflict, of which each posterior is compared with the formulas.
      observed: Trials of the observer at each pair of gains and each conflict.
      varied: Trials with gains that vary from trial to trial.
      device: Where to compute; cpu.
      dtype: Precision; float64.
    """

    seed: int = 0
    trials: int = 40
    observed: int = 40_000
    varied: int = 40_000
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(trials=10, observed=8_000, varied=10_000), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(
            f"dtype {config.dtype} on {config.device}; exactness to 1e-12 is asked, use float64 on the cpu"
        )
    if config.trials < 2:
        raise ConfigError(f"trials is {config.trials}; give at least 2")
    if config.observed < 400 or config.varied < 400:
        raise ConfigError(
            f"observed is {config.observed}, varied {config.varied}; intervals need at least 400 of each"
        )


def run(config: Config, run: Run) -> None:
    """Compares every posterior with the product and the formulas, then watches an observer over trials."""
    _describe(run)
    _example(config, run)
    found = {
        code.name: (code, run.once(f"exact-{number}", lambda c=code: _exact(config, c)))
        for number, code in enumerate(cues.codes(_generator(config, "codes")))
    }
    _show_exact(config, run, found)
    _claim_exact(run, found)
    _claim_resultants(config, run)
    _observe(config, run)
    _vary(config, run)
    _brains(run)


def _generator(config: Config, name: str) -> Any:
    return torch.Generator().manual_seed(derive_seed(config.seed, name))


def _describe(run: Run) -> None:
    run.text(
        "What is compared",
        "Neuron i of cue k fires Poisson counts of mean g_k f_i(s). Its log posterior for a flat prior is Σ r_i log f_i(s) − "
        "g Σ f_i(s). The second term is the same for all s if the curves tile, and the first is linear in the counts: counts "
        "add, posteriors multiply. That holds for any counts and any shape of shared curves. The two formulas hold more: "
        "that these posteriors are normal. With Gaussian curves without a baseline on a line without ends they are, exactly: "
        "log f is a parabola, μ = Σ r_i s_i / R and 1/σ² = R / width². With other curves, a baseline, a circle or an end of "
        "the range they are not, and the formulas are approximations, measured below.",
    )


def _example(config: Config, run: Run) -> None:
    """Ma's Figure 2: two cues, their sum, three posteriors."""
    code = cues.gaussian_code()
    one = torch.tensor([1.0], dtype=torch.float64)
    rows = cues.Cells(-1.5 * one, 1.5 * one, 1.0 * one, 3.0 * one)
    r1, r2 = cues.encode(code, rows, _generator(config, "example"))
    poisson = population.PoissonCode(code.tuning)
    posteriors = [
        population.Posterior(code.grid, poisson.log_likelihood(r, code.grid, gain=None))
        for r in (r1, r2, r1 + r2)
    ]
    (m1, v1), (m2, v2) = ((float(p.mean), float(p.variance)) for p in posteriors[:2])
    mean, variance = (v2 * m1 + v1 * m2) / (v1 + v2), v1 * v2 / (v1 + v2)
    near = (code.grid.abs() <= 9) & (torch.arange(len(code.grid)) % 2 == 0)
    s = code.grid[near]
    density = (-(s - mean).square() / (2 * variance)).exp() / (2 * torch.pi * variance) ** 0.5
    example: dict[str, Any] = {
        "preferred": list(range(-20, 21)),
        "s": s.tolist(),
        "formula": density.tolist(),
    }
    example |= {f"r{k + 1}": r[0][40:81].tolist() for k, r in enumerate((r1, r2, r1 + r2))}
    example |= {f"p{k + 1}": p.density[0][near].tolist() for k, p in enumerate(posteriors)}
    run.figure(
        "populations",
        pictures.populations(example),
        title="Two cues and their sum",
        caption="One trial: gains 1 and 3, cues at −1.5 and 1.5. Above the counts, below the posteriors that they encode; "
        "dotted the normal density with the formulas' μ₃ and σ₃. After Figure 2 of Ma et al. 2006.",
    )


def _exact(config: Config, code: Any) -> dict[str, Any]:
    """Worst and mean deviations of one code over all gains and conflicts; moments of some trials for the figure."""
    rows = cues.cells(code, PAIRS, CONFLICTS, config.trials)
    counts = cues.encode(code, rows, _generator(config, code.name))
    fired = (counts[0].sum(1) > 0) & (counts[1].sum(1) > 0)
    found = cues.distances(code, rows, counts)
    shape = (len(PAIRS), len(CONFLICTS), config.trials)
    usable = fired.reshape(shape)
    mean = found["mean_error"].reshape(shape)
    precision = found["precision"].reshape(shape)
    some = torch.stack(found["moments"], 1).reshape(*shape, 4)[:, :, :2]
    return {
        "product": float(found["total_variation"].max()),
        "mean": float(mean[usable].max()),
        "precision": float((precision[usable] - 1).abs().max()),
        "mean_curve": [float(mean[:, c][usable[:, c]].mean()) for c in range(shape[1])],
        "precision_curve": [float(precision[:, c][usable[:, c]].mean()) for c in range(shape[1])],
        "points": [some[p][usable[p, :, :2]].tolist() for p in range(shape[0])],
        "silent": int((~fired).sum()),
    }


def _show_exact(config: Config, run: Run, found: Mapping[str, Any]) -> None:
    rows = [
        [name, one["product"], one["mean"], one["precision"], one["silent"]]
        for name, (_, one) in found.items()
    ]
    heads = [
        "shared tuning",
        "sum to product",
        "|μ₃ − formula| / σ₃",
        "|precision / formula − 1|",
        "left out",
    ]
    caption = (
        f"Worst of {len(PAIRS) * len(CONFLICTS) * config.trials} trials: {len(PAIRS)} pairs of gains, {len(CONFLICTS)} "
        "conflicts of up to two widths of tuning. The distance of the sum's posterior to the product is in total "
        "variation. Left out of the formulas' columns are trials in which a cue fired no spike and encodes no mean. "
        "Sigmoids and random curves don't tile: there the gains are known and −g Σ f is kept."
    )
    run.table("exact", Table(heads, rows, title="The sum, the product and the formulas", caption=caption))
    code, exact = found["Gaussian, long line"]
    names = [f"g₁ = {a:g}, g₂ = {b:g}" for a, b in PAIRS]
    points = {
        name: [m for cell in cells for m in cell] for name, cells in zip(names, _nested(exact, len(PAIRS)))
    }
    run.figure(
        "formulas",
        pictures.against_formulas(points),
        title="The sum's posterior against the two formulas",
        caption=f"{code.name}: mean and variance of single trials' posteriors over gains and conflicts; the line is "
        "equality.",
    )
    curves = {
        name: (one["mean_curve"], one["precision_curve"]) for name, (c, one) in found.items() if c.tiles
    }
    run.figure(
        "deviations",
        pictures.deviations(CONFLICTS, curves),
        title="Where the formulas are approximations",
        caption="By conflict, averaged over gains and trials. The sum of populations is the product of posteriors in all "
        "of them; it is these posteriors that are not normal.",
    )


def _nested(exact: Mapping[str, Any], pairs: int) -> list[list[list[list[float]]]]:
    """Moments of the trials of each pair of gains."""
    return [[exact["points"][p]] for p in range(pairs)]


def _claim_exact(run: Run, found: Mapping[str, Any]) -> None:
    worst = max(found, key=lambda name: found[name][1]["product"])
    run.claim(
        Claim(
            name="sum-is-product",
            statement="The posterior of r₁ + r₂ is the product of both posteriors, for shared tuning of any shape.",
            source=f"{SOURCE}: “taking the sum of the two population codes … is equivalent to optimal Bayesian inference”",
            expected="0, to 1e-12",
            measured=found[worst][1]["product"],
            high=1e-12,
            unit="total variation, largest",
            note=f"{len(found)} codes over gains and conflicts; largest for {worst}. Independent Poisson counts, a flat "
            "prior; curves that don't tile need their gains and −g Σ f",
        )
    )
    ideal = found["Gaussian, long line"][1]
    for key, statement in (
        ("mean", "μ₃ = σ₂²/(σ₁²+σ₂²) μ₁ + σ₁²/(σ₁²+σ₂²) μ₂ for the sum's posterior."),
        ("precision", "1/σ₃² = 1/σ₁² + 1/σ₂² for the sum's posterior."),
    ):
        run.claim(
            Claim(
                name=f"formula-{key}",
                statement=statement,
                source=f"{SOURCE}, the two formulas",
                expected="0, to 1e-12",
                measured=ideal[key],
                high=1e-12,
                unit="|μ₃ − formula| / σ₃, largest" if key == "mean" else "relative, largest",
                note="Gaussian curves without baseline on a line whose ends no posterior meets",
            )
        )
    for name, word in (
        ("von Mises, circle", "circle"), ("Gaussian with a baseline", "baseline"), ("Gaussian, clipped at 10", "clipped"),
    ):  # fmt: skip
        one = found[name][1]
        run.claim(
            Claim(
                name=f"formulas-approximate-{word}",
                statement=f"{name}: the formulas are approximations, though the sum still is the product.",
                source="fingerpost: the posterior is not normal",
                expected="≥ 1e-3: not exact",
                measured=one["precision"],
                low=1e-3,
                unit="|precision / formula − 1|, largest",
                note=f"at conflict 0 the mean over trials is {abs(one['precision_curve'][0] - 1):.2g} off, at two widths "
                f"{abs(one['precision_curve'][-1] - 1):.2g}; the sum's distance to the product is {one['product']:.1g}",
            )
        )


def _claim_resultants(config: Config, run: Run) -> None:
    code = cues.circular_code()
    rows = cues.cells(code, PAIRS, CONFLICTS, config.trials)
    r1, r2 = cues.encode(code, rows, _generator(config, "resultants"))
    run.claim(
        Claim(
            name="resultants-add",
            statement="On a circle the formulas' exact form: the posterior is von Mises and resultants κ e^{iμ} add as "
            "vectors.",
            source="fingerpost: Σ r_i cos(θ − θ_i) is one cosine",
            expected="0, to 1e-12",
            measured=max(cues.von_mises_error(code, r) for r in (r1, r2, r1 + r2)),
            high=1e-12,
            unit="total variation, largest",
            note="so that conflict lowers the certainty, which the second formula does not say",
        )
    )


def _observe(config: Config, run: Run) -> None:
    """Bias and variance of the sum's posterior mean over trials."""
    found: dict[str, list[Any]] = {}
    for g1, g2 in run.progress(OBSERVED, "observer"):
        name = f"g₁ = {g1:g}, g₂ = {g2:g}"
        for conflict in APART:
            stage = f"observer-{g1:g}-{g2:g}-{conflict:g}"
            generator = _generator(config, stage)
            found.setdefault(name, []).append(
                run.once(
                    stage,
                    lambda a=g1, b=g2, c=conflict, g=generator: cues.trials(a, b, c, config.observed, g),
                )
            )
    run.figure(
        "observer",
        pictures.behaviour(found),
        title="An observer that reads the sum",
        caption=f"Posterior means over {config.observed:,} trials with 95 % intervals; width of tuning 3. Lines left: "
        "g₂/(g₁ + g₂) of the conflict. Right: real variance over the second formula applied to the real variances of the "
        "single cues; lines: W² E[1/R] and the spread of weights that the spikes of each trial set.",
    )
    run.table("observer", _observer_table(config, found))
    _claim_observer(run, found)


def _observer_table(config: Config, found: Mapping[str, Any]) -> Table:
    rows = []
    for name, cells in found.items():
        for cell in cells:
            row: list[Any] = [name, cell["conflict"]]
            for key in ("bias", "variance", "claimed"):
                row += [cell[key][0], format_interval(cell[key][1:])]
                row += [cell[f"{key}_predicted"]] if key != "claimed" else []
            rows.append(row)
    heads = [
        "gains",
        "conflict",
        "mean − s₁",
        "interval",
        "predicted",
        "variance / formula",
        "interval",
        "predicted",
    ]
    heads += ["claimed / real variance", "interval"]
    heads = [head if head != "interval" else f"interval {number}" for number, head in enumerate(heads)]
    caption = f"{config.observed:,} trials each, intervals over {cues.BATCHES} batches. The observer knows of no conflict."
    return Table(heads, rows, title="An observer over trials", caption=caption)


def _claim_observer(run: Run, found: Mapping[str, Any]) -> None:
    cells = [(name, cell) for name, row in found.items() for cell in row]
    furthest, cell = max(cells, key=lambda one: abs(one[1]["formula_gap"][0]))
    run.claim(
        Claim(
            name="observer-weights",
            statement="Over trials the mean estimate lies where the first formula puts it, given the cues' real variances.",
            source=f"{SOURCE}, the first formula; {MA}",
            expected="0, within 0.15: a twentieth of the tuning's width",
            measured=cell["formula_gap"][0],
            low=-0.15,
            high=0.15,
            interval=cell["formula_gap"][1:],
            note=f"the largest gap, {furthest} at conflict {cell['conflict']:g}; for few spikes E[1/R] exceeds "
            "1/E[R], so the formula trusts the weaker cue less than the sum does",
            decided_by="interval",
        )
    )
    still = [(name, row[0]) for name, row in found.items()]
    name, cell = max(still, key=lambda one: one[1]["spikes"])
    run.claim(
        Claim(
            name="observer-variance",
            statement="Without conflict the estimate's variance over trials is the second formula's.",
            source=f"{SOURCE}, the second formula; {MA}",
            expected="1, within 0.05",
            measured=cell["variance"][0],
            low=0.95,
            high=1.05,
            interval=cell["variance"][1:],
            unit="variance over trials / formula",
            note=f"{name}: {cell['spikes']:.0f} spikes a trial; with {min(c['spikes'] for _, c in still):.0f} it is "
            f"{min(still, key=lambda one: one[1]['spikes'])[1]['variance'][0]:.3f}: the sum knows each trial's reliability",
            decided_by="interval",
        )
    )
    name, cell = max(((n, row[-1]) for n, row in found.items()), key=lambda one: one[1]["variance"][0])
    run.claim(
        Claim(
            name="observer-conflict",
            statement="In conflict the estimate varies more than the second formula says, as the spikes' share sets the "
            "weights.",
            source="fingerpost: w₁ w₂ (s₂ − s₁)² E[1/R] on top of W² E[1/R]",
            expected=f"{cell['variance_predicted']:.3g}, within 5 %",
            measured=cell["variance"][0],
            low=0.95 * cell["variance_predicted"],
            high=1.05 * cell["variance_predicted"],
            interval=cell["variance"][1:],
            unit="variance over trials / formula",
            note=f"{name}, conflict {cell['conflict']:g} at a width of 3; the posterior claims {cell['claimed'][0]:.3g} of "
            "the real variance there",
            decided_by="interval",
        )
    )


def _vary(config: Config, run: Run) -> None:
    """Coverage of the sum's posterior when gains vary from trial to trial and nobody knows them."""
    inside, kept = run.once("varied", lambda: cues.covered(config.varied, _generator(config, "varied")))
    low, high = measures.wilson(inside, kept)
    run.claim(
        Claim(
            name="gains-unknown",
            statement="Gains that change from trial to trial need not be known: the sum's 95 % regions hold 95 % of stimuli.",
            source=f"{MA}: decoding without the gain",
            expected="0.95, within 0.01",
            measured=inside / kept,
            low=0.94,
            high=0.96,
            interval=(low, high),
            note=f"{kept:,} trials of von Mises codes, each cue's gain drawn log-uniformly from 0.2 to 8, stimuli uniform "
            "on the circle; smallest regions of at least 95 %, counted by randomised rank",
            decided_by="interval",
        )
    )


def _brains(run: Run) -> None:
    run.text(
        "What this does not show",
        "The source ends by saying that linear combination of such codes is how human brains do Bayesian inference. "
        "Nothing here measures a brain. What is shown is a theorem and its limits: if neurons share their tuning and are "
        "Poisson, then adding counts is multiplying posteriors, and an observer who reads the sum weighs cues by their "
        "reliability. Whether cortical neurons add their inputs so, whether their variability has the needed form, and "
        "whether people are optimal for this reason are empirical questions that need recordings and behaviour. ppc-breaks "
        "shows how much depends on the form of the variability, and ppc decodes recordings of your own.",
    )
