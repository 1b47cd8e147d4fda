"""The gated hidden unit, with the reset where the paper has it or where nn.GRU has it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.attention._bptt_unit import scan
from fingerpost.attention._checks import check_choice, check_last, check_sizes
from fingerpost.errors import InvalidValueError

Reset = Literal["before", "after"]
RESETS: tuple[Reset, ...] = ("before", "after")


class GatedUnit(nn.Module):
    r"""The gated hidden unit: a state that is kept, or replaced by a candidate, each unit as its gate says.

    $s' = (1 - z) \circ s + z \circ \tilde s$, with $z = \sigma(W_z x + U_z s + C_z c)$, $r = \sigma(W_r x + U_r s + C_r c)$ and

    - reset "before": $\tilde s = \tanh(W x + U (r \circ s) + C c)$: Cho et al. (2014), equations 5 to 8,
      https://arxiv.org/abs/1406.1078, and Bahdanau, Cho and Bengio (2014), appendix A.1, https://arxiv.org/abs/1409.0473;
    - reset "after": $\tilde s = \tanh(W x + r \circ (U s + b) + C c)$: one product instead of two in turn.

    z opens to the new here. `torch.nn.GRU` resets after the product, and its z keeps the old: it is this unit with
    the signs of what leads to z turned.

    Args:
      input_size: Numbers of an input x.
      hidden_size: Numbers of a state s.
      context_size: Numbers of a context c; 0 for none.
      reset: "before" or "after" the recurrent product.

    Raises:
      InvalidValueError: If a size is too small or `reset` is not known.

    >>> unit = GatedUnit(3, 4, context_size=2)
    >>> unit(torch.zeros(5, 3), torch.zeros(5, 4), torch.zeros(5, 2)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, context_size: int = 0, reset: Reset = "before"
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        check_choice("reset", reset, RESETS)
        self.input_size, self.hidden_size, self.context_size = input_size, hidden_size, context_size
        self.reset = reset
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.context = nn.Linear(context_size, 3 * hidden_size, bias=False) if context_size else None
        self.recurrent = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.inner_bias = nn.Parameter(torch.zeros(hidden_size)) if reset == "after" else None
        nn.init.zeros_(self.input.bias)
        for block in self.recurrent.data.split(hidden_size):
            nn.init.orthogonal_(block)

    def forward(self, x: Tensor, state: Tensor, context: Tensor | None = None) -> Tensor:
        """The next state.

        Args:
          x: Input, shape (…, input_size).
          state: s, shape (…, hidden_size).
          context: c, shape (…, context_size), where the unit has one.

        Returns:
          s', shape (…, hidden_size).

        Raises:
          ShapeError: If a last axis is not the unit's.
          InvalidValueError: If there is a context and the unit takes none, or the other way round.
        """
        check_last("x", x, self.input_size)
        check_last("state", state, self.hidden_size)
        gates = self.input(x)
        if (context is None) != (self.context is None):
            raise InvalidValueError(
                f"context is {'missing' if context is None else 'given'}, and this unit's context_size is "
                f"{self.context_size}"
            )
        if self.context is not None and context is not None:
            check_last("context", context, self.context_size)
            gates = gates + self.context(context)
        return self.advance(gates, state)

    def advance(self, gates: Tensor, state: Tensor) -> Tensor:
        """The next state from what input and context give to z, r and the candidate, (…, 3 hidden_size) side by side."""
        n = self.hidden_size
        if self.inner_bias is None:
            opened = torch.sigmoid(gates[..., : 2 * n] + F.linear(state, self.recurrent[: 2 * n]))
            z, r = opened[..., :n], opened[..., n:]
            within = F.linear(r * state, self.recurrent[2 * n :])
        else:
            products = F.linear(state, self.recurrent)
            opened = torch.sigmoid(gates[..., : 2 * n] + products[..., : 2 * n])
            z, r = opened[..., :n], opened[..., n:]
            within = r * (products[..., 2 * n :] + self.inner_bias)
        candidate = torch.tanh(gates[..., 2 * n :] + within)
        return state + z * (candidate - state)

    def scan(self, gates: Tensor, initial: Tensor, *, fused: bool = True) -> Tensor:
        """The states s_1 … s_T from gates (T, B, 3 hidden_size) and s_0 (B, hidden_size), shape (T, B, hidden_size).

        `fused` runs backpropagation through time as written by hand; without it, autograd records every step, which
        second derivatives and torch.func need.
        """
        if fused:
            return scan(gates, initial, self.recurrent, self.inner_bias)
        states = [initial]
        for at_step in gates:
            states.append(self.advance(at_step, states[-1]))
        return torch.stack(states[1:])

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        context = f", context_size={self.context_size}" if self.context_size else ""
        return f"{self.input_size}, {self.hidden_size}{context}, reset={self.reset!r}"
