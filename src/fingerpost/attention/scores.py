"""Attention: how well each key fits a query, and the mean of the values that this makes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.attention._checks import check_last, check_mask, check_sizes
from fingerpost.errors import InvalidValueError, ShapeError


class AbstractAttention(nn.Module, ABC):
    """A query's weights on S keys, and the values' mean under them.

    What depends on the keys alone is computed once, by `prepare`, for all the queries that `attend` answers:
    a decoder calls them itself; anyone else calls the module.

    Args:
      query_size: Numbers of a query.
      key_size: Numbers of a key.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        check_sizes(query_size=query_size, key_size=key_size)
        self.query_size, self.key_size = query_size, key_size

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, values: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Looks up a query among keys.

        The leading axes of the arguments broadcast: with queries (B, T, q), keys are (B, 1, S, k).

        Args:
          query: Shape (…, q).
          keys: Shape (…, S, k).
          mask: Shape (…, S), True where there is a key and not padding; None where all are keys.
          values: What is averaged, shape (…, S, v); None takes the keys.

        Returns:
          The context (…, v), and the weights (…, S): at least 0, 0 at padding, 1 in sum.

        Raises:
          ShapeError: If the axes do not fit.
          InvalidTypeError: If the mask is not boolean.
          InvalidValueError: If a row of the mask has no key.
        """
        check_last("query", query, self.query_size)
        check_last("keys", keys, self.key_size)
        if keys.ndim < 2:
            raise ShapeError(f"keys has shape {tuple(keys.shape)}; expected (…, S, {self.key_size})")
        if mask is not None:
            check_mask(mask, keys)
        values = keys if values is None else values
        if values.shape[-2:-1] != keys.shape[-2:-1]:
            raise ShapeError(
                f"values has shape {tuple(values.shape)} and keys {tuple(keys.shape)}; expected one value a key"
            )
        return self.attend(query, self.prepare(keys, values), values, mask)

    @abstractmethod
    def prepare(self, keys: Tensor, values: Tensor) -> Tensor:
        """What `attend` needs of the keys, shape (…, S, p): computed once for all queries."""

    def attend(
        self, query: Tensor, prepared: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Context (…, v) and weights (…, S) of a query (…, q), from what `prepare` made; nothing is checked."""
        weights = masked_softmax(self.score(query, prepared), mask)
        return mean_under(weights, values), weights

    @abstractmethod
    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """How well each key fits, shape (…, S)."""


