"""A picture of an alignment, as SVG without any library: every script has its glyphs where it is looked at."""

from __future__ import annotations

import html
from collections.abc import Sequence

from torch import Tensor

CELL, SIZE, ROOM = 18, 12, 7.2
"""Points of a cell, of a letter, and of a letter's width."""


def alignment_svg(alignment: Tensor, source_words: Sequence[str], target_words: Sequence[str]) -> str:
    """A matrix of weights with source words above and target words on the left: the darker, the larger.

    Fig. 3 of Bahdanau, Cho and Bengio (2014), https://arxiv.org/abs/1409.0473, is drawn this way, with white for 1.

    Args:
      alignment: Weights α_ij in [0, 1], shape (target words, source words).
      source_words: Labels of the columns.
      target_words: Labels of the rows.

    Returns:
      The text of an SVG file.

    >>> import torch
    >>> picture = alignment_svg(torch.eye(2), ["a", "<b>"], ["c", "d"])
    >>> picture[:4], picture.count("<rect"), "&lt;b&gt;" in picture
    ('<svg', 4, True)
    """
    left = round(ROOM * max(map(len, target_words), default=0)) + 8
    top = round(ROOM * max(map(len, source_words), default=0)) + 8
    width, height = left + CELL * len(source_words) + 2, top + CELL * len(target_words) + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{SIZE}">',
        f'<path d="M0 0h{width}v{height}H0z" fill="#fff"/>',
    ]
    for j, word in enumerate(source_words):
        x = left + CELL * j + 13
        parts.append(f'<text transform="translate({x} {top - 4}) rotate(-90)">{_escaped(word)}</text>')
    for i, (word, row) in enumerate(zip(target_words, alignment.tolist())):
        y = top + CELL * i
        parts.append(f'<text x="{left - 4}" y="{y + 13}" text-anchor="end">{_escaped(word)}</text>')
        for j, weight in enumerate(row):
            parts.append(
                f'<rect x="{left + CELL * j}" y="{y}" width="{CELL}" height="{CELL}" stroke="#ddd" '
                f'fill="#08306b" fill-opacity="{weight:.3f}"><title>{weight:.3f}</title></rect>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _escaped(word: str) -> str:
    return html.escape("".join(letter if letter.isprintable() else "�" for letter in word))
