"""The adapter: any torch blocks and a readout, seen as a chain of states with a loss at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fingerpost.credit._losses import LOSSES, per_sample
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

if TYPE_CHECKING:
    from fingerpost.credit._layered import LayeredLoss


class ResidualChain(nn.Module):
    r"""Blocks F_1 … F_L and a readout, with states h_0 (clamped input) and h_l = F_l(h_{l−1}).

    Its energy is E(h) = Σ_l ½‖h_l − F_l(h_{l−1})‖² + β Σ_n loss_n(readout(h_L), y_n), summed over the batch.
    A block computes all of F_l, its skip connection included; widths may differ from block to block. Blocks
    must act on each sample alone and be deterministic (no dropout, no batch statistics): the states are
    recomputed at every relaxation step.

    Args:
      blocks: The L blocks, L ≥ 1, each mapping a (B, …) tensor to a (B, …) tensor.
      readout: Maps h_L to the logits (B, C).
      loss: ``"cross_entropy"`` (y: (B,) class indices), ``"mse"`` (½ Σ_c (logits − y)², y: (B, C) or (B,)
        class indices), or a callable ``loss(logits, y) -> (B,)`` of per-sample losses.
      stem: Maps x to the clamped h_0; the identity if None.

    Raises:
      InvalidValueError: If there are no blocks, or the loss has an unknown name.
      InvalidTypeError: If a block is not a module.

    Example:
      >>> import torch
      >>> from torch import nn
      >>> from fingerpost.credit import ResidualBlock, ResidualChain
      >>> chain = ResidualChain([ResidualBlock(8), nn.Linear(8, 4)], nn.Linear(4, 3))
      >>> logits, hidden = chain(torch.zeros(2, 8), return_hidden=True)
      >>> logits.shape, [tuple(h.shape) for h in hidden]
      (torch.Size([2, 3]), [(2, 8), (2, 8), (2, 4)])
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        readout: nn.Module,
        *,
        loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
        stem: nn.Module | None = None,
    ) -> None:
        super().__init__()
        _check_modules(blocks)
        self.blocks = nn.ModuleList(blocks)
        self.readout = readout
        self.stem = nn.Identity() if stem is None else stem
        self.loss_name = loss if isinstance(loss, str) else None
        self.loss = _resolve_loss(loss)

    @property
    def num_blocks(self) -> int:
        """The number of blocks L; there are L + 1 states, h_0 clamped."""
        return len(self.blocks)

    def forward(self, x: Tensor, return_hidden: bool = False) -> Any:
        """Maps x to the logits; with `return_hidden`, returns ``(logits, [h_0, h_1, …, h_L])``.

        Raises:
          ShapeError: If a block does not accept its input or changes the batch size; the message names the
            block.
        """
        hidden = [self._through(self.stem, x, "the stem")]
        for number, block in enumerate(self.blocks, 1):
            hidden.append(self._through(block, hidden[-1], f"block {number}"))
        logits = self._through(self.readout, hidden[-1], "the readout")
        return (logits, hidden) if return_hidden else logits

    def losses(self, h: Tensor, y: Tensor) -> Tensor:
        """The per-sample losses (B,) of the last state h_L (B, …) for the targets `y`."""
        return per_sample(self.loss(self.readout(h), y), len(h))

    def layered_loss(self, x: Tensor, y: Tensor) -> LayeredLoss:
        """The per-sample loss as a function of every block's output at once; see `LayeredLoss`."""
        from fingerpost.credit._layered import LayeredLoss

        return LayeredLoss.of(self, x, y)

    @staticmethod
    def _through(module: nn.Module, h: Tensor, name: str) -> Tensor:
        try:
            out = module(h)
        except ShapeError as error:
            raise ShapeError(f"{name}: {error}") from error
        except RuntimeError as error:
            if not any(word in str(error) for word in ("shape", "size")):
                raise
            raise ShapeError(f"{name} does not accept an input of shape {tuple(h.shape)}: {error}") from error
        if not isinstance(out, Tensor) or out.ndim == 0 or out.shape[:1] != h.shape[:1]:
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ShapeError(
                f"{name} maps an input of shape {tuple(h.shape)} to {got}; expected a tensor of shape "
                f"({len(h)}, …): one row per sample"
            )
        return out


def _check_modules(blocks: Sequence[nn.Module]) -> None:
    if len(blocks) == 0:
        raise InvalidValueError("blocks is empty; a chain needs at least one block")
    for number, block in enumerate(blocks, 1):
        if not isinstance(block, nn.Module):
            raise InvalidTypeError(f"block {number} is {type(block).__name__}; expected a torch.nn.Module")


def _resolve_loss(loss: str | Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise InvalidValueError(f"loss is {loss!r}; expected one of {sorted(LOSSES)} or a callable")
    return LOSSES[loss]
