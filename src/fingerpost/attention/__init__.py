"""Learning signals through alignment: the encoder–decoder that searches its source, and the one that cannot."""

from __future__ import annotations

from fingerpost.attention._search_model import translate_ids
from fingerpost.attention.batches import Batch, Batches, EncodedPairs, batches, batches_in_order
from fingerpost.attention.beam import Hypothesis, SearchState, beam_search
from fingerpost.attention.decoder import Decoder, DecoderState, Encoded
from fingerpost.attention.encoder import Annotations, Encoder
from fingerpost.attention.models import AbstractEncoderDecoder, RNNEncoderDecoder, RNNSearch, TokenLosses
from fingerpost.attention.presets import PAPER, PRESETS, SMALL, Preset
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention, DotAttention, MultiHeadAttention
from fingerpost.attention.segmenters import (
    AbstractSegmenter,
    SpaceTokenizer,
    WordSegmenter,
    WordTokenizer,
    load_segmenter,
)
from fingerpost.attention.subwords import Subwords
from fingerpost.attention.text import ParallelText
from fingerpost.attention.units import GatedUnit
from fingerpost.attention.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, check_fingerprint

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "PAPER",
    "PRESETS",
    "SMALL",
    "UNK",
    "AbstractAttention",
    "AbstractEncoderDecoder",
    "AbstractSegmenter",
    "AdditiveAttention",
    "Annotations",
    "Batch",
    "Batches",
    "Decoder",
    "DecoderState",
    "DotAttention",
    "Encoded",
    "EncodedPairs",
    "Encoder",
    "GatedUnit",
    "Hypothesis",
    "MultiHeadAttention",
    "ParallelText",
    "Preset",
    "RNNEncoderDecoder",
    "RNNSearch",
    "SearchState",
    "SpaceTokenizer",
    "Subwords",
    "TokenLosses",
    "Vocabulary",
    "WordSegmenter",
    "WordTokenizer",
    "batches",
    "batches_in_order",
    "beam_search",
    "check_fingerprint",
    "load_segmenter",
    "translate_ids",
]
