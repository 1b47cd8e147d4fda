"""What mouse-cortex shows and claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from fingerpost._table import Table
from fingerpost.errors import InvalidValueError
from fingerpost.lab import Claim, Run, new_figure
from fingerpost.neuroidal import StoredGraph, theory

if TYPE_CHECKING:
    from fingerpost.experiments.mouse_cortex import Config

Measured = dict[str, Any]
SOURCE = "“Stability of Memory Allocation with Neuroidal Model” (2021-04-11)"
VALIANT = "Valiant 2005 (doi.org/10.1162/0899766053019890)"
TARGETS = "specification of the neuroidal system"
SECONDS, GIGA, HOUR = 2.0, 1e9, 3600.0
USUAL_COPY = 1e10
"""Bytes per second that one thread copies on a usual machine; the target of two seconds grows where it is less."""
RARE = 1e-3


def show(config: Config, run: Run, mouse: Measured, human: Measured) -> None:
    """Figure, tables and claims."""
    _figure(config, run, mouse)
    _sizes(config, run, mouse)
    _costs(config, run, mouse, human)
    _claim_sizes(config, run, mouse, human)
    _claim_inputs(config, run, mouse)
    _claim_costs(config, run, mouse, human)
    _claim_stored(config, run)


def expected(config: Config, join: Measured, steps: int, r: int) -> tuple[float, float]:
    """Mean and standard deviation of a JOIN's size, given how many neurons its items share."""
    p = config.degree / config.n
    if steps == 2:
        chance = float(theory.joint_tail(r, r, join["shared"], p, config.k))
    else:
        chance = float(stats.binom.sf(2 * config.k - 1, 2 * r - join["shared"], p))
    return config.n * chance, math.sqrt(config.n * chance * (1 - chance))


def scores(config: Config, mouse: Measured) -> dict[str, list[float]]:
    """Standard deviations between each JOIN's size and its mean."""
    found: dict[str, list[float]] = {}
    for name, steps, r in _kinds(config):
        parts = [(join["size"], *expected(config, join, steps, r)) for join in mouse[name]]
        found[name] = [(size - mean) / deviation for size, mean, deviation in parts]
    return found


def _kinds(config: Config) -> list[tuple[str, int, int]]:
    n, degree, k = config.n, config.degree, config.k
    return [("two", 2, theory.solve_r(n, degree, k, 2)), ("one", 1, theory.solve_r(n, degree, k, 1))]


