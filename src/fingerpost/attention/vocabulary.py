"""Ids that every vocabulary of this system shares."""

from __future__ import annotations

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Padding, an unknown word, the beginning that a decoder is fed first, and the end of a sentence."""
