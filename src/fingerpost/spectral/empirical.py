"""Tangent kernels of networks as they are, layer by layer, and products with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn
from torch.func import functional_call, vjp

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean
from fingerpost.spectral._rules.attention import decomposed_attention
from fingerpost.spectral._rules.capture import Capture, as_matrix, state_kept
from fingerpost.spectral._rules.inputs import (
    Inputs,
    arguments,
    check_alike,
    count,
    detached,
    probe,
    rows,
    tensors,
)
from fingerpost.spectral._rules.kernel import REDUCTIONS, Kernel
from fingerpost.spectral._rules.plan import Plan, make_plan
from fingerpost.spectral._rules.refusals import check_model, check_same_sample, explain
from fingerpost.spectral._rules.terms import AbstractTerm
from fingerpost.spectral._rules.whole import Whole, whole_way
from fingerpost.spectral.linear import directional


def empirical_ntk(
    model: nn.Module,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    reduce: Literal["trace", "diagonal", "full"] = "trace",
    chunk: int | None = None,
) -> Tensor:
    r"""The tangent kernel Θ(x, x′) = J(x) J(x′)ᵀ of a network at its present parameters, without the Jacobian J.

    Each layer adds its share. That of a dense layer with activations a and cotangents g = ∂f/∂z is

        Θ(x, x′) = (⟨a, a′⟩ + 1) ⟨g, g′⟩,

    a product of two Gram matrices (Jacot, Gabriel and Hongler 2018, https://arxiv.org/abs/1806.07572; structured derivatives
    of Novak et al. 2022, https://arxiv.org/abs/2206.08720). Linear, convolutions, Embedding, the normalisations and
    `NTKLinear` go so, called once or often, with weights of their own or shared. Before that each parameter's
    gradient by its rule is held against autograd's on three samples; where they differ, and for layers without a rule, the
    Jacobian by these parameters alone is made by torch.func.

    Only parameters that require gradients count. The model keeps its mode, gradients, buffers and hooks, and torch its
    random state.

    Args:
      model: Maps n samples to a tensor of shape (n,) or (n, o), each sample by itself.
      x1: Samples: a tensor with one a row; a tuple of such for `model(*x1)`; a dict for `model(**x1)`.
      x2: Other samples, for the columns; x1 when None, and then only half of the kernel is computed.
      reduce: "full" keeps all pairs of outputs; "diagonal" the pairs of equal ones; "trace" is the mean of the
        diagonal, the trace over o, as in neural-tangents with `trace_axes=(-1,)`.
      chunk: Samples of a pass; None takes all at once. Memory beyond the kernel grows with it, time falls.

    Returns:
      Shape (n1, n2), (n1, n2, o) or (n1, n2, o, o), in the model's dtype.

    Raises:
      InvalidTypeError: If the model is no module, or returns no tensor.
      ShapeError: If the samples don't fit together, or the output is not (n,) or (n, o).
      InvalidValueError: If a layer mixes samples, is random, or is one that neither a rule nor torch.func can
        differentiate sample by sample (it is named); if nothing requires gradients; if an option is out of range.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2)).double()
    >>> x = torch.randn(5, 3, dtype=torch.float64)
    >>> empirical_ntk(model, x).shape, empirical_ntk(model, x, x[:2], reduce="full").shape
    (torch.Size([5, 5]), torch.Size([5, 2, 2, 2]))
    >>> gradients = torch.autograd.grad(model(x[:1])[0, 1], list(model.parameters()))
    >>> square = sum(g.square().sum() for g in gradients)
    >>> bool(torch.isclose(empirical_ntk(model, x, reduce="diagonal")[0, 0, 1], square))
    True
    """
    check_model(model)
    _check_options(reduce, chunk)
    n1 = count(x1, "x1")
    n2 = n1 if x2 is None else count(x2, "x2")
    if x2 is not None:
        check_alike(x1, x2)
    with state_kept(model, next(tensors(x1)).device):
        x1, x2 = detached(x1), None if x2 is None else detached(x2)
        trial = probe(x1, x1 if x2 is None else x2)
        plan = make_plan(model, trial)
        outputs = plan.trial.output.shape[1]
        whole = whole_way(model, plan.rest, trial, plan.trial) if plan.rest else None
        if plan.rest and whole is None:
            raise explain(model, trial)
        kernel = Kernel.zeros((n1, n2), outputs, reduce, x2 is None, plan.trial.output)
        _Filling(model, plan, whole, trial, x1, x2).fill(kernel, chunk or max(n1, n2))
    return kernel.result()


class _Filling:
    """Adds up the kernel over chunks of samples."""

    def __init__(
        self, model: nn.Module, plan: Plan, whole: Whole | None, trial: Inputs, x1: Inputs, x2: Inputs | None
    ) -> None:
        self.model, self.plan, self.whole, self.trial = model, plan, whole, trial
        self.x1, self.x2 = x1, x2

    def fill(self, kernel: Kernel, chunk: int) -> None:
        n1, n2 = kernel.values.shape[2], kernel.values.shape[4]
        same = self.x2 is None
        for i in _chunks(n1, chunk):
            left = self._terms(self.x1, i, n1, first=i.start == 0, last=same and i.stop == n1)
            for j in _chunks(n2, chunk):
                if same and j.start < i.start:
                    continue
                window = kernel.window(i, j, same and i == j)
                right = left
                if not window.symmetric:
                    others = self.x1 if same else self.x2
                    right = self._terms(others, j, n2, first=False, last=j.stop == n2)
                for (
                    name,
                    term,
                ) in left.items():  # in the parameters' order, so that sums round alike in every run
                    if name in right:
                        term.add(right[name], window)
                if window.symmetric:
                    window.mirror()
                elif same:
                    kernel.values[:, :, j, :, i] = window.values.permute(0, 3, 4, 1, 2)

    def _terms(
        self, inputs: Inputs, which: slice, n: int, *, first: bool, last: bool
    ) -> dict[str, AbstractTerm]:
        taken = rows(inputs, which)
        size = which.stop - which.start
        passed = self.plan.capture(self.model, taken, size)
        self._check(passed, first, last)
        terms = self.plan.terms(passed, size)
        if self.whole is not None:
            terms[""] = replace(self.whole, inputs=taken, count=size)
        return terms

    def _check(self, passed: Capture, first: bool, last: bool) -> None:
        if first:
            check_same_sample(self.model, self.trial, passed, self.plan.trial, 0)
        if last:
            check_same_sample(self.model, self.trial, passed, self.plan.trial, 1)


def ntk_matvec(model: nn.Module, x: Inputs, v: Tensor) -> Tensor:
    r"""J Jᵀ v for the Jacobian J of all outputs at all samples, by one vjp and one jvp; no kernel is formed.

    Equals Σ_{j,b} Θ(x_i, x_j)_{ab} v_{jb} with `empirical_ntk(…, reduce="full")`: it is not divided by the number of outputs.

    Args:
      model: A network; only its parameters that require gradients count.
      x: Samples, as for `empirical_ntk`.
      v: Of the output's shape, (n,) or (n, o).

    Returns:
      v's shape.

    Raises:
      ShapeError: If v doesn't have the output's shape.
      InvalidValueError: If a layer mixes samples or is random by its settings; if nothing requires gradients.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model, x = torch.nn.Linear(3, 1).double(), torch.randn(4, 3, dtype=torch.float64)
    >>> v = torch.randn(4, 1, dtype=torch.float64)
    >>> bool(torch.allclose(ntk_matvec(model, x, v), empirical_ntk(model, x) @ v))
    True
    """
    check_model(model)
    n = count(x, "x")
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    with state_kept(model, next(tensors(x)).device), decomposed_attention(model):
        args, kwargs = arguments(detached(x))
        output, pull = vjp(lambda values: functional_call(model, values, args, kwargs), parameters)[:2]
        as_matrix(output, n)
        if v.shape != output.shape:
            raise ShapeError(f"v has shape {tuple(v.shape)}; expected the output's, {tuple(output.shape)}")
        return directional(model, parameters, pull(v.detach().to(output))[0], args, kwargs)[1].detach()


def _check_options(reduce: str, chunk: int | None) -> None:
    if reduce not in REDUCTIONS:
        known = ", ".join(map(repr, REDUCTIONS))
        raise InvalidValueError(
            f"reduce is {reduce!r}; expected one of {known}{did_you_mean(str(reduce), REDUCTIONS)}"
        )
    if chunk is None:
        return
    if not isinstance(chunk, int) or isinstance(chunk, bool):
        raise InvalidTypeError(f"chunk is {chunk!r}; expected a number of samples, or None for all at once")
    if chunk < 1:
        raise InvalidValueError(
            f"chunk is {chunk}; expected at least 1 sample a pass, or None for all at once"
        )


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
