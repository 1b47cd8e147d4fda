"""What JOIN and LINK do on average: sizes of items, transfer curves, margins, and what fires that should not.

In G(n, p) a neuron gets Binomial(r, p) inputs from r firing neurons, and what one neuron gets is independent of what
another does. All functions take p = degree / n. Sizes may be arrays and need not be whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

FORMS = ("join-link", "via-join", "link")
_NODES = 15  # of Gauss and Hermite, over the normal law of a JOIN's size
Floats = NDArray[np.float64]


class Circuit(NamedTuple):
    """How A and B reach C, and with which thresholds.

    ==============  =================================================================================
    form            path
    ==============  =================================================================================
    ``join-link``   A, B → (k_m) neurons of the JOIN → (k_a) relays → (k_a, raised synapses) C
    ``via-join``    A, B → (k_m) neurons of the JOIN → (k_a, raised synapses) C
    ``link``        A, B → (k_a, raised synapses) C
    ==============  =================================================================================

    The first is Beal and Knight's composition to the letter, the second takes the JOIN's neurons for the LINK's relays, the
    third is a LINK in one step, which has no k_m.
    """

    form: str
    k_m: int
    k_a: int


class Margins(NamedTuple):
    """How far a signal may be off and be restored, as shares of an item; 0 where there is no margin."""

    lower: float
    upper: float


class Condition(NamedTuple):
    """A quantity that has to be in a range for the memory to work.

    Args:
      name: A word for it.
      statement: What has to hold.
      value: What it is.
      low: Least value, or None.
      high: Largest value, or None.
    """

    name: str
    statement: str
    value: float
    low: float | None
    high: float | None

    @property
    def holds(self) -> bool:
        """Whether it is in the range."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


def binomial_tail(r: ArrayLike, p: ArrayLike, k: ArrayLike) -> Floats:
    """B(r, p, k) = P(Binomial(r, p) ≥ k), by the regularized incomplete beta function: right in far tails too.

    Args:
      r: Trials, 0 or more; need not be whole.
      p: Chance of each.
      k: Successes asked for; 1 if it is 0 or less.

    >>> binomial_tail(2134, 0.00512, 32).round(12)
    np.float64(1.55912e-07)
    >>> binomial_tail([10, 2], 0.5, 3).tolist()
    [0.9453125, 0.0]
    """
    r, p, k = (np.asarray(value, np.float64) for value in (r, p, k))
    inside = (k > 0) & (r > k - 1)
    safe_r, safe_k = np.where(inside, r, 1.0), np.where(inside, k, 1.0)
    tail = special.betainc(safe_k, safe_r - safe_k + 1, p)
    return np.where(inside, tail, np.where(k > 0, 0.0, 1.0))[()]


