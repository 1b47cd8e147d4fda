"""How much of C fires when part of A and B does: transfer curves and noise margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal.theory.tails import (
    Floats,
    binomial_tail,
    check_steps,
    joint_tail,
    probability,
    random_size,
    union_size,
)

FORMS = ("join-link", "via-join", "link")
_NODES, _NODES_OF_THREE = 15, 7


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


class UnityGain(NamedTuple):
    """The points where a transfer curve has slope 1, as (input, output): the signals that count as low and as high.

    Args:
      low: Where x − y is largest.
      high: Where y − x is largest.
    """

    low: tuple[float, float]
    high: tuple[float, float]


def recall_curve(
    n: int, degree: float, a: float, b: float, x: ArrayLike, y: ArrayLike, k_m: int, *, recall: int | None = None,
    steps: int = 1, noise: ArrayLike = 0.0,
) -> Floats:  # fmt: skip
    """Expected share of a JOIN's own item that fires when x of A's and y of B's neurons do: JOIN's transfer curve.

    C is what got k_m inputs from A ∪ B, or in two steps from A and from B, when they fired whole; at recall the parts that
    fire, and what else fires, give a neuron its inputs. The curve is the chance of both, over that of the first.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      a: Neurons of A.
      b: Neurons of B.
      x: Shares of A that fire, from 0 to 1.
      y: Shares of B that fire, of a shape that broadcasts with x.
      k_m: Threshold at which C was formed; with two steps k.
      recall: Threshold at recall; k_m unless given.
      steps: 1 or 2.
      noise: Other neurons that fire, in each step.

    >>> recall_curve(100_000, 512, 2134, 2134, [1.0, 0.99, 0.9], [1.0, 0.99, 0.9], 32).round(2).tolist()
    [1.0, 0.89, 0.26]
    """
    p = probability(n, degree)
    check_steps(steps, None)
    x, y, noise = _shares(x, "x"), _shares(y, "y"), _noise(noise)
    recall = k_m if recall is None else recall
    if steps == 2:
        return _recall_twice(p, (a, b, a * b / n), (x, y), noise, k_m, recall)
    whole, part = union_size(n, a, b), union_size(n, a * x, b * y)
    return joint_tail(whole, part + noise, part, p, k_m, recall) / binomial_tail(whole, p, k_m)


def _recall_twice(
    p: float, sizes: tuple[float, float, float], shares: tuple[Floats, Floats], noise: Floats, k: int, recall: int
) -> Floats:  # fmt: skip
    """Of two steps: given c inputs from A ∩ B, what A and B add is independent. Of these c each fires or not."""
    a, b, shared = sizes
    most = int(shared * p + 12 * np.sqrt(shared * p) + 25)
    both = whole = np.zeros(())
    for common in range(most + 1):
        chance = binomial_tail(shared, p, common) - binomial_tail(shared, p, common + 1)
        formed = binomial_tail(a - shared, p, k - common) * binomial_tail(b - shared, p, k - common)
        fires = chance
        for size, share in zip((a - shared, b - shared), shares):
            fires = fires * _given_common(p, size, share, noise, (k, recall), common)
        both, whole = both + fires, whole + chance * formed
    return both / whole


def _given_common(
    p: float, size: float, share: Floats, noise: Floats, thresholds: tuple[int, int], common: int
) -> Floats:  # fmt: skip
    """The chance of enough inputs when C is formed and at recall, from one item, given its `common` shared inputs."""
    total = np.zeros(())
    for active in range(common + 1):
        chance = special.comb(common, active) * share**active * (1 - share) ** (common - active)
        k, recall = thresholds[0] - common, thresholds[1] - active
        part = size * share
        total = total + chance * joint_tail(size, part + noise, part, p, k, recall)
    return total


def transfer_curve(
    n: int, degree: float, a: ArrayLike, b: ArrayLike, circuit: Circuit | Sequence[Any], *,
    trained: Circuit | Sequence[Any] | None = None, items: tuple[float, float] | None = None, noise: ArrayLike = 0.0,
) -> Floats:  # fmt: skip
    """Expected share of C that fires when a and b neurons of A and B fire, of a circuit that was trained on A and B.

    With the thresholds of training and nothing else firing, what is reached then was reached in training, so every synapse
    from there into C is raised. Otherwise synapses count from what was reached both times. A JOIN's size varies by
    chance, n q ± √(n q (1 − q)); the share, which is steep, is averaged over that.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      a: Firing neurons of A.
      b: Firing neurons of B.
      circuit: Form, and thresholds at recall; see `Circuit`.
      trained: The circuit in training, if its thresholds were others.
      items: Sizes of A and B in training; needed with `trained` or `noise`.
      noise: Neurons outside A and B that fire as well.

    Raises:
      InvalidValueError: For a form that is none, two forms, or `items` missing.

    >>> r = 2134 * np.array([1.0, 0.95, 0.9, 0.5])
    >>> transfer_curve(100_000, 512, r, r, Circuit("join-link", 28, 16)).round(3).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    circuit, noise = checked_circuit(circuit), _noise(noise)
    p, firing = probability(n, degree), union_size(n, a, b)
    if trained is None and not noise.any():
        return _share_when_trained(n, p, firing, circuit)
    if items is None:
        raise InvalidValueError(
            "items is needed with trained or noise: the sizes of A and B in training, as (2134, 2134)"
        )
    trained = circuit if trained is None else checked_circuit(trained)
    if trained.form != circuit.form:
        raise InvalidValueError(
            f"circuit is a {circuit.form} and was trained as a {trained.form}; only thresholds may differ"
        )
    return _share(n, p, union_size(n, *items), firing + noise, firing, trained, circuit)


