"""Backward passes with mistakes, written out by hand for tanh residual networks.

They share no code with the audit's templates: what the audit recognises here, it recognises in somebody else's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ResidualNet:
    """h_l = h_{l−1} + s tanh(W_l h_{l−1} + b_l), cross-entropy of V h_L: plain tensors, float64.

    Args:
      weights: W_1 … W_L, each (d, d).
      biases: b_1 … b_L, each (d,).
      readout: V, (C, d).
      scale: s, the strength of the branches.
      inputs: h_0, (N, d).
      labels: Class indices, (N,).
    """

    weights: list[Tensor]
    biases: list[Tensor]
    readout: Tensor
    scale: float
    inputs: Tensor
    labels: Tensor

    def states(self, inputs: Tensor | None = None) -> list[Tensor]:
        """h_0 … h_L, each (N, d)."""
        h = [self.inputs if inputs is None else inputs]
        for w, b in zip(self.weights, self.biases):
            h.append(h[-1] + self.scale * torch.tanh(h[-1] @ w.T + b))
        return h

    def top(self, h: Tensor) -> Tensor:
        """∂ (sum of losses) / ∂ h_L."""
        probabilities = torch.softmax(h @ self.readout.T, 1)
        return (probabilities - torch.nn.functional.one_hot(self.labels, len(self.readout))) @ self.readout

    def backward(
        self,
        *,
        transposed: bool = False,
        derivative: bool = True,
        skips: int = 1,
        block_shift: int = 0,
        states: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Signals a_1 … a_L, exact by default; every argument is one mistake."""
        true = self.states()
        h = true if states is None else states
        depth = len(self.weights)
        signals = [self.top(true[-1])]
        for block in range(depth - 1, 0, -1):
            other = min(max(block + block_shift, 0), depth - 1)
            w, b, a = self.weights[other], self.biases[other], signals[-1]
            slope = 1 - torch.tanh(h[block] @ w.T + b).square() if derivative else torch.ones_like(a)
            signals.append(skips * a + self.scale * (a * slope) @ (w.T if transposed else w))
        return signals[::-1]

    def gramian_weighted(self) -> list[Tensor]:
        """What displacement credit tends to: Σ_{k≤l} J_{l←k} J_{l←k}ᵀ g_l, by d_l = g_l + J_l d_{l−1}."""
        h, gradient = self.states(), self.backward()
        weighted = [gradient[0]]
        for block in range(1, len(self.weights)):
            w, b, below = self.weights[block], self.biases[block], weighted[-1]
            slope = 1 - torch.tanh(h[block] @ w.T + b).square()
            weighted.append(gradient[block] + below + self.scale * slope * (below @ w.T))
        return weighted


class NetLoss:
    """The network's loss as a function of all block outputs h_1 … h_L, one value per sample; it shows its blocks.

    Args:
      net: The network.

    Attributes:
      point: The free states h_1 … h_L.
      inputs: h_0.
      blocks: F_1 … F_L.
    """

    def __init__(self, net: ResidualNet) -> None:
        states = net.states()
        self.inputs, self.point = states[0], states[1:]
        self.blocks = [_block(w, b, net.scale) for w, b in zip(net.weights, net.biases)]
        self._net = net

    def __call__(self, point: list[Tensor]) -> Tensor:
        """Losses, (N,); block l's output is F_l(previous) + (point_l − free_l)."""
        h = self.inputs
        for block, here, free in zip(self.blocks, point, self.point):
            h = block(h) + (here - free)
        return torch.nn.functional.cross_entropy(h @ self._net.readout.T, self._net.labels, reduction="none")


def _block(weight: Tensor, bias: Tensor, scale: float) -> Callable[[Tensor], Tensor]:
    return lambda h: h + scale * torch.tanh(torch.nn.functional.linear(h, weight, bias))


