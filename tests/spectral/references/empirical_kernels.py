"""Writes empirical_kernels.json: tangent kernels of small networks in float64 by neural-tangents, at fixed parameters.

    python tests/spectral/references/empirical_kernels.py

Made with neural-tangents 0.6.5, JAX 0.4.23, NumPy 1.26.4 (benchmarks/requirements-spectral.txt). The parameters come from
NumPy's frozen RandomState, so that the test draws the same ones. Kernels are `empirical_ntk_fn` with structured
derivatives, once with trace_axes=() and once with trace_axes=(-1,), which divides by the number of outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "mlp": {"w1": (8, 3), "b1": (8,), "w2": (8, 8), "b2": (8,), "w3": (2, 8), "b3": (2,)},
    "conv": {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 2, 2, 2), "w3": (2, 16), "b3": (2,)},
    "norm": {"w1": (6, 3), "b1": (6,), "gain": (6,), "shift": (6,), "w2": (6, 6), "w3": (2, 6)},
    "shared": {"w1": (3, 3), "b1": (3,), "w2": (2, 3)},
    "tied": {"table": (7, 4), "w1": (4, 4)},
    "attention": {"q": (4, 3), "k": (4, 3), "v": (4, 3), "w": (2, 4)},
}
SAMPLES: dict[str, tuple[int, ...]] = {
    "mlp": (3,), "conv": (2, 6, 6), "norm": (3,), "shared": (3,), "tied": (5,), "attention": (4, 3),
}  # fmt: skip
ROWS, COLUMNS = 4, 3


def draws(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, x1 and x2 of a network."""
    state = np.random.RandomState(list(SHAPES).index(name))
    parameters = {key: 0.7 * state.standard_normal(shape) for key, shape in SHAPES[name].items()}
    if name == "tied":
        return parameters, state.randint(0, 7, (ROWS, 5)), state.randint(0, 7, (COLUMNS, 5))
    shape = SAMPLES[name]
    return parameters, state.standard_normal((ROWS, *shape)), state.standard_normal((COLUMNS, *shape))


def networks() -> dict[str, Callable[[Any, Any], Any]]:
    """The networks in JAX, f(parameters, x)."""
    import jax
    import jax.numpy as jnp

    def convolve(x: Any, w: Any, stride: int, padding: int, groups: int) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups,
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )  # fmt: skip

    def mlp(p: Any, x: Any) -> Any:
        h = jnp.maximum(x @ p["w1"].T + p["b1"], 0)
        return jnp.tanh(h @ p["w2"].T + p["b2"]) @ p["w3"].T + p["b3"]

    def conv(p: Any, x: Any) -> Any:
        h = jnp.tanh(convolve(x, p["w1"], 2, 1, 1) + p["b1"][:, None, None])
        h = jnp.tanh(convolve(h, p["w2"], 1, 0, 2))
        return h.reshape(x.shape[0], -1) @ p["w3"].T + p["b3"]

    def norm(p: Any, x: Any) -> Any:
        h = x @ p["w1"].T + p["b1"]
        centred = h - h.mean(-1, keepdims=True)
        normal = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        h = h + jnp.tanh((normal * p["gain"] + p["shift"]) @ p["w2"].T)
        return h @ p["w3"].T

    def shared(p: Any, x: Any) -> Any:
        for _ in range(3):
            x = jnp.tanh(x @ p["w1"].T + p["b1"])
        return x @ p["w2"].T

    def tied(p: Any, x: Any) -> Any:
        h = jnp.tanh(p["table"][x] @ p["w1"].T).mean(1)
        return (h @ p["table"].T)[:, :2]

    def attention(p: Any, x: Any) -> Any:
        q, k, v = (x @ p[name].T for name in "qkv")
        weights = jax.nn.softmax(q @ k.swapaxes(1, 2) / 2.0, axis=-1)
        return (weights @ v).mean(1) @ p["w"].T

    return {"mlp": mlp, "conv": conv, "norm": norm, "shared": shared, "tied": tied, "attention": attention}


def main() -> None:
    import jax
    import neural_tangents as nt

    jax.config.update("jax_enable_x64", True)
    table = {}
    for name, network in networks().items():
        parameters, x1, x2 = jax.tree_util.tree_map(jax.numpy.asarray, draws(name))
        kernels = {}
        for reduce, axes in (("full", ()), ("trace", (-1,))):
            kernel = nt.empirical_ntk_fn(
                network, trace_axes=axes, implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES
            )
            kernels[reduce] = np.asarray(kernel(x1, x2, parameters)).tolist()
        table[name] = kernels
    Path(__file__).with_suffix(".json").write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
