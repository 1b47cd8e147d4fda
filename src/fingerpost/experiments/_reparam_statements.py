"""What the source says of implicit gradients, each statement measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.lab import Claim, Run, derive_seed

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
distributions = lazy_import("fingerpost.distributions")
scipy_special = lazy_import("scipy.special")

SOURCE = "implicit-reparameterization.md"
DEMO = {"loc": 1.0, "scale": 2.0, "sample": 1.9856, "loc.grad": 1.0, "scale.grad": 0.4928}


def state(config: Any, run: Run) -> None:
    """The signs of equation 7, the demo's figures, batches, and the printed Rice distribution."""
    readings = {
        "∇z = −∇F/q, eq. 7 as printed": -1.0,
        "∇z = +∇F/q, the sign left out": 1.0,
    }
    reports = {name: _formula(config, sign) for name, sign in readings.items()}
    rows = [
        [name, str(report.verdict), min(layer.figures["gamma"].value for layer in report.layers)]
        for name, report in reports.items()
    ]
    caption = "Normal samples z = μ + σε, whose explicit path is the truth; F and q are torch's, differentiated by autograd."
    run.table(
        "signs", Table(["formula", "verdict", "smallest Γ"], rows, title="The sign in eq. 7", caption=caption)
    )
    printed, turned = reports.values()
    run.claim(
        Claim(
            name="printed-sign-is-right",
            statement="Equation 7 as printed, with its minus sign, is the gradient; without it, it points the other way.",
            source=f"{SOURCE}, eq. 6 and 7",
            expected="1",
            measured=float(printed.verdict.name == "EXACT" and str(turned.verdict).startswith("FAULT(sign")),
            low=1.0,
            unit="both verdicts as expected (1) or not (0)",
            note=f"{printed.verdict}; {turned.verdict}",
        )
    )
    _demo(run)
    _batches(run)
    _rice(run)


def _formula(config: Any, sign: float) -> Any:
    """Audits sign · ∇F/q for normal samples."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "formula"))
    shape = (config.rows, config.columns)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    point = {
        "loc": torch.rand(shape, generator=generator, dtype=torch.float64),
        "scale": 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64),
    }
    weight = torch.linspace(-1, 2, config.columns, dtype=torch.float64)
    z = point["loc"] + point["scale"] * noise

    def signal(parameters: Any) -> Any:
        normal = torch.distributions.Normal(*parameters.values())
        slopes = torch.autograd.grad(normal.cdf(z).sum(), list(parameters.values()))
        density = normal.log_prob(z).exp().detach()
        return {name: sign * weight * slope / density for name, slope in zip(parameters, slopes)}

    def loss(parameters: Any) -> Any:
        return (weight * (parameters["loc"] + parameters["scale"] * noise)).sum(1)

    return audit.audit(
        signal, loss, point, n=config.rows, cost=False, per_sample=True, quick=True,
        generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def _implicit(sample: Any, loc: Any, scale: Any) -> Any:
    normal = torch.distributions.Normal(loc, scale)
    return distributions.implicit_rsample(sample, normal.cdf, normal.log_prob)


def _demo(run: Run) -> None:
    """The demo prints a sample and two gradients; here are the gradients at that sample."""
    loc, scale = (torch.tensor(DEMO[key], requires_grad=True) for key in ("loc", "scale"))
    found = torch.autograd.grad(_implicit(torch.tensor(DEMO["sample"]), loc, scale), [loc, scale])
    off = max(abs(float(g) - DEMO[f"{key}.grad"]) for g, key in zip(found, ("loc", "scale")))
    run.claim(
        Claim(
            name="demo-figures",
            statement="At the demo's sample the gradients are the printed 1.0000 and 0.4928, that is 1 and (z − μ)/σ.",
            source=f"{SOURCE}, the printed session",
            expected="0, to the printed digits",
            measured=off,
            high=6e-5,
            unit="largest difference",
            note=f"found {float(found[0]):.6f} and {float(found[1]):.6f}; the sample is printed with five digits",
        )
    )


def _batches(run: Run) -> None:
    """The demo takes the gradient of F itself, which is one number only for one sample."""
    theirs, ours = 0, 0
    shapes = [(3,), (2, 3), (4, 1, 2)]
    for shape in shapes:
        loc = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        scale = torch.full(shape, 2.0, dtype=torch.float64, requires_grad=True)
        z = torch.distributions.Normal(loc, scale).sample()
        theirs += _works(lambda loc=loc, scale=scale, z=z: torch.autograd.grad(
            torch.distributions.Normal(loc, scale).cdf(z), loc
        ))  # fmt: skip
        by_loc, by_scale = torch.autograd.grad(_implicit(z, loc, scale).sum(), [loc, scale])
        exact = (by_loc - 1).abs().max() + (by_scale - z / 2).abs().max()
        ours += float(exact) < 1e-12
    run.claim(
        Claim(
            name="batches",
            statement="Batches of samples have their gradients, 1 and (z − μ)/σ each.",
            source=f"{SOURCE}, the demo, whose gradient of F takes one sample",
            expected=f"{len(shapes)} of {len(shapes)}",
            measured=float(ours),
            low=float(len(shapes)),
            unit="shapes",
            note=f"the demo's own step works for {theirs} of {len(shapes)}",
        )
    )


def _works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RuntimeError:
        return False
    return True


def _rice(run: Run) -> None:
    """The printed density and 1 − Q₁(ν/σ, x/σ), Marcum's Q, against our distribution function."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    worst, mass = 0.0, 0.0
    for nu, sigma in ((0.5, 1.0), (1.5, 0.7), (4.0, 2.0)):
        rice = distributions.Rice(*torch.tensor([nu, sigma], dtype=torch.float64))

        def printed(x: Any, nu: float = nu, sigma: float = sigma) -> Any:
            bessel = scipy_special.i0e(x * nu / sigma**2)
            return x / sigma**2 * np.exp(-((x - nu) ** 2) / (2 * sigma**2)) * bessel

        end = nu + 12 * sigma
        mass = max(mass, abs(float(end / 2 * weights @ printed(end / 2 * (nodes + 1))) - 1))
        for x in np.linspace(0.1, nu + 4 * sigma, 12):
            half = (end - x) / 2
            marcum = float(half * weights @ printed(x + half * (nodes + 1)))
            worst = max(worst, abs(1 - marcum - float(rice.cdf(torch.tensor(x, dtype=torch.float64)))))
    run.claim(
        Claim(
            name="printed-rice",
            statement="The Rice density as printed has the mass 1, and 1 − Q₁(ν/σ, x/σ) is its distribution function.",
            source=f"{SOURCE}, “Why CDF is an universal standardization function?”",
            expected="0, to rounding",
            measured=max(worst, mass),
            high=1e-12,
            unit="largest difference",
            note=f"mass off by {mass:.1g}; ours against Marcum's integral off by {worst:.1g}",
        )
    )