class AdditiveAttention(AbstractAttention):
    r"""$e_j = v^\top \tanh(W q + U h_j)$, $\alpha = \mathrm{softmax}(e)$, $c = \sum_j \alpha_j h_j$.

    Bahdanau, Cho and Bengio (2014), section 3.1 and appendix A.1.2, https://arxiv.org/abs/1409.0473: q is the decoder's
    state before the word and h_j the annotation of source word j. There is no bias: U's would do the same as W's.

    Args:
      query_size: Numbers of a query.
      key_size: Numbers of a key.
      size: Numbers of the layer between, n'.

    >>> attention = AdditiveAttention(3, 4, 5)
    >>> keys, mask = torch.randn(2, 6, 4), torch.arange(6) < torch.tensor([[6], [2]])
    >>> context, weights = attention(torch.randn(2, 3), keys, mask)
    >>> context.shape, weights.shape, weights[1, 2:].tolist()
    (torch.Size([2, 4]), torch.Size([2, 6]), [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        super().__init__(query_size, key_size)
        check_sizes(size=size)
        self.size = size
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(key_size, size, bias=False)
        self.score_vector = nn.Parameter(torch.empty(size).normal_(std=1 / math.sqrt(size)))

    def prepare(self, keys: Tensor, values: Tensor) -> Tensor:
        """U h_j of every key, shape (…, S, size)."""
        return self.key(keys)

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """e_j, shape (…, S)."""
        return torch.tanh(prepared + self.query(query).unsqueeze(-2)) @ self.score_vector

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"{self.query_size}, {self.key_size}, {self.size}"


class DotAttention(AbstractAttention):
    r"""$e_j = q^\top W h_j / \sqrt{q}$: a product with the projected key; W is the identity where the sizes agree.

    Luong, Pham and Manning (2015), equation 8, "dot" and "general", https://arxiv.org/abs/1508.04025, with the scale of
    Vaswani et al. (2017), equation 1, https://arxiv.org/abs/1706.03762.

    Args:
      query_size: Numbers q of a query.
      key_size: Numbers of a key.
      project: Whether there is a W; it has to be where the sizes differ.

    Raises:
      InvalidValueError: If the sizes differ and there is no W.

    >>> context, weights = DotAttention(4, 4, project=False)(torch.eye(4)[:2], 20 * torch.eye(4).expand(2, 4, 4))
    >>> weights.argmax(1).tolist()
    [0, 1]
    """

    def __init__(self, query_size: int, key_size: int, *, project: bool = True) -> None:
        super().__init__(query_size, key_size)
        if not project and query_size != key_size:
            raise InvalidValueError(
                f"query_size is {query_size} and key_size {key_size}: a product needs project=True where they differ"
            )
        self.key = nn.Linear(key_size, query_size, bias=False) if project else None

    def prepare(self, keys: Tensor, values: Tensor) -> Tensor:
        """W h_j / √q of every key, shape (…, S, q)."""
        projected = keys if self.key is None else self.key(keys)
        return projected / math.sqrt(self.query_size)

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """e_j, shape (…, S)."""
        return (prepared @ query.unsqueeze(-1)).squeeze(-1)


class MultiHeadAttention(AbstractAttention):
    r"""Scaled products in several heads, each with projections of its own: $c = W_O\,[c_1; \dots; c_H]$.

    Vaswani et al. (2017), section 3.2.2, https://arxiv.org/abs/1706.03762, without biases. The context has as many
    numbers as a value; the weights that come back are the heads' mean.

    Args:
      query_size: Numbers of a query.
      key_size: Numbers of a key.
      size: Numbers of all heads together; a multiple of `heads`.
      heads: Number of heads.
      value_size: Numbers of a value; None takes `key_size`.

    Raises:
      InvalidValueError: If `size` is no multiple of `heads`.

    >>> attention = MultiHeadAttention(3, 4, 8, heads=2)
    >>> context, weights = attention(torch.randn(5, 7, 3), torch.randn(5, 1, 6, 4))
    >>> context.shape, weights.shape
    (torch.Size([5, 7, 4]), torch.Size([5, 7, 6]))
    """

    def __init__(
        self, query_size: int, key_size: int, size: int, *, heads: int = 4, value_size: int | None = None
    ) -> None:
        super().__init__(query_size, key_size)
        value_size = key_size if value_size is None else value_size
        check_sizes(size=size, heads=heads, value_size=value_size)
        if size % heads:
            raise InvalidValueError(f"size is {size} and heads {heads}; expected a multiple of the heads")
        self.size, self.heads = size, heads
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(key_size, size, bias=False)
        self.value = nn.Linear(value_size, size, bias=False)
        self.output = nn.Linear(size, value_size, bias=False)

    def prepare(self, keys: Tensor, values: Tensor) -> Tensor:
        """The heads' keys, scaled, and their values, side by side: shape (…, S, 2 size)."""
        scaled = self.key(keys) / math.sqrt(self.size // self.heads)
        scaled, projected = torch.broadcast_tensors(scaled, self.value(values))
        return torch.cat([scaled, projected], -1)

    def attend(
        self, query: Tensor, prepared: Tensor, values: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Context (…, v) and the heads' mean weights (…, S)."""
        per_head = mask if mask is None else mask.unsqueeze(-2)
        weights = masked_softmax(self._scores(query, prepared), per_head)
        context = mean_under(weights, self._by_head(prepared[..., self.size :]))
        return self.output(context.flatten(-2)), weights.mean(-2)

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """The heads' mean score, shape (…, S): for looking at; the weights are each head's own."""
        return self._scores(query, prepared).mean(-2)

    def _scores(self, query: Tensor, prepared: Tensor) -> Tensor:
        """Shape (…, heads, S)."""
        queries = self.query(query).unflatten(-1, (self.heads, -1))
        return (self._by_head(prepared[..., : self.size]) @ queries.unsqueeze(-1)).squeeze(-1)

    def _by_head(self, x: Tensor) -> Tensor:
        """(…, S, size) as (…, heads, S, size / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis where the mask is True, 0 elsewhere; every row has to have a True."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return F.softmax(scores, -1)


def mean_under(weights: Tensor, values: Tensor) -> Tensor:
    """Σ_j w_j h_j, shape (…, v), of weights (…, S) and values (…, S, v)."""
    return (weights.unsqueeze(-2) @ values).squeeze(-2)
