"""RNNsearch and the encoder–decoder with one fixed context: one decoder, and attention the only difference."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.attention._bptt_vocabulary import negative_log_likelihood
from fingerpost.attention._checks import check_choice, check_ids, check_right_padded
from fingerpost.attention._packing import Packing
from fingerpost.attention._start import start_parameters
from fingerpost.attention.decoder import Decoded, Decoder, DecoderState, Encoded, ReadoutState
from fingerpost.attention.encoder import Annotations, Encoder
from fingerpost.attention.presets import PRESETS
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention
from fingerpost.attention.units import Reset
from fingerpost.attention.vocabulary import BOS
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

if TYPE_CHECKING:
    from typing_extensions import Self


class TokenLosses(NamedTuple):
    """Σ −log p over the words of a batch that are no padding, a 0-dimensional tensor, and how many they are."""

    total: Tensor
    count: int


class AbstractEncoderDecoder(nn.Module, ABC):
    """What both models do: read a batch of source ids, and give the probabilities of target ids.

    Batches are int64, padded with 0 at the end; source and target end in EOS (3), and the target has no BOS (2): the
    model feeds it first. See `RNNSearch` for the arguments.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, fused: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.fused = encoder, decoder, fused
        self.initialize()

    @classmethod
    def from_preset(cls, source_size: int, target_size: int, preset: str = "small", **changes: Any) -> Self:
        """A model of a preset's sizes, drawn as the preset says.

        Args:
          source_size: Number of source ids.
          target_size: Number of target ids.
          preset: "paper" or "small": see `PRESETS`.
          changes: Arguments of the model that take precedence.
        """
        check_choice("preset", preset, list(PRESETS))
        known = inspect.signature(cls).parameters
        sizes = {name: value for name, value in vars(PRESETS[preset]).items() if name in known}
        make: Any = cls  # the children take sizes, not parts
        return make(source_size, target_size, **{**sizes, **changes}).initialize(preset)

    def forward(self, source: Tensor, target: Tensor) -> TokenLosses:
        """The same as `loss`."""
        return self.loss(source, target)

    def loss(self, source: Tensor, target: Tensor) -> TokenLosses:
        """How surprised the model is by the target sentences: the path that trains.

        Divide for the mean: ``total / count``. No more than five million logits are held at a time.

        Args:
          source: Ids (B, S).
          target: Ids (B, T).

        Returns:
          Σ −log p(y_i | y_1 … y_{i−1}, x) over what is no padding, and the number of these words.

        Raises:
          InvalidTypeError: If ids are not int64.
          ShapeError: If a batch is not (B, length) or the two differ in B.
          InvalidValueError: If an id is not in the vocabulary, a row is padding alone, or a target word follows padding.
        """
        decoded, packing = self._forced(source, target, None)
        hidden = self.decoder.outputs(decoded, fused=self._by_hand)
        right = target.flatten().index_select(0, packing.at)
        weight, bias = self.decoder.output.weight, self.decoder.output.bias
        if self._by_hand:
            return TokenLosses(negative_log_likelihood(hidden, weight, bias, right), len(right))
        return TokenLosses(
            F.cross_entropy(F.linear(hidden, weight, bias), right, reduction="sum"), len(right)
        )

    def log_probs(self, source: Tensor, target: Tensor, *, source_embeddings: Tensor | None = None) -> Tensor:
        """Log p(y_i | y_1 … y_{i−1}, x) of every target word, 0 at padding.

        Each has a graph: the gradient of one word's log-probability by the source embeddings is
        ``torch.autograd.grad(log_probs[b, i], source_embeddings, retain_graph=True)``.

        Args:
          source: Ids (B, S).
          target: Ids (B, T).
          source_embeddings: Shape (B, S, embedding), in place of ``model.encoder.embedding(source)``.

        Returns:
          Shape (B, T).

        Raises:
          InvalidTypeError, ShapeError, InvalidValueError: As in `loss`.
        """
        decoded, packing = self._forced(source, target, source_embeddings)
        logits = self.decoder.output(self.decoder.outputs(decoded, fused=self._by_hand))
        right = target.flatten().index_select(0, packing.at)
        found = logits.gather(1, right[:, None])[:, 0] - logits.logsumexp(1)
        return packing.unpack(found, target.shape)

    def encode(self, source: Tensor, *, source_embeddings: Tensor | None = None) -> Encoded:
        """What a decoder needs of source ids (B, S): give it to `step`.

        Raises:
          InvalidTypeError, ShapeError, InvalidValueError: As in `loss`.
        """
        mask = self._check_source(source, source_embeddings)
        annotations = self.encoder(source, mask, embeddings=source_embeddings, fused=self._by_hand)
        return self._encoded(annotations, mask)

    def step(
        self, encoded: Encoded, state: DecoderState, previous: Tensor
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """One step of N hypotheses, for a beam search or any other; begin with ``encoded.initial`` and BOS.

        Args:
          encoded: What `encode` made, one sentence for each hypothesis: see `Encoded.select`.
          state: Where the hypotheses are.
          previous: Their last words, (N,).

        Returns:
          Log-probabilities (N, V) of the next word, the state to go on from, and the weights (N, S) on source words, None
          without attention.
        """
        return self.decoder.step(encoded, state, previous)

    def initialize(self, preset: str = "small", generator: torch.Generator | None = None) -> Self:
        """Draws all parameters anew, as `PRESETS` says, and returns the model.

        Recurrent matrices are orthogonal and biases 0 in both presets. "paper": W_a, U_a ~ N(0, 0.001²), v_a = 0 and everything
        else N(0, 0.01²), appendix B.1 of the paper. "small": Glorot and Bengio's uniform draws.

        Args:
          preset: "paper" or "small".
          generator: Where the draws come from; None takes torch's own.
        """
        check_choice("preset", preset, list(PRESETS))
        start_parameters(self, PRESETS[preset], generator)
        return self

    @property
    def _by_hand(self) -> bool:
        """Autocast changes the types of what autograd records, and would change half of what is written by hand."""
        return self.fused and not torch.is_autocast_enabled(self.decoder.output.weight.device.type)

    @abstractmethod
    def _encoded(self, annotations: Annotations, mask: Tensor) -> Encoded:
        """What the decoder starts from and looks at."""

    def _check_source(self, source: Tensor, embeddings: Tensor | None) -> Tensor:
        """The mask of a batch of source ids, (B, S)."""
        layer = self.encoder.embedding
        mask = check_ids("source", source, layer.num_embeddings)
        check_right_padded("source", mask)
        wanted = (*source.shape, layer.embedding_dim)
        if embeddings is not None and embeddings.shape != wanted:
            raise ShapeError(f"source_embeddings has shape {tuple(embeddings.shape)}; expected {wanted}")
        return mask

    def _forced(self, source: Tensor, target: Tensor, embeddings: Tensor | None) -> tuple[Decoded, Packing]:
        """The decoder's way along the target's words, without padding."""
        mask = check_ids("target", target, self.decoder.output.out_features)
        check_right_padded("target", mask)
        if len(source) != len(target):
            raise ShapeError(f"source has {len(source)} sentences and target {len(target)}; expected as many")
        mask_of_source = self._check_source(source, embeddings)
        packing = Packing.of(mask)
        order = packing.order
        source, mask_of_source = source.index_select(0, order), mask_of_source.index_select(0, order)
        if embeddings is not None:
            embeddings = embeddings.index_select(0, order)
        annotations = self.encoder(source, mask_of_source, embeddings=embeddings, fused=self._by_hand)
        encoded = self._encoded(annotations, mask_of_source)
        previous = F.pad(target[:, :-1], (1, 0), value=BOS).flatten().index_select(0, packing.at)
        return self.decoder(encoded, previous, packing, fused=self._by_hand), packing


class RNNSearch(AbstractEncoderDecoder):
    r"""The encoder–decoder that searches its source for each word: RNNsearch.

    $c_i = \sum_j \alpha_{ij} h_j$ with $\alpha_{ij} = \mathrm{softmax}_j\,a(s_{i-1}, h_j)$,
    $s_0 = \tanh(W_s \overleftarrow h_1)$:
    Bahdanau, Cho and Bengio (2014), Neural machine translation by jointly learning to align and translate,
    https://arxiv.org/abs/1409.0473. The sizes by default are the paper's; `from_preset` has others. Parameters start as
    `initialize("small")` draws them.

    Args:
      source_size: Number of source ids.
      target_size: Number of target ids.
      embedding: Numbers of a word's embedding, m.
      hidden: Numbers of a state, n: in each direction of the encoder, and in the decoder.
      attention: Numbers of the layer of an `AdditiveAttention`, n'; or a module of queries n and keys 2n (n without the
        backward unit), such as `DotAttention`.
      maxout: Numbers of the deep output, l.
      reset: Whether units reset "before" their recurrent product, as in the paper, or "after" it.
      bidirectional: Whether the encoder reads back too. Without, s_0 is made of →h at the last word.
      readout_state: What the output reads: see `Decoder`.
      dropout: Probability with which numbers of embeddings and of the deep output are left out in training.
      fused: Whether to train by backpropagation through time as written by hand. Without, autograd records every step:
        slower, and what second derivatives and torch.func need. Attention that is not additive is recorded in any case. Both
        draw dropout from torch's generator, though not the same numbers where lengths differ.

    Raises:
      InvalidValueError: If a size, a name or the dropout is out of range, or the attention has other sizes.

    >>> model = RNNSearch(20, 30, embedding=8, hidden=8, attention=8, maxout=8)
    >>> source, target = torch.tensor([[4, 5, 6, 3], [7, 3, 0, 0]]), torch.tensor([[9, 8, 3], [5, 3, 0]])
    >>> model.loss(source, target).count, model.log_probs(source, target).shape
    (5, torch.Size([2, 3]))
    >>> model.alignments(source, target)[1, :, 2:].tolist()  # nothing on padding
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        embedding: int = 620,
        hidden: int = 1000,
        attention: int | AbstractAttention = 1000,
        maxout: int = 500,
        reset: Reset = "before",
        bidirectional: bool = True,
        readout_state: ReadoutState = "current",
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        encoder = Encoder(
            source_size,
            embedding,
            hidden,
            reset=reset,
            bidirectional=bidirectional,
            dropout=_probability(dropout),
        )
        decoder = Decoder(
            target_size,
            embedding,
            hidden,
            start_size=hidden,
            context_size=encoder.annotation_size,
            maxout=maxout,
            attention=_attention(attention, hidden, encoder.annotation_size),
            reset=reset,
            readout_state=readout_state,
            dropout=dropout,
        )
        super().__init__(encoder, decoder, fused)

    def alignments(self, source: Tensor, target: Tensor) -> Tensor:
        """How much of source word j goes into target word i: α_ij of a forced pass.

        Args:
          source: Ids (B, S).
          target: Ids (B, T).

        Returns:
          Shape (B, T, S): rows sum to 1, with 0 at source padding; rows of target padding are 0.

        Raises:
          InvalidTypeError, ShapeError, InvalidValueError: As in `loss`.
        """
        decoded, packing = self._forced(source, target, None)
        assert decoded.weights is not None
        return packing.unpack(decoded.weights, target.shape)

    def _encoded(self, annotations: Annotations, mask: Tensor) -> Encoded:
        attention = self.decoder.attention
        assert attention is not None
        states = annotations.states
        start = annotations.onward if annotations.backward is None else annotations.backward
        return Encoded(states, attention.prepare(states, states), mask, self.decoder.initial(start))


class RNNEncoderDecoder(AbstractEncoderDecoder):
    r"""The encoder–decoder that has to put a sentence into one vector: RNNencdec, the baseline of `RNNSearch`.

    The same decoder, with $c_i = c$ for all words, and $s_0 = \tanh(W_s c)$: Cho et al. (2014),
    https://arxiv.org/abs/1406.1078, in the form of appendix A.2 of Bahdanau, Cho and Bengio (2014),
    https://arxiv.org/abs/1409.0473. c is →h at the last word; with `bidirectional`, ←h at the first one is beside it, so that
    the encoder is that of `RNNSearch` and attention the only difference.

    Args:
      source_size: Number of source ids.
      target_size: Number of target ids.
      embedding: See `RNNSearch`, as for all that follow.
      hidden: The same.
      maxout: The same.
      reset: The same.
      bidirectional: Whether the encoder reads back too; the paper's baseline does not.
      readout_state: The same.
      dropout: The same.
      fused: The same.

    Raises:
      InvalidValueError: If a size, a name or the dropout is out of range.

    >>> model = RNNEncoderDecoder(20, 30, embedding=8, hidden=8, maxout=8)
    >>> encoded = model.encode(torch.tensor([[4, 5, 6, 3], [7, 3, 0, 0]]))
    >>> log_probs, state, weights = model.step(encoded, encoded.initial, torch.tensor([2, 2]))
    >>> log_probs.shape, weights is None
    (torch.Size([2, 30]), True)
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        embedding: int = 620,
        hidden: int = 1000,
        maxout: int = 500,
        reset: Reset = "before",
        bidirectional: bool = False,
        readout_state: ReadoutState = "current",
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        encoder = Encoder(
            source_size,
            embedding,
            hidden,
            reset=reset,
            bidirectional=bidirectional,
            dropout=_probability(dropout),
        )
        decoder = Decoder(
            target_size,
            embedding,
            hidden,
            start_size=encoder.annotation_size,
            context_size=encoder.annotation_size,
            maxout=maxout,
            attention=None,
            reset=reset,
            readout_state=readout_state,
            dropout=dropout,
        )
        super().__init__(encoder, decoder, fused)

    def _encoded(self, annotations: Annotations, mask: Tensor) -> Encoded:
        context = annotations.onward
        if annotations.backward is not None:
            context = torch.cat([context, annotations.backward], -1)
        return Encoded(annotations.states, None, mask, self.decoder.initial(context), context)


def _attention(attention: int | AbstractAttention, hidden: int, annotation_size: int) -> AbstractAttention:
    if isinstance(attention, int):
        return AdditiveAttention(hidden, annotation_size, attention)
    if not isinstance(attention, AbstractAttention):
        raise InvalidTypeError(
            f"attention is {attention!r}; expected a size or a module such as DotAttention"
        )
    found, wanted = (attention.query_size, attention.key_size), (hidden, annotation_size)
    if found != wanted:
        raise InvalidValueError(
            f"attention has query_size, key_size = {found}; expected {wanted}: the decoder's state and an annotation"
        )
    return attention


def _probability(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise InvalidValueError(f"dropout is {dropout}; expected a probability, at least 0 and less than 1")
    return dropout
