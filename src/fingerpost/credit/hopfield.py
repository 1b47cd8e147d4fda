"""Layered Hopfield networks trained by equilibrium propagation, the classic form, with a fused relaxation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fingerpost.credit._blocks import gaussian
from fingerpost.credit._losses import as_targets
from fingerpost.errors import InvalidValueError, NumericalError, ShapeError


@dataclass(frozen=True)
class _Activation:
    """ρ in place, and Σ G with G' = ρ⁻¹ on the interior of ρ's range."""

    name: str

    def apply_(self, z: Tensor) -> Tensor:
        return z.tanh_() if self.name == "tanh" else z.clamp_(0, 1)

    def potential(self, s: Tensor) -> Tensor:
        if self.name == "tanh":
            return s * s.atanh() + 0.5 * (-s * s).log1p()
        return 0.5 * s * s


class HopfieldPhase(NamedTuple):
    """States s_0 … s_L (s_0 = x clamped) and the largest change of a unit in the last step."""

    states: list[Tensor]
    residual: float


class HopfieldNetwork(nn.Module):
    r"""Units s_1 … s_L with symmetric connections, relaxed by s_l ← ρ(∂Φ/∂s_l), all layers at once.

    Φ(s) = Σ_l (s_lᵀ W_l s_{l−1} + b_lᵀ s_l) − β ½‖s_L − y‖², s_0 = x clamped: the primitive function of
    Ernoult et al. 2019 (https://arxiv.org/abs/1905.13633) and Laborieux et al. 2021
    (https://arxiv.org/abs/2006.03824). Fixed points are stationary points of the energy E = Σ_l 1ᵀG(s_l) − Φ,
    G' = ρ⁻¹ (Hopfield 1984).

    All layers move at once, so that strong weights can end in a 2-cycle, s → s' → s, in place of a fixed
    point: E then does not fall, and more steps do not help. `HopfieldPhase.residual`, the largest change in
    the last step, shows it: it stays large where a converging relaxation's falls towards rounding.

    Args:
      sizes: Layer sizes, input first.
      activation: ρ: ``"hard_sigmoid"`` (clamp to [0, 1]) or ``"tanh"``.
      scale: Factor on the initial N(0, 1/fan_in) weights; the default makes the relaxation a contraction at
        first.
      generator: Draws the weights; torch's default generator if None.

    Raises:
      InvalidValueError: If the activation is unknown or there are fewer than two sizes.

    Example:
      >>> import torch
      >>> from fingerpost.credit import HopfieldNetwork
      >>> net = HopfieldNetwork([6, 5, 3], generator=torch.Generator().manual_seed(0))
      >>> net.free_phase(torch.rand(2, 6), steps=60).residual < 1e-5
      True
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "hard_sigmoid",
        *,
        scale: float = 0.4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("hard_sigmoid", "tanh"):
            raise InvalidValueError(f"activation is {activation!r}; expected 'hard_sigmoid' or 'tanh'")
        if len(sizes) < 2:
            raise InvalidValueError(f"sizes is {list(sizes)}; expected at least an input and an output size")
        self.sizes = tuple(sizes)
        self.activation = _Activation(activation)
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([scale * gaussian((m, n), n, generator) for n, m in pairs])
        self.biases = nn.ParameterList([torch.zeros(m) for _, m in pairs])

    def primitive(self, states: Sequence[Tensor], y: Tensor | None = None, beta: float = 0.0) -> Tensor:
        """Φ(s), a scalar summed over the batch; differentiable. `states` are s_0 … s_L."""
        phi = torch.zeros((), dtype=states[0].dtype, device=states[0].device)
        for w, b, below, s in zip(self.weights, self.biases, states, states[1:]):
            phi = phi + (nn.functional.linear(below, w, b) * s).sum()
        if y is not None:
            phi = phi - beta * 0.5 * (states[-1] - as_targets(y, states[-1])).square().sum()
        return phi

    def energy(self, states: Sequence[Tensor], y: Tensor | None = None, beta: float = 0.0) -> Tensor:
        """E(s) = Σ_l 1ᵀG(s_l) − Φ(s), a scalar summed over the batch; differentiable."""
        potentials = [self.activation.potential(s).sum() for s in states[1:]]
        return torch.stack(potentials).sum() - self.primitive(states, y, beta)

    def free_phase(self, x: Tensor, steps: int = 30) -> HopfieldPhase:
        """Relaxes from s = 0 at β = 0, x (B, n) clamped.

        Raises:
          ShapeError: If x does not have the width of the first layer.
          NumericalError: If a state is not finite.
        """
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise ShapeError(f"x has shape {tuple(x.shape)}; expected (B, {self.sizes[0]})")
        return self._relax([x, *(x.new_zeros(len(x), m) for m in self.sizes[1:])], None, 0.0, steps)

    def nudged_phase(
        self, free: HopfieldPhase, y: Tensor, *, beta: float = 0.5, steps: int = 20, sign: int = 1
    ) -> HopfieldPhase:
        """Relaxes from the free states with the nudge ±β towards the targets y, (B, C) or (B,) indices.

        Raises:
          InvalidValueError: If beta is not finite and positive, steps < 1, or sign is not ±1.
          NumericalError: If a state is not finite.
        """
        if not (math.isfinite(beta) and beta > 0):
            raise InvalidValueError(f"beta is {beta}; expected a finite number > 0")
        if sign not in (1, -1):
            raise InvalidValueError(f"sign is {sign}; expected +1 or -1")
        return self._relax(free.states, y, sign * beta, steps)

    @torch.no_grad()
    def _relax(self, start: list[Tensor], y: Tensor | None, beta: float, steps: int) -> HopfieldPhase:
        """The relaxation by hand: x W_1ᵀ once, two buffers per layer, bias and drive within the products."""
        if steps < 1:
            raise InvalidValueError(f"steps is {steps}; expected at least 1")
        weights, free = list(self.weights), start[1:]
        drives = self._drives(start, y, beta)
        old, new = [s.clone() for s in free], [torch.empty_like(s) for s in free]
        for _ in range(steps):
            self._step(old, new, drives, weights, beta)
            old, new = new, old
        changes = [float((a - b).abs_().max()) for a, b in zip(old, new)]
        for number, change in enumerate(changes, 1):
            if not math.isfinite(change):
                raise NumericalError(f"Hopfield relaxation: layer {number} is not finite after {steps} steps")
        return HopfieldPhase([start[0], *old], max(changes))

    def _drives(self, start: list[Tensor], y: Tensor | None, beta: float) -> list[Tensor]:
        """What each layer gets that does not change while it relaxes: bias, clamped input, nudge."""
        drives: list[Tensor] = list(self.biases)
        drives[0] = torch.addmm(self.biases[0], start[0], self.weights[0].t())
        if y is not None:
            drives[-1] = drives[-1] + beta * as_targets(y, start[-1])
        return drives

    def _step(
        self, old: list[Tensor], new: list[Tensor], drives: list[Tensor], weights: list[Tensor], beta: float
    ) -> None:
        """Writes ρ(∂Φ/∂s) at `old` into `new`; lists of s_1 … s_L, W_1 … W_L and what `_drives` gives."""
        top = len(old) - 1
        for l, field in enumerate(new):
            if l == 0 < top:
                torch.addmm(drives[0], old[1], weights[1], out=field)
            elif l == 0:
                field.copy_(drives[0])
            else:
                torch.addmm(drives[l], old[l - 1], weights[l].t(), out=field)
            if 0 < l < top:
                field.addmm_(old[l + 1], weights[l + 1])
            elif l == top and beta:
                field.add_(old[l], alpha=-beta)
            self.activation.apply_(field)

    def local_gradients(self, x: Tensor, first: HopfieldPhase, second: HopfieldPhase, width: float) -> None:
        r"""Sets ``.grad`` to (∂Φ/∂θ(first) − ∂Φ/∂θ(second)) / width, the mean over the batch.

        With (free, nudged, β) it is the one-sided estimate of the gradient of the mean of ½‖s_L − y‖² at the
        free fixed point, with (nudged by −β, nudged by +β, 2β) the centred one (Laborieux et al. 2021).
        """
        factor = 1 / (width * len(x))
        for l, (w, b) in enumerate(zip(self.weights, self.biases)):
            before, after = first.states, second.states
            w.grad = factor * (before[l + 1].t() @ before[l] - after[l + 1].t() @ after[l])
            b.grad = factor * (before[l + 1] - after[l + 1]).sum(0)