def _share_when_trained(n: int, p: float, firing: ArrayLike, circuit: Circuit) -> Floats:
    """`_share` for the very set that C was trained on: whatever fires did so before, so one threshold decides at each step."""
    if circuit.form == "link":
        return binomial_tail(firing, p, circuit.k_a)
    sizes, weights = random_size(n, binomial_tail(firing, p, circuit.k_m), _NODES)
    if circuit.form == "via-join":
        return binomial_tail(sizes, p, circuit.k_a) @ weights
    return binomial_tail(n, p * binomial_tail(sizes, p, circuit.k_a), circuit.k_a) @ weights


def _share(
    n: int, p: float, whole: ArrayLike, cue: ArrayLike, shared: ArrayLike, trained: Circuit, recall: Circuit
) -> Floats:  # fmt: skip
    """Expected share of C that fires for a cue, of which so many neurons are shared with the set that C was trained on."""
    whole, cue, shared = (np.asarray(size, np.float64) for size in (whole, cue, shared))
    if recall.form == "link":
        return binomial_tail(shared, p, recall.k_a)
    common = joint_tail(whole, cue, shared, p, trained.k_m, recall.k_m)
    if recall.form == "via-join":
        sizes, weights = random_size(n, common, _NODES)
        return binomial_tail(sizes, p, recall.k_a) @ weights
    then, now = (
        np.maximum(binomial_tail(size, p, k) - common, 0)
        for size, k in ((whole, trained.k_m), (cue, recall.k_m))
    )
    (both, first, second), weights = _three_sizes(n, common, then, now)
    # relays: n tries of p times the chance to be one both times, which has their number's variance in it
    relays = joint_tail(both + first, both + second, both, p, trained.k_a, recall.k_a)
    return (binomial_tail(n, p * relays, recall.k_a) * weights).sum((-3, -2, -1))


def _three_sizes(n: int, common: Floats, then: Floats, now: Floats) -> tuple[list[Floats], Floats]:
    """Numbers of a JOIN's neurons both times, the first only and the second only: nodes (…, i, j, l) and weights (i, j, l).

    Of a rare kind the number is nearly independent of the others'. Where the cue is a part of what was trained on, all that
    fires did so before, and one dimension is enough.
    """
    alone = not (then * n > 1e-6).any() and not (now * n > 1e-6).any()
    sizes, weights = [], np.ones((1, 1, 1))
    for axis, chance in enumerate((common, then, now)):
        nodes = (_NODES if axis == 0 else 1) if alone else _NODES_OF_THREE
        size, weight = random_size(n, chance, nodes)
        shape = [1, 1, 1]
        shape[axis] = nodes
        sizes.append(size.reshape(*size.shape[:-1], *shape))
        weights = weights * weight.reshape(shape)
    return sizes, weights