def random_net(
    seed: int, samples: int, *, width: int = 24, classes: int = 10, depth: int | None = None
) -> ResidualNet:
    """A residual network of its own depth (4–8), gain, branch strength and logit size, with a teacher's labels."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    blocks = depth or int(torch.randint(4, 9, (), generator=generator))
    gain, scale, sharpness = uniform(0.8, 1.6), uniform(0.5, 1.0), uniform(2.0, 6.0)
    weights = [gain * normal(width, width) / width**0.5 for _ in range(blocks)]
    biases = [0.3 * normal(width) for _ in range(blocks)]
    inputs = normal(samples, width)
    labels = (inputs @ normal(width, classes)).argmax(1)
    return ResidualNet(
        weights, biases, sharpness * normal(classes, width) / width**0.5, scale, inputs, labels
    )


def relaxed(net: ResidualNet, steps: int, step_size: float) -> list[Tensor]:
    """Error credit after a gradient-descent relaxation that was stopped early, linearised: β → 0."""
    h, top = net.states(), net.backward()[-1]
    depth = len(net.weights)
    slopes = [
        1 - torch.tanh(h[i] @ w.T + b).square() for i, (w, b) in enumerate(zip(net.weights, net.biases))
    ]
    moved = [torch.zeros_like(top) for _ in range(depth + 1)]
    errors = moved[1:]
    for _ in range(steps + 1):
        errors = [
            moved[i + 1] - moved[i] - net.scale * slopes[i] * (moved[i] @ net.weights[i].T)
            for i in range(depth)
        ]
        pulls = [
            e + net.scale * (e * slopes[i + 1]) @ net.weights[i + 1]
            for i, e in zip(range(depth - 1), errors[1:])
        ]
        goals = [*pulls, top]
        moved = [moved[0], *(m + step_size * (goal - e) for m, goal, e in zip(moved[1:], goals, errors))]
    return errors


Signals = list[Tensor]


def _on_gradient(
    change: Callable[[Tensor, ResidualNet, int, int], Tensor],
) -> Callable[[ResidualNet], Signals]:
    def inject(net: ResidualNet) -> Signals:
        gradient = net.backward()
        return [change(g, net, index, len(gradient)) for index, g in enumerate(gradient)]

    return inject


def _clip(g: Tensor) -> Tensor:
    norms = g.norm(dim=1, keepdim=True)
    return g * (0.5 * norms.median() / norms).clamp_max(1)


def _permutation(net: ResidualNet) -> Tensor:
    return torch.randperm(len(net.inputs), generator=torch.Generator().manual_seed(len(net.inputs)))


def _zero_one(net: ResidualNet) -> Signals:
    gradient = net.backward()
    return [torch.zeros_like(g) if i == len(gradient) // 2 else g for i, g in enumerate(gradient)]


def previous_states(net: ResidualNet) -> Signals:
    """The states h_1 … h_L of the step before: another batch through the same network."""
    return net.states(net.inputs.roll(1, 0))[1:]


def _stale(net: ResidualNet) -> Signals:
    return net.backward(states=[net.inputs, *previous_states(net)])


#: Each fault by the name the audit should give it: network → signals a_1 … a_L.
FAULTS: dict[str, Callable[[ResidualNet], Signals]] = {
    "sign": _on_gradient(lambda g, net, i, n: -g),
    "constant scale": _on_gradient(lambda g, net, i, n: 0.5 * g),
    "1/B": _on_gradient(lambda g, net, i, n: g / len(g)),
    "scale decaying with depth": _on_gradient(lambda g, net, i, n: 0.7 ** (n - 1 - i) * g),
    "off by one layer (above)": lambda net: [*net.backward()[1:], torch.zeros_like(net.inputs)],
    "off by one layer (below)": lambda net: [torch.zeros_like(net.inputs), *net.backward()[:-1]],
    "reversed layers": lambda net: net.backward()[::-1],
    "permuted batch": _on_gradient(lambda g, net, i, n: g[_permutation(net)]),
    "batch mean": _on_gradient(lambda g, net, i, n: g.mean(0, keepdim=True).expand_as(g)),
    "transposed weights": lambda net: net.backward(transposed=True),
    "missing φ′": lambda net: net.backward(derivative=False),
    "missing skip": lambda net: net.backward(skips=0),
    "double skip": lambda net: net.backward(skips=2),
    "wrong block (above)": lambda net: net.backward(block_shift=1),
    "wrong block (below)": lambda net: net.backward(block_shift=-1),
    "Gramian-weighted": ResidualNet.gramian_weighted,
    "sign only": _on_gradient(lambda g, net, i, n: g.sign()),
    "unit norm": _on_gradient(lambda g, net, i, n: g / g.norm(dim=1, keepdim=True)),
    "clipped": _on_gradient(lambda g, net, i, n: _clip(g)),
    "stale activations": _stale,
    "zeroed": _zero_one,
    "unconverged": lambda net: relaxed(net, steps=8, step_size=0.2),
}


def with_noise(signals: Signals, share: float, seed: int) -> Signals:
    """Adds to every layer Gaussian noise of `share` times its own norm, sample by sample."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for a in signals:
        noise = torch.randn(a.shape, generator=generator, dtype=a.dtype)
        noise = noise / noise.norm(dim=1, keepdim=True) * a.norm(dim=1, keepdim=True)
        out.append(a + share * noise)
    return out
