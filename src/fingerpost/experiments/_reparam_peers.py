"""What other libraries give for the velocity of a sample: each is measured if it is installed, and named as missing if not."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fingerpost._lazy import lazy_import

torch = lazy_import("torch")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Peer:
    """Another way to a velocity.

    Args:
      name: The library.
      family: The distribution, as fingerpost names it.
      module: What has to be importable.
      velocity: (parameters, value, double) → arrays by parameter; parameters and value are float64 arrays, `double` says in
        which precision to compute.
    """

    name: str
    family: str
    module: str
    velocity: Callable[[Arrays, np.ndarray, bool], Arrays]

    def missing(self) -> str:
        """Why it can't be measured; empty if it can."""
        try:
            importlib.import_module(self.module)
        except Exception as error:  # a peer may fail in any way at import
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""


def _tensors(arrays: Arrays, value: np.ndarray, double: bool) -> tuple[dict[str, Any], Any]:
    dtype = torch.float64 if double else torch.float32
    return {k: torch.tensor(x, dtype=dtype) for k, x in arrays.items()}, torch.tensor(value, dtype=dtype)


def _numbers(**found: Any) -> Arrays:
    return {key: np.asarray(x, dtype=np.float64) for key, x in found.items()}


def _torch_gamma(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
    p, z = _tensors(arrays, value, double)
    unit = torch._standard_gamma_grad(p["concentration"], z * p["rate"])
    return _numbers(concentration=unit / p["rate"], rate=-z / p["rate"])


def _torch_beta(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
    p, z = _tensors(arrays, value, double)
    a, b = p["concentration1"], p["concentration0"]
    first = torch._dirichlet_grad(z, a, a + b) * (1 - z)
    second = -torch._dirichlet_grad(1 - z, b, a + b) * z
    return _numbers(concentration1=first, concentration0=second)


def _rs(kind: str) -> Callable[[Arrays, np.ndarray, bool], Arrays]:
    def velocity(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
        library = importlib.import_module("rs_distributions.distributions")
        p, z = _tensors(arrays, value, double)
        leaves = [p[name].requires_grad_() for name in ("loc", "scale")]
        distribution = getattr(library, kind)(*leaves)
        distribution.sample = lambda shape=(): z.clone()  # its gradient at our point
        found = torch.autograd.grad(distribution.rsample().sum(), leaves)
        return _numbers(loc=found[0], scale=found[1])

    return velocity


def _by_cdf(name: str) -> Callable[[Arrays, np.ndarray, bool], Arrays]:
    """The source's recipe, −∂_θF/p by autograd of a distribution function in closed form."""

    def velocity(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
        p, z = _tensors(arrays, value, double)
        for x in p.values():
            x.requires_grad_()
        cdf, density = _CLOSED[name](p, z)
        found = torch.autograd.grad(cdf.sum(), list(p.values()), allow_unused=True, materialize_grads=True)
        return _numbers(**{key: (-g / density).detach() for key, g in zip(p, found)})

    return velocity


def _folded_cdf(p: dict[str, Any], z: Any) -> tuple[Any, Any]:
    normal = torch.distributions.Normal(p["loc"], p["scale"], validate_args=False)
    return normal.cdf(z) - normal.cdf(-z), normal.log_prob(z).exp() + normal.log_prob(-z).exp()


def _truncated_cdf(p: dict[str, Any], z: Any) -> tuple[Any, Any]:
    normal = torch.distributions.Normal(p["loc"], p["scale"], validate_args=False)
    low, mass = normal.cdf(p["low"]), normal.cdf(p["high"]) - normal.cdf(p["low"])
    return (normal.cdf(z) - low) / mass, normal.log_prob(z).exp() / mass


def _mixture_cdf(p: dict[str, Any], z: Any) -> tuple[Any, Any]:
    stacked = {
        key: torch.stack([x for name, x in p.items() if name.startswith(key)], -1)
        for key in ("logits", "loc", "scale")
    }
    weights = stacked["logits"].softmax(-1)
    normal = torch.distributions.Normal(stacked["loc"], stacked["scale"], validate_args=False)
    return (weights * normal.cdf(z[..., None])).sum(-1), (weights * normal.log_prob(z[..., None]).exp()).sum(
        -1
    )


_CLOSED = {
    "FoldedNormal": _folded_cdf,
    "TruncatedNormal": _truncated_cdf,
    "MixtureSameFamily": _mixture_cdf,
}


def _jax(double: bool) -> tuple[Any, Any, Any]:
    """jax, its numpy, and a context in which the asked precision holds, whatever the user's settings."""
    jax = importlib.import_module("jax")
    context = importlib.import_module("jax.experimental").enable_x64(double)
    return jax, jax.numpy, context


def _tfp_gamma(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
    jax, jnp, context = _jax(double)
    with context:
        dtype = jnp.float64 if double else jnp.float32
        a, rate, z = (jnp.asarray(x, dtype) for x in (arrays["concentration"], arrays["rate"], value))
        return _numbers(concentration=jax.lax.random_gamma_grad(a, z * rate) / rate, rate=-z / rate)


def _tfp_von_mises(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
    jax, jnp, context = _jax(double)
    library = importlib.import_module("tensorflow_probability.substrates.jax.distributions.von_mises")
    with context:
        dtype = jnp.float64 if double else jnp.float32
        loc, kappa, z = (jnp.asarray(x, dtype) for x in (arrays["loc"], arrays["concentration"], value))
        angle = z - loc
        angle = angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))
        slope = jax.vmap(jax.grad(library.von_mises_cdf, 1))(angle, kappa)
        density = jax.vmap(lambda x, k: library.VonMises(jnp.zeros((), dtype), k).prob(x))(angle, kappa)
        return _numbers(loc=jnp.ones_like(z), concentration=-slope / density)


def _tfp_truncated(arrays: Arrays, value: np.ndarray, double: bool) -> Arrays:
    jax, jnp, context = _jax(double)
    library = importlib.import_module("tensorflow_probability.substrates.jax.distributions")
    names = ("loc", "scale", "low", "high")
    with context:
        dtype = jnp.float64 if double else jnp.float32
        given = [jnp.asarray(arrays[name], dtype) for name in names]

        def cdf(*p: Any) -> Any:
            return library.TruncatedNormal(*p[:4]).cdf(p[4])

        z = jnp.asarray(value, dtype)
        slopes = jax.vmap(jax.grad(cdf, (0, 1, 2, 3)))(*given, z)
        density = jax.vmap(lambda *p: library.TruncatedNormal(*p[:4]).prob(p[4]))(*given, z)
        return _numbers(**{name: -slope / density for name, slope in zip(names, slopes)})


TFP = "tensorflow_probability.substrates.jax"
PEERS = (
    Peer("torch", "Gamma", "torch", _torch_gamma),
    Peer("torch", "Beta", "torch", _torch_beta),
    Peer("rs-distributions", "Rice", "rs_distributions", _rs("Rice")),
    Peer("rs-distributions", "FoldedNormal", "rs_distributions", _rs("FoldedNormal")),
    Peer("TFP on JAX", "Gamma", TFP, _tfp_gamma),
    Peer("TFP on JAX", "VonMises", TFP, _tfp_von_mises),
    Peer("TFP on JAX", "TruncatedNormal", TFP, _tfp_truncated),
    *(Peer("autograd of the CDF", name, "torch", _by_cdf(name)) for name in _CLOSED),
)