def mistaken_share(n: int, p: float, whole: float, cue: float, shared: float, circuit: Circuit) -> float:
    """Expected share of C that fires for a cue that has some neurons in common with what C was trained on."""
    return float(_share(n, p, whole, cue, shared, circuit, circuit))


def unity_gain(x: ArrayLike, y: ArrayLike) -> UnityGain | None:
    """The points of unity gain of a sampled transfer curve, or None if it restores nothing on one side.

    The difference y − x is extreme where the slope is 1. Both margins are there if x − y is above 0 somewhere, and y − x
    above 0 somewhere further up: then signals below and above are restored, the static discipline of digital circuits.

    Args:
      x: Shares of the input items that fire, increasing.
      y: Share of the output item, of the same shape (m,).

    >>> unity_gain([0, 0.4, 0.6, 1], [0, 0.1, 0.9, 1])
    UnityGain(low=(0.4, 0.1), high=(0.6, 0.9))
    >>> unity_gain([0, 0.4, 1], [0, 0.1, 1]) is None
    True
    """
    x, y = _curve(x, y)
    difference = y - x
    low, high = int(difference.argmin()), int(difference.argmax())
    if low > high or difference[low] >= 0 or difference[high] <= 0:
        return None
    return UnityGain((float(x[low]), float(y[low])), (float(x[high]), float(y[high])))


def noise_margin(x: ArrayLike, y: ArrayLike) -> Margins:
    """Noise margins of a transfer curve: the largest x − y below its threshold, and the largest y − x above it.

    A signal that is a share of its item is restored if the curve brings it nearer to 0 or to 1. The margins are those at the
    points of unity gain (`unity_gain`), V_IL − V_OL and V_OH − V_IH of digital circuits.

    Args:
      x: Shares of the input items that fire, increasing.
      y: Share of the output item, of the same shape (m,).

    Returns:
      The lower margin and the upper one, 0 where there is none.

    >>> noise_margin([0, 0.4, 0.6, 1], [0, 0.1, 0.9, 1])
    Margins(lower=0.3, upper=0.3)
    """
    x, y = _curve(x, y)
    difference = y - x
    return Margins(*(round(max(0.0, float(value)), 12) for value in (-difference.min(), difference.max())))


def _curve(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ShapeError(f"x and y have shapes {x.shape} and {y.shape}; expected (m,) twice")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise InvalidValueError("x must increase, and neither x nor y may hold NaN or infinity")
    return x, y


def _shares(x: ArrayLike, name: str) -> Floats:
    array = np.asarray(x, np.float64)
    if not ((array >= 0) & (array <= 1)).all():
        raise InvalidValueError(
            f"{name} holds shares of an item, from 0 to 1; got {array.min()} … {array.max()}"
        )
    return array


def _noise(noise: ArrayLike) -> Floats:
    array = np.asarray(noise, np.float64)
    if not (array >= 0).all():
        raise InvalidValueError(f"noise is a number of other neurons that fire, 0 or more; got {array.min()}")
    return array


def checked_circuit(given: Any) -> Circuit:
    """A circuit, checked: its form is one of `FORMS`, and its thresholds are at least 1."""
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise InvalidTypeError(f"circuit is {given!r}; expected Circuit(form, k_m, k_a)")
    circuit = Circuit(*given)
    if circuit.form not in FORMS:
        raise InvalidValueError(f"form is {circuit.form!r}; expected one of {', '.join(FORMS)}")
    if circuit.k_a < 1 or (circuit.form != "link" and circuit.k_m < 1):
        raise InvalidValueError(f"thresholds are at least 1; got k_m = {circuit.k_m}, k_a = {circuit.k_a}")
    return circuit
