"""Times tangent kernels, and measures their memory and accuracy.

python benchmarks/spectral.py [--quick] [--only PART]: writes benchmarks/results/spectral.json and prints a table; with
--only it prints alone. Empirical kernels run against the two ways of torch.func, and against neural-tangents' structured
derivatives in the environment that FINGERPOST_NEURAL_TANGENTS_PYTHON names (requirements-spectral.txt); without one, that
peer is reported as missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import _spectral_kernels
from _interleave import environment
from _rows import Row, over_base
from _spectral_peers import NeuralTangents, jacobian_contraction, neural_tangents, vector_products
from _turns import here, turns
from fingerpost._table import Table
from fingerpost.spectral import CoordinateMLP, empirical_ntk, linearize, ntk_matvec

FASTER, NEVER_SLOWER, KERNELS = 1 / 40, 1.0, 5
"""Targets: time over the Jacobian contraction's at n ≥ 512, over neural-tangents', and memory in kernels."""
JAX = "neural-tangents, structured derivatives"
INPUTS, WIDTH = 32, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and cases")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "N"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.peak:
        print(json.dumps(peak(flags.peak[0], int(flags.peak[1]))))
        return
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    if not flags.only:
        path = Path(__file__).parent / "results" / "spectral.json"
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def perceptron(outputs: int = 1, seed: int = 0) -> nn.Sequential:
    """Four hidden layers of 256 ReLUs."""
    sizes = [INPUTS, WIDTH, WIDTH, WIDTH, WIDTH, outputs]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def samples(n: int, *shape: int) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def empirical(quick: bool) -> list[Row]:
    """A perceptron's kernel: ours over the Jacobian contraction, and over neural-tangents."""
    peer = neural_tangents()
    rows = []
    try:
        for n, outputs in ((128, 1), (512, 1)) if quick else ((128, 1), (512, 1), (1024, 1), (256, 10)):
            rows += both(n, outputs, peer, quick)
    finally:
        if isinstance(peer, NeuralTangents):
            peer.close()
    return rows


def both(n: int, outputs: int, peer: NeuralTangents | str, quick: bool) -> list[Row]:
    model, x = perceptron(outputs), samples(n, INPUTS)
    contraction = jacobian_contraction(model, x, "trace")
    ours, theirs = empirical_ntk(model, x), contraction() / outputs
    case = f"4 × {WIDTH} MLP, n = {n}" + (f", {outputs} outputs, trace" if outputs > 1 else "")
    note = f"differs from the contraction's by {error(ours, theirs):.0e} of its largest entry (float32)"
    timed = {"ours": here(lambda: empirical_ntk(model, x)), "bare": here(contraction)}
    times = turns(timed, 3 if quick or outputs > 1 else 5, warmup=1)
    target = FASTER if n >= 512 and outputs == 1 else None
    rows = [row("empirical NTK", case, times, "torch.func's Jacobian contraction", target, note)]
    if isinstance(peer, str):
        rows.append(missing("empirical NTK", case, peer))
        return rows
    found = torch.from_numpy(peer.load(model, x, trace=True))
    timed = {"ours": here(lambda: empirical_ntk(model, x)), "bare": peer.seconds}
    note = f"under jit, compiled before; differs from ours by {error(ours, found):.0e}"
    times = turns(timed, 7 if quick else 15, at_least=0.1)
    rows.append(row("empirical NTK", case, times, JAX, NEVER_SLOWER, note))
    return rows


def architectures(quick: bool) -> list[Row]:
    """Other networks and reductions over the Jacobian contraction; no target."""
    convolutional = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip
    attention = nn.Sequential(
        nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True), nn.Flatten(), nn.Linear(1024, 1)
    )
    coordinate = CoordinateMLP(2, 3, width=WIDTH, depth=3, parametrization="ntk")
    cases = [
        ("CNN, 3×16×16, 10 outputs", convolutional, samples(32 if quick else 64, 3, 16, 16), "full"),
        ("Transformer layer, 16 tokens of 64", attention.eval(), samples(32 if quick else 128, 16, 64), "trace"),
        ("CoordinateMLP, 3 × 256, NTK parametrization, 3 outputs", coordinate, samples(256, 2), "trace"),
        ("4 × 256 MLP, 10 outputs", perceptron(10), samples(128, INPUTS), "full"),
    ]  # fmt: skip
    rows = []
    for name, model, x, reduce in cases:
        contraction = jacobian_contraction(model, x, reduce)
        ours, theirs = empirical_ntk(model, x, reduce=reduce), contraction()
        if reduce == "trace":
            theirs = theirs / model(x[:1]).shape[1]
        timed = {
            "ours": here(lambda m=model, x=x, r=reduce: empirical_ntk(m, x, reduce=r)),
            "bare": here(contraction),
        }
        note = f"differs by {error(ours, theirs):.0e}"
        times = turns(timed, 3 if quick else 5, warmup=1)
        rows.append(row("empirical NTK", f"{name}, n = {len(x)}, {reduce}", times, "torch.func's Jacobian contraction",
                        None, note))  # fmt: skip
    return rows


