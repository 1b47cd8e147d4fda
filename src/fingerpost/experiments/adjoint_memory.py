"""Memory, evaluations and error of the three gradients of an ODE solve against the number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, new_figure

torch = lazy_import("torch")
ode = lazy_import("fingerpost.ode")
accounting = lazy_import("fingerpost.experiments._live_bytes")

GRADIENTS = ("tape", "checkpoint", "backsolve")
CHEN = "Chen et al. 2018, https://arxiv.org/abs/1806.07366, section 2"
OURS = "the design of fingerpost.ode"


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the field and the initial states.
      batch: Trajectories B.
      dimension: Components d of a state.
      width: Hidden units of the field.
      method: A method with fixed steps.
      steps: Numbers of steps on [0, 1].
      device: Where to compute.
      dtype: Precision; float64, since gradient errors go below float32's rounding.
    """

    seed: int = 0
    batch: int = 64
    dimension: int = 8
    width: int = 32
    method: str = "rk4"
    steps: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512)
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(steps=(4, 8, 16, 32, 64)), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if len(config.steps) < 3 or sorted(set(config.steps)) != list(config.steps) or config.steps[0] < 1:
        raise ConfigError(f"steps is {config.steps}; give at least three numbers of steps, increasing")
    if config.dtype != "float64":
        raise ConfigError(
            f"dtype is {config.dtype}; gradient errors go below float32's rounding, use float64"
        )
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; bytes are counted on the cpu")


def run(config: Config, run: Run) -> None:
    """Counts bytes and evaluations exactly, and compares the gradients with the exact one."""
    field, y0 = _problem(config)
    exact = _gradient(field, y0, gradient="checkpoint", method="dop853", rtol=1e-12, atol=1e-14)[0]
    rows = []
    for steps in run.progress(config.steps, "numbers of steps"):
        tape = None
        for mode in GRADIENTS:
            found, held, peak, stats = _gradient(
                field, y0, gradient=mode, method=config.method, step_size=1 / steps, dense=False
            )
            tape = found if mode == "tape" else tape
            size = y0.numel() * y0.element_size()
            rows.append(
                {
                    "gradient": mode,
                    "steps": steps,
                    "held": held / size,
                    "peak": peak / size,
                    "nfe": stats.nfe,
                    "backward_nfe": stats.backward_nfe,
                    "error": _distance(found, exact),
                    "to_tape": _distance(found, tape),
                }
            )
    _show(config, run, rows)
    _claims(config, run, rows)


def _problem(config: Config) -> tuple[Any, Any]:
    """A tanh field and its initial states (B, d), float64."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "adjoint-memory"))

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into = torch.nn.Parameter(normal(config.dimension, config.width) / config.dimension**0.5)
            self.out = torch.nn.Parameter(2 * normal(config.width, config.dimension) / config.width**0.5)
            self.phase = torch.nn.Parameter(normal(config.width))

        def forward(self, t: Any, y: Any) -> Any:
            return torch.tanh(y @ self.into + t * self.phase) @ self.out

    return Field(), normal(config.batch, config.dimension)


def _gradient(field: Any, y0: Any, **options: Any) -> tuple[list[Any], int, int, Any]:
    """Gradients of ½ Σ z(1)², bytes held after the forward pass, bytes at the peak, and the solve's counts."""
    with accounting.LiveBytes() as memory:
        solution = ode.solve(field, y0, [0.0, 1.0], **options)
        loss = 0.5 * solution.ys[-1].square().sum()
        held = memory.now
        found = torch.autograd.grad(loss, list(field.parameters()))
        stats = solution.stats
    return list(found), held, memory.peak, stats


def _distance(found: Any, exact: Any) -> float:
    """‖found − exact‖/‖exact‖ over all parameters."""
    difference = torch.cat([(a - b).flatten() for a, b in zip(found, exact)])
    return float(difference.norm() / torch.cat([b.flatten() for b in exact]).norm())


def _show(config: Config, run: Run, rows: list[dict[str, Any]]) -> None:
    caption = (
        f"A {config.width}-unit tanh field, states of {config.batch} × {config.dimension} float64 numbers, {config.method} "
        "with fixed steps on [0, 1]. Memory counts every tensor that is alive, in units of one state; it is exact and "
        "does not depend on the machine."
    )
    heads = [
        "gradient",
        "steps",
        "held after the forward pass (states)",
        "peak (states)",
        "evaluations of f, forward",
    ]
    heads += ["evaluations in the backward pass", "error of the gradient", "distance to the tape"]
    table = Table(
        heads, [list(row.values()) for row in rows], title="What each gradient costs", caption=caption
    )
    run.table("costs", table)
    run.figure("memory", _figure(rows), title="Memory and error against the number of steps", caption=caption)


