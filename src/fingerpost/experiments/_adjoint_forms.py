r"""Continuous adjoints written out, with every sign a source may choose, and small problems to try them on.

With ż = f(t, z, θ) and L = ∫ l(t, z, θ) dt + Σ_i φ_i(z(t_i)), all forms here are

    ȧ = −aᵀf_z + s l_z,   at an observation a += ∂φ_i/∂z (or a = ∂φ_i/∂z),   dL/dθ = ∫ (l_θ + w aᵀf_θ) dt,

solved from a(t_N⁺) = 0 backwards, beside z itself. Right are s = −1, w = 1 and adding; and, where no observation comes
in, s = 1, w = −1, which only gives a the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

torch = lazy_import("torch")
ode = lazy_import("fingerpost.ode")
divergence = lazy_import("fingerpost.ode.divergence")

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """One way to write the adjoint system.

    Args:
      drive: s, the sign of l_z in ȧ.
      weight: w, the sign of aᵀf_θ in the gradient.
      adds: Whether an observation adds to a; else it replaces it.
    """

    drive: float = -1.0
    weight: float = 1.0
    adds: bool = True


RIGHT = Form()


@dataclass(frozen=True)
class Problem:
    """A field with a loss, one value per sample; each sample has parameters of its own, which makes it a row of an audit.

    Args:
      field: f(t, z, θ), z of shape (N, d).
      start: z(t₀), shape (N, d).
      times: The start and the times of observation, the last of them t₁.
      parameters: θ, tensors of N rows each.
      integrand: l(t, z, θ), shape (N,), or None.
      observation: φ_i(z), shape (N,), of the number of the time and the state there; None where nothing is observed.
    """

    field: Callable[[Any, Any, Parameters], Any]
    start: Any
    times: Sequence[float]
    parameters: Parameters
    integrand: Callable[[Any, Any, Parameters], Any] | None = None
    observation: Callable[[int, Any], Any] | None = None

    def loss(self, parameters: Parameters | None = None, **options: Any) -> Any:
        """The loss of each sample, shape (N,), by `ode.solve` with `options`; differentiable as they say."""
        theta = self.parameters if parameters is None else parameters
        zero = self.start.new_zeros(len(self.start))

        def both(t: Any, state: Any) -> Any:
            z = state[0]
            rate = zero if self.integrand is None else self.integrand(t, z, theta)
            return self.field(t, z, theta), rate

        def alone(t: Any, z: Any) -> Any:
            return self.field(t, z, theta)

        options = {"params": list(theta.values()), **options}
        if self.integrand is None:
            states, total = ode.solve(alone, self.start, self.times, **options).ys, zero
        else:
            states, totals = ode.solve(both, (self.start, zero), self.times, **options).ys
            total = totals[-1]
        if self.observation is not None:
            for i in range(1, len(self.times)):
                total = total + self.observation(i, states[i])
        return total


def gradient_by(problem: Problem, **options: Any) -> dict[str, Any]:
    """∂ΣL/∂θ by differentiating `Problem.loss` with `options` of `ode.solve`."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in problem.parameters.items()}
    with torch.enable_grad():
        total = problem.loss(leaves, **options).sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))


def gradient_of_form(problem: Problem, form: Form, **options: Any) -> dict[str, Any]:
    """∂ΣL/∂θ as a form of the adjoint system says, its three differential equations solved together backwards.

    Args:
      problem: Field and loss.
      form: The signs.
      options: Of `ode.solve`; tight tolerances, since this stands for the exact solution.
    """
    with torch.no_grad():
        z = ode.solve(
            lambda t, y: problem.field(t, y, problem.parameters), problem.start, problem.times, **options
        ).ys
        a = torch.zeros_like(problem.start)
        sums = {name: torch.zeros_like(value) for name, value in problem.parameters.items()}
        state = (z[-1], a, sums)
        for i in range(len(problem.times) - 1, 0, -1):
            state = (z[i], _observe(problem, form, i, z[i], state[1]), state[2])
            state = _last(
                ode.solve(_backward(problem, form), state, problem.times[i - 1 : i + 1][::-1], **options).ys
            )
    return state[2]


def _last(ys: Any) -> Any:
    z, a, sums = ys
    return z[-1], a[-1], {name: value[-1] for name, value in sums.items()}


def _observe(problem: Problem, form: Form, number: int, z: Any, a: Any) -> Any:
    """The cotangent before an observation from the one after it."""
    if problem.observation is None:
        return a
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        seen = problem.observation(number, z).sum()
    if not seen.requires_grad:  # nothing is observed here
        return a
    (slope,) = torch.autograd.grad(seen, z)
    return a + slope if form.adds else slope


def _backward(problem: Problem, form: Form) -> Callable[[Any, Any], Any]:
    """d/dt of z, a and −∫ₜ (l_θ + w aᵀf_θ) dt."""

    def field(t: Any, state: Any) -> Any:
        z = state[0].detach().requires_grad_()
        a = state[1].detach()
        theta = {name: value.detach().requires_grad_() for name, value in problem.parameters.items()}
        with torch.enable_grad():
            value = problem.field(t, z, theta)
            along = _pulled((value * a).sum(), z, theta)
            extra = [torch.zeros_like(part) for part in along]
            if problem.integrand is not None:
                extra = _pulled(problem.integrand(t, z, theta).sum(), z, theta)
        rates = {name: -(extra[i + 1] + form.weight * along[i + 1]) for i, name in enumerate(theta)}
        return value.detach(), form.drive * extra[0] - along[0], rates

    return field


