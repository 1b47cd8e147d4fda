"""Times the ODE solvers and their gradients against peers, and against their own evaluations of the field.

python benchmarks/ode.py [--quick] [--only CASE]: writes benchmarks/results/ode.json and prints a table; with --only
it prints alone. Peers that are not installed are reported as missing (benchmarks/requirements.txt lists them).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from _interleave import environment
from _ode_cases import ATOL, CASES, RTOL, Augmented, Case, TooManyEvaluations
from _ode_diffrax import Diffrax
from _ode_peers import OURS, PEERS, missing
from _ode_rows import Times, absent, figure, over_floor, speed_up
from _turns import Timed, here, turns
from fingerpost._table import Table
from fingerpost.ode import CNF, solve

FORWARD, FRAMEWORK, TINY = 1.4, 1.3, 2.0
GRADIENT = {  # over torchdiffeq's default adjoint
    "cnf": {"tape": 1.8, "checkpoint": 1.3},
    "mlp": {"tape": 2.5, "checkpoint": 2.1},
    "large": {"tape": 6.6},
    "observed": {"tape": 28.0},
}
MATCHED = {"mlp": 4.6, "cnf": 1.8}
GOAL = 1e-4
"""The relative error of the gradient at which peers are matched."""
LADDER = [10 ** (-0.5 * i) for i in range(4, 13)]
MOST = 50_000
"""Evaluations in one call that is not timed. Below the precision of float32 zuko's steps never end."""
ADJOINT = "torchdiffeq adjoint"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--only", choices=[*CASES, "dense"], help="one case, printed and not written")
    flags = parser.parse_args()
    repeats = 5 if flags.quick else 11
    worker = None if missing("diffrax") else Diffrax()
    rows: list[Row] = []
    for name in [flags.only] if flags.only else [*CASES, "dense"]:
        rows += dense_rows() if name == "dense" else Bench(CASES[name](), worker, repeats).rows()
    if worker is not None:
        worker.close()
    if not flags.only:
        path = Path(__file__).parent / "results" / "ode.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


