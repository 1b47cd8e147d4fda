"""The other libraries' ways, for benchmarks/distributions.py; each is None where its library is not installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], object]
MISSING: dict[str, str] = {}
"""Why a peer could not be measured, by its name."""
TFP = "TFP on JAX"


def tfp_step(name: str, parameters: tuple[Any, ...]) -> Step | None:
    """One draw for each member of the batch and its gradient in float64, compiled by XLA on one thread's time."""
    try:
        jax = importlib.import_module("jax")
        library = importlib.import_module("tensorflow_probability.substrates.jax.distributions")
        x64 = importlib.import_module("jax.experimental").enable_x64
    except Exception as error:
        MISSING[TFP] = f"{type(error).__name__}: {error}"
        return None
    with x64():
        arrays = [jax.numpy.asarray(p, jax.numpy.float64) for p in parameters]
        make = getattr(library, name)

        def loss(key: Any, *given: Any) -> Any:
            return make(*given, validate_args=False).sample(seed=key).sum()

        gradient = jax.jit(jax.grad(loss, tuple(range(1, 1 + len(arrays)))))
        keys = iter(jax.random.split(jax.random.PRNGKey(0), 100_000))
        try:
            jax.block_until_ready(gradient(next(keys), *arrays))
        except Exception as error:  # its Beta mixes precisions
            MISSING[TFP] = f"{type(error).__name__}: {error}".splitlines()[0]
            return None

    def run() -> None:
        with x64():
            jax.block_until_ready(gradient(next(keys), *arrays))

    return run


def pyro_mixture(leaves: list[Tensor], draws: int) -> Step | None:
    """Pyro's mixture of diagonal normals, whose gradient is pathwise too but by another field."""
    try:
        library = importlib.import_module("pyro.distributions")
    except Exception as error:
        MISSING["pyro"] = f"{type(error).__name__}: {error}"
        return None

    def run() -> tuple[Tensor, ...]:
        logits, loc, scale = leaves
        law = library.MixtureOfDiagNormals(loc, scale, logits)
        return torch.autograd.grad(law.rsample((draws,)).square().sum(), leaves)

    return run


def dense_mixture(leaves: list[Tensor], draws: int) -> Step:
    """The gradient by the Jacobian of the conditional distribution functions, row by row, and a triangular solve."""

    def run() -> tuple[Tensor, ...]:
        logits, loc, scale = leaves
        normal = torch.distributions.Normal(loc, scale)
        with torch.no_grad():
            which = torch.distributions.Categorical(logits=logits).sample((draws,))
            z = normal.sample((draws,))[torch.arange(draws), which]
        z.requires_grad_()
        ranks = conditional_ranks(logits, normal, z)
        dimension = z.shape[1]
        rows = [torch.autograd.grad(ranks[:, d].sum(), z, retain_graph=True)[0] for d in range(dimension)]
        jacobian = torch.stack(rows, 1)
        wanted = (2 * z.detach())[:, :, None]
        solved = torch.linalg.solve_triangular(jacobian.transpose(1, 2), wanted, upper=True)[..., 0]
        return torch.autograd.grad((-solved * ranks).sum(), leaves)

    return run


def conditional_ranks(logits: Tensor, normal: torch.distributions.Normal, z: Tensor) -> Tensor:
    """F(z_d | z_<d) of a factorised mixture, (draws, D)."""
    each = normal.log_prob(z[:, None])
    before = each.cumsum(-1) - each
    weights = torch.softmax(torch.log_softmax(logits, 0)[:, None] + before, 1)
    return (weights * normal.cdf(z[:, None])).sum(1)
