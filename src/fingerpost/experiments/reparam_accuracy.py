"""How many digits of a sample's velocity are right, over the whole range of each distribution, ours and other libraries'."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_families as families
from fingerpost.experiments import _reparam_peers as peers
from fingerpost.lab import Claim, Run, legend_outside, new_figure

torch = lazy_import("torch")

SOURCE = "Figurnov, Mohamed and Mnih (2018), eq. 7 and its comparison of accuracy and speed"
SINGLE = 2e-7
FLOOR = 1e-17  # where an error of zero is drawn
STYLES = {
    "fingerpost": ("#0072B2", "o"),
    "torch": ("#D55E00", "^"),
    "rs-distributions": ("#CC79A7", "v"),
    "TFP on JAX": ("#009E73", "s"),
    "autograd of the CDF": ("#E69F00", "D"),
}


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Kept for the lab; nothing here is random but the values that are timed.
      stride: Takes every so-manieth row of the references; 1 takes all.
      samples: Samples in a batch that is timed.
      repeats: Times that each is timed, the median counts; 0 times nothing, and then runs repeat to the bit.
      device: Where to compute.
      dtype: Unused: both precisions are measured.
    """

    seed: int = 0
    stride: int = 1
    samples: int = 20_000
    repeats: int = 7
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(stride=3, samples=5_000, repeats=3), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.stride < 1 or config.samples < 1 or config.repeats < 0:
        raise ConfigError(
            f"stride={config.stride}, samples={config.samples}, repeats={config.repeats}; expected at least 1, 1 and 0"
        )


@dataclass(frozen=True)
class Errors:
    """Relative errors of one library's velocities of one distribution.

    Args:
      double: (rows, parameters) errors in float64; NaN where the truth is 0, inf where the result is not finite.
      single: The same in float32, on the rows that it can hold.
      second: (rows, pairs) errors of second derivatives in float64; None for other libraries.
    """

    double: np.ndarray
    single: np.ndarray
    second: np.ndarray | None = None


def run(config: Config, run: Run) -> None:
    """Measures errors against the references, states the targets as claims, and times a sample with its gradient."""
    found: dict[str, Errors] = {}
    others: dict[tuple[str, str], Errors | str] = {}
    tables = {}
    for family in run.progress(families.FAMILIES, "distributions"):
        table = family.load()
        tables[family.name] = table = table.where(np.arange(len(table)) % config.stride == 0)
        found[family.name] = ours(family, table, config.device)
        for peer in (peer for peer in peers.PEERS if peer.family == family.name):
            others[peer.name, family.name] = peer.missing() or theirs(peer, family, table)
    _table(run, found, others)
    _pictures(run, tables, found, others)
    _claims(run, tables, found, others)
    if config.repeats:
        _times(config, run)


def ours(family: families.Family, table: Any, device: str = "cpu") -> Errors:
    """Errors of fingerpost's velocities, first in float64 and float32, and of the samples' second derivatives."""
    single = table.where(table.fits_float32)
    return Errors(
        relative(_velocities(family, table, torch.float64, device), table, family.moved(table)),
        relative(
            _velocities(family, single, torch.float32, device),
            single,
            family.moved(single),
            dtype=np.float32,
        ),
        _second(family, table, device),
    )


def theirs(peer: peers.Peer, family: families.Family, table: Any) -> Errors:
    """Errors of another library's velocities."""
    single = table.where(table.fits_float32)
    names = family.moved(table)
    found = []
    for rows, double in ((table, True), (single, False)):
        dtype = np.float64 if double else np.float32
        found.append(relative(_ask(peer, family, rows, double), rows, names, dtype=dtype))
    return Errors(*found)


def _ask(peer: peers.Peer, family: families.Family, table: Any, double: bool) -> dict[str, np.ndarray]:
    arrays = {name: table[name] for name in table.parameters if name not in family.dropped}
    with np.errstate(all="ignore"):
        return peer.velocity(arrays, table["value"], double)