class Bench:
    """All rows of one case.

    Args:
      case: The problem.
      worker: The process with diffrax, or None.
      repeats: Turns of each timing.
    """

    def __init__(self, case: Case, worker: Diffrax | None, repeats: int) -> None:
        self.case, self.worker, self.repeats = case, worker, repeats
        self.states, self.gradient = reference(case)
        self.peers = {key: subject for key, (module, subject) in PEERS.items() if not missing(module)}
        self.absent = {key: missing(module) or "" for key, (module, _) in PEERS.items() if missing(module)}
        if len(case.times) > 2:
            self.peers = {key: subject for key, subject in self.peers.items() if subject.observes}
        if worker is None:
            self.absent["diffrax"] = missing("diffrax") or ""
        else:
            worker.load(case)

    def rows(self) -> list[Row]:
        rows = self.forward() + self.backward()
        if self.case.name in MATCHED:
            rows += self.matched()
        return rows

    def forward(self) -> list[Row]:
        """Speed-ups of the states, and their cost over that of f."""
        case, timed, notes = self.case, dict[str, Timed](), dict[str, str]()
        subjects = {"ours": OURS["checkpoint"], **{k: s for k, s in self.peers.items() if s.forward}}
        for key, subject in subjects.items():
            timed[key] = here(lambda s=subject: s.run_forward(case, RTOL, ATOL))
            nfe, states = counted(case, lambda s=subject: s.run_forward(case, RTOL, ATOL))
            error = relative(states[-1].double(), self.states[-1])
            notes[key] = f"{nfe} evaluations, error of the final state {error:.1e}"
        if self.worker is not None:
            timed["diffrax"] = self.jitted("forward")
            final = torch.from_numpy(self.worker.result("forward", RTOL, ATOL)[0][-1])
            notes["diffrax"] = f"error of the final state {relative(final.double(), self.states[-1]):.1e}"
        timed["f"], _ = bare(case)
        times = turns(timed, self.repeats)
        nfe = int(notes["ours"].split()[0])
        rows = self.compared("forward", times, "ours", notes, {"torchdiffeq": FORWARD})
        times["floor"] = [nfe * seconds for seconds in times["f"]]
        limit = TINY if case.name == "tiny" else FRAMEWORK
        note = f"floor: {nfe} evaluations of the bare field"
        return [
            *rows,
            over_floor("forward, framework", case.text, times["ours"], times["floor"], limit, note),
        ]

    def backward(self) -> list[Row]:
        """Speed-ups of the parameters' gradient, and its cost over that of f and its products."""
        case, timed, notes, counts = self.case, dict[str, Timed](), dict[str, str](), dict[str, int]()
        for key, subject in {**OURS, **self.peers}.items():
            if not subject.gradient:
                continue
            timed[key] = here(lambda s=subject: s.run_gradient(case, RTOL, ATOL))
            counts[key], found = counted(case, lambda s=subject: s.run_gradient(case, RTOL, ATOL))
            notes[key] = f"{counts[key]} evaluations, error of the gradient {self.error(found):.1e}"
        if self.worker is not None:
            timed["diffrax"] = self.jitted("gradient")
            notes["diffrax"] = f"error of the gradient {self.error(self.diffrax_gradient(RTOL)):.1e}"
        timed["f"], timed["product"] = bare(case)
        if isinstance(case.field, Augmented):
            timed["class"] = here(lambda: likelihood(case))
            counts["class"], found = counted(case, lambda: likelihood(case))
            notes["class"] = f"{counts['class']} evaluations, error of the gradient {self.error(found):.1e}"
        times = turns(timed, self.repeats)
        rows: list[Row] = []
        if "class" in times:
            peers = {key: times[key] for key in ("class", ADJOINT) if key in times}
            rows += self.compared("gradient, CNF.log_prob, tape", peers, "class", notes, {})
        for way in OURS:
            targets = {ADJOINT: GRADIENT.get(case.name, {}).get(way)}
            peers = times if way == "tape" else {key: times[key] for key in (way, ADJOINT) if key in times}
            rows += self.compared(f"gradient, {way}", peers, way, notes, targets)
        forward, _ = counted(case, lambda: OURS["checkpoint"].run_forward(case, RTOL, ATOL))
        return rows + self.framework(times, counts, forward)

    def framework(self, times: Times, counts: dict[str, int], forward: int) -> list[Row]:
        case, rows = self.case, []
        limit = TINY if case.name == "tiny" else FRAMEWORK
        for way in ("tape", "checkpoint"):
            plain = 0 if way == "tape" else forward
            products = counts[way] - plain
            floor = [plain * f + products * v for f, v in zip(times["f"], times["product"])]
            note = (
                f"floor: {plain} evaluations of the bare field, {products} with its vector-Jacobian product"
            )
            what = f"gradient, {way}, framework"
            rows.append(over_floor(what, case.text, times[way], floor, limit, note))
        return rows

    def matched(self) -> list[Row]:
        """Speed-ups at the loosest tolerances whose gradients err by no more than the goal."""
        case, timed, notes = self.case, dict[str, Timed](), dict[str, str]()
        for key, subject in {"tape": OURS["tape"], **self.peers}.items():
            tolerance = self.loosest(lambda rtol, s=subject: s.run_gradient(case, rtol, rtol / 10))
            if tolerance is not None:
                timed[key] = here(lambda s=subject, r=tolerance: s.run_gradient(case, r, r / 10))
                notes[key] = f"rtol {tolerance:.1e}"
        if self.worker is not None:
            tolerance = self.loosest(self.diffrax_gradient)
            if tolerance is not None:
                timed["diffrax"] = self.jitted("gradient", tolerance)
                notes["diffrax"] = f"rtol {tolerance:.1e}"
        times = turns(timed, self.repeats)
        what = f"gradient, tape, error at most {GOAL:g}"
        return self.compared(what, times, "tape", notes, {ADJOINT: MATCHED[case.name]})

    def loosest(self, gradient: Callable[[float], Sequence[Tensor]]) -> float | None:
        """The loosest tolerance of the ladder that meets the goal, as does the next tighter one; None if none does."""
        last = False
        for i, rtol in enumerate(LADDER):
            try:
                met = counted(self.case, lambda r=rtol: self.error(gradient(r)))[1] <= GOAL
            except (TooManyEvaluations, AssertionError):  # a peer below the precision of float32
                return None
            if met and last:
                return LADDER[i - 1]
            last = met
        return None

    def compared(
        self, what: str, times: Times, ours: str, notes: dict[str, str], targets: dict[str, float | None]
    ) -> list[Row]:
        """One row for each peer, the missing ones too."""
        rows = []
        expected = ["torchdiffeq", "zuko", "torchode", "diffrax"] if what == "forward" else [ADJOINT]
        if what == "gradient, tape":
            expected += ["zuko", "torchode", "diffrax"]
        for key in [*PEERS, "diffrax"]:
            name = "diffrax under jit" if key == "diffrax" else PEERS[key][1].name
            if key in times and key in notes:
                note = f"ours: {notes[ours]}; peer: {notes[key]}"
                rows.append(speed_up(what, self.case.text, times, ours, key, name, targets.get(key), note))
            elif key in self.absent and key in expected:
                rows.append(absent(what, self.case.text, name, self.absent[key]))
        return rows

    def jitted(self, what: str, rtol: float = RTOL) -> Timed:
        worker = self.worker
        assert worker is not None
        return lambda calls: worker.seconds(what, rtol, rtol * ATOL / RTOL, calls)

    def diffrax_gradient(self, rtol: float) -> list[Tensor]:
        assert self.worker is not None
        return [torch.from_numpy(g) for g in self.worker.result("gradient", rtol, rtol * ATOL / RTOL)]

    def error(self, found: Sequence[Tensor]) -> float:
        return relative(flat(found), self.gradient)