def union_size(n: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Expected number of neurons in either of two random items of a and b neurons, a + b − ab/n.

    >>> union_size(100, 10, 10).item()
    19.0
    """
    n, a, b = (np.asarray(value, np.float64) for value in (n, a, b))
    return a + b - a * b / n


def joint_tail(a: ArrayLike, b: ArrayLike, shared: ArrayLike, p: float, k: int) -> Floats:
    """The chance that a neuron gets at least k inputs from a set of a neurons and from one of b, with so many in both.

    Σ_c P(c) P(x ≥ k − c) P(y ≥ k − c) with c ~ Binomial(shared, p) inputs that count for both.

    >>> joint_tail(100, 100, 100, 0.1, 12) == binomial_tail(100, 0.1, 12)  # the same set twice
    np.True_
    >>> joint_tail(100, 100, 0, 0.1, 12) == binomial_tail(100, 0.1, 12) ** 2
    np.True_
    """
    a, b, shared = (np.asarray(value, np.float64)[..., None] for value in (a, b, shared))
    common = np.arange(k + 1)
    at_least = binomial_tail(shared, p, common)
    chances = np.concatenate([at_least[..., :-1] - at_least[..., 1:], at_least[..., -1:]], -1)
    alone = [binomial_tail(size - shared, p, k - common) for size in (a, b)]
    return (chances * alone[0] * alone[1]).sum(-1)


def size_map(
    n: int, degree: float, a: ArrayLike, b: ArrayLike, k: int, *, steps: int = 1, k_m: int | None = None,
    overlap: bool = True,
) -> Floats:  # fmt: skip
    """Expected size of the item that a JOIN makes of two random items of a and b neurons.

    One step: n B(a + b − ab/n, p, k_m). Two steps: n times the chance of k inputs from each (`joint_tail`); Valiant (2005)
    takes the two as independent, n B(a, p, k) B(b, p, k), which ``overlap=False`` gives.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron, d.
      a: Sizes of the one item.
      b: Sizes of the other.
      k: Threshold k_a.
      steps: 1 or 2.
      k_m: Threshold of one step; 2k unless given.
      overlap: Whether inputs from neurons that are in both items count, in two steps.

    >>> r = 2134 * np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    >>> (size_map(100_000, 512, r, r, 16) / 2134).round(2).tolist()
    [0.26, 0.53, 1.0, 1.74, 2.84]
    """
    p = _probability(n, degree)
    _check_steps(steps, k_m)
    if steps == 1:
        return n * binomial_tail(union_size(n, a, b), p, 2 * k if k_m is None else k_m)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return n * (
        joint_tail(a, b, a * b / n, p, k) if overlap else binomial_tail(a, p, k) * binomial_tail(b, p, k)
    )


def solve_r(n: int, degree: float, k: int, steps: int = 2) -> int:
    """The size r of items at which a JOIN makes items of size r: Valiant's (2005) equations.

    Two steps: n B(r, p, k)² = r. One step: n B(2r − r', p, 2k) = r with r' = round(r²/n). Below r a JOIN's item is smaller
    than its parts, above it larger: no such size is stable.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron, d.
      k: Inputs that make a neuron fire.
      steps: 1 or 2.

    Returns:
      The whole number nearest to the smallest solution.

    Raises:
      InvalidValueError: If no r below n/2 solves it.

    >>> [solve_r(100_000, 512, 16, steps) for steps in (2, 1)]
    [2338, 2134]
    """
    p = _probability(n, degree)
    _check_steps(steps, None)
    if not 1 <= k <= degree:
        raise InvalidValueError(f"k must be from 1 to the degree {degree:g}; got {k}")

    def excess(r: int) -> float:
        if steps == 2:
            return n * float(binomial_tail(r, p, k)) ** 2 - r
        return n * float(binomial_tail(2 * r - round(r * r / n), p, 2 * k)) - r

    low, high = 1, max(2, n // 2)
    if excess(high) < 0:
        raise InvalidValueError(
            f"no size of items solves the equation for n = {n}, degree = {degree:g}, k = {k}: JOINs die out at every size; "
            "lower k or raise the degree"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low if abs(excess(low)) < abs(excess(high)) else high


def recall_curve(
    n: int, degree: float, a: float, b: float, x: ArrayLike, y: ArrayLike, k_m: int, *, recall: int | None = None
) -> Floats:  # fmt: skip
    """Expected share of a one-step JOIN's item that fires when x of A's and y of B's neurons fire: JOIN's transfer curve.

    A neuron of C has c ≥ k_m inputs from A ∪ B, and each of them fires with the chance that a random neuron of the union does:
    P(Binomial(c, share) ≥ recall), averaged over c. Nothing outside A and B fires.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      a: Neurons of A.
      b: Neurons of B.
      x: Shares of A that fire, from 0 to 1.
      y: Shares of B that fire, of a shape that broadcasts with x.
      k_m: Threshold at which C was formed.
      recall: Threshold at recall; k_m unless given.

    >>> recall_curve(100_000, 512, 2134, 2134, [1.0, 0.99, 0.9], [1.0, 0.99, 0.9], 32).round(2).tolist()
    [1.0, 0.89, 0.26]
    """
    p, whole = _probability(n, degree), float(union_size(n, a, b))
    share = np.asarray(union_size(n, a * _shares(x, "x"), b * _shares(y, "y")), np.float64) / whole
    most = int(whole * p + 12 * np.sqrt(whole * p) + k_m + 60)
    inputs = np.arange(k_m, most + 1)
    weights = binomial_tail(whole, p, inputs) - binomial_tail(whole, p, inputs + 1)
    fires = special.bdtrc((k_m if recall is None else recall) - 1, inputs, share[..., None])
    return (fires * weights).sum(-1) / weights.sum()


def transfer_curve(
    n: int, degree: float, a: ArrayLike, b: ArrayLike, circuit: Circuit | Sequence[Any]
) -> Floats:  # fmt: skip
    """Expected share of C that fires when a and b neurons of A and B fire, of a circuit that was trained on A and B.

    What is reached then was reached in training, so every synapse from there into C is raised. A JOIN's size varies by chance,
    n q ± √(n q (1 − q)); the share, which is steep, is averaged over that.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      a: Firing neurons of A.
      b: Firing neurons of B.
      circuit: Form and thresholds at recall; see `Circuit`.

    >>> r = 2134 * np.array([1.0, 0.95, 0.9, 0.5])
    >>> transfer_curve(100_000, 512, r, r, Circuit("join-link", 28, 16)).round(3).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    circuit = _circuit(circuit)
    p, firing = _probability(n, degree), union_size(n, a, b)
    if circuit.form == "link":
        return binomial_tail(firing, p, circuit.k_a)
    sizes, weights = _spread(n, binomial_tail(firing, p, circuit.k_m), _NODES)
    reached = sizes if circuit.form == "via-join" else n * binomial_tail(sizes, p, circuit.k_a)
    return binomial_tail(reached, p, circuit.k_a) @ weights


def interference(n: int, degree: float, r: float, circuit: Circuit | Sequence[Any], kind: str) -> float:
    """Expected share of C that fires for a cue that it was not trained on, with one memory in the graph.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      r: Size of items.
      circuit: Form and thresholds; see `Circuit`.
      kind: ``"A"``, one of its two items alone; ``"A and D"``, with an unrelated item; ``"D and E"``, two unrelated ones.

    >>> [round(interference(100_000, 512, 2134, ("link", 0, 16), kind), 3) for kind in ("A", "A and D", "D and E")]
    [0.088, 0.101, 0.0]
    """
    circuit, p, pair = _circuit(circuit), _probability(n, degree), float(union_size(n, r, r))
    if kind not in ("A", "A and D", "D and E"):
        raise InvalidValueError(f"kind is {kind!r}; expected 'A', 'A and D' or 'D and E'")
    if kind == "A":
        return float(transfer_curve(n, degree, r, 0, circuit))
    shared = r + r * r / n * (1 - r / n) if kind == "A and D" else pair * pair / n
    if circuit.form == "link":
        return float(binomial_tail(shared, p, circuit.k_a))
    whole, common = (
        n * float(chance)
        for chance in (
            binomial_tail(pair, p, circuit.k_m),
            joint_tail(pair, pair, shared, p, circuit.k_m),
        )
    )
    if circuit.form == "via-join":
        return float(binomial_tail(common, p, circuit.k_a))
    sizes, weights = _spread(n, whole / n, 7)
    relays = n * joint_tail(sizes, sizes, common * sizes / whole, p, circuit.k_a)
    return float(binomial_tail(relays, p, circuit.k_a) @ weights)


def noise_margin(x: ArrayLike, y: ArrayLike) -> Margins:
    """Noise margins of a transfer curve: the largest x − y below its threshold, and the largest y − x above it.

    A signal that is a share of its item is restored if the curve brings it nearer to 0 or to 1. The difference y − x is extreme
    where the curve has slope 1, at the points of unity gain that digital circuits are judged by.

    Args:
      x: Shares of the input items that fire, increasing.
      y: Share of the output item, of the same shape (m,).

    Returns:
      The lower margin and the upper one, 0 where there is none.

    >>> noise_margin([0, 0.4, 0.6, 1], [0, 0.1, 0.9, 1])
    Margins(lower=0.3, upper=0.3)
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ShapeError(f"x and y have shapes {x.shape} and {y.shape}; expected (m,) twice")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise InvalidValueError("x must increase, and neither x nor y may hold NaN or infinity")
    difference = y - x
    return Margins(*(round(max(0.0, float(value)), 12) for value in (-difference.min(), difference.max())))


def link_probability(n: int, degree: float, r: float, k: int) -> float:
    """The chance that a neuron of B has k relays to it from A: B(n, p B(r, p, k), k) (Valiant 2005).

    >>> round(link_probability(100_000, 512, 2134, 16), 4)
    1.0
    """
    p = _probability(n, degree)
    return float(binomial_tail(n, p * float(binomial_tail(r, p, k)), k))


def conditions(n: int, degree: float, k: int, r: int | None = None, steps: int = 2) -> list[Condition]:
    """What has to hold for items of size r to be joined and linked (Valiant 2005), each with its value.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      k: Inputs that make a neuron fire.
      r: Size of items; `solve_r`'s unless given.
      steps: Of the JOIN, 1 or 2.

    >>> [(c.name, c.holds) for c in conditions(100_000, 512, 16)][:3]
    [('size', True), ('stability', False), ('specificity', True)]
    """
    r = solve_r(n, degree, k, steps) if r is None else int(r)
    p = _probability(n, degree)

    def made(size: float) -> float:
        return float(size_map(n, degree, size, size, k, steps=steps, overlap=False))

    growth = float(np.log(made(1.01 * r) / made(0.99 * r)) / np.log(1.01 / 0.99))
    relays = float(binomial_tail(r, p, k))
    if steps == 2:  # of C's neurons, those that D in the place of B reaches
        other = float(binomial_tail(r, p, k))
    else:
        pair = float(union_size(n, r, r))
        other = float(joint_tail(pair, pair, r + r * r / n, p, 2 * k) / binomial_tail(pair, p, 2 * k))
    common = float(joint_tail(r, r, r * r / n, p, k))
    return [
        Condition("size", "A JOIN's item is as large as its parts.", made(r) / r, 0.9, 1.1),
        Condition("stability", "A JOIN grows by no more than its parts do, in per cent.", growth, None, 1.0),
        Condition("specificity", "Less than half of C fires for A with an unrelated item.", other, None, 0.5),
        Condition("link", "Neurons of B have k relays from A.", link_probability(n, degree, r, k), 0.9, None),
        Condition(
            "association", "Less than half of B fires for an item unrelated to A.",
            float(binomial_tail(n, p * common, k)), None, 0.5,
        ),
        Condition("relays", "Less than half of all neurons are relays.", relays, None, 0.5),
        Condition("overlap", "Two items share less than a tenth of their neurons.", r / n, None, 0.1),
    ]  # fmt: skip


def _spread(n: int, q: ArrayLike, nodes: int) -> tuple[Floats, Floats]:
    """Sizes of a random set of Binomial(n, q) neurons, shape (*q.shape, nodes), and their weights."""
    q = np.asarray(q, np.float64)[..., None]
    places, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return np.maximum(n * q + np.sqrt(n * q * (1 - q)) * places, 0), weights / weights.sum()


def _probability(n: int, degree: float) -> float:
    if not (n >= 1 and 0 < degree < n):
        raise InvalidValueError(f"degree must be above 0 and below n = {n}; got {degree}")
    return degree / n


def _check_steps(steps: int, k_m: int | None) -> None:
    if steps not in (1, 2):
        raise InvalidValueError(f"steps is {steps!r}; a JOIN takes 1 or 2")
    if steps == 2 and k_m is not None:
        raise InvalidValueError("k_m is the threshold of a JOIN in one step; with steps=2 give k alone")


def _shares(x: ArrayLike, name: str) -> Floats:
    array = np.asarray(x, np.float64)
    if not ((array >= 0) & (array <= 1)).all():
        raise InvalidValueError(
            f"{name} holds shares of an item, from 0 to 1; got {array.min()} … {array.max()}"
        )
    return array


def _circuit(given: Any) -> Circuit:
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise InvalidTypeError(f"circuit is {given!r}; expected Circuit(form, k_m, k_a)")
    circuit = Circuit(*given)
    if circuit.form not in FORMS:
        raise InvalidValueError(f"form is {circuit.form!r}; expected one of {', '.join(FORMS)}")
    if circuit.k_a < 1 or (circuit.form != "link" and circuit.k_m < 1):
        raise InvalidValueError(f"thresholds are at least 1; got k_m = {circuit.k_m}, k_a = {circuit.k_a}")
    return circuit
