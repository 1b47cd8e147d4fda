"""The other libraries' ways to λ-returns, for benchmarks/td.py; each is None where its library is not installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from torch import Tensor

MISSING: dict[str, str] = {}
"""Why a peer could not be measured, by its name."""
TORCHRL, RLAX = "TorchRL, vectorised", "rlax under jit"
FLAGS = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
GAMMA, LAMBDA = 0.99, 0.95


def torchrl(name: str, r: Tensor, v: Tensor, done: Tensor) -> Callable[[], Any] | None:
    """A function of TorchRL's on (B, T) tensors, whose last axis it wants to be of one feature."""
    try:
        function = getattr(importlib.import_module("torchrl.objectives.value.functional"), name)
    except Exception as error:
        MISSING[TORCHRL] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None
    reward, end, now, following = (x[..., None] for x in (r, done, v[:, :-1], v[:, 1:]))
    values = (now, following) if "advantage" in name else (following,)
    return lambda: function(GAMMA, LAMBDA, *values, reward, end, end)


def rlax(r: Tensor, v: Tensor, done: Tensor) -> Callable[[], Any] | None:
    """rlax's lambda_returns over a batch, compiled before it is timed; it waits for the result."""
    for name, value in FLAGS.items():  # read when JAX starts
        os.environ.setdefault(name, value)
    try:
        jax, library = importlib.import_module("jax"), importlib.import_module("rlax")
    except Exception as error:
        MISSING[RLAX] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None
    arrays = [jax.numpy.asarray(x.numpy()) for x in (r, GAMMA * (~done).float(), v[:, 1:])]
    batched = jax.jit(jax.vmap(lambda *given: library.lambda_returns(*given, LAMBDA)))
    return lambda: jax.block_until_ready(batched(*arrays))
