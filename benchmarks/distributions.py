"""Times samples with their gradients: against torch's own kernels and samplers, and against other libraries.

python benchmarks/distributions.py [--quick] [--only PART]: writes benchmarks/results/distributions.json and prints a table;
with --only it prints alone. Peers that are not installed are reported as missing (benchmarks/requirements-distributions.txt
lists them, with the JAX that TensorFlow Probability works with).
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _distributions_peers import MISSING, TFP, dense_mixture, pyro_mixture, tfp_step
from _interleave import environment, interleave
from _rows import Row, over_base
from fingerpost import distributions as ours
from fingerpost._table import Table

GAMMA, VON_MISES, RICE, MIXTURE = 10.0, 2.0, 1.5, 1.0
COUNT = 100_000
"""Samples in a batch."""
Step = Callable[[], object]
theirs = torch.distributions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and cases")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    flags = parser.parse_args()
    torch.manual_seed(0)
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    if not flags.only:
        path = Path(__file__).parent / "results" / "distributions.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def step(make: Callable[..., Any], *parameters: Any, dtype: torch.dtype = torch.float64) -> Step:
    """Draws COUNT samples and takes the gradient of their sum by every parameter."""
    leaves = [torch.as_tensor(p, dtype=dtype).clone().requires_grad_() for p in parameters]

    def run() -> tuple[Tensor, ...]:
        count = COUNT // max(1, make(*leaves).batch_shape.numel())
        return torch.autograd.grad(make(*leaves).rsample((count,)).sum(), leaves)

    return run


def gamma(quick: bool) -> list[Row]:
    """The velocity alone, against torch's kernel for it."""
    rows = []
    for a in (0.01, 0.5, 3.0, 100.0, 1e4):
        concentration = torch.full((COUNT,), a, dtype=torch.float64)
        rate = torch.ones((), dtype=torch.float64)
        z = theirs.Gamma(concentration, 1.0).sample()
        mine = ours.Gamma(concentration, rate, validate_args=False)
        functions = {
            "bare": lambda c=concentration, z=z: torch._standard_gamma_grad(c, z),
            "ours": lambda d=mine, z=z: d.velocity(z),
        }
        times = interleave(functions, 7 if quick else 15, at_least=0.05)
        rows.append(row("velocity of Gamma", f"a = {a:g}", times, "torch's kernel", GAMMA))
    return rows


def von_mises(quick: bool) -> list[Row]:
    """Samples with their gradient, against torch's samples without one."""
    rows = []
    for kappa in (0.01, 1.0, 30.0, 1e4):
        plain = theirs.VonMises(
            torch.zeros(COUNT, dtype=torch.float64), torch.tensor(kappa, dtype=torch.float64)
        )
        functions: dict[str, Step] = {
            "bare": plain.sample,
            "ours": step(ours.VonMises, torch.zeros(COUNT), torch.full((COUNT,), kappa)),
            TFP: tfp_step("VonMises", (torch.zeros(COUNT).numpy(), torch.full((COUNT,), kappa).numpy())),
        }
        rows.append(timed("VonMises, sample and gradient", f"κ = {kappa:g}", functions, "torch's sample",
                          VON_MISES, TFP, quick))  # fmt: skip
    return rows


def rice(quick: bool) -> list[Row]:
    """Samples with their gradient, against the best public Rice and folded normal."""
    rows = []
    library = peer_module("rs_distributions.distributions")
    for name in ("Rice", "FoldedNormal"):
        for snr in (0.5, 3.0, 100.0):
            for dtype in (torch.float64, torch.float32):
                loc, scale = torch.full((COUNT,), snr), torch.ones(COUNT)
                functions = {"ours": step(getattr(ours, name), loc, scale, dtype=dtype)}
                if library:
                    functions["bare"] = step(getattr(library, name), loc, scale, dtype=dtype)
                case = f"SNR {snr:g}, {str(dtype).removeprefix('torch.')}"
                target = RICE if name == "Rice" else None
                rows.append(timed(f"{name}, sample and gradient", case, functions, "rs-distributions", target,
                                  None, quick))  # fmt: skip
    return rows