def _figure(config: Config, run: Run, mouse: Measured) -> None:
    figure, (left, right) = new_figure(1, 2, width=11.4, height=4.6)
    name, _, r = _kinds(config)[0]
    inputs = np.array(mouse["inputs"])
    number = np.arange(len(inputs))
    left.semilogy(
        number,
        config.n * stats.binom.pmf(number, r, config.degree / config.n),
        marker="",
        label="n × binomial",
    )
    left.semilogy(number, np.where(inputs > 0, inputs, np.nan), linestyle="", marker="o", label="counted")
    left.axvline(config.k, color="0.4", linewidth=1.2, linestyle=":")
    left.set(xlabel=f"inputs from the {r:,} neurons of A", ylabel="neurons", ylim=(0.3, None))
    left.set_title(f"Neurons by inputs; k = {config.k} dotted")
    left.legend(loc="lower center")
    for (name, _, _), words in zip(_kinds(config), ("two steps", "one step")):
        values = scores(config, mouse)[name]
        right.plot(range(1, len(values) + 1), values, linestyle="", marker="os"[name == "one"], label=words)
    right.axhspan(-2, 2, color="0.5", alpha=0.15, linewidth=0)
    right.set(xlabel="pair of items", ylabel="size of C − mean (sd)", title="Sizes of C against theory")
    right.set_xticks(range(1, config.joins + 1, max(1, config.joins // 10)))
    right.set_ylim(-4.2, 4.2)
    right.legend(loc="lower right")
    caption = (
        f"n = {config.n:,} neurons, degree {config.degree:,}. Left: the number of neurons by their inputs from one item, "
        f"beside n times Binomial({r:,}, p). Right: sizes of {config.joins} JOINs of each kind, in standard deviations from "
        "the mean of the binomial law, given how many neurons the two items share; the band is two deviations wide each way."
    )
    run.figure("cortex", figure, title="A graph that is never stored counts as it should", caption=caption)


def _sizes(config: Config, run: Run, mouse: Measured) -> None:
    rows = []
    for (name, steps, r), values in zip(_kinds(config), scores(config, mouse).values()):
        for index, (join, z) in enumerate(zip(mouse[name], values), 1):
            mean, _ = expected(config, join, steps, r)
            rows.append([index, steps, r, join["shared"], join["size"], round(mean, 1), round(z, 2)])
    heads = ["pair", "steps", "r", "shared", "size of C", "mean", "z"]
    caption = (
        f"JOINs at n = {config.n:,}, degree {config.degree:,}; two steps with k = {config.k} each, or one with {2 * config.k}. "
        "r is the size that reproduces itself by Valiant's equation. A JOIN amplifies: items that share neurons by chance make "
        "a larger C, so that the mean lies above r."
    )
    run.table("sizes", Table(heads, rows, title="Sizes of C", caption=caption))


def _costs(config: Config, run: Run, mouse: Measured, human: Measured) -> None:
    total, drawn = config.n * config.degree, mouse["two"][0]["edges"]
    scale = config.human_n / human["targets"]
    tile = human["two"][0]
    seconds = _median(mouse, "cpu")
    rows = [
        ["neurons", f"{config.n:,}", f"{config.human_n:,}"],
        ["synapses", f"{total:.4g}", f"{config.human_n * config.human_degree:.4g}"],
        ["neurons of an item", f"{_kinds(config)[0][2]:,}", f"{_human_size(config):,}"],
        ["synapses drawn", f"{drawn:.4g}", f"{tile['edges'] * scale:.4g}"],
        [
            "share of all",
            f"{drawn / total:.3%}",
            f"{tile['edges'] * scale / config.human_n / config.human_degree:.3%}",
        ],
        ["measured", "all targets", f"{human['targets']:,} targets of {config.human_n:,}"],
        ["CPU seconds", f"{seconds:.3g}", f"{tile['cpu']:.3g} measured, {tile['cpu'] * scale:.4g} in all"],
        ["ns per synapse drawn", f"{seconds / drawn * 1e9:.3g}", f"{tile['cpu'] / tile['edges'] * 1e9:.3g}"],
        ["peak memory (GB)", _gigabytes(mouse["peak"]), _gigabytes(human["peak"])],
        ["of it before the JOIN (GB)", _gigabytes(mouse["before"]), _gigabytes(human["before"])],
        [
            "stored, at 4 bytes each (GB)",
            f"{4 * total / GIGA:.4g}",
            f"{4 * config.human_n * config.human_degree / GIGA:.4g}",
        ],
    ]
    caption = (
        f"One two-step JOIN with k = {config.k}, kernels {config.kernels}, one thread, the median of {config.joins} for the "
        f"mouse; first calls, which compile, took {mouse['compile']:.2g} s more. The human JOIN is extrapolated from one tile, "
        "whose work does not depend on where it lies. Memory is the peak of a process without torch."
    )
    run.table("costs", Table(["", "mouse", "human"], rows, title="What a JOIN costs", caption=caption))


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIGA:.3g}"


def _median(mouse: Measured, what: str) -> float:
    return float(np.median([join[what] for join in mouse["two"]]))


def _human_size(config: Config) -> int:
    return theory.solve_r(config.human_n, config.human_degree, config.k, 2)


def _claim_sizes(config: Config, run: Run, mouse: Measured, human: Measured) -> None:
    for (name, _, r), values in zip(_kinds(config), scores(config, mouse).values()):
        sizes = [join["size"] for join in mouse[name]]
        run.claim(
            Claim(
                f"size-{name}-step",
                f"A {name}-step JOIN of items of {r:,} neurons makes as many neurons as the binomial law says.",
                f"{VALIANT}, the conditions on JOIN",
                "|z| ≤ 3.3",
                sum(values) / math.sqrt(len(values)),
                low=-3.3,
                high=3.3,
                unit="sd",
                note=f"{len(values)} JOINs, sizes {min(sizes):,} to {max(sizes):,}; z of their sum, given the neurons that "
                "items share; beyond 3.3 by chance once in a thousand times.",
            )
        )
        tail = stats.chi2(len(values))
        run.claim(
            Claim(
                f"spread-{name}-step",
                f"Sizes of {name}-step JOINs vary from pair to pair as the binomial law says.",
                VALIANT,
                f"from {tail.ppf(RARE / 2):.3g} to {tail.isf(RARE / 2):.3g}",
                sum(z * z for z in values),
                low=float(tail.ppf(RARE / 2)),
                high=float(tail.isf(RARE / 2)),
                note="Sum of z², χ² with as many degrees of freedom as pairs.",
            )
        )
    tile = human["two"][0]
    p, r = config.human_degree / config.human_n, _human_size(config)
    mean = human["targets"] * float(theory.joint_tail(r, r, tile["shared"], p, config.k))
    run.claim(
        Claim(
            "size-human-tile",
            "In a tile of a human cortex as many neurons join as the binomial law says.",
            VALIANT,
            "|z| ≤ 3.3",
            (tile["size"] - mean) / math.sqrt(mean),
            low=-3.3,
            high=3.3,
            unit="sd",
            note=f"{tile['size']:,} neurons of {human['targets']:,}, mean {mean:,.1f}.",
        )
    )


def _claim_inputs(config: Config, run: Run, mouse: Measured) -> None:
    r = _kinds(config)[0][2]
    counted = np.array(mouse["inputs"])
    law: Any = stats.binom(r, config.degree / config.n)
    means = config.n * law.pmf(np.arange(len(counted)))
    kept = np.flatnonzero(means >= 10)
    low, high = kept[0], kept[-1]
    counted = np.concatenate([[counted[:low].sum()], counted[low : high + 1], [counted[high + 1 :].sum()]])
    means = np.concatenate([[config.n * law.cdf(low - 1)], means[low : high + 1], [config.n * law.sf(high)]])
    used = means >= 1
    p_value = float(
        stats.chisquare(counted[used], means[used] * counted[used].sum() / means[used].sum()).pvalue
    )
    run.claim(
        Claim(
            "inputs-are-binomial",
            "The number of inputs that a neuron gets from an item is binomial.",
            f"{SOURCE}: a random graph; exact G(n, p) by the design",
            f"p ≥ {RARE:g}",
            p_value,
            low=RARE,
            note=f"χ² over all {config.n:,} neurons, {int(used.sum())} classes of the number of inputs.",
        )
    )


def _claim_costs(config: Config, run: Run, mouse: Measured, human: Measured) -> None:
    slower = max(1.0, USUAL_COPY / mouse["copy"])
    seconds = [join["cpu"] for join in mouse["two"]]
    run.claim(
        Claim(
            "mouse-time",
            f"A two-step JOIN at the mouse's size takes at most {SECONDS:g} s of one thread, longer where memory is slower.",
            TARGETS,
            f"≤ {SECONDS * slower:.3g}",
            _median(mouse, "cpu"),
            high=SECONDS * slower,
            interval=(min(seconds), max(seconds)),
            unit="s",
            note=f"Median of {len(seconds)}, the interval their range; CPU time, kernels compiled before. One thread copies "
            f"{mouse['copy'] / GIGA:.3g} GB/s here; {USUAL_COPY / GIGA:g} GB/s and more leave the two seconds as they are.",
        )
    )
    scale = config.human_n / human["targets"]
    run.claim(
        Claim(
            "human-time",
            "A two-step JOIN at the human size would take less than an hour of one thread.",
            TARGETS,
            "≤ 1",
            human["two"][0]["cpu"] * scale / HOUR,
            high=1.0,
            unit="h",
            note=f"Extrapolated from one tile of {human['targets']:,} targets, {scale:.5g} of which make the cortex.",
        )
    )
    for name, found in (("mouse", mouse), ("human", human)):
        run.claim(
            Claim(
                f"{name}-memory",
                f"A JOIN at the {name} size needs less than 1 GB.",
                TARGETS,
                "≤ 1",
                math.nan if found["peak"] is None else found["peak"] / GIGA,
                high=1.0,
                unit="GB",
                note="Peak resident memory of the process that did it, interpreter and modules included.",
            )
        )
    share = mouse["two"][0]["edges"] / (config.n * config.degree)
    run.claim(
        Claim(
            "few-synapses",
            "A JOIN draws the synapses out of neurons that fire, and no others: 2r of n neurons'.",
            "the design of fingerpost.neuroidal",
            "≤ 0.01",
            share,
            high=0.01,
            note=f"{mouse['two'][0]['edges']:.4g} of {config.n * config.degree:.4g}.",
        )
    )


def _claim_stored(config: Config, run: Run) -> None:
    try:
        StoredGraph.random(config.n, config.degree, config.seed, limit=64 * 10**9)
        refused = 0.0
    except InvalidValueError:
        refused = 1.0
    run.claim(
        Claim(
            "storing-is-refused",
            "A stored graph of this size is refused before any edge is drawn, where 64 GB are free.",
            "the design of fingerpost.neuroidal",
            "1",
            refused,
            low=1.0,
            note=f"Stored, it takes {4 * config.n * config.degree / GIGA:.3g} GB at 4 bytes an edge.",
        )
    )
