"""Subwords learnt from text by sentencepiece: no word is unknown, rare ones are spelled in parts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fingerpost._lazy import require_extra
from fingerpost.attention.segmenters import AbstractSegmenter, check_lines
from fingerpost.attention.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, fingerprint_of, until_end
from fingerpost.errors import InvalidValueError

KINDS = ("bpe", "unigram")


class Subwords(AbstractSegmenter):
    """Pieces of words, learnt from text: needs sentencepiece, of the extra "text".

    Byte-pair encoding is Sennrich, Haddow and Birch (2016), https://arxiv.org/abs/1508.07909; the unigram model is Kudo (2018),
    https://arxiv.org/abs/1804.10959; the library is Kudo and Richardson (2018), https://arxiv.org/abs/1808.06226. Spaces are
    part of pieces, written ▁, so that no tokenising is needed; runs of spaces become one and characters are brought into the
    form NFKC. A character that was not in the text is UNK, unless bytes stand in.

    Args:
      model: A model of sentencepiece, as bytes, with PAD, UNK, BOS and EOS as ids 0 to 3.
      lower: Whether to make all letters small first.

    Raises:
      InvalidValueError: If it is no such model.
      MissingExtraError: If sentencepiece is not installed.

    >>> lines = ["the cat sat on the mat", "the hat of the cat", "that is the mat"]
    >>> subwords = Subwords.train(lines, 24)
    >>> subwords.split("the mats")
    ['▁the', '▁m', 'at', 's']
    >>> subwords.decode(subwords.encode("the mats"))
    'the mats'
    """

    def __init__(self, model: bytes, *, lower: bool = False) -> None:
        library = require_extra("sentencepiece", "text", "subwords")
        try:
            self._processor = library.SentencePieceProcessor(model_proto=model)
            size = self._processor.get_piece_size()
        except (RuntimeError, TypeError) as error:
            raise InvalidValueError(f"this is no model of sentencepiece: {error}") from None
        p = self._processor
        found = (p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id())
        if found != (PAD, UNK, BOS, EOS):
            raise InvalidValueError(
                f"this model of sentencepiece has ids {found} for padding, unknown, beginning and end; expected "
                f"{(PAD, UNK, BOS, EOS)}: train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3, or by Subwords.train"
            )
        self.model, self.lower, self._size = bytes(model), lower, size

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        size: int,
        kind: Literal["bpe", "unigram"] = "bpe",
        *,
        lower: bool = False,
        bytes_for_unknown: bool = False,
    ) -> Subwords:
        """Learns pieces from lines, in memory; the same lines give the same pieces.

        Args:
          lines: The text. Empty lines are passed over.
          size: Number of ids in all, the four shared ones among them.
          kind: "bpe" or "unigram".
          lower: Whether to make all letters small first.
          bytes_for_unknown: Whether a character that is not in the text is spelled in UTF-8 bytes, for which 256 ids are kept.

        Raises:
          InvalidTypeError: If a line is no text.
          InvalidValueError: If there is no text, or the size does not fit it; the message says which sizes do.
          MissingExtraError: If sentencepiece is not installed.
        """
        library = require_extra("sentencepiece", "text", "subwords")
        if kind not in KINDS:
            raise InvalidValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
        if size <= len(SPECIAL):
            raise InvalidValueError(f"size is {size}; it must be above the {len(SPECIAL)} shared ids")
        text = [line.lower() if lower else line for line in check_lines(lines) if line.strip()]
        if not text:
            raise InvalidValueError("there is no text to learn subwords from: every line is empty")
        written = io.BytesIO()
        try:
            library.SentencePieceTrainer.train(
                sentence_iterator=iter(text),
                model_writer=written,
                vocab_size=size,
                model_type=kind,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                pad_piece=SPECIAL[PAD],
                unk_surface=SPECIAL[UNK],
                byte_fallback=bytes_for_unknown,
                character_coverage=1.0,
                max_sentence_length=1 + max(len(line.encode()) for line in text),  # longer ones are dropped
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise InvalidValueError(_why(size, kind, len(text), str(error))) from None
        return cls(written.getvalue(), lower=lower)

    @classmethod
    def load(cls, path: str | Path, *, lower: bool = False) -> Subwords:
        """Reads a model file of sentencepiece.

        Raises:
          InvalidValueError: If there is no such file, or it is no model with the ids that this system shares.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise InvalidValueError(f"there is no file {str(path)!r}")
        return cls(file.read_bytes(), lower=lower)

    def save(self, path: str | Path) -> None:
        """Writes the model file; `lower` is not in it."""
        Path(path).write_bytes(self.model)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._size

    def split(self, line: str) -> list[str]:
        """The pieces of a line, ▁ for a space."""
        return self._processor.encode(line.lower() if self.lower else line, out_type=str)

    def encode(self, line: str) -> list[int]:
        """The ids of a line's pieces, EOS at the end."""
        return [*self._processor.encode(line.lower() if self.lower else line), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The line of ids, `<unk>` for UNK.

        Raises:
          InvalidValueError: If an id is not one of the model's.
        """
        return self._processor.decode(until_end(ids, self.size))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id but EOS, PAD and BOS.

        Raises:
          InvalidValueError: If an id is not one of the model's.
        """
        return [self._processor.id_to_piece(i) for i in until_end(ids, self.size)]

    @property
    def state(self) -> dict[str, Any]:
        """What JSON can hold and `load_segmenter` reads."""
        model = base64.b64encode(self.model).decode("ascii")
        return {"kind": "subwords", "model": model, "lower": self.lower}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Subwords:
        """The subwords of a `state`."""
        return cls(base64.b64decode(state["model"]), lower=state["lower"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the state."""
        return fingerprint_of(self.state)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "lower": self.lower}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"], lower=state["lower"])

    def __repr__(self) -> str:
        return f"Subwords({self.size} ids, lower={self.lower}, fingerprint {self.fingerprint[:12]})"


def _why(size: int, kind: str, lines: int, message: str) -> str:
    """What the library says, without its place in the source, and what to do."""
    reason = message.rpartition("] ")[2].strip()
    if "smaller than required_chars" in reason:
        need = reason.partition(" vs ")[2].partition(".")[0]
        return (
            f"{size} subwords are too few: the different characters of this text and the shared ids are {need} already; "
            f"ask for {need} or more"
        )
    if "too high" in reason:
        most = reason.rpartition("<= ")[2].rstrip(".")
        return f"{size} subwords are too many for a text of {lines} lines: {kind} finds at most {most} in it"
    return f"sentencepiece can't learn {size} subwords from {lines} lines: {reason or message}"
