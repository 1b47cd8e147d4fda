"""Where samples go when their rank is held, by other people's distribution functions, for the experiment reparam-audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerpost._lazy import lazy_import

torch = lazy_import("torch")
distributions = lazy_import("fingerpost.distributions")
scipy_stats = lazy_import("scipy.stats")
scipy_special = lazy_import("scipy.special")

Array = NDArray[np.float64]
Parameters = dict[str, Any]
INF = math.inf


@dataclass(frozen=True)
class Subject:
    """A distribution whose samples are audited.

    Args:
      name: How it is shown.
      ranges: Where each parameter is drawn from, uniformly.
      make: Parameters as tensors of one shape → the distribution.
      law: (z, parameters) → F, 1 − F and p as arrays, not by fingerpost.
      log_density: (z, parameters) → the logarithm of the density as a tensor, but for a constant; not by fingerpost.
      support: (parameters) → ends, as tensors or numbers.
      periodic: Whether it lives on the circle.
      test: Its test function: nearly straight, a wave on the circle, or one that tells tails by their logarithm.
      slow: Whether its samples cost much, so that fewer are drawn.
    """

    name: str
    ranges: dict[str, tuple[float, float]]
    make: Callable[..., Any]
    law: Callable[[Array, dict[str, Array]], tuple[Array, Array, Array]]
    log_density: Callable[..., Any]
    support: Callable[..., tuple[Any, Any]]
    periodic: bool = False
    test: str = "line"
    slow: bool = False

    def draw_parameters(self, shape: tuple[int, ...], generator: Any) -> Parameters:
        """Parameters of the given shape."""
        return {
            name: low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
            for name, (low, high) in self.ranges.items()
        }

    def velocity(self, parameters: Parameters, z: Any) -> Parameters:
        """∂z/∂θ as fingerpost gives it."""
        found = self.make(**parameters).velocity(z)
        if "logits" in found:
            found = {f"{key}_{k}": value[..., k] for key, value in found.items() for k in range(3)}
        return {name: found[name] for name in self.ranges}


def function(subject: Subject, z: Any) -> Any:
    """The test function; see `Subject`."""
    return _FUNCTIONS[subject.test][0](z)


def slope(subject: Subject, z: Any) -> Any:
    """Its derivative."""
    return _FUNCTIONS[subject.test][1](z)


_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "line": (lambda z: z + 0.5 * torch.cos(z), lambda z: 1 - 0.5 * torch.sin(z)),
    "wave": (
        lambda z: torch.sin(z) + 0.3 * torch.cos(2 * z),
        lambda z: torch.cos(z) - 0.6 * torch.sin(2 * z),
    ),
    "tail": (lambda z: torch.atan(z) + torch.log1p(z * z), lambda z: (1 + 2 * z) / (1 + z * z)),
}


class Path:
    """z(θ) at the rank of a given sample, with derivatives by differences of the fourth order.

    Args:
      subject: The distribution.
      z: Samples, at the parameters.
      parameters: Where they were drawn.
    """

    def __init__(self, subject: Subject, z: Any, parameters: Parameters) -> None:
        self.subject = subject
        base = {name: x.detach().numpy() for name, x in parameters.items()}
        self.start = z.detach().numpy()
        if subject.periodic:  # unwrapped, within half a turn of the location
            self.start = base["loc"] + np.remainder(self.start - base["loc"] + math.pi, 2 * math.pi) - math.pi
        self.below, self.above, _ = subject.law(self.start, base)

    def __call__(self, parameters: Parameters) -> Any:
        """The samples at other parameters, differentiable."""
        return _path_function().apply(self, *(parameters[name] for name in self.subject.ranges))

    def solve(self, values: list[Array]) -> Array:
        """Newton's method from the given samples, by the nearer tail."""
        parameters = dict(zip(self.subject.ranges, values))
        z = self.start
        for _ in range(40):
            below, above, density = self.subject.law(z, parameters)
            off = np.where(self.below < 0.5, below - self.below, self.above - above)
            step = off / density
            low, high = (np.asarray(end) for end in self.subject.support(**parameters))
            moved = z - step
            moved = np.where(moved <= low, (z + low) / 2, np.where(moved >= high, (z + high) / 2, moved))
            if np.all(np.abs(moved - z) <= 4e-16 * np.abs(z)):
                break
            z = moved
        return z

    def derivative(self, values: list[Array], index: int) -> Array:
        """∂z/∂θ of one parameter."""
        step = 6e-4 * np.maximum(np.abs(values[index]), 0.25)
        ends = []
        for shift in (-2, -1, 1, 2):
            moved = list(values)
            moved[index] = values[index] + shift * step
            ends.append(self.solve(moved))
        return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step)


