"""Diffrax under jit, in a process of its own: `Diffrax` is the parent's side; run as a script, this file is the child."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from _worker import Worker, answer_all, seconds_of


class Diffrax(Worker):
    """The parent's side. `seconds(calls)` is CPU time of the child for each call."""

    def __init__(self) -> None:
        super().__init__(__file__, "diffrax")

    def load(self, case: Any) -> None:
        """Gives the child a case: weights, state, times and loss."""
        net = case.net
        arrays = {f"w{i}": w.detach().numpy() for i, w in enumerate(net.weights)}
        arrays |= {f"b{i}": b.detach().numpy() for i, b in enumerate(net.biases)}
        path = Path(self.folder.name, "case.npz")
        np.savez(path, time=net.time.detach().numpy(), y0=case.y0.numpy(), **arrays)
        self.ask(do="load", path=str(path), times=case.times, kind=case.kind, layers=len(net.weights))

    def result(self, what: str, rtol: float, atol: float) -> list[np.ndarray]:
        """States, or gradients in the order of the case's parameters."""
        path = Path(self.folder.name, "result.npz")
        self.ask(do="result", what=what, rtol=rtol, atol=atol, path=str(path))
        with np.load(path) as arrays:
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]

    def seconds(self, what: str, rtol: float, atol: float, calls: int) -> float:
        return self.ask(do="time", what=what, rtol=rtol, atol=atol, calls=calls)["seconds"]


def child() -> None:
    loaded: list[Program] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "load":
            loaded[:] = [Program(request)]
            return {}
        run = loaded[0].compiled(request["what"], request["rtol"], request["atol"])
        if request["do"] == "time":
            return seconds_of(run, request["calls"])
        np.savez(request["path"], *run())
        return {}

    answer_all(answer)


class Program:
    """One case in JAX: the whole solve, or the whole gradient, compiled at once."""

    def __init__(self, request: dict[str, Any]) -> None:
        import jax.numpy as jnp

        with np.load(request["path"]) as arrays:
            read = {name: jnp.asarray(arrays[name]) for name in arrays.files}
        layers = range(request["layers"])
        self.params = ([read[f"w{i}"] for i in layers], [read[f"b{i}"] for i in layers], read["time"])
        self.y0, self.times, self.kind = read["y0"], request["times"], request["kind"]
        self.cache: dict[tuple[str, float, float], Callable[[], list[Any]]] = {}

    def compiled(self, what: str, rtol: float, atol: float) -> Callable[[], list[Any]]:
        import jax

        key = (what, rtol, atol)
        if key not in self.cache:

            def solve(params: Any, y0: Any) -> Any:
                return self.solve(params, y0, rtol, atol)

            whole = jax.jit(solve if what == "forward" else jax.grad(lambda p, y: self.loss(solve(p, y))))
            self.cache[key] = lambda: self.flat(jax.block_until_ready(whole(self.params, self.y0)))
        return self.cache[key]

    def flat(self, found: Any) -> list[Any]:
        """In the order of the torch module's parameters: weights, biases, time comes first in `Net.__init__`'s order."""
        if isinstance(found, tuple):
            weights, biases, time_column = found
            return [time_column, *weights, *biases]
        return [found]

    def solve(self, params: Any, y0: Any, rtol: float, atol: float) -> Any:
        import diffrax
        import jax.numpy as jnp

        field = augmented if self.kind == "nll" else net
        start, end = self.times[0], self.times[-1]
        last = len(self.times) == 2
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, p: field(p, t, y)),
            diffrax.Dopri5(),
            t0=start,
            t1=end,
            dt0=None,
            y0=y0,
            args=params,
            saveat=diffrax.SaveAt(t1=True) if last else diffrax.SaveAt(ts=jnp.asarray(self.times)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=4096,
        ).ys

    def loss(self, ys: Any) -> Any:
        import jax.numpy as jnp

        if self.kind == "observed":
            return (ys[1:] ** 2).sum(2).mean()
        if self.kind == "terminal":
            return (ys[-1] ** 2).sum(1).mean()
        z, change = ys[-1][:, :-1], ys[-1][:, -1]
        return (0.5 * (z**2).sum(1) + 0.5 * z.shape[1] * jnp.log(2 * jnp.pi) - change).mean()


def net(params: Any, t: Any, y: Any) -> Any:
    import jax.numpy as jnp

    weights, biases, time_column = params
    h = y @ weights[0].T + biases[0] + t * time_column
    for weight, bias in zip(weights[1:], biases[1:]):
        h = jnp.tanh(h) @ weight.T + bias
    return h


def augmented(params: Any, t: Any, y: Any) -> Any:
    """(ż, tr ∂ż/∂z), one tangent for each component of z."""
    import jax
    import jax.numpy as jnp

    z = y[:, :-1]
    velocity, push = jax.linearize(lambda x: net(params, t, x), z)
    rows = [push(jnp.zeros_like(z).at[:, i].set(1.0))[:, i] for i in range(z.shape[1])]
    return jnp.concatenate([velocity, sum(rows[1:], rows[0])[:, None]], 1)


if __name__ == "__main__":
    child()
