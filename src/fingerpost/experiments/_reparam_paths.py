"""Distributions with explicit paths beside their implicit ones, for the experiment reparam-variance.

An estimator of ∂E f(z)/∂θ is f′(z) · path + f(z) · extra, with both numbers drawn along with z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import

torch = lazy_import("torch")
distributions = lazy_import("fingerpost.distributions")

Numbers = dict[str, Any]


class Drawn(NamedTuple):
    """Samples and what estimators are made of.

    Args:
      z: (N,) samples.
      path: ∂z/∂θ along the path of the noise, by parameter.
      extra: Score-like weights of f, by parameter; absent where there is none.
    """

    z: Any
    path: Numbers
    extra: Numbers


@dataclass(frozen=True)
class Explicit:
    """An explicit path.

    Args:
      name: What is differentiated.
      draw: (parameters, count) → what is drawn, from torch's generator.
      pure: Parameters for which it is a path and nothing else, so that the velocity is its mean given z.
      biased: Whether it leaves something out on purpose.
    """

    name: str
    draw: Callable[[Numbers, int], Drawn]
    pure: tuple[str, ...] = ()
    biased: bool = False


@dataclass(frozen=True)
class Case:
    """A distribution at one parameter.

    Args:
      name: How it is shown.
      parameters: Names and values of what is differentiated.
      make: Numbers or tensors → the distribution.
      support: Ends.
      explicit: Its explicit paths.
      periodic: Whether functions of it must be.
    """

    name: str
    parameters: dict[str, float]
    make: Callable[..., Any]
    support: tuple[float, float]
    explicit: tuple[Explicit, ...] = ()
    periodic: bool = False

    def tensors(self, count: int | None = None, grad: bool = False) -> Numbers:
        """The parameters as float64 tensors, one for each sample if a count is given."""
        shape = () if count is None else (count,)
        return {
            key: torch.full(shape, value, dtype=torch.float64, requires_grad=grad)
            for key, value in self.parameters.items()
        }

    def velocity(self, z: Any) -> Numbers:
        """The implicit path at z."""
        with torch.no_grad():
            found = self.make(**self.tensors()).velocity(z)
        if "logits" in found:  # a mixture: its first component's parameters are the case's
            found = {f"{key}_0": value[..., 0] for key, value in found.items()}
        return {key: found[key] for key in self.parameters}

    def score(self, z: Any) -> Numbers:
        """∂ log p(z)/∂θ."""
        leaves = self.tensors(len(z), grad=True)
        total = self.make(**leaves).log_prob(z).sum()
        return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))


def _uniform(count: int) -> Any:
    return torch.rand(count, dtype=torch.float64)


def _normal(count: int) -> Any:
    return torch.randn(count, dtype=torch.float64)


def _rice(parameters: Numbers, count: int) -> Drawn:
    nu, sigma = parameters["loc"], parameters["scale"]
    x, y = _normal(count), _normal(count)
    ahead = nu + sigma * x
    z = torch.hypot(ahead, sigma * y)
    return Drawn(z, {"loc": ahead / z, "scale": (ahead * x + sigma * y * y) / z}, {})


def _folded(parameters: Numbers, count: int) -> Drawn:
    x = _normal(count)
    ahead = parameters["loc"] + parameters["scale"] * x
    return Drawn(ahead.abs(), {"loc": ahead.sign(), "scale": ahead.sign() * x}, {})


def _student(parameters: Numbers, count: int) -> Drawn:
    """A normal number over √(g/ν), with g a chi-squared number, which moves implicitly with ν."""
    df, loc, scale = (parameters[name] for name in ("df", "loc", "scale"))
    gamma = distributions.Gamma(df / 2, torch.full_like(df, 0.5))
    g = gamma.sample((count,))
    t = _normal(count) * (df / g).sqrt()
    slope = gamma.velocity(g)["concentration"] / 2
    return Drawn(
        loc + scale * t,
        {"df": scale * t * (0.5 / df - 0.5 * slope / g), "loc": torch.ones_like(t), "scale": t},
        {},
    )


def _beta(parameters: Numbers, count: int) -> Drawn:
    """One of two gamma numbers over their sum; both move implicitly."""
    parts = []
    for name in ("concentration1", "concentration0"):
        gamma = distributions.Gamma(parameters[name], torch.ones_like(parameters[name]))
        g = gamma.sample((count,))
        parts.append((g, gamma.velocity(g)["concentration"]))
    (one, by_one), (zero, by_zero) = parts
    total = one + zero
    path = {
        "concentration1": zero / total.square() * by_one,
        "concentration0": -one / total.square() * by_zero,
    }
    return Drawn(one / total, path, {})


def _truncated(parameters: Numbers, count: int) -> Drawn:
    """The inverse of the distribution function, by autograd."""
    leaves = {key: value.expand(count).clone().requires_grad_() for key, value in parameters.items()}
    low, high = ((end - leaves["loc"]) / leaves["scale"] for end in WINDOW)
    ranks = torch.special.ndtr(low) + _uniform(count) * (torch.special.ndtr(high) - torch.special.ndtr(low))
    z = leaves["loc"] + leaves["scale"] * torch.special.ndtri(ranks)
    return Drawn(z.detach(), dict(zip(leaves, torch.autograd.grad(z.sum(), list(leaves.values())))), {})


def _ancestral(parameters: Numbers, count: int) -> Drawn:
    """A component is drawn, and its normal number moves; weights by the score of the drawn component."""
    logits, loc, scale = (_mixed(parameters[f"{name}_0"], name) for name in ("logits", "loc", "scale"))
    weights = logits.softmax(-1)
    pick = torch.multinomial(weights, count, replacement=True)
    x = _normal(count)
    first = (pick == 0).double()
    path = {"loc_0": first, "scale_0": first * x}
    return Drawn(loc[pick] + scale[pick] * x, path, {"logits_0": first - weights[0]})


def rejection(boost: int, corrected: bool) -> Callable[[Numbers, int], Drawn]:
    """Marsaglia and Tsang's accepted normal number, at a shape raised by `boost`, and differentiated as if it were noise.

    Its density depends on the shape, which the correction makes up for (Naesseth, Ruiz, Linderman and Blei, 2017, eq. 8 and
    section 5, https://arxiv.org/abs/1610.05683).
    """

    def draw(parameters: Numbers, count: int) -> Drawn:
        alpha = parameters["concentration"].expand(count).clone().requires_grad_()
        rate = parameters["rate"].expand(count)
        noise = accepted(alpha.detach() + boost)
        d = alpha + boost - 1 / 3
        root = 1 + noise / (9 * d).sqrt()
        raised = d * root**3
        log_z = raised.log()
        for i in range(boost):
            log_z = log_z + _uniform(count).log() / (alpha + i)
        z = log_z.exp() / rate
        (path,) = torch.autograd.grad(z.sum(), alpha, retain_graph=True)
        log_q = (alpha + boost - 1) * raised.log() - raised - torch.lgamma(alpha + boost)
        (extra,) = torch.autograd.grad((log_q + d.log() / 2 + 2 * root.log()).sum(), alpha)
        z = z.detach()
        found = {"concentration": path, "rate": -z / rate}
        return Drawn(z, found, {"concentration": extra} if corrected else {})

    return draw


def accepted(shape: Any) -> Any:
    """Normal numbers that Marsaglia and Tsang's test accepts for gamma numbers of this shape, above 1."""
    d = shape - 1 / 3
    noise = torch.zeros_like(shape)
    waiting = torch.ones_like(shape, dtype=torch.bool)
    while bool(waiting.any()):
        x = torch.randn_like(shape)
        cube = (1 + x / (9 * d).sqrt()).clamp(min=0) ** 3
        passes = torch.rand_like(shape).log() < 0.5 * x * x + d * (1 - cube + cube.log())
        noise = torch.where(waiting & passes, x, noise)
        waiting &= ~passes
    return noise


WINDOW = (-0.5, 3.0)
_OTHERS = {"logits": (0.4, -0.3), "loc": (0.5, 2.0), "scale": (0.6, 0.8)}


def _mixed(first: Any, name: str) -> Any:
    """A mixture's parameter, of which the first component's is given."""
    rest = torch.tensor(_OTHERS[name], dtype=torch.float64).expand(*first.shape, 2)
    return torch.cat([first[..., None], rest], -1)


def _mixture(logits_0: Any, loc_0: Any, scale_0: Any) -> Any:
    given = {"logits": logits_0, "loc": loc_0, "scale": scale_0}
    logits, loc, scale = (_mixed(value, name) for name, value in given.items())
    mixing = torch.distributions.Categorical(logits=logits)
    return distributions.MixtureSameFamily(mixing, torch.distributions.Normal(loc, scale))


def _window(loc: Any, scale: Any) -> Any:
    return distributions.TruncatedNormal(loc, scale, *WINDOW)


def _family(name: str) -> Callable[..., Any]:
    return lambda **parameters: getattr(distributions, name)(**parameters)


INF = math.inf
CASES = (
    Case("Rice", {"loc": 1.5, "scale": 1.0}, _family("Rice"), (0.0, INF),
         (Explicit("|ν + σx + iσy|", _rice, ("loc", "scale")),)),
    Case("FoldedNormal", {"loc": 0.7, "scale": 1.0}, _family("FoldedNormal"), (0.0, INF),
         (Explicit("|μ + σx|", _folded, ("loc", "scale")),)),
    Case("StudentT", {"df": 5.0, "loc": 0.0, "scale": 1.0}, _family("StudentT"), (-INF, INF),
         (Explicit("x/√(g/ν)", _student, ("df", "loc", "scale")),)),
    Case("Beta", {"concentration1": 1.5, "concentration0": 2.5}, _family("Beta"), (0.0, 1.0),
         (Explicit("g₁/(g₁ + g₀)", _beta, ("concentration1", "concentration0")),)),
    Case("Gamma", {"concentration": 1.5, "rate": 1.0}, _family("Gamma"), (0.0, INF),
         (Explicit("accepted noise, corrected", rejection(0, True)),
          Explicit("accepted noise, shape + 3, corrected", rejection(3, True)),
          Explicit("accepted noise, uncorrected", rejection(0, False), biased=True))),
    Case("TruncatedNormal", {"loc": 0.3, "scale": 1.0}, _window, WINDOW,
         (Explicit("inverse CDF", _truncated, ("loc", "scale")),)),
    Case("mixture", {"logits_0": 0.0, "loc_0": -1.0, "scale_0": 0.5}, _mixture, (-INF, INF),
         (Explicit("drawn component", _ancestral, ("loc_0", "scale_0")),)),
    Case("VonMises", {"loc": 0.5, "concentration": 2.0}, _family("VonMises"), (-math.pi, math.pi), periodic=True),
)  # fmt: skip


class Function(NamedTuple):
    """A test function and its derivative."""

    name: str
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    slow: bool


def functions(case: Case) -> tuple[Function, ...]:
    """Four functions: straight, curved, a soft step, and one that turns eight times in a deviation or circle."""
    with torch.no_grad():
        if case.periodic:
            m, s = case.parameters["loc"], 1.0
        else:
            dist = case.make(**case.tensors())
            m, s = float(dist.mean), float(dist.stddev)
    if case.periodic:
        return (
            Function("straight", lambda z: torch.sin(z - m), lambda z: torch.cos(z - m), True),
            Function("curved", lambda z: -torch.cos(z - m), lambda z: torch.sin(z - m), True),
            Function(
                "step",
                lambda z: torch.tanh(2 * torch.sin(z - m)),
                lambda z: 2 * torch.cos(z - m) / torch.cosh(2 * torch.sin(z - m)) ** 2,
                True,
            ),
            Function("wave", lambda z: torch.sin(8 * (z - m)), lambda z: 8 * torch.cos(8 * (z - m)), False),
        )
    return (
        Function("straight", lambda z: (z - m) / s, lambda z: torch.ones_like(z) / s, True),
        Function("curved", lambda z: ((z - m) / s) ** 2, lambda z: 2 * (z - m) / s**2, True),
        Function(
            "step",
            lambda z: torch.tanh(2 * (z - m) / s),
            lambda z: 2 / s / torch.cosh(2 * ((z - m) / s).clamp(-100, 100)) ** 2,
            True,
        ),
        Function(
            "wave", lambda z: torch.sin(8 * (z - m) / s), lambda z: 8 / s * torch.cos(8 * (z - m) / s), False
        ),
    )


def quadrature(support: tuple[float, float], count: int = 4000) -> tuple[Any, Any]:
    """Nodes and weights of the double-exponential rule on a support (Takahasi and Mori, 1974, doi 10.2977/prims/1195192451)."""
    low, high = support
    t = torch.linspace(-4.5, 4.5, count, dtype=torch.float64)
    inner, step = 0.5 * math.pi * torch.sinh(t), 9 / (count - 1)
    slope = 0.5 * math.pi * torch.cosh(t)
    if math.isinf(high) and math.isinf(low):
        t = torch.linspace(-3.2, 3.2, count, dtype=torch.float64)
        inner, slope, step = 0.5 * math.pi * torch.sinh(t), 0.5 * math.pi * torch.cosh(t), 6.4 / (count - 1)
        return torch.sinh(inner), step * slope * torch.cosh(inner)
    if math.isinf(high):
        t = torch.linspace(-4.0, 2.2, count, dtype=torch.float64)
        inner, slope, step = 0.5 * math.pi * torch.sinh(t), 0.5 * math.pi * torch.cosh(t), 6.2 / (count - 1)
        return low + torch.exp(inner), step * slope * torch.exp(inner)
    share = torch.sigmoid(2 * inner)
    weights = step * (high - low) * slope * 2 * share * torch.sigmoid(-2 * inner)
    inside = (share > 1e-300) & (share < 1 - 1e-15)
    return (low + (high - low) * share)[inside], weights[inside]
