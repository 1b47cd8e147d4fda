"""The printed formulas of the source on flow matching beside the right ones, as claims."""

from __future__ import annotations

import math
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.lab import Claim, Run

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
flow = lazy_import("fingerpost.flow")
ode = lazy_import("fingerpost.ode")

SOURCE = "flow-matching.md"


def claim_formulas(run: Run, x1: Any) -> None:
    """Reads each formula in its readings, measures, and claims what is right.

    Args:
      run: Where the claims go.
      x1: Data, shape (N, 2), float64.
    """
    _prime(run, x1)
    _boundaries(run, x1)
    _exploding(run, x1)
    _starts(run)
    _precision(run)
    _likelihood(run, x1)


def printed_preserving(path: Any, x: Any, x1: Any, t: Any, prime: float) -> Any:
    """The printed −T′/2 [e^{−T} x − e^{−T/2} x₁]/(1 − e^{−T}) at 1 − t; `prime` is +1 for T′ evaluated there, −1 for d/dt."""
    s = (1 - t)[:, None]
    slope = path.beta_max - path.beta_min
    total, rate = path.beta_min * s + 0.5 * slope * s * s, path.beta_min + slope * s
    bracket = (torch.exp(-total) * x - torch.exp(-total / 2) * x1) / -torch.expm1(-total)
    return -0.5 * prime * rate * bracket


def _prime(run: Run, x1: Any) -> None:
    """The marginal of the printed field as the learning signal of a model at 0, audited against L_FM at places."""
    path = flow.VariancePreserving(cutoff=0.02)
    field = flow.MarginalField(x1, path)
    generator = torch.Generator().manual_seed(1)
    nodes = field.draw(256, generator)
    exact, data = field(nodes.t, nodes.x), field.data(nodes.t, nodes.x)
    rows = []
    for reading, prime in (("the derivative of T, evaluated at 1 − t", 1.0), ("d/dt of T(1 − t)", -1.0)):
        target = printed_preserving(path, nodes.x, data, nodes.t, prime)

        def signal(v: Any, target: Any = target) -> Any:
            return 2 * (v - target)

        report = audit.audit(
            signal, lambda v: (v - exact).square().sum(1), torch.zeros_like(exact), cost=False
        )
        error = float((target - exact).norm() / exact.norm())
        rows.append([reading, error, str(report.verdict)])
        run.claim(_prime_claim(prime, error, report))
    caption = "The printed variance-preserving u_t, averaged over the posterior, against the exact field at 256 places."
    heads = ["′ read as", "relative error of u_t", "audit at v = 0"]
    run.table("prime", Table(heads, rows, title="What the prime means", caption=caption))


def _prime_claim(prime: float, error: float, report: Any) -> Claim:
    right = prime > 0
    return Claim(
        name="prime-evaluated" if right else "prime-composed",
        statement="The printed variance-preserving u_t is right with ′ the derivative of T, evaluated at 1 − t."
        if right
        else "With ′ read as d/dt of T(1 − t), the printed u_t is exactly the negative of the right one.",
        source=f"{SOURCE}, variance-preserving path (printed without a word on ′)",
        expected="0" if right else "2 (the negative), audit FAULT(sign)",
        measured=error if report.verdict.name == ("EXACT" if right else "FAULT") else math.nan,
        low=0.0 if right else 2 - 1e-6,
        high=1e-6 if right else 2 + 1e-6,
        unit="‖printed − exact‖/‖exact‖",
        note=f"audit: {report.verdict}",
    )


def _boundaries(run: Run, x1: Any) -> None:
    """Eq. 14's second line, read at t = 0 as printed and at t = 1."""
    sigma_min = 0.1
    path, zero = flow.CondOT(sigma_min), torch.zeros_like(x1)
    readings = ((0.0, "printed", "fails at t = 0, where it is printed"), (1.0, "right", "holds at t = 1"))
    for time, name, said in readings:
        mean = path.sample(zero, x1, time)
        width = path.sample(torch.ones_like(x1), zero, time)
        error = max(float((mean - x1).norm() / x1.norm()), float((width - sigma_min).abs().max()))
        run.claim(
            Claim(
                name=f"eq14-second-line-{name}",
                statement=f"The second line of eq. 14 (μ = x₁, σ = σ_min) {said}.",
                source=f"{SOURCE}, eq. 14: both lines are printed at t = 0",
                expected="0" if time else "1: the mean there is 0, not x₁",
                measured=error,
                low=None if time else 0.9,
                high=1e-12 if time else None,
                unit="largest relative error of μ and σ",
                note=f"straight path, σ_min = {sigma_min:g}, t = {time:g}",
            )
        )  # fmt: skip


