"""Beam search with an encoder–decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fingerpost.attention._search_decoder import SearchDecoder
from fingerpost.attention.beam import Hypothesis, Limit, Step, beam_search
from fingerpost.attention.decoder import Decoder, DecoderState, Encoded
from fingerpost.attention.models import AbstractEncoderDecoder
from fingerpost.attention.vocabulary import BOS, PAD, UNK


@dataclass(frozen=True, eq=False)
class _Beams:
    """Hypotheses of a batch: where each is, its sentence, and that sentence encoded."""

    encoded: Encoded
    sentence: Tensor
    state: DecoderState

    def select(self, rows: Tensor) -> _Beams:
        sentence, encoded = self.sentence.index_select(0, rows), self.encoded
        # mostly hypotheses follow others of the same sentence, and the annotations can stay where they are
        if not torch.equal(sentence, self.sentence):
            encoded = encoded.select(rows)
        return _Beams(encoded, sentence, self.state.select(rows))


def translate_ids(
    model: AbstractEncoderDecoder,
    source: Tensor,
    *,
    width: int = 5,
    max_length: Limit | None = None,
    exclude: tuple[int, ...] = (PAD, UNK, BOS),
    **options: Any,
) -> list[list[Hypothesis]]:
    """Beam search for the target sentences of a batch, without dropout.

    Args:
      model: An `RNNSearch` or `RNNEncoderDecoder`.
      source: Ids (B, S), padded at the end.
      width: Hypotheses of a sentence.
      max_length: The most words of an output; None takes 2 |x| + 20, since the paper names no limit.
      exclude: Words that no output has.
      options: Others of `beam_search`.

    Returns:
      For each sentence its outputs, best first, as `beam_search` gives them. Alignments are (words, |x|), without padding.

    Raises:
      ShapeError, InvalidTypeError, InvalidValueError, NumericalError: As from `model.encode` and `beam_search`.

    >>> from fingerpost.attention import RNNSearch
    >>> _ = torch.manual_seed(0)
    >>> model = RNNSearch(20, 30, embedding=8, hidden=8, attention=8, maxout=8)
    >>> (found,) = translate_ids(model, torch.tensor([[4, 5, 6, 3]]), width=3, max_length=5)
    >>> len(found), found[0].alignment.shape[1], 1 in found[0].ids
    (3, 4, False)
    """
    with torch.no_grad(), _evaluating(model):
        encoded = model.encode(source)
        lengths = encoded.mask.sum(1).tolist()
        limit = [2 * length + 20 for length in lengths] if max_length is None else max_length
        settings = {"width": width, "max_length": limit, "exclude": exclude, "device": source.device}
        if _as_written(model):
            step = SearchDecoder(model.decoder, encoded)
            found = beam_search(step, step.start, len(source), logits=True, **settings, **options)
        else:
            found = beam_search(*_stepwise(model, encoded), len(source), **settings, **options)
    return [[_trimmed(one, length) for one in those] for those, length in zip(found, lengths)]


def _as_written(model: AbstractEncoderDecoder) -> bool:
    """Whether a search may take its own way through the decoder: autocast and other steps than the decoder's have theirs."""
    plain = type(model).step is AbstractEncoderDecoder.step and type(model.decoder).step is Decoder.step
    return plain and not torch.is_autocast_enabled(model.decoder.output.weight.device.type)


def _stepwise(model: AbstractEncoderDecoder, encoded: Encoded) -> tuple[Step[_Beams], _Beams]:
    """The step function that is `model.step`, and where it begins."""

    def step(beams: _Beams, previous: Tensor) -> tuple[Tensor, _Beams, Tensor | None]:
        log_probs, state, weights = model.step(beams.encoded, beams.state, previous)
        return log_probs, _Beams(beams.encoded, beams.sentence, state), weights

    sentence = torch.arange(len(encoded), device=encoded.states.device)
    return step, _Beams(encoded, sentence, encoded.initial)


def _trimmed(found: Hypothesis, length: int) -> Hypothesis:
    if found.alignment is None:
        return found
    return Hypothesis(found.ids, found.score, found.alignment[:, :length], found.complete)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block no module drops anything; each is put back as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
