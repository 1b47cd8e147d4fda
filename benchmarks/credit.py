"""Times the credit package against backpropagation and against the published algorithm in its autograd form.

python benchmarks/credit.py [--quick]: writes benchmarks/results/credit.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from _interleave import environment, interleave, medians, ratio_interval
from fingerpost._table import Table
from fingerpost.credit import (
    ErrorCoordinates,
    GradientDescent,
    HopfieldNetwork,
    ResidualChain,
    free_phase,
    nudged_phase,
    residual_mlp,
)

STEPS = 20
BLOCKS = 6
CLASSES = 10
TARGETS = {(64, 64): 5.0, (256, 128): 8.0}
HOPFIELD = (784, 512, 512, 10)
FUSED_NOTE = (
    "The floor counts the T steps; the phase also evaluates the energy gradient at its end, for the residuals. "
    "A ratio below the floor is backprop's own overhead (graph, tanh, parameter gradients in new memory)."
)
ERROR_NOTE = (
    "A step is one sweep up and one down: two products for each block but the clamped first. The target lies "
    "below the floor of matrix products, and is met only as far as backprop has overhead of its own."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 7 if parser.parse_args().quick else 15
    rows = [row for size in TARGETS for row in chain_rows(*size, repeats)]
    rows += hopfield_rows(64, repeats)
    path = Path(__file__).parent / "results" / "credit.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def chain_rows(width: int, batch: int, repeats: int) -> list[dict]:
    """T = 20 nudged steps of a residual chain, and steps of the error coordinates, over one backprop."""
    draw = torch.Generator().manual_seed(0)
    chain = residual_mlp(width, width, CLASSES, BLOCKS, generator=draw)
    x = torch.randn(batch, width, generator=draw)
    y = torch.randint(CLASSES, (batch,), generator=draw)
    free = free_phase(chain, x)
    times = interleave(
        {
            "backprop": lambda: backprop(chain, x, y),
            "fused": lambda: nudged_phase(chain, free, y, steps=STEPS),
            "autograd": lambda: nudged_phase(
                chain, free, y, solver=GradientDescent(fused=False), steps=STEPS
            ),
            "naive": lambda: naive_chain(chain, free.states, y, 0.5, 0.1),
            "mixed1": lambda: nudged_phase(chain, free, y, solver="error", steps=1),
            "mixed3": lambda: nudged_phase(chain, free, y, solver="error", steps=3),
            "plain1": lambda: nudged_phase(chain, free, y, solver=ErrorCoordinates(memory=1), steps=1),
            "plain3": lambda: nudged_phase(chain, free, y, solver=ErrorCoordinates(memory=1), steps=3),
        },
        repeats,
    )
    target, floor = TARGETS[width, batch], chain_floor(width)
    case = f"{BLOCKS} blocks, d {width}, B {batch}, float32"
    unit = "backprops"
    for kind in ("mixed", "plain"):
        times[kind] = [(b - a) / 2 for a, b in zip(times[f"{kind}1"], times[f"{kind}3"])]
    one = error_floor(width)
    rows = (
        ("nudged phase, T=20, fused", "fused", "naive", floor, target, FUSED_NOTE),
        ("nudged phase, T=20, autograd", "autograd", "naive", None, None, ""),
        ("error coordinates, per step, mixed", "mixed", None, one, 0.5, ERROR_NOTE),
        ("error coordinates, per step, memory=1", "plain", None, one, 0.5, ERROR_NOTE),
    )
    return [
        row(system, case, times, ours, peer, "backprop", floor, target, unit, note=note)
        for system, ours, peer, floor, target, note in rows
    ]


def hopfield_rows(batch: int, repeats: int) -> list[dict]:
    """T = 20 nudged steps of a Hopfield network, over one backprop of the feedforward net of its sizes."""
    draw = torch.Generator().manual_seed(0)
    net = HopfieldNetwork(HOPFIELD, generator=draw)
    x = torch.rand(batch, HOPFIELD[0], generator=draw)
    y = torch.randint(CLASSES, (batch,), generator=draw)
    free = net.free_phase(x, steps=30)
    times = interleave(
        {
            "backprop": lambda: backprop_hopfield(net, x, y),
            "fused": lambda: net.nudged_phase(free, y, beta=0.5, steps=STEPS),
            "naive": lambda: naive_hopfield(net, free.states, y, 0.5),
        },
        repeats,
    )
    case = f"Hopfield {'-'.join(map(str, HOPFIELD))}, B {batch}, float32"
    floor = hopfield_floor()
    return [
        row("nudged phase, T=20, fused", case, times, "fused", "naive", "backprop", floor, None, "backprops"),
        row(
            "times faster than the autograd form",
            case,
            times,
            "naive",
            None,
            "fused",
            None,
            3.0,
            "×",
            more=True,
            note=(
                f"Matrix products alone allow {hopfield_products():.2f}×: both forms need the products with W_2 "
                "and W_3 in both directions at every step, and only W_1 x is saved. The rest must come from the "
                "autograd form's overhead."
            ),
        ),
    ]


def row(
    system: str,
    case: str,
    times: dict[str, list[float]],
    ours: str,
    peer: str | None,
    base: str,
    floor: float | None,
    target: float | None,
    unit: str,
    *,
    more: bool = False,
    note: str = "",
) -> dict:
    """One row: `ratio` is ours over base; `more` says that larger is better."""
    median = medians(times)
    ratio = median[ours] / median[base]
    holds = None if target is None else (ratio >= target if more else ratio <= target)
    return {
        "system": f"credit: {system}",
        "case": case,
        "ours": median[ours] * 1e3,
        "base": median[base] * 1e3,
        "peer": None if peer is None else median[peer] / median[base],
        "peer_name": None if peer is None else "published algorithm, autograd form",
        "floor": floor,
        "ratio": ratio,
        "interval": ratio_interval(times[ours], times[base]),
        "target": target,
        "holds": holds,
        "unit": unit,
        "repeats": len(times[ours]),
        "note": note,
    }


def table(rows: list[dict]) -> Table:
    columns = ("system", "case", "ratio", "unit", "peer", "floor", "target", "holds")
    caption = (
        "Ratio: CPU time over that of one backprop (forward, loss, parameter gradients) of the same net. "
        "Peer: the published algorithm, autograd form. Floor: matrix-product operations over backprop's."
    )
    return Table(columns, [[r[c] for c in columns] for r in rows], "Credit", caption)


def backprop(chain: ResidualChain, x: Tensor, y: Tensor) -> None:
    for parameter in chain.parameters():
        parameter.grad = None
    chain.loss(chain(x), y).mean().backward()


def naive_chain(
    chain: ResidualChain, free: list[Tensor], y: Tensor, beta: float, step_size: float
) -> list[Tensor]:
    """T steps of gradient descent, each one autograd call on the energy of all blocks."""
    states = [h.clone() for h in free]
    for _ in range(STEPS):
        leaves = [h.requires_grad_() for h in states[1:]]
        inputs = [states[0], *leaves]
        energy = beta * chain.losses(leaves[-1], y).sum()
        for block, below, h in zip(chain.blocks, inputs, leaves):
            energy = energy + 0.5 * (h - block(below)).square().sum()
        slopes = torch.autograd.grad(energy, leaves)
        states = [states[0], *((h - step_size * g).detach() for h, g in zip(leaves, slopes))]
    return states


def naive_hopfield(net: HopfieldNetwork, free: list[Tensor], y: Tensor, beta: float) -> list[Tensor]:
    """T steps s ← ρ(∂Φ/∂s), each one autograd call on the primitive function, as Laborieux et al. 2021 do."""
    states = [s.clone() for s in free]
    targets = torch.nn.functional.one_hot(y, net.sizes[-1]).to(states[0].dtype)
    for _ in range(STEPS):
        leaves = [s.requires_grad_() for s in states[1:]]
        phi = net.primitive([states[0], *leaves], targets, beta)
        fields = torch.autograd.grad(phi, leaves)
        states = [states[0], *(net.activation.apply_(z) for z in fields)]
    return states


def backprop_hopfield(net: HopfieldNetwork, x: Tensor, y: Tensor) -> None:
    """Backprop of the feedforward net with the same weights and activation."""
    for parameter in net.parameters():
        parameter.grad = None
    h = x
    for weight, bias in zip(net.weights, net.biases):
        z = torch.nn.functional.linear(h, weight, bias)
        h = z.clamp(0, 1) if net.activation.name == "hard_sigmoid" else z.tanh()
    target = torch.nn.functional.one_hot(y, net.sizes[-1]).to(h.dtype)
    (0.5 * (h - target).square().sum(1)).mean().backward()


def chain_floor(width: int) -> float:
    """Multiplications of T steps on reached blocks, over those of one backprop (per sample)."""
    square, head = width * width, width * CLASSES
    inner = sum(2 * min(step - 1, BLOCKS - 1) for step in range(1, STEPS + 1))
    backward = 3 * BLOCKS * square - square + 3 * head
    return (inner * square + 2 * STEPS * head) / backward


def error_floor(width: int) -> float:
    """Multiplications of one sweep up and one down, over those of one backprop (per sample)."""
    square, head = width * width, width * CLASSES
    return (2 * (BLOCKS - 1) * square + 2 * head) / (3 * BLOCKS * square - square + 3 * head)


def hopfield_products() -> float:
    """Multiplications of T steps in the autograd form, over those with x W_1ᵀ computed once."""
    pairs: list[int] = [a * b for a, b in pairwise(HOPFIELD)]
    inner = 2 * sum(pairs[1:])
    return STEPS * (pairs[0] + inner) / (pairs[0] + STEPS * inner)


def hopfield_floor() -> float:
    """Multiplications of T steps with x W_1ᵀ computed once, over those of one backprop (per sample)."""
    pairs: list[int] = [a * b for a, b in pairwise(HOPFIELD)]
    return (pairs[0] + STEPS * 2 * sum(pairs[1:])) / (3 * sum(pairs) - pairs[0])


if __name__ == "__main__":
    main()
