"""Learning signals through alignment: the encoder–decoder that searches its source, and the one that cannot."""

from __future__ import annotations

from fingerpost.attention._search_model import translate_ids
from fingerpost.attention._search_picture import alignment_svg
from fingerpost.attention.alignments import (
    AlignmentScore,
    Coverage,
    alignment_entropy,
    alignment_error,
    coverage,
    monotonicity,
)
from fingerpost.attention.batches import Batch, Batches, EncodedPairs, batches, batches_in_order
from fingerpost.attention.beam import Hypothesis, SearchState, beam_search
from fingerpost.attention.decoder import Decoder, DecoderState, Encoded
from fingerpost.attention.encoder import Annotations, Encoder
from fingerpost.attention.metrics import (
    AbstractCorpusMetric,
    Bleu,
    Chrf,
    CorpusScore,
    ExactMatch,
    LengthBucket,
    bleu,
    chrf,
    corpus_score,
    exact_match,
    perplexity,
    score_by_length,
)
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
from fingerpost.attention.translator import (
    ORIGINAL_SEARCH,
    PAPER_SEARCH,
    SearchOptions,
    Translation,
    Translator,
)
from fingerpost.attention.units import GatedUnit
from fingerpost.attention.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, check_fingerprint

__all__ = [
    "BOS",
    "EOS",
    "ORIGINAL_SEARCH",
    "PAD",
    "PAPER",
    "PAPER_SEARCH",
    "PRESETS",
    "SMALL",
    "UNK",
    "AbstractAttention",
    "AbstractCorpusMetric",
    "AbstractEncoderDecoder",
    "AbstractSegmenter",
    "AdditiveAttention",
    "AlignmentScore",
    "Annotations",
    "Batch",
    "Batches",
    "Bleu",
    "Chrf",
    "CorpusScore",
    "Coverage",
    "Decoder",
    "DecoderState",
    "DotAttention",
    "Encoded",
    "EncodedPairs",
    "Encoder",
    "ExactMatch",
    "GatedUnit",
    "Hypothesis",
    "LengthBucket",
    "MultiHeadAttention",
    "ParallelText",
    "Preset",
    "RNNEncoderDecoder",
    "RNNSearch",
    "SearchOptions",
    "SearchState",
    "SpaceTokenizer",
    "Subwords",
    "TokenLosses",
    "Translation",
    "Translator",
    "Vocabulary",
    "WordSegmenter",
    "WordTokenizer",
    "alignment_entropy",
    "alignment_error",
    "alignment_svg",
    "batches",
    "batches_in_order",
    "beam_search",
    "bleu",
    "check_fingerprint",
    "chrf",
    "corpus_score",
    "coverage",
    "exact_match",
    "load_segmenter",
    "monotonicity",
    "perplexity",
    "score_by_length",
    "translate_ids",
]
