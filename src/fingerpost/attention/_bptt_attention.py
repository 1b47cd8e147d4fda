"""Backpropagation through time for a gated unit that looks up its context by additive attention, written by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fingerpost.attention._bptt_unit import Slices, UnitBackward, UnitTape
from fingerpost.attention._cache import rows_at_once

NEAR = 2**17
"""Numbers of a tanh that are held at a time: as many as stay in a processor's own cache until they are added up."""


class Searched(NamedTuple):
    """A decoder's way, for N words: states before and after each (N, n), contexts (N, c), weights α (N, S)."""

    before: Tensor
    after: Tensor
    contexts: Tensor
    weights: Tensor


class Search(NamedTuple):
    r"""The arguments of a decoder's way: $s_i = f(s_{i-1}, x_i + C c_i)$, $c_i = \sum_j α_{ij} h_j$.

    With $α_i = \mathrm{softmax}_j(v^\top \tanh(W s_{i-1} + k_j))$.

    Args:
      gates: What the words give to the unit's gates, (N, 3n), packed.
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


def search(arguments: Search, slices: Slices) -> Searched:
    """Runs all steps, each with the words of one slice, of the first so many sentences.

    Going back computes each step's tanh again, so that memory is O(B S a) and not T times that.
    """
    return Searched(*_Search.apply(*arguments, slices))


class _Search(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        *tensors, slices = given
        a = Search(*tensors)
        words, n = len(a.gates), a.initial.shape[1]
        tape = UnitTape.begin(
            a.gates.new_empty(words, n), a.gates.new_empty(words, n), a.recurrent, a.inner_bias
        )
        queries = a.keys.new_empty(words, a.keys.shape[2])
        weights = a.keys.new_empty(words, a.keys.shape[1])
        contexts = a.values.new_empty(words, a.values.shape[2])
        near, last = _near(a.keys), a.initial
        room = torch.empty_like(a.keys[:near])
        for rows in slices:
            size = rows.stop - rows.start
            tape.enter(rows, last, a.initial)
            last = tape.after[rows]
            torch.mm(tape.before[rows], a.query.t(), out=queries[rows])
            scores = a.keys.new_empty(size, a.keys.shape[1])
            for keys, query, some in zip(*(x.split(near) for x in (a.keys[:size], queries[rows], scores))):
                hidden = torch.add(keys, query.unsqueeze(1), out=room[: len(keys)]).tanh_()
                torch.mv(hidden.flatten(0, 1), a.score_vector, out=some.view(-1))
            if a.excluded is not None:
                scores += a.excluded[:size]
            torch.softmax(scores, 1, out=weights[rows])
            torch.bmm(weights[rows].unsqueeze(1), a.values[:size], out=contexts[rows].unsqueeze(1))
            tape.step(rows, torch.addmm(a.gates[rows], contexts[rows], a.context.t()))
        ctx.save_for_backward(
            *tensors, tape.before, tape.after, tape.opened, tape.inner, queries, weights, contexts
        )
        ctx.set_materialize_grads(False)
        ctx.slices = slices
        return tape.before, tape.after, contexts, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        given, made = ctx.saved_tensors[:10], ctx.saved_tensors[10:]
        return *_SearchBackward(Search(*given), ctx.slices, *made).run(*grads), None


def _near(keys: Tensor) -> int:
    """How many sentences of keys (B, S, a) a step looks at together; all of them where that saves nothing."""
    return rows_at_once(keys, keys.shape[1] * keys.shape[2], NEAR)


class _SearchBackward:
    """Goes back over a search: step by step for what a step owes to the next, then each weight in one product."""

    def __init__(
        self,
        arguments: Search,
        slices: Slices,
        before: Tensor,
        after: Tensor,
        opened: Tensor,
        inner: Tensor | None,
        queries: Tensor,
        weights: Tensor,
        contexts: Tensor,
    ) -> None:
        self.of, self.slices, self.before = arguments, slices, before
        self.unit = UnitBackward(
            UnitTape(arguments.recurrent, arguments.inner_bias, before, after, opened, inner)
        )
        self.queries, self.weights, self.contexts = queries, weights, contexts
        self.grad_queries = torch.empty_like(queries)
        self.grad_contexts = torch.empty_like(contexts)
        self.grad_keys = torch.zeros_like(arguments.keys)  # Σ_i ∂L/∂e_ij (1 − tanh²), without v until the end
        self.grad_score_vector = torch.zeros_like(arguments.score_vector)
        self.near = _near(arguments.keys)
        self.hidden, self.slope = (torch.empty_like(arguments.keys[: self.near]) for _ in range(2))
        self.one = arguments.keys.new_ones(())

    def run(
        self,
        by_before: Tensor | None,
        by_after: Tensor | None,
        by_contexts: Tensor | None,
        by_weights: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """∂L/∂ of the arguments, in their order; None for the mask."""
        by_initial = torch.zeros_like(self.of.initial)
        later = by_initial[:0]
        for rows in reversed(self.slices):
            later = self._step(
                rows, self.unit.leave(rows, later, by_initial, by_after), by_contexts, by_weights
            )
            if by_before is not None:
                later += by_before[rows]
        by_initial[: len(later)] = later
        gates = self.unit.grad_gates
        query = self.grad_queries.t() @ self.before
        context = gates.t() @ self.contexts
        keys = self.grad_keys * self.of.score_vector
        mine = (gates, by_initial, keys, self._values(), None, query, self.grad_score_vector, context)
        return *mine, self.unit.recurrent(), self.unit.inner_bias()

    def _step(
        self, rows: slice, grad: Tensor, by_contexts: Tensor | None, by_weights: Tensor | None
    ) -> Tensor:
        """∂L/∂(states before a step) from ∂L/∂(states after it)."""
        of, weights = self.of, self.weights[rows]
        grad = self.unit.step(rows, grad)
        through = self.grad_contexts[rows]
        torch.mm(self.unit.grad_gates[rows], of.context, out=through)
        if by_contexts is not None:
            through += by_contexts[rows]
        by_weight = torch.bmm(of.values[: len(through)], through.unsqueeze(2)).squeeze(2)
        if by_weights is not None:
            by_weight += by_weights[rows]
        by_weight *= weights
        by_score = torch.addcmul(by_weight, weights, by_weight.sum(1, keepdim=True), value=-1)
        self._through_scores(rows, by_score)
        return grad.addmm_(self.grad_queries[rows], of.query)

    def _through_scores(self, rows: slice, by_score: Tensor) -> None:
        """Writes ∂L/∂(W s) and adds to the keys' and v's, from ∂L/∂e_i (b, S)."""
        near, size, by_query = self.near, len(by_score), self.grad_queries[rows]
        every = (self.of.keys[:size], self.grad_keys[:size], self.queries[rows], by_query, by_score)
        for keys, by_keys, query, mine, by in zip(*(x.split(near) for x in every)):
            hidden = torch.add(keys, query.unsqueeze(1), out=self.hidden[: len(keys)]).tanh_()
            self.grad_score_vector.addmv_(hidden.flatten(0, 1).t(), by.flatten())
            slope = torch.addcmul(self.one, hidden, hidden, value=-1, out=self.slope[: len(keys)])
            torch.bmm(by.unsqueeze(1), slope, out=mine.unsqueeze(1))
            by_keys.addcmul_(slope, by.unsqueeze(2))
        by_query.mul_(self.of.score_vector)

    def _values(self) -> Tensor:
        """Σ_i α_ij ∂L/∂c_i, (B, S, c): all steps in one product, with zeros where a sentence has ended."""
        steps, (sentences, positions, size) = len(self.slices), self.of.values.shape
        weights = self.weights.new_zeros(steps, sentences, positions)
        grads = self.weights.new_zeros(steps, sentences, size)
        for i, rows in enumerate(self.slices):
            weights[i, : rows.stop - rows.start] = self.weights[rows]
            grads[i, : rows.stop - rows.start] = self.grad_contexts[rows]
        return torch.bmm(weights.permute(1, 2, 0), grads.transpose(0, 1))