def relative(
    found: dict[str, Any], table: Any, names: tuple[str, ...], dtype: Any = np.float64
) -> np.ndarray:
    """|found − true|/|true|, (rows, names): inf where the result is not finite, NaN where the truth is 0 or none is known.

    A truth below the smallest normal number of `dtype` is held to that number instead: no result could have its digits.
    Velocities of a mixture's logits are held to the largest of them: each is a sum over the others that may cancel.
    """
    weights = [np.abs(table[f"d_{name}"]) for name in names if name.startswith("logits")]
    columns = []
    for name in names:
        true, value = table[f"d_{name}"], np.asarray(found[name], dtype=np.float64)
        size = np.maximum.reduce(weights) if name.startswith("logits") else np.abs(true)
        with np.errstate(all="ignore"):
            error = np.abs(value - true) / np.maximum(size, np.finfo(dtype).tiny)
        columns.append(
            np.where((true == 0) | np.isnan(true), np.nan, np.where(np.isfinite(value), error, np.inf))
        )
    return np.stack(columns, 1)


def _velocities(family: families.Family, table: Any, dtype: Any, device: str) -> dict[str, Any]:
    parameters = {k: x.to(device) for k, x in family.parameters(table, dtype).items()}
    value = torch.tensor(table["value"]).to(device, dtype)
    found = family.velocity(family.make(parameters), value)
    return {name: v.detach().cpu().double().numpy() for name, v in found.items()}


def _second(family: families.Family, table: Any, device: str) -> np.ndarray:
    """Errors of d²z/dθ_idθ_j = ∂v_i/∂θ_j + v_j ∂v_i/∂z for each pair that the references hold, over the largest term.

    The terms, v_i v_j ∂_z log p within ∂v_i/∂z among them, nearly cancel in many places, where a small error of one is a large
    part of their sum.
    """
    names = family.moved(table)
    leaves = {k: x.to(device) for k, x in family.parameters(table, torch.float64).items()}
    moving = [leaves[name].requires_grad_() for name in names]
    value = torch.tensor(table["value"], device=device).requires_grad_()
    distribution = family.make(leaves)
    velocity = family.velocity(distribution, value)
    (slope,) = torch.autograd.grad(distribution.log_prob(value).sum(), value)
    columns = []
    for i, first in enumerate(names):
        slopes = torch.autograd.grad(
            velocity[first].sum(), [value, *moving], retain_graph=True, allow_unused=True, materialize_grads=True
        )  # fmt: skip
        for second, direct in list(zip(names, slopes[1:]))[i:]:
            if f"dd_{first}_{second}" in table.columns:
                path = velocity[second].detach() * slopes[0]
                inner = velocity[first] * velocity[second] * slope
                terms = [x.detach().cpu().numpy() for x in (direct, path, inner)]
                columns.append(_over_terms(terms, table[f"dd_{first}_{second}"]))
    return np.stack(columns, 1)


def _over_terms(terms: list[np.ndarray], true: np.ndarray) -> np.ndarray:
    found = terms[0] + terms[1]
    with np.errstate(all="ignore"):
        size = np.maximum.reduce(
            [np.abs(true), *map(np.abs, terms), np.full_like(true, np.finfo(float).tiny)]
        )
        error = np.where(np.isfinite(found), np.abs(found - true) / size, np.inf)
    return np.where(np.isnan(true), np.nan, error)


def worst(errors: np.ndarray) -> float:
    """The largest error; inf if a result is not finite, 0 of no rows."""
    known = errors[~np.isnan(errors)]
    return float(known.max()) if known.size else 0.0


def _table(run: Run, found: dict[str, Errors], others: dict[tuple[str, str], Errors | str]) -> None:
    heads = ["distribution", "way", "rows", "largest", "median", "not finite", "largest, float32",
             "not finite, float32", "largest, second derivatives"]  # fmt: skip
    rows = []
    for name, errors in found.items():
        rows.append([name, "fingerpost", *_figures(errors)])
        for (library, family), other in others.items():
            if family == name:
                rows.append([name, library, *(["—", other] if isinstance(other, str) else _figures(other))])
    rows = [row + [""] * (len(heads) - len(row)) for row in rows]
    caption = (
        "Relative error of ∂z/∂θ at given z against references of 20 digits, over all parameters and both tails; float64, "
        "then float32 on the rows that it can hold. The largest error is over the finite results. Second derivatives are "
        "those of a sample, in float64, their errors over the largest term that they are the sum of. Velocities of a "
        "mixture's logits are held to the largest of them, numbers too small for a format to its smallest normal one."
    )
    run.table("errors", Table(heads, rows, title="Errors of velocities", caption=caption))


def _figures(errors: Errors) -> list[Any]:
    double, single = (part[~np.isnan(part)] for part in (errors.double, errors.single))
    row: list[Any] = [len(errors.double), *_spread(double), int(np.isinf(double).sum())]
    row += [_spread(single)[0], int(np.isinf(single).sum())]
    return [*row, "" if errors.second is None else worst(errors.second)]


