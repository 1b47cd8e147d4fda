"""Working precision that grows until the digits settle, and integrals over a tail at any precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpmath import mp, mpf

from fingerpost.errors import NumericalError

Number = Any  # mpmath's mpf, which has no type stubs
Values = dict[str, Number]
AGREEMENT = 24  # digits in which two working precisions have to agree; 21 are written
PRECISIONS = (45, 65, 95, 140, 210, 370, 480)
NOTHING = "1e-330"  # below what doubles hold; also how an exact zero settles that comes out of a cancellation


def settled(evaluate: Callable[..., Values], inputs: Sequence[Any]) -> Values:
    """Evaluates with more and more digits until all values agree in `AGREEMENT` digits.

    Args:
      evaluate: From the inputs to named values.
      inputs: Doubles, which become exact mpf; anything else is passed as it is.

    Raises:
      NumericalError: If they have not settled at the highest precision.
    """
    previous: Values | None = None
    for digits in PRECISIONS:
        with mp.workdps(digits):
            values = evaluate(*(mpf(x) if isinstance(x, float) else x for x in inputs))
            if previous is not None and all(_agree(previous[key], values[key]) for key in values):
                return values
        previous = values
    raise NumericalError(f"{evaluate.__module__}: the digits at {tuple(inputs)} do not settle")


def _agree(a: Number, b: Number) -> bool:
    return abs(a - b) <= max(mpf(10) ** -AGREEMENT * abs(b), mpf(NOTHING))


def half_line(kernel: Callable[[Number], Sequence[Number]], length: Number) -> list[Number]:
    """∫₀^∞ of each component of `kernel`, to about the working precision relative to the first one.

    The double exponential rule y = L exp(s − exp(−s)) for integrands that decay (Takahasi and Mori 1974,
    https://doi.org/10.2977/prims/1195192451): the trapezoid rule in s, halved until two steps agree in 0.6 of
    the digits, so that the error of the second, about the square of the first's, is below the last digit.

    Args:
      kernel: y to its values; the first component is positive and bounds where the others are negligible.
      length: L, the scale of y on which it decays.
    """
    digits = mp.dps
    negligible = mpf(10) ** -(digits + 5)
    low = -mp.log((digits + 5) * mp.log(10))

    def term(s: Number) -> list[Number]:
        y = length * mp.exp(s - mp.exp(-s))
        slope = y * (1 + mp.exp(-s))
        return [slope * part for part in kernel(y)]

    step, first = mpf(1) / 4, mp.ceil(4 * low)
    rows, total = [], mpf(0)
    while len(rows) < 12 or max(rows[-1][0], rows[-2][0]) > negligible * total:
        rows.append(term((first + len(rows)) * step))
        total += rows[-1][0]
    low, count = first * step, len(rows)
    sums = [mp.fsum(column) for column in zip(*rows, strict=True)]
    estimate = [step * part for part in sums]
    for _ in range(12):
        rows = [term(low + (i + mpf(1) / 2) * step) for i in range(count)]
        sums = [a + mp.fsum(column) for a, column in zip(sums, zip(*rows, strict=True), strict=True)]
        step, count = step / 2, 2 * count
        finer = [step * part for part in sums]
        close = mpf(10) ** -(0.6 * digits)
        if all(
            abs(a - b) <= close * max(abs(finer[0]), abs(b)) for a, b in zip(estimate, finer, strict=True)
        ):
            return finer
        estimate = finer
    raise NumericalError("an integral over a tail did not converge in 12 halvings of its step")
