"""What a whole sequence does to a linear predictor is one affine map; grids of λ and α, and limits, are made of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import (
    Packed,
    check_choice,
    check_grid,
    check_number,
    check_unit,
    check_unit_grid,
    checked,
    pack,
)

_CHUNK = 2**17  # elements of the traces held at once: they stay in the cache
_BATCHED = 400  # multiplications from which torch hands a batch of small products on the CPU to BLAS, five times as fast
PRESENTATIONS = ("per-sequence", "batch")


def sequence_map(
    observations: Any, outcome: Any, lam: float, gamma: float = 1.0, *, rewards: Any = None
) -> tuple[Tensor, Tensor]:
    r"""The affine map of offline TD(λ): a sequence changes the weights by α (b − M w).

    M = Σ_t e_t (x_t − γ x_{t+1})ᵀ with x_{m+1} = 0 and b = Σ_t c_{t+1} e_t + γ z e_m, from Sutton (1988), eq. 4,
    https://doi.org/10.1007/BF00115009, with traces e_t = γλ e_{t−1} + x_t.

    Args:
      observations: x_1 … x_m, shape (m, d).
      outcome: z, a number.
      lam: λ in [0, 1].
      gamma: γ in [0, 1].
      rewards: c_2 … c_{m+1}, shape (m,), or None.

    Returns:
      M, shape (d, d), and b, shape (d,).

    Raises:
      InvalidValueError: If λ or γ is outside [0, 1], or a value is NaN or infinite.
      ShapeError: If the sequence is empty or ragged.

    >>> M, b = sequence_map(torch.eye(3), 1.0, lam=0.5)
    >>> M.tolist(), b.tolist()
    ([[1.0, -0.5, -0.25], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]], [0.25, 0.5, 1.0])
    """
    rows = [checked(observations, outcome, rewards)]
    decay = rows[0][0].new_tensor([check_unit(lam, "lam") * check_unit(gamma, "gamma")])
    M, b = _maps(pack(rows), decay, gamma)
    return M[0, 0], b[0, 0]


def sweep(
    sequences: Any,
    lambdas: Any,
    alphas: Any,
    *,
    gamma: float = 1.0,
    w0: Tensor | float | None = None,
    presentation: str = "per-sequence",
    passes: int = 1,
) -> Tensor:
    r"""Weights after offline TD(λ) for every λ and α of a grid, for one training set or many at once.

    Each sequence is made into its affine map (`sequence_map`) once for each λ; the maps then act on the weights of all α and
    all training sets together. The numbers are those of the step-by-step rule up to the rounding of another order of sums.

    Args:
      sequences: A training set: a list of `OutcomeSequence` or tuples; or a list of S such lists.
      lambdas: L values of λ in [0, 1].
      alphas: A step sizes α.
      gamma: γ in [0, 1].
      w0: The weights before: a number, (d,) or what broadcasts to the result; 0 unless given.
      presentation: ``"per-sequence"`` changes the weights after each sequence; ``"batch"`` adds the changes up over the
        training set and applies them at its end.
      passes: How often the training set is presented.

    Returns:
      Weights, shape (L, A, d), or (S, L, A, d) for a list of training sets. Where α is too large for the number of passes,
      weights grow; what overflows is infinite, never NaN.

    Raises:
      InvalidValueError: If a λ or γ is outside [0, 1], a list is empty, or a value is NaN or infinite.
      ShapeError: If a sequence is empty or ragged, or shapes do not fit.

    >>> from fingerpost.td import RandomWalk
    >>> walk = RandomWalk(5)
    >>> sets = [walk.sample(torch.Generator().manual_seed(seed), 10) for seed in range(100)]
    >>> weights = sweep(sets, [0.0, 0.5, 1.0], [0.05, 0.1], w0=0.5)
    >>> weights.shape, walk.rms_error(weights).mean(0).shape
    (torch.Size([100, 3, 2, 5]), torch.Size([3, 2]))
    """
    check_choice(presentation, "presentation", PRESENTATIONS)
    if not isinstance(passes, int) or passes < 0:
        raise InvalidValueError(f"passes is {passes!r}; expected a whole number, at least 0")
    packed, sizes, single = _training_sets(sequences)
    like = packed.x
    lam = check_unit_grid(lambdas, "lambdas", like)
    alpha = check_grid(alphas, "alphas", like)
    decays = lam * check_unit(gamma, "gamma")
    w = _start(w0, (len(sizes), len(lam), len(alpha), like.shape[1]), like)
    M, b = _maps(packed, decays, gamma)
    steps = [_summed(M, b, sizes)] if presentation == "batch" else _in_order(M, b, sizes)
    w = _applied(steps, w.transpose(-1, -2), alpha, passes).transpose(-1, -2).contiguous()
    w = torch.where(w.isnan(), torch.inf, w)
    return w[0] if single else w


def batch_fixed_point(
    sequences: Any, lam: Any, *, gamma: float = 1.0, w0: Tensor | float | None = None
) -> Tensor:
    r"""The limit of presenting a training set again and again to offline TD(λ) with a small step.

    The limit solves ΣM w = Σb (Sutton 1988, section 4.1, https://doi.org/10.1007/BF00115009): at λ = 1 least squares on
    (x_t, z), at λ = 0 the values of the chain that the data look like (certainty equivalence). It exists for every training
    set and every λ: M = Xᵀ T X, where T is a Toeplitz matrix whose symmetric part is positive definite. Where the observations
    do not span all d directions ΣM is singular; the weights then keep what `w0` has in the directions that were never observed,
    as repeated presentation does, which with w0 = 0 is the solution of least norm.

    Args:
      sequences: A training set: a list of `OutcomeSequence` or tuples; or a list of S such lists.
      lam: λ in [0, 1], or L values of it.
      gamma: γ in [0, 1].
      w0: The weights before: a number, (d,) or what broadcasts to the result; 0 unless given.

    Returns:
      Weights, shape (d,), with an L in front for several λ and an S before it for several training sets.

    Raises:
      InvalidValueError: If λ or γ is outside [0, 1], a list is empty, or a value is NaN or infinite.
      ShapeError: If a sequence is empty or ragged, or shapes do not fit.

    >>> from fingerpost.td import RandomWalk
    >>> sets = RandomWalk(5).sample(torch.Generator().manual_seed(0), 1000)
    >>> [round(v, 2) for v in batch_fixed_point(sets, 0.3).tolist()]
    [0.15, 0.31, 0.48, 0.65, 0.83]
    """
    packed, sizes, single = _training_sets(sequences)
    like = packed.x
    many = torch.as_tensor(lam).ndim > 0
    decays = check_unit_grid(lam if many else [check_number(lam, "lam")], "lam", like)
    decays = decays * check_unit(gamma, "gamma")
    M, b = _summed(*_maps(packed, decays, gamma), sizes)
    w = _start(w0, (len(sizes), len(decays), like.shape[1]), like)
    basis, seen = _observed_directions(packed, sizes)
    M, basis, seen = basis.mT @ M @ basis, basis.expand_as(M), seen.expand_as(b)
    inside = seen[..., None] & seen[..., None, :]
    eye = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
    known, before = ((basis.mT @ v[..., None])[..., 0] for v in (b, w))
    solved = torch.linalg.solve(torch.where(inside, M, eye), torch.where(seen, known, before)[..., None])
    w = (basis @ solved)[..., 0]
    w = w if many else w[:, 0]
    return w[0] if single else w


def stable_alpha(sequences: Any, lam: float, *, gamma: float = 1.0) -> float:
    r"""A step size at which no sequence can make offline TD(λ) diverge, whatever their order.

    α = κ / max ‖X‖₂² over sequences, with κ = λ + (1 − λ)/(1 + γ). Up to twice that, ‖I − αM‖₂ ≤ 1: M = XᵀTX, and T⁻¹ is a
    Toeplitz matrix of symbol λ + (1 − λ)/(1 − γe^{iθ}), whose real part is at least κ, so that vᵀMv ≥ κ‖Mv‖²/‖X‖².

    Args:
      sequences: A list of `OutcomeSequence`.
      lam: λ in [0, 1].
      gamma: γ in [0, 1].

    Returns:
      α; infinity if all observations are 0.

    >>> stable_alpha([(torch.eye(3), 1.0)], lam=1.0)
    1.0
    """
    kappa = check_unit(lam, "lam") + (1 - lam) / (1 + check_unit(gamma, "gamma"))
    packed = pack(sequences)
    largest = max(float(torch.linalg.matrix_norm(x, 2)) for x in packed.x.split(packed.lengths))
    return kappa / largest**2 if largest > 0 else float("inf")


def _training_sets(sequences: Any) -> tuple[Packed, list[int], bool]:
    """Packed sequences of all training sets, how many each set has, and whether one set alone was given."""
    if isinstance(sequences, (Tensor, str)) or not hasattr(sequences, "__iter__"):
        raise InvalidTypeError(
            f"sequences is {type(sequences).__name__}; expected a list of OutcomeSequence, or a list of such lists"
        )
    given = list(sequences)
    if not given:
        raise InvalidValueError("sequences is empty; expected at least one")
    if isinstance(given[0], tuple):  # a sequence; training sets are lists
        return pack(given), [len(given)], True
    for number, rows in enumerate(given):
        if not isinstance(rows, list) or not rows:
            found = "empty" if isinstance(rows, list) else type(rows).__name__
            raise InvalidValueError(
                f"training set {number} is {found}; expected a list of OutcomeSequence, one at least"
            )
    sizes = [len(rows) for rows in given]
    try:
        return pack([row for rows in given for row in rows]), sizes, False
    except FingerpostError:
        for number, rows in enumerate(given):  # to name the set
            pack(rows, where=f"training set {number}, ")
        raise


def _applied(steps: list[tuple[Tensor, Tensor]], w: Tensor, alpha: Tensor, passes: int) -> Tensor:
    """Weights (S, L, d, A) after all steps."""
    count, least = len(alpha), -(-_BATCHED // w.shape[-2] ** 2)
    more = least - count if count < least <= 2 * count else 0
    alpha, w = (torch.nn.functional.pad(x, (0, more)).contiguous() for x in (alpha, w))
    for _ in range(passes):
        for M, b in steps:
            w.addcmul_(alpha, b[..., None] - M @ w)
    return w[..., :count]


def _start(w0: Tensor | float | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    given = torch.as_tensor(0.0 if w0 is None else w0, dtype=like.dtype, device=like.device)
    if not bool(torch.isfinite(given).all()):
        raise InvalidValueError("w0 has NaN or infinity; expected finite weights")
    try:
        return given.expand(shape).clone()
    except RuntimeError:
        raise ShapeError(
            f"w0 has shape {tuple(given.shape)}; expected what broadcasts to {shape}, such as ({shape[-1]},)"
        ) from None


def _maps(packed: Packed, decays: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """M (n, L, d, d) and b (n, L, d) of n sequences in the order given; sequences of like length go together."""
    d, count, lengths = packed.x.shape[1], len(decays), packed.lengths
    found = decays.new_empty(len(lengths), count, d, d + 1)
    start = first = 0
    while start < len(lengths):
        stop = start + 1
        while stop < len(lengths) and (stop + 1 - start) * lengths[stop] * count * d <= _CHUNK:
            stop += 1
        last = first + sum(lengths[start:stop])
        found[start:stop] = _padded_maps(packed, slice(start, stop), slice(first, last), decays, gamma)
        start, first = stop, last
    places = torch.tensor(packed.order, device=found.device).argsort()
    found = found.index_select(0, places)
    return found[..., :d], found[..., d]


def _padded_maps(packed: Packed, chosen: slice, rows: slice, decays: Tensor, gamma: float) -> Tensor:
    """[M b] of sequences, shape (n, L, d, d + 1); rows of 0 after the end change nothing."""
    lengths = torch.tensor(packed.lengths[chosen], device=decays.device)
    columns = torch.arange(len(lengths), device=decays.device)
    column = columns.repeat_interleave(lengths)
    time = torch.arange(len(column), device=decays.device) - (lengths.cumsum(0) - lengths)[column]
    d = packed.x.shape[1]
    x = packed.x.new_zeros(packed.lengths[chosen][-1], len(lengths), d)
    x[time, column] = packed.x[rows]
    right = x.new_zeros(*x.shape[:2], d + 1)
    right[..., :d] = x
    right[:-1, :, :d] -= gamma * x[1:]
    if packed.c is not None:
        right[time, column, d] = packed.c[rows]
    right[lengths - 1, columns, d] += gamma * packed.z[chosen]
    traces = x.repeat(1, 1, len(decays))
    factors, each = decays.repeat_interleave(d), traces.unbind(0)
    for before, now in pairwise(each):
        now.addcmul_(factors, before)
    found = torch.bmm(traces.permute(1, 2, 0), right.transpose(0, 1))  # views that BLAS takes as they are
    return found.unflatten(1, (-1, d))


def _in_order(M: Tensor, b: Tensor, sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    """For each place in the training sets, M (S, L, d, d) and b (S, L, d); 0 for sets that have ended."""
    if len(set(sizes)) == 1:
        return list(zip(M.unflatten(0, (-1, sizes[0])).unbind(1), b.unflatten(0, (-1, sizes[0])).unbind(1)))
    padded = (torch.nn.utils.rnn.pad_sequence(list(part.split(sizes))) for part in (M, b))
    return list(zip(*padded))


def _summed(M: Tensor, b: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """ΣM (S, L, d, d) and Σb (S, L, d) of each training set, as the one step that a batch is."""
    return (
        torch.stack([part.sum(0) for part in M.split(sizes)]),
        torch.stack([part.sum(0) for part in b.split(sizes)]),
    )


def _observed_directions(packed: Packed, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (S, 1, d, d) of the weights, and which of its vectors were observed, (S, 1, d)."""
    gram, _ = _summed(*_maps(packed, packed.x.new_zeros(1), 0.0), sizes)  # at λ = γ = 0, M = Σ x xᵀ
    values, basis = torch.linalg.eigh(gram)
    least = values[..., -1:] * values.shape[-1] * torch.finfo(values.dtype).eps
    return basis, values > least