def _pulled(total: Any, z: Any, theta: Parameters) -> list[Any]:
    inputs = [z, *theta.values()]
    if not total.requires_grad:
        return [torch.zeros_like(part) for part in inputs]
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    return [torch.zeros_like(part) if g is None else g for part, g in zip(inputs, found)]


# Problems.


def neural_problems(seed: int, samples: int, width: int) -> dict[str, Problem]:
    """The three losses, and a running one whose integrand holds parameters, on a small tanh field in the plane.

    f(t, z) = V tanh(W (z, 1, t)); every sample has a W and a V of its own, near common ones.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "adjoint", samples, width))

    def draw(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = draw(1, width, 4) + 0.2 * draw(samples, width, 4)
    output = (draw(1, 2, width) + 0.2 * draw(samples, 2, width)) * 1.5 / math.sqrt(width)
    theta = {"hidden": hidden, "output": output}
    start, goal = draw(samples, 2), draw(samples, 2)
    path = goal[None] + draw(6, samples, 2)
    times = [0.3 * i for i in range(6)]

    def distance(t: Any, z: Any, p: Parameters) -> Any:
        return 0.5 * (z - goal).square().sum(1)

    def with_speed(t: Any, z: Any, p: Parameters) -> Any:
        return distance(t, z, p) + 0.5 * tanh_field(t, z, p).square().sum(1)

    def final(i: int, z: Any) -> Any:
        return 0.5 * (z - goal).square().sum(1)

    def seen(i: int, z: Any) -> Any:
        return 0.5 * (z - path[i]).square().sum(1)

    ends = [times[0], times[-1]]
    return {
        "terminal": Problem(tanh_field, start, ends, theta, observation=final),
        "running": Problem(tanh_field, start, ends, theta, integrand=distance),
        "running, l of θ": Problem(tanh_field, start, ends, theta, integrand=with_speed),
        "observed": Problem(tanh_field, start, times, theta, observation=seen),
    }


def tanh_field(t: Any, z: Any, p: Parameters) -> Any:
    """V tanh(W (z, 1, t)), each row of z with its own W and V."""
    hidden = p["hidden"]
    inner = (hidden[..., :2] @ z[..., None]).squeeze(-1) + hidden[..., 2] + t * hidden[..., 3]
    return (p["output"] @ inner.tanh()[..., None]).squeeze(-1)


def cubic_problems(seed: int, samples: int) -> dict[str, tuple[Problem, Callable[[Any], Any]]]:
    r"""The three losses on ż = −θ z³, each with its closed form as a function of θ, shape (N, 1).

    z(t) = z₀ / r(t) with r(t) = √(1 + 2 θ z₀² t), and ∫₀ᵀ z dt = (r(T) − 1) / (θ z₀).
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "cubic", samples))
    start = 0.5 + torch.rand(samples, 1, generator=generator, dtype=torch.float64)
    theta = {"rate": 0.5 + torch.rand(samples, 1, generator=generator, dtype=torch.float64)}
    times = [0.0, 0.5, 1.0, 1.5]

    def field(t: Any, z: Any, p: Parameters) -> Any:
        return -p["rate"] * z**3

    def root(rate: Any, t: float) -> Any:
        return (1 + 2 * rate * start**2 * t).sqrt()

    def total(i: int, z: Any) -> Any:
        return z.sum(1)

    ends = [times[0], times[-1]]
    return {
        "terminal": (
            Problem(field, start, ends, theta, observation=total),
            lambda rate: (start / root(rate, times[-1])).sum(1),
        ),
        "running": (
            Problem(field, start, ends, theta, integrand=lambda t, z, p: z.sum(1)),
            lambda rate: ((root(rate, times[-1]) - 1) / (rate * start)).sum(1),
        ),
        "observed": (
            Problem(field, start, times, theta, observation=total),
            lambda rate: sum((start / root(rate, t)).sum(1) for t in times[1:]),
        ),
    }


def likelihood_problem(seed: int, samples: int, width: int, sign: float) -> Problem:
    """−log p of samples under a flow on the tanh field, with `sign` before the integral of the divergence.

    Time runs from the data, t = 1, to the base, a standard normal at t = 0; −1 is right.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "likelihood", samples, width))
    base = neural_problems(seed, samples, width)["terminal"]
    gentle = {**base.parameters, "output": 0.5 * base.parameters["output"]}  # so that p is smooth on a grid
    data = 1.5 * torch.randn(samples, 2, generator=generator, dtype=torch.float64)

    def integrand(t: Any, z: Any, p: Parameters) -> Any:
        # −log p holds −sign ∫₀¹ tr dt, and the integral on the way back is −∫₀¹.
        return sign * divergence.divergence(lambda s, y: tanh_field(s, y, p), t, z)[1]

    def normal(i: int, z: Any) -> Any:
        return 0.5 * z.square().sum(1) + math.log(2 * math.pi)

    return Problem(tanh_field, data, [1.0, 0.0], gentle, integrand=integrand, observation=normal)