def _exploding(run: Run, x1: Any) -> None:
    """Where the variance-exploding path starts: N(x₁, σ_max² I)."""
    sigma = 20.0
    path, zero = flow.VarianceExploding(0.01, sigma), torch.zeros_like(x1)
    mean = path.sample(zero, x1, 0.0)
    width = float(path.sample(torch.ones_like(x1), zero, 0.0).mean())
    distance = math.sqrt(float(mean.square().sum(1).mean()) + 2 * (width - 1) ** 2)
    run.claim(
        Claim(
            name="exploding-starts-at-the-data",
            statement="The variance-exploding path starts at N(x₁, σ_max² I), not at N(0, I).",
            source=f"{SOURCE}, eq. 8 and the first diffusion path, whose μ_t = x₁ at all times",
            expected="mean x₁ exactly",
            measured=float((mean - x1).norm() / x1.norm()),
            high=1e-12,
            unit="‖μ₀ − x₁‖/‖x₁‖",
            note=f"σ₀ = {width:.4g}; the 2-Wasserstein distance to N(0, I) is {distance:.3g} (root mean square over the data). "
            f"Against N(0, σ_max² I), from which one samples, the divergence is ‖x₁‖²/(2σ_max²), here "
            f"{float(x1.square().sum(1).mean()) / (2 * sigma**2):.2g} nats",
        )
    )


def _starts(run: Run) -> None:
    """What is left of the data at t = 0 of the variance-preserving path, and the direction of both."""
    path = flow.VariancePreserving()
    ends = torch.tensor([0.0, 1 - 1e-5], dtype=torch.float64)
    alpha = path.schedule(ends)[0]
    run.claim(
        Claim(
            name="preserving-only-approximates-noise",
            statement="At t = 0 the variance-preserving path keeps e^{−T(1)/2} of the data: it only approximates N(0, I).",
            source=f"{SOURCE}, eq. 8",
            expected="e^{−T(1)/2} = 0.00657 for β from 0.1 to 20",
            measured=float(alpha[0]),
            low=0.0065,
            high=0.0067,
            unit="α₀",
        )
    )
    for name, one in (("exploding", flow.VarianceExploding(0.01, 20.0)), ("preserving", path)):
        alpha, sigma = one.schedule(ends)[:2]
        ratio = sigma / alpha
        run.claim(
            Claim(
                name=f"{name}-runs-from-noise-to-data",
                statement=f"The variance-{name} field as printed runs from noise to data.",
                source=f"{SOURCE}: one of the two is captioned “data to noise”",
                expected="noise over data falls along t",
                measured=float(ratio[1] / ratio[0]),
                high=0.1,
                unit="(σ/α at the end)/(σ/α at t = 0)",
            )
        )


def _precision(run: Run) -> None:
    """1 − α² in float32, as printed, and by expm1, near the data."""
    path = flow.VariancePreserving(cutoff=1e-6)
    t = (1 - torch.logspace(-5.7, -4, 400, dtype=torch.float64)).float()
    alpha, sigma, _, _ = path.schedule(t.double())
    naive = 1 - alpha.float().square()
    error = float((naive.double() / sigma.square() - 1).abs().max())
    x0, x1 = torch.randn(2, 400, 2, generator=torch.Generator().manual_seed(0))
    x = path.sample(x0, x1, t)
    exact = path.velocity(x.double(), x1.double(), t.double())
    ours = float(((path.velocity(x, x1, t) - exact).norm(dim=1) / exact.norm(dim=1)).max())
    run.claim(
        Claim(
            name="one-minus-alpha-squared",
            statement="Near t = 1, the printed 1 − α² loses its digits in float32.",
            source=f"{SOURCE}, variance-preserving u_t",
            expected="≥ 10 %",
            measured=error,
            low=0.1,
            unit="largest relative error, 1 − t from 2e-6 to 1e-4",
            note="α itself is rounded only once; evaluating it in float32 is worse still",
        )
    )
    run.claim(
        Claim(
            name="velocity-in-float32",
            statement="fingerpost's u_t in float32 is within 1e-6 of float64 there.",
            source="the specification of flow",
            expected="≤ 1e-6",
            measured=ours,
            high=1e-6,
            unit="largest relative error over 400 times",
        )
    )


def _likelihood(run: Run, x1: Any) -> None:
    """The sign of the trace in the likelihood, on the marginal field, whose density is known."""
    field = flow.MarginalField(x1, flow.CondOT(0.3))
    z1 = field.sample(128, 1.0, torch.Generator().manual_seed(2))
    base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, dtype=z1.dtype), 1.0), 1)
    cnf = ode.CNF(field, base, rtol=1e-7, atol=1e-7)
    with torch.no_grad():
        right, z0 = cnf.log_prob(z1), ode.solve(field, z1, [1.0, 0.0], rtol=1e-7, atol=1e-7).ys[-1]
        start, exact = base.log_prob(z0), field.log_prob(1.0, z1)
    printed = 2 * start - right  # log μ + ∫ tr in place of log μ − ∫ tr
    for name, value, low, high in (("minus", right, None, 1e-3), ("plus-as-printed", printed, 0.5, None)):
        run.claim(
            Claim(
                name=f"likelihood-{name}",
                statement="log p₁(z₁) = log μ(z₀) − ∫₀¹ tr(∂f/∂z) dt reproduces the known density."
                if low is None
                else "With the printed plus sign before ∫₀¹ tr it does not.",
                source=f"{SOURCE}, the maximum-likelihood target",
                expected="0" if low is None else "> 0.5 nats",
                measured=float((value - exact).abs().mean()),
                low=low,
                high=high,
                unit="mean absolute error, nats",
                note="128 samples of an eight-point mixture, by fingerpost.ode",
            )
        )
