"""A ring of beads in reduced units: its field, its energy, its preparation and what is observed of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost import ode
from fingerpost.lab import derive_seed
from fingerpost.ode import losses

NAMES = ("k", "r0", "epsilon", "sigma")
State = tuple[Tensor, Tensor]


class Ring:
    r"""A closed chain of n beads of mass 1 in three dimensions.

        U = Σ_bonds ½ k (r − r₀)² + Σ_others 4 ε ((σ/r)¹² − (σ/r)⁶)

    Reduced units: masses, and the ε and σ of the reference, are 1; time is in σ√(m/ε). Parameters θ are
    (…, 4), ordered as `NAMES`; positions and velocities (…, 3, n), batch axes broadcast against θ's.

    Args:
      beads: n, even and at least 6.
      dtype: Precision.
    """

    def __init__(self, beads: int, dtype: torch.dtype = torch.float64) -> None:
        bonds = [(i, (i + 1) % beads) for i in range(beads)]
        joined = {frozenset(bond) for bond in bonds}
        others = [p for p in itertools.combinations(range(beads), 2) if frozenset(p) not in joined]
        self.beads, self.bonds = beads, len(bonds)
        self.incidence = torch.zeros(beads, len(bonds) + len(others), dtype=dtype)
        for column, (i, j) in enumerate([*bonds, *others]):
            self.incidence[i, column], self.incidence[j, column] = 1.0, -1.0

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Squared lengths of bonds (…, n) and of all other pairs (…, n(n − 3)/2)."""
        squared = (x @ self.incidence).square().sum(-2)
        return squared[..., : self.bonds], squared[..., self.bonds :]

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths, as `split` orders them."""
        bonds, others = self.split(x)
        return bonds.sqrt(), others.sqrt()

    def force(self, x: Tensor, theta: Tensor) -> Tensor:
        """−∂U/∂x, (…, 3, n)."""
        k, r0, epsilon, sigma = theta.unsqueeze(-1).unbind(-2)
        apart = x @ self.incidence
        squared = apart.square().sum(-2)
        others = squared[..., self.bonds :]
        sixth = (sigma.square() / others) ** 3
        spring = k * (r0 * squared[..., : self.bonds].rsqrt() - 1)
        pull = torch.cat([spring, 24 * epsilon * (2 * sixth - 1) * sixth / others], -1)
        return (apart * pull.unsqueeze(-2)) @ self.incidence.T

    def energy(self, x: Tensor, v: Tensor, theta: Tensor) -> Tensor:
        """Kinetic plus potential energy, (…)."""
        k, r0, epsilon, sigma = theta.unsqueeze(-1).unbind(-2)
        bonds, others = self.split(x)
        sixth = (sigma.square() / others) ** 3
        potential = 0.5 * (k * (bonds.sqrt() - r0).square()).sum(-1)
        potential = potential + 4 * (epsilon * (sixth - 1) * sixth).sum(-1)
        return 0.5 * v.square().sum((-2, -1)) + potential

    def field(self, theta: Tensor) -> Callable[[Tensor, State], State]:
        """f(t, (x, v)) = (v, force)."""

        def f(t: Tensor, y: State) -> State:
            return y[1], self.force(y[0], theta)

        return f

    def starts(self, shape: Sequence[int], temperature: float, *labels: Any) -> State:
        """Prepares copies in a way that knows nothing of θ: a regular crown, shaken, with thermal velocities.

        Beads stand high and low in turn, neighbours 1.05 apart. Every coordinate is moved by 0.05 · N(0, 1); velocities are
        √temperature · N(0, 1), less those of the centre of mass.

        Args:
          shape: Shape of the batch.
          temperature: k_B T in units of the reference's ε.
          labels: What the copies' random numbers derive from.
        """
        generator = torch.Generator().manual_seed(derive_seed(0, "ring", *labels))
        dtype = self.incidence.dtype
        angle = torch.arange(self.beads, dtype=dtype) * (2 * math.pi / self.beads)
        radius = 0.735 / (2 * math.sin(math.pi / self.beads))
        height = 0.375 * torch.tensor([1.0, -1.0], dtype=dtype).repeat(self.beads // 2)
        crown = torch.stack([radius * angle.cos(), radius * angle.sin(), height])
        size = (*shape, 3, self.beads)
        x = crown + 0.05 * torch.randn(size, generator=generator, dtype=dtype)
        v = math.sqrt(temperature) * torch.randn(size, generator=generator, dtype=dtype)
        return x - x.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)

    def gyration(self, x: Tensor) -> Tensor:
        """R², the mean squared distance from the centre of mass, (…)."""
        return (x - x.mean(-1, keepdim=True)).square().sum((-2, -1)) / self.beads


class Observables:
    """Mean bond length, its variance and the radial distribution, as averages that can be differentiated.

    The radial distribution p(r) of unbonded pairs counts in soft bins: a pair at r adds a Gaussian of the bins'
    spacing around r, so that it sums to about 1 / spacing over all bins.

    Args:
      ring: The molecule.
      centres: Centres of the bins, equally spaced.
      windows: Parts of the trajectory that are averaged by themselves. One part alone hardly tells the scale of
        energies: multiplying k and ε by c only makes a cold molecule faster by √c.
    """

    def __init__(self, ring: Ring, centres: Tensor, windows: int) -> None:
        self.ring, self.centres, self.windows = ring, centres, windows
        self.spacing = float(centres[1] - centres[0])

    def __call__(self, xs: Tensor) -> Tensor:
        """One row for each copy from positions (T, …, 3, n), averaged over times: (windows, …, 2 + bins).

        The columns: means of r and r² over bonds, then p at the centres. `reduced` turns averages over
        copies of these into observables.
        """
        return torch.stack([self._of(part) for part in xs.tensor_split(self.windows)])

    def _of(self, xs: Tensor) -> Tensor:
        bonds, others = self.ring.distances(xs)
        away = (others.unsqueeze(-1) - self.centres) / self.spacing
        density = torch.exp(-0.5 * away.square()).mean(-2) / (self.spacing * math.sqrt(2 * math.pi))
        moments = torch.stack([bonds.mean(-1), bonds.square().mean(-1)], -1)
        return torch.cat([moments, density], -1).mean(0)

    @staticmethod
    def reduced(mean: Tensor) -> Tensor:
        """Mean bond length, its variance, p, from averages over copies."""
        return torch.cat([mean[..., :1], mean[..., 1:2] - mean[..., :1].square(), mean[..., 2:]], -1)

    def errors(self, rows: Tensor) -> Tensor:
        """Standard deviation of one copy's contribution to each observable, rows (…, copies, columns).

        That of the variance by the delta method: r̄² enters it with −2 r̄.
        """
        mean = rows.mean(-2, keepdim=True)
        variance = rows[..., 1:2] - 2 * mean[..., :1] * rows[..., :1]
        return torch.cat([rows[..., :1], variance, rows[..., 2:]], -1).std(-2)


def observed_loss(
    ring: Ring,
    theta: Tensor,
    start: State,
    times: Sequence[float],
    loss: Callable[[Tensor], Tensor],
    **options: Any,
) -> Tensor:
    """A loss of the positions (T, …, 3, n) at all times but the start, through leapfrog steps."""
    chosen = {"method": "leapfrog", "dense": False, **options}
    return losses.observed(
        ring.field(theta), start, times, lambda ys: loss(ys[0][1:]), params=[theta], **chosen
    )


@torch.no_grad()
def watch(ring: Ring, theta: Tensor, start: State, times: Sequence[float], h: float) -> State:
    """Positions and velocities at the times, without gradients, (T, …, 3, n)."""
    return ode.solve(ring.field(theta), start, times, method="leapfrog", step_size=h, dense=False).ys


@torch.no_grad()
def lyapunov(ring: Ring, theta: Tensor, start: State, window: tuple[float, float], h: float) -> Tensor:
    """The largest Lyapunov exponent over a window of time, one for each copy (B,).

    Benettin et al. 1980 (https://doi.org/10.1007/BF02128236): two trajectories 10⁻⁷ apart, their distance brought
    back to that after every 0.5 and its growth averaged. θ is (B, 4).
    """
    apart, every = 1e-7, 0.5
    generator = torch.Generator().manual_seed(0)
    away = [torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in start]
    grown, begin = torch.zeros(len(start[0]), dtype=start[0].dtype), round(window[0] / every)
    count, y = round(window[1] / every), start
    for i in range(count):
        scale = apart / sum(d.square().sum((-2, -1), keepdim=True) for d in away).sqrt()  # pyright: ignore
        pair = tuple(torch.stack([part, part + scale * d]) for part, d in zip(y, away))
        ends = watch(ring, theta, pair, [0.0, every], h)  # pyright: ignore[reportArgumentType]
        y, away = tuple(e[-1, 0] for e in ends), [e[-1, 1] - e[-1, 0] for e in ends]
        if i >= begin:
            grown += 0.5 * torch.log(sum(d.square().sum((-2, -1)) for d in away) / apart**2)  # pyright: ignore
    return grown / ((count - begin) * every)


def gyration_gradients(ring: Ring, theta: Tensor, start: State, times: Sequence[float], h: float) -> Tensor:
    """∂/∂log θ of each copy's R² averaged over the times but the first, (B, 4), by checkpoints; θ is (4,)."""
    log = theta.log().expand(len(start[0]), 4).clone().requires_grad_()
    value = observed_loss(
        ring, log.exp(), start, times, lambda xs: ring.gyration(xs).mean(0).sum(), step_size=h
    )
    return torch.autograd.grad(value, log)[0]


class Mismatch:
    """How far observables are from a target, in standard deviations of one copy's contribution, squared and averaged.

    Args:
      observables: What is observed.
      target: Observables to match, (windows, …, 2 + bins).
      scale: A standard deviation for each, of the same shape or broadcast; rare bins count with at least a tenth
        of the largest bin's.
    """

    def __init__(self, observables: Observables, target: Tensor, scale: Tensor) -> None:
        bins = scale[..., 2:]
        floor = 0.1 * bins.amax(-1, keepdim=True)
        self.observables, self.target = observables, target
        self.scale = torch.cat([scale[..., :2], torch.maximum(bins, floor)], -1)

    def of_copies(self, xs: Tensor) -> Tensor:
        """Of the average over copies, from positions (T, …, copies, 3, n): (…)."""
        return self.of(self.observables.reduced(self.observables(xs).mean(-2)))

    def of(self, found: Tensor) -> Tensor:
        """Of observables (windows, …, 2 + bins): (…)."""
        return ((found - self.target) / self.scale).square().mean((0, -1))


def losses_by_copy(
    ring: Ring, mismatch: Mismatch, times: Sequence[float], log: Tensor, start: State, **options: Any
) -> Tensor:
    """The mismatch of each copy by itself with the first fit's target, (B,); log θ is (B, 4)."""
    one = Mismatch(mismatch.observables, mismatch.target[:, :1], mismatch.scale)
    rows: list[Tensor] = []  # `observed` wants one number, so that the rows leave by the side

    def keep(xs: Tensor) -> Tensor:
        rows.append(one.of(one.observables.reduced(one.observables(xs))))
        return rows[0].sum()

    observed_loss(ring, log.exp(), start, times, keep, **options)
    return rows[0]


def growth(lengths: Sequence[float], logs: Sequence[Tensor], first: float) -> Tensor:
    """The slope of each copy's log norm (B,) over the lengths from `first` on, by least squares."""
    late = [i for i, length in enumerate(lengths) if length >= first]
    away = torch.tensor([lengths[i] for i in late], dtype=logs[0].dtype)
    away = away - away.mean()
    return (away.unsqueeze(1) * torch.stack([logs[i] for i in late])).sum(0) / away.square().sum()


def energy_error(
    ring: Ring, theta: Tensor, start: State, times: Sequence[float], h: float
) -> tuple[float, float]:
    """Root mean square of E − E(0) and the slope of its mean in time, in units of the mean kinetic energy."""
    xs, vs = watch(ring, theta, start, times, h)
    energy = ring.energy(xs, vs, theta)
    error = (energy - energy[0]) / (0.5 * vs.square().sum((-2, -1)).mean())
    away = torch.tensor(times, dtype=error.dtype)
    away = away - away.mean()
    slope = (away * error.mean(1)).sum() / away.square().sum()
    return float(error.square().mean().sqrt()), float(slope)


class Fit(torch.nn.Module):
    """θ for each of several fits at once: their losses are summed, so that they stay independent.

    Lengths (r₀, σ) move a tenth as far as energies (k, ε): the observables feel them some twenty times more, and
    their noise would hide the energies' slope.

    Args:
      guess: The start of every fit, (4,).
      seeds: How many.
    """

    def __init__(self, guess: Tensor, seeds: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 0.1, 1.0, 0.1], dtype=guess.dtype))
        self.register_buffer("guess", guess.clone())
        self.moves = torch.nn.Parameter(torch.zeros(seeds, 4, dtype=guess.dtype))

    def theta(self, moves: Tensor | None = None) -> Tensor:
        """θ = guess · exp(scale · moves), (seeds, 4), of these moves or of the model's own."""
        return self.guess * torch.exp(self.scale * (self.moves if moves is None else moves))  # pyright: ignore

    def forward(self) -> Tensor:
        """θ with an axis for copies, (seeds, 1, 4)."""
        return self.theta().unsqueeze(1)

    def named(self) -> dict[str, float]:
        """Every parameter of every fit, by name and the fit's number."""
        rows = self.theta().detach().tolist()
        return {f"{name}_{i}": value for i, row in enumerate(rows) for name, value in zip(NAMES, row)}
