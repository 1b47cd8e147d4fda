"""A made-up crystal in P2₁2₁2₁: its atoms, its reflections, and what a detector would record of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fingerpost.lab import derive_seed

ELECTRONS, SHARES = (6.0, 7.0, 8.0), (0.62, 0.17, 0.21)  # carbon, nitrogen, oxygen as in a protein
CLOUD = 11.0
"""Å²: an atom at rest scatters Z exp(−11 s²), s = sin θ/λ, about what carbon does up to 2 Å."""


class SpaceGroup:
    """Symmetry operations x → R x + t, and what they do to reflections.

    A rotation maps the structure factor as F(h) = F(Rᵀh) exp(2πi h·t): where Rᵀh = −h, F lies on a line through 0 (centric);
    where Rᵀh = h, operations add up (the multiplicity ε) or, if h·t is no integer, cancel (an absence). International
    Tables for Crystallography B, chapter 1.4 (https://it.iucr.org/B/).

    Args:
      rotations: Integer matrices (n, 3, 3), the identity included.
      translations: (n, 3), in fractions of the cell.
    """

    def __init__(self, rotations: list[list[list[int]]], translations: list[list[float]]) -> None:
        self.rotations = torch.tensor(rotations)
        self.translations = torch.tensor(translations, dtype=torch.float64)

    def images(self, hkl: Tensor) -> Tensor:
        """Returns Rᵀh of indices (m, 3) under each operation, (n, m, 3)."""
        return torch.einsum("mi,nij->nmj", hkl, self.rotations)

    def centric(self, hkl: Tensor) -> Tensor:
        """Whether each reflection is centric, (m,)."""
        return (self.images(hkl) == -hkl).all(-1).any(0)

    def multiplicity(self, hkl: Tensor) -> Tensor:
        """ε of each reflection, (m,), as float64."""
        return (self.images(hkl) == hkl).all(-1).sum(0).double()

    def absent(self, hkl: Tensor) -> Tensor:
        """Whether symmetry forbids each reflection, (m,)."""
        turns = hkl.double() @ self.translations.T
        broken = (turns - turns.round()).abs() > 1e-9
        return ((self.images(hkl) == hkl).all(-1) & broken.T).any(0)


def _diagonal(*signs: int) -> list[list[int]]:
    return [[signs[i] if i == j else 0 for j in range(3)] for i in range(3)]


P212121 = SpaceGroup(
    [_diagonal(1, 1, 1), _diagonal(-1, -1, 1), _diagonal(-1, 1, -1), _diagonal(1, -1, -1)],
    [[0.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]],
)
"""Number 19, the most frequent one among proteins: three screw axes, no reflection or inversion."""


class Atoms(NamedTuple):
    """Independent atoms.

    Args:
      places: Fractional coordinates (n, 3).
      electrons: Z, (n,).
      wobble: B of the Debye–Waller factor exp(−B s²), Å², (n,).
    """

    places: Tensor
    electrons: Tensor
    wobble: Tensor


@dataclass(frozen=True)
class Reflections:
    """Unique reflections of one or several crystals, each array of shape (m,), sorted by nothing.

    Args:
      hkl: Indices, (m, 3).
      resolution: d, Å.
      centric: Whether F lies on a line.
      multiplicity: ε.
      structure: F itself, complex, in electrons.
      crystal: Number of the crystal.
    """

    hkl: Tensor
    resolution: Tensor
    centric: Tensor
    multiplicity: Tensor
    structure: Tensor
    crystal: Tensor

    def __len__(self) -> int:
        return len(self.hkl)

    @property
    def amplitude(self) -> Tensor:
        """|F|, electrons: the truth that is to be recovered."""
        return self.structure.abs()

    @property
    def squared(self) -> Tensor:
        """(sin θ/λ)² = 1/4d², Å⁻²."""
        return 0.25 / self.resolution.square()


def unique_indices(cell: tuple[float, float, float], limit: float) -> Tensor:
    """Indices with h, k, l ≥ 0 to the resolution `limit` that symmetry allows, (m, 3): the unique ones of class mmm."""
    ranges = (range(int(edge / limit) + 1) for edge in cell)
    hkl = torch.tensor(list(itertools.product(*ranges)))[1:]
    inside = spacing(hkl, cell) >= limit
    return hkl[inside & ~P212121.absent(hkl)]


def spacing(hkl: Tensor, cell: tuple[float, float, float]) -> Tensor:
    """Spacing d of each reflection in an orthorhombic cell, Å."""
    return (hkl.double() / torch.tensor(cell, dtype=torch.float64)).square().sum(1).rsqrt()


def random_atoms(count: int, wobble: float, seed: int) -> Atoms:
    """Draws atoms anywhere in the cell, their B lognormal around `wobble` with a spread of a third."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    kinds = torch.multinomial(torch.tensor(SHARES), count, replacement=True, generator=generator)
    spread = 0.33 * torch.randn(count, generator=generator, dtype=torch.float64)
    return Atoms(places, torch.tensor(ELECTRONS, dtype=torch.float64)[kinds], wobble * spread.exp())


def structure_factors(atoms: Atoms, hkl: Tensor, squared: Tensor) -> Tensor:
    """F(h) = Σ_ops Σ_atoms f(s) exp(2πi h·(R x + t)), complex, (m,)."""
    factors = atoms.electrons * torch.exp(-(CLOUD + atoms.wobble) * squared[:, None])
    total = torch.zeros(len(hkl), dtype=torch.complex128)
    for image, turn in zip(P212121.images(hkl), (hkl.double() @ P212121.translations.T).T):
        products = (index[:, None] * place for index, place in zip(image.double().T, atoms.places.T))
        phase = (
            2 * math.pi * (sum(products) + turn[:, None])
        )  # not a matmul, whose last digits depend on addresses
        total += (torch.polar(factors, phase)).sum(1)
    return total


def crystals(
    count: int, cell: tuple[float, float, float], limit: float, atoms: int, wobble: float, seed: int
) -> Reflections:
    """Reflections of `count` crystals that share cell and symmetry and differ in their atoms."""
    hkl = unique_indices(cell, limit)
    resolution = spacing(hkl, cell)
    found = [
        structure_factors(
            random_atoms(atoms, wobble, derive_seed(seed, "atoms", i)), hkl, 0.25 / resolution**2
        )
        for i in range(count)
    ]
    return Reflections(
        hkl.repeat(count, 1),
        resolution.repeat(count),
        P212121.centric(hkl).repeat(count),
        P212121.multiplicity(hkl).repeat(count),
        torch.cat(found),
        torch.arange(count).repeat_interleave(len(hkl)),
    )


@dataclass(frozen=True)
class Observations:
    """What the detector recorded, each array of shape (n,).

    Args:
      reflection: The row of `Reflections`.
      frame: Number of the frame; each crystal has its own frames.
      intensity: I = K F² + noise; it may be negative.
      sigma: Standard deviation of the noise, known.
      scale: K of each frame, (frames,), with a geometric mean of 1 in each crystal: the truth.
    """

    reflection: Tensor
    frame: Tensor
    intensity: Tensor
    sigma: Tensor
    scale: Tensor


def observe(reflections: Reflections, frames: int, times: float, noise: float, seed: int) -> Observations:
    """Records each reflection about `times` times, on frames of different brightness.

    The noise is that of the background: its size depends on the frame alone, so that it tells nothing about F.

    Args:
      reflections: The crystals.
      frames: Frames of each crystal.
      times: Mean number of observations of a reflection; each has at least one.
      noise: Standard deviation over the largest mean intensity of a shell of the crystal.
      seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "observations"))
    count, crystals = len(reflections), int(reflections.crystal.max()) + 1
    seen = torch.rand(count, frames, generator=generator) < times / frames
    first = torch.randint(frames, (count,), generator=generator)
    seen[torch.arange(count), first] = True
    reflection, place = seen.nonzero(as_tuple=True)
    frame = reflections.crystal[reflection] * frames + place
    brightness = 0.3 * torch.randn(crystals, frames, generator=generator, dtype=torch.float64)
    scale = (brightness - brightness.mean(1, keepdim=True)).exp().flatten()
    background = (0.2 * torch.randn(crystals * frames, generator=generator, dtype=torch.float64)).exp()
    low = reflections.resolution > reflections.resolution.quantile(0.9)
    sigma = (noise * reflections.amplitude[low].square().mean() * background)[frame]
    true = scale[frame] * reflections.amplitude[reflection].square()
    error = torch.randn(len(frame), generator=generator, dtype=torch.float64)
    return Observations(reflection, frame, true + sigma * error, sigma, scale)