def others(quick: bool) -> list[Row]:
    """The rest, against torch's own gradient (or its sample, where it has none), and TensorFlow Probability under jit."""
    a, b = torch.full((COUNT,), 2.5), torch.full((COUNT,), 0.7)
    few = torch.tensor([0.5, 1.0, 2.0, 5.0])
    cases: list[tuple[str, Step, Step, str, Step | None]] = [
        ("Gamma", step(ours.Gamma, a, b), step(theirs.Gamma, a, b), "torch", tfp_step("Gamma", (a.numpy(), b.numpy()))),
        ("Beta", step(ours.Beta, a, b), step(theirs.Beta, a, b), "torch", tfp_step("Beta", (a.numpy(), b.numpy()))),
        ("Dirichlet, K = 4", dirichlet(ours.Dirichlet, few), dirichlet(theirs.Dirichlet, few), "torch", None),
        ("StudentT", step(ours.StudentT, a, b, b), step(theirs.StudentT, a, b, b), "torch",
         tfp_step("StudentT", (a.numpy(), b.numpy(), b.numpy()))),
        ("TruncatedNormal", step(ours.TruncatedNormal, b, a, -b, a + b), step(theirs.Normal, b, a), "torch's Normal",
         tfp_step("TruncatedNormal", (b.numpy(), a.numpy(), (-b).numpy(), (a + b).numpy()))),
    ]  # fmt: skip
    rows = []
    for name, mine, bare, base, tfp in cases:
        functions = {"ours": mine, "bare": bare, TFP: tfp}
        rows.append(
            timed(f"{name}, sample and gradient", f"{COUNT:,} samples", functions, base, None, TFP, quick)
        )
    return rows


def dirichlet(make: Callable[..., Any], concentration: Tensor) -> Step:
    """Weights, so that the gradient isn't zero: components of a sample sum to 1."""
    leaf = concentration.double().requires_grad_()
    weights = torch.arange(4, dtype=torch.float64)
    return lambda: torch.autograd.grad((make(leaf).rsample((COUNT // 4,)) * weights).sum(), leaf)


def mixture(quick: bool) -> list[Row]:
    """Factorised mixtures of normals: samples with their gradient, against solving the dense triangular Jacobian."""
    rows = []
    for dimension in (1, 2, 5, 10, 30) if quick else (1, 2, 5, 10, 30, 100):
        draws, components = max(64, 8192 // dimension), 5
        given = [
            torch.randn(components, dtype=torch.float64),
            2 * torch.randn(components, dimension, dtype=torch.float64),
            0.5 + torch.rand(components, dimension, dtype=torch.float64),
        ]
        leaves = [x.requires_grad_() for x in given]
        functions: dict[str, Step | None] = {
            "ours": mixture_step(leaves, draws),
            "bare": dense_mixture(leaves, draws),
            "pyro": pyro_mixture(leaves, draws) if dimension > 1 else None,
        }
        case = f"D = {dimension}, K = {components}, {draws} samples"
        target = MIXTURE if dimension > 1 else None
        rows.append(timed("MixtureSameFamily, sample and gradient", case, functions, "the dense-Jacobian way", target,
                          "pyro", quick))  # fmt: skip
    return rows


def mixture_step(leaves: list[Tensor], draws: int) -> Step:
    def run() -> tuple[Tensor, ...]:
        logits, loc, scale = leaves
        components = theirs.Independent(theirs.Normal(loc, scale), 1)
        law = ours.MixtureSameFamily(theirs.Categorical(logits=logits), components)
        return torch.autograd.grad(law.rsample((draws,)).square().sum(), leaves)

    return run


def timed(
    what: str,
    case: str,
    functions: dict[str, Step | None],
    base: str,
    target: float | None,
    peer: str | None,
    quick: bool,
) -> Row:
    """Times what there is of ours, the base and the peer; names what is missing."""
    known: dict[str, Step] = {name: function for name, function in functions.items() if function is not None}
    note = (
        "" if peer is None or peer in known else f"{peer} is not measured: {MISSING.get(peer, 'it has none')}"
    )
    if "bare" not in known:
        known["bare"], target = known["ours"], None
        note = f"{base} is not measured: {MISSING.get(base, 'it has none')}; ours over itself"
    times = interleave(known, 7 if quick else 11, at_least=0.05)
    return row(what, case, times, base, target, peer, note)


def row(
    what: str, case: str, times: dict[str, list[float]], base: str, target: float | None,
    peer: str | None = None, note: str = "",
) -> Row:  # fmt: skip
    return over_base(f"distributions: {what}", case, times, base, target, peer, note)


def peer_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        MISSING["rs-distributions"] = f"{type(error).__name__}: {error}"
        return None


def table(rows: list[Row]) -> Table:
    columns = (
        "system",
        "case",
        "ours",
        "base",
        "ratio",
        "unit",
        "peer",
        "peer_name",
        "target",
        "holds",
        "note",
    )
    caption = f"CPU time in ms of a batch (of {COUNT:,} samples but for mixtures), one thread; ratio and peer over the base."
    return Table(columns, [[row[column] for column in columns] for row in rows], "Distributions", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "gamma": gamma,
    "von_mises": von_mises,
    "rice": rice,
    "others": others,
    "mixture": mixture,
}

if __name__ == "__main__":
    main()
