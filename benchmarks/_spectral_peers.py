"""Other ways to a tangent kernel, for benchmarks/spectral.py: torch.func's two, and neural-tangents in a process of its own.

neural-tangents runs in the environment whose interpreter FINGERPOST_NEURAL_TANGENTS_PYTHON names
(requirements-spectral.txt); run as a script, this file is that process. Neither torch nor fingerpost is
imported there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from _worker import Worker, answer_all, seconds_of

VARIABLE = "FINGERPOST_NEURAL_TANGENTS_PYTHON"


def jacobian_contraction(model: Any, x: Any, reduce: str) -> Callable[[], Any]:
    """Jacobians of single samples by vmap of jacrev, contracted parameter by parameter."""
    import torch
    from torch.func import functional_call, jacrev, vmap

    values = {name: p.detach() for name, p in model.named_parameters()}
    indices = {"full": "naf,mbf->nmab", "diagonal": "naf,maf->nma", "trace": "naf,maf->nm"}[reduce]

    def one(values: Any, sample: Any) -> Any:
        return functional_call(model, values, (sample[None],))[0]

    def run() -> Any:
        left = vmap(jacrev(one), (None, 0))(values, x)
        right = vmap(jacrev(one), (None, 0))(values, x)
        shares = [torch.einsum(indices, left[key].flatten(2), right[key].flatten(2)) for key in left]
        return torch.stack(shares).sum(0)

    return run


def vector_products(model: Any, x: Any) -> Callable[[], Any]:
    """The full kernel, a pair of samples at a time, by products of a jvp after a vjp with each unit vector."""
    import torch
    from torch.func import functional_call, jvp, vjp, vmap

    values = {name: p.detach() for name, p in model.named_parameters()}
    outputs = model(x[:1]).shape[1]

    def pair(first: Any, second: Any) -> Any:
        def at(sample: Any) -> Callable[[Any], Any]:
            return lambda values: functional_call(model, values, (sample[None],))[0]

        def product(unit: Any) -> Any:
            return jvp(at(first), (values,), vjp(at(second), values)[1](unit))[1]

        return vmap(product)(torch.eye(outputs, dtype=first.dtype))

    return lambda: vmap(vmap(pair, (None, 0)), (0, None))(x, x)


class NeuralTangents(Worker):
    """The parent's side: kernels of perceptrons by structured derivatives under jit."""

    def __init__(self, python: str) -> None:
        super().__init__(__file__, "neural-tangents", python, quiet=True)

    def load(self, model: Any, x: Any, trace: bool) -> np.ndarray:
        """Gives the child a perceptron with ReLUs and samples; returns their kernel."""
        layers = [layer for layer in model if hasattr(layer, "weight")]
        arrays = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(layers)}
        arrays |= {f"b{i}": layer.bias.detach().numpy() for i, layer in enumerate(layers)}
        given, found = Path(self.folder.name, "given.npz"), Path(self.folder.name, "found.npy")
        np.savez(given, x=x.numpy(), **arrays)
        self.ask(do="load", given=str(given), found=str(found), layers=len(layers), trace=trace)
        return np.load(found)

    def seconds(self, calls: int) -> float:
        return self.ask(do="time", calls=calls)["seconds"]


def neural_tangents() -> NeuralTangents | str:
    """The process, or why there is none."""
    python = os.environ.get(VARIABLE)
    if not python:
        return f"{VARIABLE} names no interpreter"
    check = subprocess.run(
        [python, "-c", "import neural_tangents"], capture_output=True, text=True, check=False
    )
    if check.returncode:
        return f"{VARIABLE}: {(check.stderr.strip().splitlines() or ['import neural_tangents failed'])[-1]}"
    return NeuralTangents(python)


def child() -> None:
    loaded: list[Callable[[], Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "time":
            return seconds_of(loaded[0], request["calls"])
        loaded[:] = [compiled(request)]
        np.save(request["found"], np.asarray(loaded[0]()))
        return {}

    answer_all(answer)


def compiled(request: dict[str, Any]) -> Callable[[], Any]:
    import jax
    import neural_tangents as nt

    with np.load(request["given"]) as arrays:
        read = {name: jax.numpy.asarray(arrays[name]) for name in arrays.files}
    x, last = read.pop("x"), request["layers"] - 1
    # its rules take x @ w as a dense layer, and x @ w.T as one behind a transpose, thirty times as slow
    read = {name: array.T.copy() for name, array in read.items()}

    def network(p: Any, h: Any) -> Any:
        for i in range(last):
            h = jax.nn.relu(h @ p[f"w{i}"] + p[f"b{i}"])
        return h @ p[f"w{last}"] + p[f"b{last}"]

    kernel = jax.jit(
        nt.empirical_ntk_fn(
            network,
            trace_axes=(-1,) if request["trace"] else (),
            vmap_axes=0,  # samples are independent: it takes a hundred times as long where that isn't said
            implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
        )
    )
    return lambda: jax.block_until_ready(kernel(x, None, read))


if __name__ == "__main__":
    child()