def _figure(rows: list[dict[str, Any]]) -> Any:
    figure, (left, right) = new_figure(1, 2, width=9.6, height=3.9)
    markers = dict(zip(GRADIENTS, ("o", "s", "^")))
    for mode in GRADIENTS:
        chosen = [row for row in rows if row["gradient"] == mode]
        steps = [row["steps"] for row in chosen]
        left.plot(steps, [row["peak"] for row in chosen], marker=markers[mode], label=mode)
        dashed = {"linestyle": "--"} if mode == "checkpoint" else {}
        right.plot(steps, [row["error"] for row in chosen], marker=markers[mode], label=mode, **dashed)
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="peak memory (states)", title="Memory")
    right.set(
        xscale="log",
        yscale="log",
        xlabel="steps",
        ylabel="‖g − exact‖ / ‖exact‖",
        title="Error of the gradient",
    )
    legend_outside(figure, left, columns=3)
    return figure


def _slope(rows: list[dict[str, Any]], mode: str, key: str) -> float:
    """Growth of a figure per step, between the two largest numbers of steps."""
    before, last = [row for row in rows if row["gradient"] == mode][-2:]
    return (last[key] - before[key]) / (last["steps"] - before["steps"])


def _claims(config: Config, run: Run, rows: list[dict[str, Any]]) -> None:
    slopes = {mode: _slope(rows, mode, "peak") for mode in GRADIENTS}
    run.claim(
        Claim(
            name="backsolve-constant",
            statement="Solving the adjoint backwards takes memory that does not grow with the number of steps.",
            source=CHEN,
            expected="≤ 0.01",
            measured=slopes["backsolve"],
            high=0.01,
            unit="states a step",
        )
    )
    run.claim(
        Claim(
            name="checkpoint-one-state",
            statement="The checkpoint gradient keeps one state a step, and no graph.",
            source=OURS,
            expected="≤ 1.01",
            measured=slopes["checkpoint"],
            high=1.01,
            unit="states a step",
        )
    )
    run.claim(
        Claim(
            name="tape-graph",
            statement="A graph of all stages takes ten times more and grows with the field's width.",
            source=OURS,
            expected="≥ 10",
            measured=slopes["tape"] / slopes["checkpoint"],
            low=10,
            unit="tape over checkpoint",
            note=f"{slopes['tape']:.3g} states a step, a hidden layer of {config.width / config.dimension:g} states",
        )
    )
    _claim_gradients(run, rows)


def _claim_gradients(run: Run, rows: list[dict[str, Any]]) -> None:
    replayed = max(row["to_tape"] for row in rows if row["gradient"] == "checkpoint")
    run.claim(
        Claim(
            name="checkpoint-equals-tape",
            statement="Replaying the steps gives the tape's gradient to rounding, at any number of steps.",
            source=OURS,
            expected="≤ 1e-12",
            measured=replayed,
            high=1e-12,
            unit="‖g − tape‖/‖tape‖",
        )
    )
    ratio = max(row["backward_nfe"] / row["nfe"] for row in rows if row["gradient"] == "checkpoint")
    run.claim(
        Claim(
            name="checkpoint-evaluations",
            statement="The replay evaluates f as often as the forward pass did, no more.",
            source=OURS,
            expected="≤ 1",
            measured=ratio,
            high=1.0,
            unit="evaluations, backward over forward",
        )
    )
    coarse = next(row for row in rows if row["gradient"] == "backsolve")
    exact = next(row for row in rows if row["gradient"] == "tape" and row["steps"] == coarse["steps"])
    run.claim(
        Claim(
            name="backsolve-another-gradient",
            statement="At few steps the backward solve is not the gradient of what was computed: tape and checkpoint are.",
            source="discretise-then-optimise against optimise-then-discretise; Gholami et al. 2019, arXiv:1902.10298",
            expected="> 1e-6",
            measured=coarse["to_tape"],
            low=1e-6,
            unit="‖g − tape‖/‖tape‖",
            note=f"{coarse['steps']} steps; errors: {coarse['error']:.2g}, tape {exact['error']:.2g}",
        )
    )
