r"""The shares of one parameter in a tangent kernel.

For a dense layer z = W a + b with cotangents g = ∂f/∂z, the gradient by W is g aᵀ summed over the positions at which W
is used, so that

    Θ_W(x, x′) = Σ_{s,t} ⟨a_s, a_t′⟩ ⟨g_s, g_t′⟩

(Novak et al. 2022, https://arxiv.org/abs/2206.08720, sec. 3). Positions are tokens, pixels, and the uses of a shared
weight: its cross terms come with them. With one position that is a product of two Gram matrices; with many, either that
sum or the Gram matrix of this one parameter's gradients costs less, and is taken.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from fingerpost.spectral._rules.kernel import BUDGET, Kernel, gram

Term = TypeVar("Term", bound="AbstractTerm")


class AbstractTerm(abc.ABC):
    """What one parameter's gradients at n samples are made of."""

    @abc.abstractmethod
    def gradients(self, which: slice) -> Tensor:
        """∂f_o(x_i)/∂parameter of some samples, shape (o, n, *parameter)."""

    def total(self) -> Tensor:
        """Summed over outputs and samples, shape (*parameter)."""
        return self.gradients(slice(None)).sum((0, 1))

    @abc.abstractmethod
    def add(self, other: AbstractTerm, kernel: Kernel) -> None:
        """Adds this parameter's share: `self` at the rows' samples, `other` at the columns'."""

    @property
    @abc.abstractmethod
    def samples(self) -> int:
        """How many samples."""


@dataclass(frozen=True)
class Direct(AbstractTerm):
    """Gradients held as they are, (o, n, *parameter): for parameters as small as an activation."""

    values: Tensor

    @property
    def samples(self) -> int:
        return self.values.shape[1]

    def gradients(self, which: slice) -> Tensor:
        return self.values[:, which]

    def add(self, other: AbstractTerm, kernel: Kernel) -> None:
        everything = slice(None)
        kernel.add_gram(_flat(self.gradients(everything), kernel), _flat(other.gradients(everything), kernel))


