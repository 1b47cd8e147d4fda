"""Backpropagation through time for a gated unit that looks up its context by additive attention, written by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fingerpost.attention._bptt_unit import UnitBackward, UnitTape


class Searched(NamedTuple):
    """A decoder's way: states s_1 … s_T (T, B, n), contexts c_1 … c_T (T, B, c), weights α (T, B, S)."""

    states: Tensor
    contexts: Tensor
    weights: Tensor


class Search(NamedTuple):
    r"""The arguments of a decoder's way: $s_i = f(s_{i-1}, x_i + C c_i)$, $c_i = \sum_j α_{ij} h_j$.

    With $α_i = \mathrm{softmax}_j(v^\top \tanh(W s_{i-1} + k_j))$.

    Args:
      gates: What the words give to the unit's gates, (T, B, 3n).
      initial: s_0, (B, n).
      keys: k_j = U h_j, (B, S, a).
      values: h_j, (B, S, c).
      excluded: 0 where there is a word and −∞ at padding, (B, S); None without padding.
      query: W, (a, n).
      score_vector: v, (a,).
      context: C, (3n, c).
      recurrent: The unit's U, (3n, n).
      inner_bias: The unit's b, (n,), if it resets after the product.
    """

    gates: Tensor
    initial: Tensor
    keys: Tensor
    values: Tensor
    excluded: Tensor | None
    query: Tensor
    score_vector: Tensor
    context: Tensor
    recurrent: Tensor
    inner_bias: Tensor | None


def search(arguments: Search) -> Searched:
    """Runs all steps; going back computes each step's tanh again, so that memory is O(B S a) and not T times that."""
    return Searched(*_Search.apply(*arguments))


class _Search(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        a = Search(*given)  # type: ignore[arg-type]
        steps, rows = a.gates.shape[:2]
        states = a.initial.new_empty(steps + 1, *a.initial.shape)
        states[0] = a.initial
        before, after = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
        tape = UnitTape.begin(before, after, a.recurrent, a.inner_bias)
        queries = a.keys.new_empty(steps, rows, a.keys.shape[2])
        weights = a.keys.new_empty(steps, rows, a.keys.shape[1])
        contexts = a.values.new_empty(steps, rows, a.values.shape[2])
        hidden = torch.empty_like(a.keys)
        for i in range(steps):
            torch.mm(states[i], a.query.t(), out=queries[i])
            torch.add(a.keys, queries[i].unsqueeze(1), out=hidden).tanh_()
            scores = hidden @ a.score_vector
            if a.excluded is not None:
                scores += a.excluded
            torch.softmax(scores, 1, out=weights[i])
            torch.bmm(weights[i].unsqueeze(1), a.values, out=contexts[i].unsqueeze(1))
            tape.step(slice(i * rows, (i + 1) * rows), torch.addmm(a.gates[i], contexts[i], a.context.t()))
        ctx.save_for_backward(*given, before, after, tape.opened, tape.inner, queries, weights, contexts)
        ctx.set_materialize_grads(False)
        return states[1:], contexts, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        given, made = ctx.saved_tensors[:10], ctx.saved_tensors[10:]
        return _SearchBackward(Search(*given), *made).run(*grads)


class _SearchBackward:
    """Goes back over a search: step by step for what a step owes to the next, then each weight in one product."""

    def __init__(
        self,
        arguments: Search,
        before: Tensor,
        after: Tensor,
        opened: Tensor,
        inner: Tensor | None,
        queries: Tensor,
        weights: Tensor,
        contexts: Tensor,
    ) -> None:
        self.of = arguments
        self.unit = UnitBackward(
            UnitTape(arguments.recurrent, arguments.inner_bias, before, after, opened, inner)
        )
        self.before, self.rows = before, len(arguments.initial)
        self.queries, self.weights, self.contexts = queries, weights, contexts
        self.grad_queries = torch.empty_like(queries)
        self.grad_contexts = torch.empty_like(contexts)
        self.grad_keys = torch.zeros_like(arguments.keys)  # Σ_i ∂L/∂e_ij (1 − tanh²), without v until the end
        self.grad_score_vector = torch.zeros_like(arguments.score_vector)
        self.hidden, self.slope = torch.empty_like(arguments.keys), torch.empty_like(arguments.keys)
        self.one = arguments.keys.new_ones(())

    def run(
        self, grad_states: Tensor | None, grad_contexts: Tensor | None, grad_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """∂L/∂ of the arguments, in their order; None for the mask."""
        grad = torch.zeros_like(self.of.initial)
        for i in reversed(range(len(self.queries))):
            if grad_states is not None:
                grad = grad + grad_states[i]
            grad = self._step(
                i,
                grad,
                None if grad_contexts is None else grad_contexts[i],
                None if grad_weights is None else grad_weights[i],
            )
        flat = self.unit.grad_gates
        gates = flat.unflatten(0, (-1, self.rows))
        values = torch.bmm(self.weights.permute(1, 2, 0), self.grad_contexts.transpose(0, 1))
        query = self.grad_queries.flatten(0, 1).t() @ self.before
        context = flat.t() @ self.contexts.flatten(0, 1)
        keys = self.grad_keys * self.of.score_vector
        mine = (gates, grad, keys, values, None, query, self.grad_score_vector, context)
        return *mine, self.unit.recurrent(), self.unit.inner_bias()

    def _step(self, i: int, grad: Tensor, by_context: Tensor | None, by_weights: Tensor | None) -> Tensor:
        """∂L/∂s_i from ∂L/∂s_{i+1}, counting states from 0."""
        of, weights = self.of, self.weights[i]
        rows = slice(i * self.rows, (i + 1) * self.rows)
        grad = self.unit.step(rows, grad)
        through = self.grad_contexts[i]
        torch.mm(self.unit.grad_gates[rows], of.context, out=through)
        if by_context is not None:
            through += by_context
        by_weight = torch.bmm(of.values, through.unsqueeze(2)).squeeze(2)
        if by_weights is not None:
            by_weight += by_weights
        by_weight *= weights
        by_score = torch.addcmul(by_weight, weights, by_weight.sum(1, keepdim=True), value=-1)
        self._through_scores(i, by_score)
        return grad.addmm_(self.grad_queries[i], of.query)

    def _through_scores(self, i: int, by_score: Tensor) -> None:
        """Writes ∂L/∂(W s) and adds to the keys' and v's, from ∂L/∂e_i (B, S)."""
        of, column = self.of, by_score.unsqueeze(2)
        hidden = torch.add(of.keys, self.queries[i].unsqueeze(1), out=self.hidden).tanh_()
        self.grad_score_vector.addmv_(hidden.flatten(0, 1).t(), by_score.flatten())
        slope = torch.addcmul(self.one, hidden, hidden, value=-1, out=self.slope)
        torch.bmm(by_score.unsqueeze(1), slope, out=self.grad_queries[i].unsqueeze(1))
        self.grad_queries[i].mul_(of.score_vector)
        self.grad_keys.addcmul_(slope, column)