def products(quick: bool) -> list[Row]:
    """The other way of torch.func, which costs a network's passes for every pair; and what a product and a linear step cost."""
    model, x = perceptron(), samples(32, INPUTS)
    theirs = vector_products(model, x)
    note = f"differs by {error(empirical_ntk(model, x), theirs()[..., 0, 0]):.0e}"
    timed = {"ours": here(lambda: empirical_ntk(model, x)), "bare": here(theirs)}
    rows = [row("empirical NTK", f"4 × {WIDTH} MLP, n = 32", turns(timed, 3 if quick else 5, warmup=1),
                "torch.func's vector products", None, note)]  # fmt: skip
    x, v = samples(512, INPUTS), samples(512, 1)
    parameters = list(model.parameters())

    def gradient() -> tuple[Tensor, ...]:
        return torch.autograd.grad(model(x), parameters, v)

    timed = {"ours": here(lambda: ntk_matvec(model, x, v)), "bare": here(gradient)}
    rows.append(row("J Jᵀ v", f"4 × {WIDTH} MLP, n = 512", turns(timed, 7 if quick else 15),
                    "the gradient of one loss", None, ""))  # fmt: skip
    linear = linearize(model)
    trained = [p for p in linear.parameters() if p.requires_grad]
    timed["ours"] = here(lambda: torch.autograd.grad(linear(x), trained, v))
    rows.append(row("gradient of the linearised network", f"4 × {WIDTH} MLP, n = 512", turns(timed, 7 if quick else 15),
                    "the gradient of one loss", None, ""))  # fmt: skip
    return rows


def memory(quick: bool) -> list[Row]:
    """Peak resident memory of a process beyond what it holds before, ours and the contraction's."""
    rows = []
    for n in (512,) if quick else (512, 1024):
        found = {way: measured(way, n) for way in ("ours", "contraction", "passes")}
        kernel = 4 * n * n / 2**20
        kernels = (found["ours"] - found["passes"]) / kernel
        rows.append({
            "system": "spectral: memory of an empirical NTK", "case": f"4 × {WIDTH} MLP, n = {n}", "ours": found["ours"],
            "base": found["contraction"], "peer": None, "peer_name": None, "floor": None, "ratio": kernels, "interval": None,
            "target": KERNELS, "holds": kernels <= KERNELS, "unit": "kernels", "repeats": 3,
            "note": f"MiB at the peak; base: the Jacobian contraction; a kernel is {kernel:g} MiB and is among them; beyond a "
            f"forward and a backward pass that keep their activations ({found['passes']:.0f} MiB)",
        })  # fmt: skip
    return rows


def measured(way: str, n: int) -> float:
    """MiB beyond what the process holds before: the median of three processes."""
    command = [sys.executable, __file__, "--peak", way, str(n)]
    found = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return sorted(found)[1]


def peak(way: str, n: int) -> float:
    """Run in a process of its own, on Linux: the peak of the resident set, less what a tiny kernel has left behind."""
    torch.set_num_threads(1)
    model, few, x = perceptron(), samples(4, INPUTS), samples(n, INPUTS)
    ways: dict[str, Callable[[Tensor], Any]] = {
        "ours": lambda x: empirical_ntk(model, x),
        "contraction": lambda x: jacobian_contraction(model, x, "trace")(),
        "passes": lambda x: passes(model, x),
    }
    ways[way](few)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    ways[way](x)
    return (resident("VmHWM") - before) / 1024


def passes(model: nn.Sequential, x: Tensor) -> tuple[Tensor, ...]:
    """A forward pass and the cotangents of each layer's output, held together as any layer-wise kernel has to."""
    kept = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            kept.append(x)
    return torch.autograd.grad(x.sum(), kept, retain_graph=True)


def resident(field: str) -> float:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def row(
    what: str, case: str, times: dict[str, list[float]], base: str, target: float | None, note: str
) -> Row:
    return over_base(f"spectral: {what}", case, times, base, target, None, note)


def missing(what: str, case: str, reason: str) -> Row:
    return {
        "system": f"spectral: {what}", "case": case, "ours": None, "base": None, "peer": None, "peer_name": JAX,
        "floor": None, "ratio": None, "interval": None, "target": NEVER_SLOWER, "holds": None, "unit": f"× {JAX}",
        "repeats": 0, "note": f"not measured: {reason}",
    }  # fmt: skip


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "unit", "target", "holds", "note")
    caption = "CPU time in ms (MiB for memory), one thread; ratio over the base."
    return Table(columns, [[row[column] for column in columns] for row in rows], "Spectral", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "empirical": empirical,
    "architectures": architectures,
    "products": products,
    "memory": memory,
    **_spectral_kernels.PARTS,
}

if __name__ == "__main__":
    main()
