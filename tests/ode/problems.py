"""Initial value problems that the ode tests share, in float64: closed forms, the DETEST set, stiff ones.

The names A1 to E5 are those of Hull, Enright, Fellen and Sedgwick, "Comparing numerical methods for ordinary
differential equations", SIAM J. Numer. Anal. 9 (1972), https://doi.org/10.1137/0709052. Fields act on the last axis.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import ellipj, ellipk
from torch import Tensor

Exact = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """dy/dt = f(t, y), y(times[0]) = start.

    Attributes:
      name: Its name in the tests' ids.
      f: The field.
      start: Initial state.
      times: Start, observations and end.
      exact: Closed form, times (T,) → states (T, d); None where SciPy's solvers stand for it.
      stiff: Whether the reference is Radau's instead of DOP853's.
      atol: Absolute tolerance that belongs to rtol = 1, for states far from 1.
    """

    name: str
    f: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, ...]
    times: tuple[float, ...]
    exact: Exact | None = None
    stiff: bool = False
    atol: float = 1.0

    @property
    def y0(self) -> Tensor:
        return torch.tensor(self.start, dtype=torch.float64)

    def truth(self, times: Sequence[float] | None = None) -> Tensor:
        """The states at times, shape (T, d): closed form, else SciPy at rtol 1e-12 (Radau: 1e-10)."""
        asked = self.times if times is None else tuple(times)
        if self.exact is not None:
            return torch.from_numpy(self.exact(np.asarray(asked)))
        return torch.from_numpy(_reference(self, asked))

    def scipy(self, method: str, rtol: float, atol: float) -> tuple[np.ndarray, int]:
        """The final state and the number of evaluations of SciPy's solver."""
        run = solve_ivp(
            self._numpy, (self.times[0], self.times[-1]), self.start, method, rtol=rtol, atol=atol
        )
        assert run.success, run.message
        return run.y[:, -1], run.nfev

    def _numpy(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.f(torch.tensor(t, dtype=torch.float64), torch.from_numpy(y)).numpy()


@functools.cache
def _reference(problem: Problem, times: tuple[float, ...]) -> np.ndarray:
    """SciPy's solution, which lands on each time: its dense output is not as exact as its steps."""
    y, out = np.array(problem.start), [np.array(problem.start)]
    method, rtol = ("Radau", 1e-10) if problem.stiff else ("DOP853", 1e-12)
    for span in itertools.pairwise(times):
        run = solve_ivp(problem._numpy, span, y, method, rtol=rtol, atol=problem.atol * rtol * 1e-2)
        assert run.success, run.message
        y = run.y[:, -1]
        out.append(y)
    return np.array(out)


def stack(*components: Tensor) -> Tensor:
    return torch.stack(components, -1)


def column(*components: np.ndarray) -> np.ndarray:
    return np.stack(components, -1)


def decay(t: Tensor, y: Tensor) -> Tensor:
    return -y


def riccati(t: Tensor, y: Tensor) -> Tensor:
    return -0.5 * y**3


def swing(t: Tensor, y: Tensor) -> Tensor:
    return y * torch.cos(t)


def logistic(t: Tensor, y: Tensor) -> Tensor:
    return 0.25 * y * (1 - y / 20)


def spiral(t: Tensor, y: Tensor) -> Tensor:
    return (y - t) / (y + t)


def competition(t: Tensor, y: Tensor) -> Tensor:
    a, b = y.unbind(-1)
    return stack(2 * (a - a * b), -(b - a * b))


REACTION = np.array([[-1.0, 1.0, 0.0], [1.0, -2.0, 1.0], [0.0, 1.0, -1.0]])


def reaction(t: Tensor, y: Tensor) -> Tensor:
    return y @ torch.from_numpy(REACTION).T


def nonlinear_reaction(t: Tensor, y: Tensor) -> Tensor:
    a, b, _ = y.unbind(-1)
    return stack(-a, a - b**2, b**2)


def torus(t: Tensor, y: Tensor) -> Tensor:
    a, b, _ = y.unbind(-1)
    r = (a**2 + b**2).sqrt()
    return stack(-b - a * y[..., 2] / r, a - b * y[..., 2] / r, a / r)


def rigid_body(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    return stack(b * c, -a * c, -0.51 * a * b)


def rigid_body_at(t: np.ndarray) -> np.ndarray:
    sn, cn, dn, _ = ellipj(t, 0.51)
    return column(sn, cn, dn)


RADIOACTIVE = np.diag([-1.0] * 9 + [0.0]) + np.diag([1.0] * 9, -1)
DIFFUSION = np.diag([-2.0] * 10) + np.diag([1.0] * 9, -1) + np.diag([1.0] * 9, 1)
FIRST_OF_TEN = (1.0, *([0.0] * 9))


def radioactive(t: Tensor, y: Tensor) -> Tensor:
    return y @ torch.from_numpy(RADIOACTIVE).T


def diffusion(t: Tensor, y: Tensor) -> Tensor:
    return y @ torch.from_numpy(DIFFUSION).T


def linear_at(matrix: np.ndarray, start: Sequence[float]) -> Exact:
    return lambda t: np.array([expm(s * matrix) @ np.array(start) for s in t])


def kepler(t: Tensor, y: Tensor) -> Tensor:
    position, velocity = y[..., :2], y[..., 2:]
    return torch.cat([velocity, -position / position.norm(dim=-1, keepdim=True) ** 3], -1)


def kepler_at(eccentricity: float) -> Exact:
    """The orbit of unit period 2π, by Newton's iteration on Kepler's equation u − e sin u = t."""

    def states(t: np.ndarray) -> np.ndarray:
        u = t + eccentricity * np.sin(t)
        for _ in range(50):
            u = u - (u - eccentricity * np.sin(u) - t) / (1 - eccentricity * np.cos(u))
        root, rate = math.sqrt(1 - eccentricity**2), 1 / (1 - eccentricity * np.cos(u))
        return column(np.cos(u) - eccentricity, root * np.sin(u), -rate * np.sin(u), root * rate * np.cos(u))

    return states


def bessel(t: Tensor, y: Tensor) -> Tensor:
    a, b = y.unbind(-1)
    return stack(b, -(b / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * a))


def bessel_at(t: np.ndarray) -> np.ndarray:
    """J_½(t + 1) = √(2/π) sin(t + 1)/√(t + 1), and its derivative."""
    x = t + 1
    scale = math.sqrt(2 / math.pi)
    return column(scale * np.sin(x) / np.sqrt(x), scale * (np.cos(x) / np.sqrt(x) - 0.5 * np.sin(x) / x**1.5))


def van_der_pol(t: Tensor, y: Tensor, mu: float = 1.0) -> Tensor:
    x, v = y.unbind(-1)
    return stack(v, mu * (1 - x**2) * v - x)


def duffing(t: Tensor, y: Tensor) -> Tensor:
    x, v = y.unbind(-1)
    return stack(v, x**3 / 6 - x + 2 * torch.sin(2.78535 * t))


def falling(t: Tensor, y: Tensor) -> Tensor:
    v = y[..., 1]
    return stack(v, 0.032 - 0.4 * v**2)


def pursuit(t: Tensor, y: Tensor) -> Tensor:
    v = y[..., 1]
    return stack(v, (1 + v**2).sqrt() / (25 - t))


def oscillator(t: Tensor, y: Tensor) -> Tensor:
    return stack(y[..., 1], -y[..., 0])


def pendulum(t: Tensor, y: Tensor) -> Tensor:
    return stack(y[..., 1], -torch.sin(y[..., 0]))


AMPLITUDE = 2.0


def pendulum_at(t: np.ndarray) -> np.ndarray:
    """From rest at the angle AMPLITUDE: sin(x/2) = k sn(K + t, k²), k = sin(AMPLITUDE/2)."""
    k = math.sin(AMPLITUDE / 2)
    sn, cn, _, _ = ellipj(ellipk(k * k) + t, k * k)
    return column(2 * np.arcsin(k * sn), 2 * k * cn)


def driven(t: Tensor, y: Tensor) -> Tensor:
    """y = (exp sin t², exp cos t²): nonlinear, coupled, non-autonomous."""
    a, b = y.unbind(-1)
    return stack(2 * t * a * b.log(), -2 * t * b * a.log())


def driven_at(t: np.ndarray) -> np.ndarray:
    return column(np.exp(np.sin(t**2)), np.exp(np.cos(t**2)))


def nearly_singular(t: Tensor, y: Tensor) -> Tensor:
    """y = √(1.001 − t): its derivative grows to 16 at t = 1, 500 times its second one's start."""
    return -0.5 / y


def robertson(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    slow, fast = 1e4 * b * c - 0.04 * a, 3e7 * b * b
    return stack(slow, -slow - fast, fast)


def hires(t: Tensor, y: Tensor) -> Tensor:
    a, b, c, d, e, f, g, h = y.unbind(-1)
    bind = 280 * f * h
    return stack(
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * f + 0.43 * g,
        -bind + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
        bind - 1.81 * g,
        -bind + 1.81 * g,
    )


def _orbit(name: str, eccentricity: float) -> Problem:
    exact = kepler_at(eccentricity)
    return Problem(name, kepler, tuple(exact(np.zeros(1))[0]), TWENTY, exact)


TWENTY = (0.0, 20.0)

CLOSED = [
    Problem("exponential", decay, (1.0, -2.0), (0.0, 3.0), lambda t: np.exp(-t)[:, None] * [1.0, -2.0]),
    Problem("oscillator", oscillator, (1.0, 0.0), (0.0, 6.0), lambda t: column(np.cos(t), -np.sin(t))),
    Problem("linear", reaction, (2.0, 0.0, 1.0), (0.0, 3.0), linear_at(REACTION, (2.0, 0.0, 1.0))),
    Problem("pendulum", pendulum, (AMPLITUDE, 0.0), (0.0, 6.0), pendulum_at),
    Problem("driven", driven, (1.0, math.e), (0.0, 2.0), driven_at),
    Problem(
        "nearly singular",
        nearly_singular,
        (math.sqrt(1.001),),
        (0.0, 1.0),
        lambda t: np.sqrt(1.001 - t)[:, None],
    ),
]

DETEST = [
    Problem("A1", decay, (1.0,), TWENTY, lambda t: np.exp(-t)[:, None]),
    Problem("A2", riccati, (1.0,), TWENTY, lambda t: 1 / np.sqrt(1 + t)[:, None]),
    Problem("A3", swing, (1.0,), TWENTY, lambda t: np.exp(np.sin(t))[:, None]),
    Problem("A4", logistic, (1.0,), TWENTY, lambda t: 20 / (1 + 19 * np.exp(-t / 4))[:, None]),
    Problem("A5", spiral, (4.0,), TWENTY),
    Problem("B1", competition, (1.0, 3.0), TWENTY),
    Problem("B2", reaction, (2.0, 0.0, 1.0), TWENTY, linear_at(REACTION, (2.0, 0.0, 1.0))),
    Problem("B3", nonlinear_reaction, (1.0, 0.0, 0.0), TWENTY),
    Problem("B4", torus, (3.0, 0.0, 0.0), TWENTY),
    Problem("B5", rigid_body, (0.0, 1.0, 1.0), TWENTY, rigid_body_at),
    Problem("C1", radioactive, FIRST_OF_TEN, TWENTY, linear_at(RADIOACTIVE, FIRST_OF_TEN)),
    Problem("C3", diffusion, FIRST_OF_TEN, TWENTY, linear_at(DIFFUSION, FIRST_OF_TEN)),
    *(_orbit(f"D{i + 1}", 0.1 + 0.2 * i) for i in range(5)),
    Problem("E1", bessel, tuple(bessel_at(np.zeros(1))[0]), TWENTY, bessel_at),
    Problem("E2", van_der_pol, (2.0, 0.0), TWENTY),
    Problem("E3", duffing, (0.0, 0.0), TWENTY),
    Problem("E4", falling, (30.0, 0.0), TWENTY),
    Problem("E5", pursuit, (0.0, 0.0), TWENTY),
]

STIFF = [
    Problem(
        "van der Pol, mu 100",
        functools.partial(van_der_pol, mu=100.0),
        (2.0, 0.0),
        (0.0, 50.0, 100.0),
        stiff=True,
    ),
    Problem("Robertson", robertson, (1.0, 0.0, 0.0), (0.0, 0.4, 400.0), stiff=True, atol=1e-4),
    Problem("HIRES", hires, (1.0, *([0.0] * 6), 0.0057), (0.0, 5.0, 321.8122), stiff=True, atol=1e-2),
]


def by_name(problems: Sequence[Problem]) -> dict[str, Problem]:
    return {problem.name: problem for problem in problems}


Pair = tuple[Tensor, Tensor]


def separated(problem: Problem) -> tuple[Callable[[Tensor, Pair], Pair], Pair]:
    """A second-order problem of (position, velocity) in the two halves that leapfrog takes, and its start."""

    def f(t: Tensor, y: Pair) -> Pair:
        position, velocity = problem.f(t, torch.cat(y, -1)).chunk(2, -1)
        return position, velocity

    position, velocity = problem.y0.chunk(2)
    return f, (position, velocity)
