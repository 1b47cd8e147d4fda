"""Parameter gradients from layer credits, each block with what it sees: its input and its credit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fingerpost.credit._phases import FreePhase, free_phase
from fingerpost.credit.signals.base import Credits
from fingerpost.errors import ShapeError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


def local_gradients(
    chain: ResidualChain,
    x: Tensor,
    y: Tensor,
    credits: Credits | Sequence[Tensor],
    *,
    free: FreePhase | None = None,
) -> None:
    r"""Sets ``.grad`` of every parameter from layer credits, for any torch.optim optimiser.

    Block l gets (1/B) a_lᵀ ∂F_l(h_{l−1})/∂θ_l at the free h_{l−1}; the readout its exact local gradient; the
    stem what a_1 says through block 1, (1/B) a_1ᵀ J_1 ∂h_0/∂θ. Convention: gradients of the MEAN loss over
    the batch, as torch.optim's users have it, from credits that stand for the gradient of the sum. With
    `Backprop` this is autograd's gradient. Gradients already there are replaced, not added to.

    Args:
      chain: The chain.
      x: Inputs (B, …).
      y: Targets.
      credits: What a credit returned, or its layers a_1 … a_L.
      free: The free phase at x, if already computed.

    Raises:
      ShapeError: If a credit's shape is not its state's; the message names the block.

    Example:
      >>> import torch
      >>> from fingerpost.credit import ErrorCredit, local_gradients, residual_mlp
      >>> draw = torch.Generator().manual_seed(0)
      >>> chain = residual_mlp(8, 8, 3, 2, generator=draw)
      >>> optimizer = torch.optim.Adam(chain.parameters(), lr=1e-2)
      >>> x, y = torch.randn(16, 8, generator=draw), torch.arange(16) % 3
      >>> before = chain.losses(chain(x, return_hidden=True)[1][-1], y).mean()
      >>> for _ in range(20):
      ...     local_gradients(chain, x, y, ErrorCredit()(chain, x, y))
      ...     optimizer.step()
      >>> bool(chain.losses(chain(x, return_hidden=True)[1][-1], y).mean() < before)
      True
    """
    layers = credits.layers if isinstance(credits, Credits) else list(credits)
    states = (free or free_phase(chain, x)).states
    _check_layers(layers, states[1:])
    with torch.enable_grad():
        inputs = [chain.stem(x), *states[1:-1]]
        outputs = [block(h) for block, h in zip(chain.blocks, inputs)]
        outputs.append(chain.losses(states[-1], y))
    cotangents = [a.detach() / len(x) for a in layers] + [torch.full_like(outputs[-1], 1 / len(x))]
    parameters = [p for p in chain.parameters() if p.requires_grad]
    pairs = [(out, a) for out, a in zip(outputs, cotangents) if out.requires_grad]
    if not pairs or not parameters:
        return
    gradients = torch.autograd.grad(
        [out for out, _ in pairs], parameters, [a for _, a in pairs], materialize_grads=True
    )
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient


def _check_layers(layers: list[Tensor], states: list[Tensor]) -> None:
    if len(layers) != len(states):
        raise ShapeError(f"credits have {len(layers)} layers; the chain has {len(states)} blocks")
    for number, (a, h) in enumerate(zip(layers, states), 1):
        if a.shape != h.shape:
            raise ShapeError(
                f"credit of block {number} has shape {tuple(a.shape)}; expected {tuple(h.shape)}"
            )