def _path_function() -> Any:
    """The autograd function of a path; made late, since torch is."""

    class AlongPath(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, path: Path, *values: Any) -> Any:
            ctx.path = path
            ctx.save_for_backward(*values)
            return torch.from_numpy(path.solve([v.detach().numpy() for v in values]))

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            values = [v.detach().numpy() for v in ctx.saved_tensors]
            slopes = [torch.from_numpy(ctx.path.derivative(values, i)) for i in range(len(values))]
            return None, *(grad * s for s in slopes)

    return AlongPath


# The laws.


def _noncentral(degrees: Callable[[dict[str, Array]], Any]) -> Callable[..., tuple[Array, Array, Array]]:
    """Noncentral chi numbers by scipy's noncentral chi-squared distribution."""

    def law(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
        x, s = z / p["scale"], p["loc"] / p["scale"]
        square = scipy_stats.ncx2(degrees(p), s * s)
        return square.cdf(x * x), square.sf(x * x), square.pdf(x * x) * 2 * x / p["scale"]

    return law


def _folded(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    near, far = (z - p["loc"]) / p["scale"], (z + p["loc"]) / p["scale"]
    ndtr = scipy_special.ndtr
    density = (np.exp(-near * near / 2) + np.exp(-far * far / 2)) / (math.sqrt(2 * math.pi) * p["scale"])
    return ndtr(near) - ndtr(-far), ndtr(-near) + ndtr(-far), density


def _angles(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    """By Gauss and Legendre's rule, from the point opposite to loc."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    y, kappa = z - p["loc"], p["concentration"]
    scale = 2 * math.pi * scipy_special.i0e(kappa)
    half = (y + math.pi) / 2
    inner = np.exp(kappa[..., None] * (np.cos(half[..., None] * (nodes + 1) - math.pi) - 1)) @ weights
    below = half * inner / scale
    return below, 1 - below, np.exp(kappa * (np.cos(y) - 1)) / scale


def _window(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    ndtr = scipy_special.ndtr
    x, a, b = ((v - p["loc"]) / p["scale"] for v in (z, p["low"], p["high"]))
    mass = ndtr(b) - ndtr(a)
    density = np.exp(-x * x / 2) / (math.sqrt(2 * math.pi) * p["scale"] * mass)
    return (ndtr(x) - ndtr(a)) / mass, (ndtr(b) - ndtr(x)) / mass, density


def _student(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    t = scipy_stats.t(p["df"], p["loc"], p["scale"])
    x = (z - p["loc"]) / p["scale"]
    return scipy_special.stdtr(p["df"], x), scipy_special.stdtr(p["df"], -x), t.pdf(z)


def _gamma(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    a, x = p["concentration"], z * p["rate"]
    density = scipy_stats.gamma(a).pdf(x) * p["rate"]
    return scipy_special.gammainc(a, x), scipy_special.gammaincc(a, x), density


def _beta(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    a, b = p["concentration1"], p["concentration0"]
    return scipy_special.betainc(a, b, z), scipy_special.betainc(b, a, 1 - z), scipy_stats.beta(a, b).pdf(z)


def _gumbel(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    y = (z - p["loc"]) / p["scale"]
    tail = np.exp(-y)
    return np.exp(-tail), -np.expm1(-tail), np.exp(-y - tail) / p["scale"]


def _mixture(z: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    logits = np.stack([p[f"logits_{k}"] for k in range(3)])
    weights = scipy_special.softmax(logits, 0)
    below, above, density = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
    for k in range(3):
        x = (z - p[f"loc_{k}"]) / p[f"scale_{k}"]
        below += weights[k] * scipy_special.ndtr(x)
        above += weights[k] * scipy_special.ndtr(-x)
        density += weights[k] * np.exp(-x * x / 2) / (math.sqrt(2 * math.pi) * p[f"scale_{k}"])
    return below, above, density


# Densities as tensors, but for a constant.


def _log_chi(degrees: float) -> Callable[..., Any]:
    """Noncentral chi with 1, 2 or 3 degrees of freedom, whose Bessel functions are elementary or torch's."""

    def log_density(z: Any, loc: Any, scale: Any) -> Any:
        x, s = z / scale, loc / scale
        fall = -0.5 * (x - s).square() - scale.log()
        if degrees == 1:
            return fall + torch.log1p(torch.exp(-2 * x * s))
        if degrees == 2:
            return fall + x.log() + torch.special.i0e(x * s).log()
        return fall + x.log() - s.log() + torch.log(-torch.expm1(-2 * x * s))  # 3

    return log_density


def _log_mixture(z: Any, **p: Any) -> Any:
    terms = [
        p[f"logits_{k}"] - p[f"scale_{k}"].log() - 0.5 * ((z - p[f"loc_{k}"]) / p[f"scale_{k}"]).square()
        for k in range(3)
    ]
    return torch.stack(terms).logsumexp(0)


def _log_woolfson(z: Any, loc: Any, scale: Any) -> Any:
    return torch.where(_centric(loc), _log_chi(1)(z, loc, scale), _log_chi(2)(z, loc, scale))


def _centric(like: Any) -> Any:
    """Every other number of a row belongs to a centric reflection."""
    return torch.arange(like.shape[-1]) % 2 == 0


def _make_mixture(**p: Any) -> Any:
    logits, loc, scale = (
        torch.stack([p[f"{name}_{k}"] for k in range(3)], -1) for name in ("logits", "loc", "scale")
    )
    mixing = torch.distributions.Categorical(logits=logits)
    return distributions.MixtureSameFamily(mixing, torch.distributions.Normal(loc, scale))


def _woolfson_degrees(p: dict[str, Array]) -> Array:
    return np.where(np.arange(p["loc"].shape[-1]) % 2 == 0, 1.0, 2.0)


def _family(name: str, **fixed: Any) -> Callable[..., Any]:
    return lambda **parameters: getattr(distributions, name)(**parameters, **fixed)


def _line(**_: Any) -> tuple[float, float]:
    return -INF, INF


def _half(**_: Any) -> tuple[float, float]:
    return 0.0, INF


_AMPLITUDES = {"loc": (0.3, 4.0), "scale": (0.5, 2.0)}
_PLACES = {"loc": (-1.0, 1.0), "scale": (0.5, 2.0)}
SUBJECTS = (
    Subject("Rice", _AMPLITUDES, _family("Rice"), _noncentral(lambda p: 2.0), _log_chi(2), _half),
    Subject("FoldedNormal", _AMPLITUDES, _family("FoldedNormal"), _folded, _log_chi(1), _half),
    Subject("NoncentralChi", _AMPLITUDES, lambda **p: distributions.NoncentralChi(torch.full_like(p["loc"], 3.0), **p),
            _noncentral(lambda p: 3.0), _log_chi(3), _half),
    Subject("RiceWoolfson", _AMPLITUDES, lambda **p: distributions.RiceWoolfson(**p, centric=_centric(p["loc"])),
            _noncentral(_woolfson_degrees), _log_woolfson, _half),
    Subject("VonMises", {"loc": (-1.0, 1.0), "concentration": (0.5, 8.0)}, _family("VonMises"), _angles,
            lambda z, loc, concentration: concentration * (torch.cos(z - loc) - 1),
            lambda loc, concentration: (loc - math.pi, loc + math.pi), periodic=True, test="wave"),
    Subject("TruncatedNormal", {**_PLACES, "low": (-3.0, -1.5), "high": (1.5, 3.0)}, _family("TruncatedNormal"), _window,
            lambda z, loc, scale, low, high: -0.5 * ((z - loc) / scale).square(), lambda loc, scale, low, high: (low, high)),
    Subject("StudentT", {"df": (2.5, 6.0), **_PLACES}, _family("StudentT"), _student,
            lambda z, df, loc, scale: -(df + 1) / 2 * torch.log1p(((z - loc) / scale).square() / df), _line, test="tail"),
    Subject("Gamma", {"concentration": (0.4, 6.0), "rate": (0.5, 2.0)}, _family("Gamma"), _gamma,
            lambda z, concentration, rate: (concentration - 1) * z.log() - rate * z, _half),
    Subject("Beta", {"concentration1": (0.6, 5.0), "concentration0": (1.2, 5.0)}, _family("Beta"), _beta,
            lambda z, concentration1, concentration0: (concentration1 - 1) * z.log() + (concentration0 - 1) * torch.log1p(-z),
            lambda concentration1, concentration0: (0.0, 1.0)),
    Subject("mixture of three",
            {f"{name}_{k}": ends for k in range(3) for name, ends in
             {"logits": (-1.0, 1.0), "loc": (2.0 * k - 3.0, 2.0 * k - 1.0), "scale": (0.5, 1.5)}.items()},
            _make_mixture, _mixture, _log_mixture, _line),
    Subject("wrapped Gumbel, by cdf", _PLACES,
            lambda **p: distributions.ImplicitReparam(torch.distributions.Gumbel(**p)), _gumbel,
            lambda z, loc, scale: -(z - loc) / scale - torch.exp(((loc - z) / scale).clamp(max=700)), _line),
    Subject("wrapped Gamma, by score", {"concentration": (0.4, 6.0), "rate": (0.5, 2.0)},
            lambda **p: distributions.ImplicitReparam(torch.distributions.Gamma(**p), "score"), _gamma,
            lambda z, concentration, rate: (concentration - 1) * z.log() - rate * z, _half, slow=True),
)  # fmt: skip


def expectation(subject: Subject, parameters: Parameters, count: int = 400) -> Any:
    """E f(z) by the double-exponential rule on the log density, normalised by the same rule; differentiable."""
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in subject.support(**parameters))
    shape = next(iter(parameters.values())).shape
    half = bool(high.isinf().all())
    t = torch.linspace(
        *((-4.0, 2.2) if half and bool(low.isfinite().all()) else (-3.3, 3.3)), count, dtype=torch.float64
    )
    inner = (0.5 * math.pi * torch.sinh(t)).reshape(-1, *(1,) * len(shape))
    weight = torch.cosh(t).reshape(inner.shape)
    if half and bool(low.isinf().all()):
        z, weight = torch.sinh(inner), weight * torch.cosh(inner)
    elif half:
        z, weight = low + torch.exp(inner), weight * torch.exp(inner)
    else:
        share = torch.sigmoid(2 * inner)
        z = torch.minimum(low + (high - low) * share, high - (high - low) * 1e-16)
        weight = weight * share * torch.sigmoid(-2 * inner) * (high - low)
    # Where the density is 0 to rounding, its logarithm may be -inf with a gradient that is not a number.
    log_density = subject.log_density(z, **parameters).clamp(min=-700)
    mass = weight * torch.exp(log_density - log_density.detach().amax(0))
    return (mass * function(subject, z)).sum(0) / mass.sum(0)
