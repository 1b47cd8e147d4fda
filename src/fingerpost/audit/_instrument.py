"""The instrument: antithetic perturbations of the loss, and how well it reads the exact gradient.

For isotropic u the correlation of ⟨a, u⟩ with the slope ½[L(x+εu) − L(x−εu)]/ε is, as ε → 0, the cosine of a and the
gradient: no autograd is needed. Every pair of evaluations perturbs, for each sample, one leaf only; samples take
turns (a Latin design), so that one pair serves all leaves at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.audit._problem import Problem
from fingerpost.audit._statistics import cosine_of, moments

RELATIVE_STEP = 1e-3
_PLATEAU = (1e-4, 1e-3, 1e-2)
_AGREEMENT = 0.999


@dataclass(frozen=True)
class Readings:
    """Slopes that the instrument measured along random directions, for one leaf.

    Args:
      sample: Which row each reading belongs to, (R,).
      along_signal: ⟨a, u⟩, (R,).
      along_reference: ⟨g, u⟩, (R,).
      slope: ½[L(x+εu) − L(x−εu)]/ε, (R,).
    """

    sample: Tensor
    along_signal: Tensor
    along_reference: Tensor
    slope: Tensor

    def clustered(self, which: str, samples: int) -> Tensor:
        """Moments of (⟨·,u⟩, slope) summed within each sample, (samples, 3); every reading alone if one sample."""
        x = self.along_signal if which == "signal" else self.along_reference
        rows = moments(x[:, None], self.slope[:, None])
        if samples == 1:
            return rows
        return torch.zeros(samples, 3, dtype=rows.dtype).index_add_(0, self.sample, rows)


def perturb(
    problem: Problem,
    signal: Sequence[Tensor],
    reference: Sequence[Tensor],
    pairs: int,
    generator: torch.Generator,
) -> tuple[list[Readings], float]:
    """Measures slopes along random directions in every leaf.

    Args:
      problem: The loss at its point.
      signal: Covectors a, one (U, D) float64 matrix per leaf.
      reference: Covectors g, likewise.
      pairs: Antithetic pairs (per leaf where leaves can't share a pair).
      generator: Source of the directions.

    Returns:
      Readings per leaf, and the plateau's agreement: the best correlation between slopes at neighbouring step
      sizes out of 1e-4, 1e-3 and 1e-2 (relative to the leaf's root mean square).
    """
    designs = _designs(problem, pairs)
    collected: list[list[tuple[Tensor, Tensor, Tensor, Tensor]]] = [[] for _ in problem.point]
    agreement = 1.0
    for number, masks in enumerate(designs):
        directions = _directions(problem, masks, generator)
        step = RELATIVE_STEP
        slope = _slope(problem, directions, masks, step)
        if number == 0:
            agreement = _plateau(problem, directions, masks, slope)
        for leaf, (u, mask) in enumerate(zip(directions, masks)):
            if mask is not None and u is not None:
                collected[leaf].append(_read(u, mask, signal[leaf], reference[leaf], slope, problem))
    return [Readings(*(torch.cat(parts) for parts in zip(*leaf))) for leaf in collected], agreement


def _designs(problem: Problem, pairs: int) -> list[list[Tensor | None]]:
    """For each pair, which samples perturb which leaf (None: none do)."""
    leaves, samples = len(problem.point), problem.samples
    if problem.per_sample:
        turn = torch.arange(samples)
        return [[(turn + number) % leaves == leaf for leaf in range(leaves)] for number in range(pairs)]
    everyone = torch.ones(samples, dtype=torch.bool)
    each = pairs if leaves <= 2 else max(4, -(-2 * pairs // leaves))
    return [
        [everyone if i == leaf else None for i in range(leaves)]
        for leaf in range(leaves)
        for _ in range(each)
    ]


def _directions(
    problem: Problem, masks: Sequence[Tensor | None], generator: torch.Generator
) -> list[Tensor | None]:
    """Isotropic directions; leaves of one shape share theirs, for no sample perturbs two of them in one pair."""
    drawn: dict[torch.Size, Tensor] = {}
    for leaf, mask in zip(problem.point, masks):
        if mask is not None and leaf.shape not in drawn:
            drawn[leaf.shape] = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
    pairs = zip(problem.point, masks)
    return [None if mask is None else drawn[leaf.shape].to(leaf.device) for leaf, mask in pairs]


def _size(leaf: Tensor) -> float:
    """The length that steps in this leaf are relative to: its root mean square, or 1 at the origin."""
    size = float(leaf.double().square().mean().sqrt())
    return size if size > 1e-12 else 1.0


def _slope(
    problem: Problem, directions: Sequence[Tensor | None], masks: Sequence[Tensor | None], step: float
) -> Tensor:
    """Slope per sample along the masked directions, in units of the direction: leaf sizes are divided out again."""
    steps: list[Tensor | None] = []
    sizes = torch.ones(problem.samples, dtype=torch.float64)
    for leaf, (u, mask) in enumerate(zip(directions, masks)):
        size = step * _size(problem.point[leaf])
        if mask is None or u is None:
            steps.append(None)
            continue
        shape = (-1, *[1] * (u.dim() - 1)) if problem.per_sample else ()
        masked = u * mask.to(u).reshape(shape) if problem.per_sample else u
        steps.append((masked * size).to(problem.point[leaf].dtype))
        sizes = torch.where(mask, torch.full_like(sizes, size), sizes)
    return problem.difference(steps).cpu() / sizes


def _read(
    u: Tensor, mask: Tensor, signal: Tensor, reference: Tensor, slope: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    flat = u.cpu().reshape(problem.samples if problem.per_sample else 1, -1)
    rows = flat.expand(problem.samples, -1)
    chosen = mask.nonzero().reshape(-1)
    picked = rows[chosen]
    return (
        chosen,
        (signal[chosen] * picked).sum(1),
        (reference[chosen] * picked).sum(1),
        slope[chosen],
    )


def _plateau(
    problem: Problem, directions: Sequence[Tensor | None], masks: Sequence[Tensor | None], middle: Tensor
) -> float:
    """The best agreement between neighbouring decades of step size; 1 on a plateau."""
    small = _slope(problem, directions, masks, _PLATEAU[0])
    large = _slope(problem, directions, masks, _PLATEAU[2])
    return max(_alike(small, middle), _alike(middle, large))


def _alike(left: Tensor, right: Tensor) -> float:
    if float(left.abs().max()) == 0 and float(right.abs().max()) == 0:
        return 1.0
    return float(cosine_of(moments(left[None], right[None])[0]))


def on_plateau(agreement: float) -> bool:
    """Whether slopes at neighbouring step sizes agree well enough to trust them."""
    return agreement >= _AGREEMENT


def probe(problem: Problem, signal: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Slopes along the signal itself: two evaluations in all for per-sample leaves, two per leaf otherwise.

    Args:
      problem: The loss at its point.
      signal: Covectors a, one (U, D) float64 matrix per leaf.

    Returns:
      Per leaf, the rows probed, and measured over predicted slope: ⟨g, a⟩/⟨a, a⟩, 1 for the exact gradient, negative
      where the signal points the wrong way, NaN where the signal is zero. Where rows share the point (parameters), the
      direction is the rows' mean, and the prediction too.
    """
    results: list[tuple[Tensor, Tensor]] = [(torch.empty(0, dtype=torch.long), torch.empty(0))] * len(signal)
    rows_of_each = signal if problem.per_sample else [rows.mean(0, keepdim=True) for rows in signal]
    directions = [
        (torch.nn.functional.normalize(rows, dim=1) * rows.shape[1] ** 0.5).reshape(p.shape).to(p)
        for rows, p in zip(rows_of_each, problem.point)
    ]
    for masks in _designs(problem, 1) if problem.per_sample else _one_each(problem):
        slope = _slope(problem, directions, masks, RELATIVE_STEP)
        for leaf, mask in enumerate(masks):
            if mask is None:
                continue
            rows = mask.nonzero().reshape(-1)
            own = rows_of_each[leaf]
            predicted = (own.norm(dim=1) * own.shape[1] ** 0.5).expand(problem.samples)[rows]
            results[leaf] = (rows, torch.where(predicted > 0, slope[rows] / predicted, torch.nan))
    return results


def _one_each(problem: Problem) -> list[list[Tensor | None]]:
    everyone = torch.ones(problem.samples, dtype=torch.bool)
    leaves = range(len(problem.point))
    return [[everyone if i == leaf else None for i in leaves] for leaf in leaves]