def _spread(errors: np.ndarray) -> tuple[float, float]:
    finite = errors[np.isfinite(errors)]
    return (float(finite.max()), float(np.median(finite))) if finite.size else (float("nan"), float("nan"))


def _pictures(
    run: Run, tables: dict[str, Any], found: dict[str, Errors], others: dict[tuple[str, str], Errors | str]
) -> None:
    """One panel a distribution: errors against its hardest parameter."""
    names = list(found)
    figure, grid = new_figure(3, 3, width=12, height=10.5, sharey=True)
    for axes, name in zip(grid.flat, names):
        family = next(f for f in families.FAMILIES if f.name == name)
        x = np.asarray(family.axis[1](tables[name]), dtype=float)
        shown = {library: e for (library, f), e in others.items() if f == name and isinstance(e, Errors)}
        for library, errors in {**shown, "fingerpost": found[name]}.items():
            _scatter(axes, library, x, _drawn(errors.double))
        axes.axhline(family.target, color="#1f2328", linewidth=1, linestyle=(0, (4, 3)))
        _decades(axes, x)
        axes.set_yscale("log")
        axes.set(ylim=(FLOOR / 3, 30), xlabel=family.axis[0], title=name)
        axes.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
    for axes in grid[:, 0]:
        axes.set_ylabel("relative error")
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    key = grid.flat[0]
    known = {"fingerpost", *(library for (library, _), e in others.items() if isinstance(e, Errors))}
    for library in (library for library in STYLES if library in known):
        _scatter(key, library, [], []).set_label(library)
    legend_outside(figure, key, columns=5)
    run.figure(
        "errors",
        figure,
        title="Where digits are lost",
        caption="Each mark is one row of the references, the worst over its parameters, in float64; results that are not "
        "finite are drawn at 10, exact ones at 1e-17. The dashed line is the target.",
    )


def _drawn(errors: np.ndarray) -> np.ndarray:
    """The worst error of each row, where a picture can show it."""
    filled = np.where(np.isnan(errors), 0.0, errors).max(1)
    return np.clip(np.where(np.isinf(filled), 10.0, filled), FLOOR, 10.0)


def _scatter(axes: Any, library: str, x: Any, y: Any) -> Any:
    colour, marker = STYLES[library]
    return axes.scatter(x, y, s=22, color=colour, marker=marker, alpha=0.6, linewidths=0, rasterized=True)


