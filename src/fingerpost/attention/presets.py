"""Sizes, starting values and training settings that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from fingerpost.attention.decoder import ReadoutState
from fingerpost.attention.units import Reset


@dataclass(frozen=True)
class Preset:
    """A model's sizes, how its parameters start, and how it is trained.

    Args:
      embedding: Numbers of a word's embedding, m.
      hidden: Numbers of a state, n, in each direction of the encoder and in the decoder.
      attention: Numbers of the alignment layer, n'.
      maxout: Numbers of the deep output, l.
      reset: See `GatedUnit`.
      readout_state: See `Decoder`.
      dropout: See `Decoder`.
      weight_std: Standard deviation of every matrix but the recurrent ones, which are orthogonal; None draws each matrix
        by Glorot and Bengio (2010), normalised uniform, and embeddings with standard deviation 1/√m.
      alignment_std: Standard deviation of W_a and U_a; None treats them as the others. Where it is given, v_a starts at 0.
      optimizer: "adadelta" or "adam".
      learning_rate: Its step size.
      decay: Adadelta's ρ; None for Adam.
      epsilon: Adadelta's or Adam's ε.
      gradient_norm: What the gradient's norm is clipped to.
      batch: Sentences of a batch.
      sorted_batches: Batches that are read at once and sorted by length.
    """

    embedding: int
    hidden: int
    attention: int
    maxout: int
    reset: Reset
    readout_state: ReadoutState
    dropout: float
    weight_std: float | None
    alignment_std: float | None
    optimizer: str
    learning_rate: float
    decay: float | None
    epsilon: float
    gradient_norm: float
    batch: int
    sorted_batches: int


PAPER = Preset(
    embedding=620,
    hidden=1000,
    attention=1000,
    maxout=500,
    reset="before",
    readout_state="previous",
    dropout=0.0,
    weight_std=0.01,
    alignment_std=0.001,
    optimizer="adadelta",
    learning_rate=1.0,
    decay=0.95,
    epsilon=1e-6,
    gradient_norm=1.0,
    batch=80,
    sorted_batches=20,
)
"""Appendices A and B of Bahdanau, Cho and Bengio (2014), https://arxiv.org/abs/1409.0473: for hundreds of millions of words."""

SMALL = Preset(
    embedding=256,
    hidden=256,
    attention=256,
    maxout=256,
    reset="before",
    readout_state="current",
    dropout=0.3,
    weight_std=None,
    alignment_std=None,
    optimizer="adam",
    learning_rate=1e-3,
    decay=None,
    epsilon=1e-8,
    gradient_norm=1.0,
    batch=64,
    sorted_batches=20,
)
"""For 10⁵ to 10⁷ parameters and tens of thousands of sentences, where the paper's start and Adadelta are far too slow."""

PRESETS: dict[str, Preset] = {"paper": PAPER, "small": SMALL}