def likelihood(case: Case) -> Sequence[Tensor]:
    """The gradient of the mean −log p by the class `CNF`, which takes the trace and the integral its own way."""
    x = case.y0[:, :-1]
    base = Independent(Normal(torch.zeros(x.shape[1]), 1.0), 1)
    flow = CNF(case.net, base, rtol=RTOL, atol=ATOL, gradient="tape", quadrature_in_norm=True)
    return torch.autograd.grad(-flow.log_prob(x).mean(), case.params)


def reference(case: Case) -> tuple[Tensor, Tensor]:
    """States and gradient in float64, by dop853 at 1e-12."""
    exact = case.double()
    ys = solve(
        exact.field,
        exact.y0,
        exact.grid(),
        method="dop853",
        rtol=1e-12,
        atol=1e-14,
        gradient="tape",
        dense=False,
    ).ys
    return ys.detach(), flat(torch.autograd.grad(exact.loss(ys), exact.params))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def counted(case: Case, run: Callable[[], Any]) -> tuple[int, Any]:
    """Evaluations of the field by one call, which may not be without end, and what it returned."""
    before = case.net.calls
    case.net.last = before + MOST
    try:
        result = run()
    finally:
        case.net.last = None
    return case.net.calls - before, result


def bare(case: Case) -> tuple[Timed, Timed]:
    """One evaluation of the field, and one with its vector-Jacobian product with state and parameters."""
    field, y0, params = case.field, case.y0, case.params
    t, v = torch.tensor(case.times[0]), torch.ones_like(y0)

    def evaluate() -> Tensor:
        with torch.no_grad():
            return field(t, y0)

    def product() -> tuple[Tensor, ...]:
        y = y0.detach().requires_grad_()
        return torch.autograd.grad(field(t, y), [y, *params], v, allow_unused=True)

    return here(evaluate), here(product)


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "peer_name", "ours", "base", "ratio", "peer", "unit", "target", "holds")
    caption = (
        f"CPU time in ms, one thread, float32, rtol {RTOL:g} and atol {ATOL:g} for all. '× faster': the peer's time over "
        "ours. '× its evaluations': ours over the field's evaluations and products alone."
    )
    return Table(columns, [[row[column] for column in columns] for row in rows], "ODE", caption)


def dense_rows() -> list[Row]:
    """How far states between the steps lie off, in tolerances: a linear oscillator, float64."""
    rtol, rows = 1e-6, []
    times = torch.linspace(0, 20, 201, dtype=torch.float64)
    y0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    truth = torch.stack([times.cos(), -times.sin()], 1)

    def field(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -y[0]])

    for method, theirs in (("dop853", "dopri8"), ("dopri5", "dopri5"), ("bosh3", "bosh3")):
        ys = solve(field, y0, times, method=method, rtol=rtol, atol=rtol).ys
        worst = float((ys - truth).abs().max()) / rtol
        peer, name, note = None, f"torchdiffeq {theirs}", missing("torchdiffeq") or ""
        if not note:
            from torchdiffeq import odeint

            found = odeint(field, y0, times, method=theirs, rtol=rtol, atol=rtol)
            peer = float((found - truth).abs().max()) / rtol
        case = f"oscillator, 200 observation times in [0, 20], rtol = atol = {rtol:g}"
        what = f"largest error at observations, {method}"
        rows.append(figure(what, case, worst, "tolerances", peer=peer, peer_name=name, note=note))
    return rows


if __name__ == "__main__":
    main()