def _decades(axes: Any, x: np.ndarray) -> None:
    """A logarithmic axis with few labels, and a place for 0 if the data have it."""
    positive = x[(x > 0) & np.isfinite(x)]
    low, high = int(np.floor(np.log10(positive.min()))), int(np.ceil(np.log10(positive.max())))
    low = max(low, -4)
    ticks = [10.0**k for k in range(low, high + 1, max(1, -(-(high - low) // 5)))]
    if (x == 0).any():
        axes.set_xscale("symlog", linthresh=10.0**low, linscale=0.6)
        axes.set_xlim(-0.3 * 10.0**low, 2 * 10.0**high)
        ticks = [0.0, *ticks[1:]]
    else:
        axes.set_xscale("log")
        axes.set_xlim(10.0**low / 2, 2 * 10.0**high)
    axes.set_xticks(ticks)
    axes.minorticks_off()


def _claims(
    run: Run, tables: dict[str, Any], found: dict[str, Errors], others: dict[tuple[str, str], Errors | str]
) -> None:
    for family in families.FAMILIES:
        errors, table = found[family.name], tables[family.name]
        aimed = np.ones(len(table), bool) if family.aimed is None else family.aimed(table)
        double, single = errors.double[aimed], errors.single[aimed[table.fits_float32]]
        name, note = family.name, f"{len(double)} rows of references"
        if family.aimed is not None:
            note += f", both concentrations ≥ 0.1; on all rows {worst(errors.double):.2g}"
        statement = f"Velocities of {name} have a relative error of at most {family.target:g} in float64."
        _target(run, f"{_slug(name)}-float64", statement, worst(double), family.target, note=note)
        note = f"{len(single)} rows that float32 can hold"
        statement = f"Velocities of {name} are right to rounding in float32."
        _target(run, f"{_slug(name)}-float32", statement, worst(single), SINGLE, note=note)
    broken = sum(int(np.isinf(e.double).sum() + np.isinf(e.single).sum()) for e in found.values())
    statement = "No velocity is NaN or infinite on any row, in either precision."
    _target(run, "all-finite", statement, broken, 0, unit="results")
    second = {name: worst(errors.second) for name, errors in found.items() if errors.second is not None}
    poorest = max(second, key=lambda name: second[name])
    statement = "Second derivatives of samples are right wherever first ones are."
    unit, note = "largest error over the largest term, float64", f"worst for {poorest}"
    _target(run, "second-derivatives", statement, second[poorest], 1e-7, unit=unit, note=note)
    _compare(run, found, others)


def _target(
    run: Run, name: str, statement: str, measured: float, high: float, *, unit: str = "", note: str = ""
) -> None:
    """A claim that a figure stays below fingerpost's own target."""
    source = "fingerpost's target, spec distributions"
    run.claim(Claim(name, statement, source, f"≤ {high:g}", measured, high=high, unit=unit, note=note))


def _compare(run: Run, found: dict[str, Errors], others: dict[tuple[str, str], Errors | str]) -> None:
    for (library, name), other in others.items():
        if isinstance(other, Errors):
            mine, best = worst(found[name].double), worst(other.double)
            run.claim(
                Claim(
                    name=f"{_slug(name)}-against-{_slug(library)}",
                    statement=f"On {name}, fingerpost's largest error is smaller than that of {library}.",
                    source=SOURCE,
                    expected="a ratio below 1",
                    measured=mine / best if np.isfinite(best) else 0.0,
                    high=1.0,
                    unit="largest error over theirs, float64",
                    note=f"ours {mine:.2g}, theirs {best:.2g}"
                    + (
                        ""
                        if np.isfinite(best)
                        else " (a result that is not finite counts as an infinite error)"
                    ),
                )
            )


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def _times(config: Config, run: Run) -> None:
    """CPU time of a sample, of a sample with its gradient, and of a velocity by each way that torch runs."""
    rows = []
    for family in families.FAMILIES:
        leaves = {
            k: x.clone().requires_grad_(k not in family.fixed) for k, x in _ordinary(family, config).items()
        }
        moving = [x for x in leaves.values() if x.requires_grad]

        def both(f: Any = family, p: Any = leaves, m: Any = moving) -> None:
            torch.autograd.grad(f.make(p).rsample((config.samples,)).sum(), m)

        def alone(f: Any = family, p: Any = leaves) -> None:
            f.make(p).sample((config.samples,))

        table = family.load()
        wide = table.where(np.arange(config.samples) % len(table))
        sampled = [_time(function, config) for function in (alone, both)]
        own = _time(lambda f=family, t=wide: _velocities(f, t, torch.float64, config.device), config)
        rows.append([family.name, "fingerpost", *sampled, own])
        rows += [
            [
                family.name,
                peer.name,
                "",
                "",
                _time(lambda p=peer, f=family, t=wide: _ask(p, f, t, True), config),
            ]
            for peer in peers.PEERS
            if peer.family == family.name and peer.module != peers.TFP and not peer.missing()
        ]
    caption = (
        f"CPU time in ns a sample, {torch.get_num_threads()} thread(s), median of {config.repeats}, {config.samples:,} samples "
        "in float64. Samples are of one set of ordinary parameters, velocities of all rows of the references in turn. "
        "Libraries that need compiling are timed by `fingerpost bench distributions` alone."
    )
    heads = ["distribution", "way", "a sample", "a sample and its gradient", "velocities at a point"]
    run.table("times", Table(heads, rows, title="What a gradient costs", caption=caption))


def _ordinary(family: families.Family, config: Config) -> dict[str, Any]:
    """The parameters of the table's row that is nearest to the middle of each column."""
    table = family.load()
    scores = np.zeros(len(table))
    for name in table.parameters:
        column = np.nan_to_num(table[name], posinf=1e30, neginf=-1e30)
        order = np.argsort(np.argsort(column, kind="stable"), kind="stable")
        scores += np.abs(order / len(table) - 0.5)
    row = table.where(np.arange(len(table)) == int(scores.argmin()))
    parameters = family.parameters(row, torch.float64)
    return {key: x[0].to(config.device) for key, x in parameters.items()}


def _time(function: Callable[[], object], config: Config) -> float:
    """Nanoseconds of CPU time a sample."""
    function()
    times = []
    for _ in range(config.repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times)) / config.samples * 1e9