class AbstractBlocked(AbstractTerm):
    """Gradients too large to hold for all samples: made and multiplied in row blocks."""

    @property
    @abc.abstractmethod
    def numbers(self) -> int:
        """How many numbers a sample's gradients are."""

    def add(self, other: AbstractTerm, kernel: Kernel) -> None:
        rows = max(1, BUDGET // max(1, self.numbers))
        for i in _slices(self.samples, rows):
            left = _flat(self.gradients(i), kernel)
            for j in _slices(other.samples, rows):
                if kernel.symmetric and j.stop <= i.start:
                    continue
                right = left if other is self and i == j else _flat(other.gradients(j), kernel)
                kernel.values[:, :, i, :, j] += gram(left, right)


@dataclass(frozen=True)
class Sum(AbstractBlocked):
    """A parameter used in unlike ways, such as an embedding tied to a dense layer."""

    parts: Sequence[AbstractTerm]

    @property
    def samples(self) -> int:
        return self.parts[0].samples

    @property
    def numbers(self) -> int:
        return self.gradients(slice(0, 1)).numel()

    def gradients(self, which: slice) -> Tensor:
        return torch.stack([part.gradients(which) for part in self.parts]).sum(0)


@dataclass(frozen=True)
class AbstractFactored(AbstractTerm):
    """Gradients that are outer products of something known with the cotangents, (o, n, S, C), summed over S.

    Attributes:
      cotangents: Shape (o, n, S, C).
    """

    cotangents: Tensor

    @property
    def samples(self) -> int:
        return self.cotangents.shape[1]

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many numbers multiply each cotangent."""

    @abc.abstractmethod
    def known_gram(self, other: AbstractFactored, i: slice, j: slice) -> Tensor:
        """⟨a_s, a_t′⟩, shape (i, S, j, S′)."""

    @abc.abstractmethod
    def contract(self, form: Tensor) -> Tensor:
        """Σ_s a_s g_s of cotangents in the form (B, P, n, S, K), shape (B, P, n, size · K)."""

    def aligned(self, other: AbstractFactored) -> tuple[AbstractFactored, AbstractFactored]:
        """Both in common coordinates."""
        return self, other

    def add(self, other: AbstractTerm, kernel: Kernel) -> None:
        assert isinstance(other, AbstractFactored)
        left, right = kernel.form(self.cotangents), kernel.form(other.cotangents)
        if left.shape[3] == right.shape[3] == 1:
            self._add_product(other, kernel, left[:, :, :, 0], right[:, :, :, 0])
        elif self._gradients_cost_less(other, left, right):
            self._add_gradients(other, kernel, left, right)
        else:
            self._add_positions(other, kernel, left, right)

    def _add_product(self, other: AbstractFactored, kernel: Kernel, left: Tensor, right: Tensor) -> None:
        for i, j in kernel.blocks():
            known = self.known_gram(other, i, j)[:, 0, :, 0]
            target = kernel.values[:, :, i, :, j]
            if target.shape[:2] == (1, 1):
                target[0, 0, :, 0].addcmul_(known, left[0, 0, i] @ right[0, 0, j].T)
            else:
                target += gram(left[:, :, i], right[:, :, j]).mul_(known[:, None])

    def _add_positions(self, other: AbstractFactored, kernel: Kernel, left: Tensor, right: Tensor) -> None:
        batch, each, _, s, size = left.shape
        t = right.shape[3]
        area = max(1, BUDGET // (s * t * batch * each * each))
        rows = max(1, min(self.samples, int(area**0.5)))
        columns = max(1, area // rows)
        for i in _slices(self.samples, rows):
            for j in _slices(other.samples, columns):
                if kernel.symmetric and j.stop <= i.start:
                    continue
                known = self.known_gram(other, i, j)
                n1, n2 = known.shape[0], known.shape[2]
                products = gram(
                    left[:, :, i].reshape(batch, each, n1 * s, size),
                    right[:, :, j].reshape(batch, each, n2 * t, size),
                )
                products = products.view(batch, each, n1, s, each, n2, t).mul_(known[:, :, None])
                kernel.values[:, :, i, :, j] += products.sum((3, 6))

    def _add_gradients(self, other: AbstractFactored, kernel: Kernel, left: Tensor, right: Tensor) -> None:
        one, two = self.aligned(other)
        batch, each, n1, _, size = left.shape
        width = max(1, BUDGET // (one.size * batch * each * max(n1, right.shape[2])))
        for k in _slices(size, width):
            mine = one.contract(left[..., k])
            kernel.add_gram(mine, mine if other is self else two.contract(right[..., k]))

    def _gradients_cost_less(self, other: AbstractFactored, left: Tensor, right: Tensor) -> bool:
        batch, each, n1, s, size = left.shape
        n2, t = right.shape[2], right.shape[3]
        pairs, products = n1 * n2, batch * each * each
        known = max(self.size, other.size)
        positions = pairs * s * t * (known + products * (size + 1))
        gradients = batch * each * (n1 * s + n2 * t) * known * size + pairs * products * known * size
        return gradients < positions


@dataclass(frozen=True)
class Dense(AbstractFactored):
    """A dense layer, or a group of a convolution by its patches.

    Attributes:
      activations: Shape (n, S, D).
      constant: What the bias sees in the activations' place.
      bias: Whether the bias is in it.
    """

    activations: Tensor
    constant: float = 1.0
    bias: bool = False

    @property
    def size(self) -> int:
        return self.activations.shape[2] + self.bias

    def gradients(self, which: slice) -> Tensor:
        return torch.einsum("nsd,onsc->oncd", self.activations[which], self.cotangents[:, which])

    def total(self) -> Tensor:
        return self.cotangents.sum(0).flatten(0, 1).T @ self.activations.flatten(0, 1)

    def known_gram(self, other: AbstractFactored, i: slice, j: slice) -> Tensor:
        assert isinstance(other, Dense)
        left, right = self.activations[i], other.activations[j]
        products = left.flatten(0, 1) @ right.flatten(0, 1).T
        if self.bias:
            products += self.constant * other.constant
        return products.view(*left.shape[:2], *right.shape[:2])

    def contract(self, form: Tensor) -> Tensor:
        batch, each, n, _, size = form.shape
        whole = torch.einsum("nsd,bpnsk->bpndk", self.activations, form)
        if self.bias:
            whole = torch.cat([whole, self.constant * form.sum(3)[:, :, :, None]], 3)
        return whole.reshape(batch, each, n, self.size * size)


@dataclass(frozen=True)
class Tokens(AbstractFactored):
    """An embedding: its activations are one-hot, and kept as the index of the one, (n, S)."""

    index: Tensor
    vocabulary: int

    @property
    def size(self) -> int:
        return self.vocabulary

    def gradients(self, which: slice) -> Tensor:
        return self._scatter(self.cotangents[:, which], self.index[which])

    def known_gram(self, other: AbstractFactored, i: slice, j: slice) -> Tensor:
        assert isinstance(other, Tokens)
        same = self.index[i][:, :, None, None] == other.index[j]
        return same.to(self.cotangents.dtype)

    def aligned(self, other: AbstractFactored) -> tuple[AbstractFactored, AbstractFactored]:
        assert isinstance(other, Tokens)
        seen, which = torch.cat([self.index.flatten(), other.index.flatten()]).unique(return_inverse=True)
        mine, its = which.split([self.index.numel(), other.index.numel()])
        return (
            replace(self, index=mine.view_as(self.index), vocabulary=len(seen)),
            replace(other, index=its.view_as(other.index), vocabulary=len(seen)),
        )

    def contract(self, form: Tensor) -> Tensor:
        batch, each, n, s, size = form.shape
        scattered = self._scatter(form.reshape(batch * each, n, s, size), self.index)
        return scattered.view(batch, each, n, self.vocabulary * size)

    def _scatter(self, values: Tensor, index: Tensor) -> Tensor:
        first, n, _, size = values.shape
        sums = values.new_zeros(first, n, self.vocabulary, size)
        return sums.scatter_add_(2, index[None, :, :, None].expand(values.shape), values)


@dataclass(frozen=True)
class Groups(AbstractTerm):
    """A grouped convolution: the groups' weights are rows of one parameter, and independent."""

    parts: Sequence[Dense]

    @property
    def samples(self) -> int:
        return self.parts[0].samples

    def gradients(self, which: slice) -> Tensor:
        return torch.cat([part.gradients(which) for part in self.parts], 2)

    def total(self) -> Tensor:
        return torch.cat([part.total() for part in self.parts])

    def add(self, other: AbstractTerm, kernel: Kernel) -> None:
        assert isinstance(other, Groups)
        for mine, its in zip(self.parts, other.parts):
            mine.add(mine if other is self else its, kernel)


def merge(terms: Sequence[AbstractTerm], bias: bool) -> AbstractTerm:
    """One term of all uses of a parameter; `bias` says that the bias is to be in it, where `can_hold_bias`."""
    if len(terms) == 1 and not bias:
        return terms[0]
    if dense := _all(terms, Dense):
        return _joined(dense, bias)
    if groups := _all(terms, Groups):
        return Groups([_joined(part, bias) for part in zip(*(term.parts for term in groups))])
    if tokens := _all(terms, Tokens):
        cotangents = torch.cat([term.cotangents for term in tokens], 2)
        return Tokens(cotangents, torch.cat([term.index for term in tokens], 1), tokens[0].vocabulary)
    if direct := _all(terms, Direct):
        return Direct(torch.stack([term.values for term in direct]).sum(0))
    return Sum(terms)


def can_hold_bias(terms: Sequence[AbstractTerm]) -> bool:
    """Whether `merge` can take the bias in: dense uses that give it one constant."""
    groups = _all(terms, Groups)
    dense = [part for term in groups for part in term.parts] if groups else _all(terms, Dense)
    return len({part.constant for part in dense}) == 1


def _joined(terms: Sequence[Dense], bias: bool) -> Dense:
    if len(terms) == 1:
        return replace(terms[0], bias=bias)
    cotangents = torch.cat([term.cotangents for term in terms], 2)
    return Dense(cotangents, torch.cat([term.activations for term in terms], 1), terms[0].constant, bias)


def _all(terms: Sequence[AbstractTerm], kind: type[Term]) -> list[Term]:
    """The terms if all are of the kind, else none."""
    found = [term for term in terms if type(term) is kind]
    return found if len(found) == len(terms) else []  # type: ignore[return-value]


def _flat(gradients: Tensor, kernel: Kernel) -> Tensor:
    return kernel.form(gradients.flatten(2)[:, :, None])[:, :, :, 0]


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
