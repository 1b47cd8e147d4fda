"""Learning signals through alignment: the encoder–decoder that searches its source, and the one that cannot."""

from __future__ import annotations

from fingerpost.attention._search_model import translate_ids
from fingerpost.attention.beam import Hypothesis, SearchState, beam_search
from fingerpost.attention.decoder import Decoder, DecoderState, Encoded
from fingerpost.attention.encoder import Annotations, Encoder
from fingerpost.attention.models import AbstractEncoderDecoder, RNNEncoderDecoder, RNNSearch, TokenLosses
from fingerpost.attention.presets import PAPER, PRESETS, SMALL, Preset
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention, DotAttention, MultiHeadAttention
from fingerpost.attention.units import GatedUnit
from fingerpost.attention.vocabulary import BOS, EOS, PAD, UNK

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
    "AdditiveAttention",
    "Annotations",
    "Decoder",
    "DecoderState",
    "DotAttention",
    "Encoded",
    "Encoder",
    "GatedUnit",
    "Hypothesis",
    "MultiHeadAttention",
    "Preset",
    "RNNEncoderDecoder",
    "RNNSearch",
    "SearchState",
    "TokenLosses",
    "beam_search",
    "translate_ids",
]
