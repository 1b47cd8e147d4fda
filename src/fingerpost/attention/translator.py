"""Lines in, lines out: a model, its two segmenters and beam search."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fingerpost.attention import _search_files as files
from fingerpost.attention._checks import check_sizes
from fingerpost.attention._search_model import translate_ids
from fingerpost.attention.beam import Hypothesis
from fingerpost.attention.models import AbstractEncoderDecoder
from fingerpost.attention.segmenters import AbstractSegmenter, check_lines, load_segmenter
from fingerpost.attention.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, check_fingerprint
from fingerpost.errors import InvalidValueError


@dataclass(frozen=True)
class SearchOptions:
    """How a `Translator` searches: `PAPER_SEARCH` and `ORIGINAL_SEARCH` are two of them.

    Args:
      width: Hypotheses of a sentence; the paper names no number.
      shrink: Whether an output takes a place from the beam: see `beam_search`.
      unknown: Whether outputs may have unknown words. The paper leaves them out where it compares sentences without any.
      normalize: Whether outputs are ordered by their sum over their "length".
      minimum: Least number of words before the end, as a multiple of |x|, rounded down; |x| counts the end.
      maximum: Most words with the end, as a multiple of |x|, rounded up; None is 2 |x| + 20.
      retry: Whether a sentence for which no output ended is searched again with unknown words.
    """

    width: int = 5
    shrink: bool = True
    unknown: bool = False
    normalize: Literal[False, "length"] = False
    minimum: float = 0.0
    maximum: float | None = None
    retry: bool = False

    def __post_init__(self) -> None:
        check_sizes(width=self.width)
        if not 0 <= self.minimum < math.inf:
            raise InvalidValueError(f"minimum is {self.minimum}; expected a multiple of |x|, at least 0")
        if self.maximum is not None and not self.minimum < self.maximum < math.inf:
            raise InvalidValueError(
                f"maximum is {self.maximum}; expected a multiple of |x|, above the minimum {self.minimum}"
            )

    def limits(self, lengths: list[int]) -> dict[str, list[int]]:
        """The limits of sentences of these lengths, their end counted, as `beam_search` takes them."""
        least = [math.floor(self.minimum * n) for n in lengths]
        if self.maximum is None:
            most = [2 * n + 20 for n in lengths]
        else:
            most = [math.ceil(self.maximum * n) for n in lengths]
        return {
            "minimum_length": least,
            "max_length": [max(low + 1, high) for low, high in zip(least, most)],
        }


PAPER_SEARCH = SearchOptions()
"""As the paper says, and no more."""
ORIGINAL_SEARCH = SearchOptions(minimum=0.5, maximum=3.0, retry=True)
"""With what its authors' code adds: see `beam_search`."""


class Translation(NamedTuple):
    """A line translated.

    `score` is Σ log p of the words of the best output. `alignment` (target words, source words) has the weight of each source
    word in each target word, None without attention; `source_words` and `target_words` label it, the ends `</s>` among
    them. `complete` is False where the output was cut at its maximum; a line that no output was found for is empty, with a
    score of −∞.
    """

    text: str
    score: float
    alignment: Tensor | None
    source_words: tuple[str, ...]
    target_words: tuple[str, ...]
    complete: bool


class Translator:
    """A model that translates lines.

    Args:
      model: An `RNNSearch` or `RNNEncoderDecoder`.
      source_segmenter: What cuts its source lines into ids.
      target_segmenter: What makes lines of its ids.

    Raises:
      InvalidValueError: If a segmenter has another number of ids than the model.

    >>> from fingerpost.attention import RNNSearch, WordSegmenter
    >>> _ = torch.manual_seed(0)
    >>> english, french = WordSegmenter.train(["one two three"]), WordSegmenter.train(["un deux trois"])
    >>> model = RNNSearch(english.size, french.size, embedding=8, hidden=8, attention=8, maxout=8)
    >>> (found,) = Translator(model, english, french).translate(["two one"], maximum=1.0)
    >>> found.source_words, found.alignment.shape == (len(found.target_words), 3)
    (('two', 'one', '</s>'), True)
    """

    def __init__(
        self,
        model: AbstractEncoderDecoder,
        source_segmenter: AbstractSegmenter,
        target_segmenter: AbstractSegmenter,
    ) -> None:
        sizes = model.encoder.embedding.num_embeddings, model.decoder.embedding.num_embeddings
        for name, size, segmenter in zip(("source", "target"), sizes, (source_segmenter, target_segmenter)):
            if segmenter.size != size:
                raise InvalidValueError(
                    f"the {name} segmenter has {segmenter.size} ids and the model {size}: is it from another run?"
                )
        self.model, self.source_segmenter, self.target_segmenter = model, source_segmenter, target_segmenter

    def translate(
        self,
        lines: Iterable[str],
        options: SearchOptions = PAPER_SEARCH,
        *,
        batch: int = 64,
        **changes: Any,
    ) -> list[Translation]:
        """The best output for every line; a line of spaces stays empty.

        Args:
          lines: Lines of source text.
          options: How to search.
          batch: Lines that are searched at once, those of like lengths together. It changes no result beyond rounding.
          changes: Options that take precedence, such as ``width=12``.

        Raises:
          InvalidTypeError: If a line is no text, or `lines` is one.
          InvalidValueError: If an option is out of range.
          NumericalError: If the model gives probabilities that are no numbers.
        """
        check_sizes(batch=batch)
        options = replace(options, **_known(changes)) if changes else options
        lines = list(check_lines(lines))
        found = [Translation("", 0.0, None, (), (), True) for _ in lines]
        ids = {i: self.source_segmenter.encode(line) for i, line in enumerate(lines) if line.strip()}
        order = sorted(ids, key=lambda i: len(ids[i]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            for i, those in zip(chosen, self._search([ids[i] for i in chosen], options)):
                found[i] = self._translation(lines[i], those)
        return found

    def save(self, folder: str | Path) -> Path:
        """Writes model and segmenters into a folder, ``translator.json`` and ``translator.safetensors``.

        Raises:
          InvalidTypeError: If the model is of a class, or has an attention, that a file cannot describe.
        """
        sides = (("source", self.source_segmenter), ("target", self.target_segmenter))
        facts = {name: {"fingerprint": side.fingerprint, "state": side.state} for name, side in sides}
        files.write(Path(folder), facts, self.model)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Translator:
        """Reads what `save` wrote, from its folder or from the folder of a run that holds one; nothing is unpickled.

        Raises:
          InvalidValueError: If there is none or more than one, or it is damaged, or put together from two runs.
        """
        facts, model = files.read(_folder(Path(folder).expanduser()))
        sides = []
        for name in ("source", "target"):
            side = facts.get(name)
            if not isinstance(side, dict) or "state" not in side:
                raise InvalidValueError(f"{folder} has no {name} segmenter; it was cut or changed")
            sides.append(load_segmenter(side["state"]))
            check_fingerprint(name, sides[-1].fingerprint, str(side.get("fingerprint")))
        return cls(model, *sides)

    def _search(self, sentences: list[list[int]], options: SearchOptions) -> list[list[Hypothesis]]:
        device = self.model.encoder.embedding.weight.device
        lengths = list(map(len, sentences))
        source = torch.full((len(sentences), max(lengths)), PAD)
        for row, ids in zip(source, sentences):
            row[: len(ids)] = torch.tensor(ids)
        return translate_ids(
            self.model,
            source.to(device),
            width=options.width,
            shrink=options.shrink,
            exclude=(PAD, BOS) if options.unknown else (PAD, BOS, UNK),
            normalize=options.normalize,
            retry=(UNK,) if options.retry else False,
            **options.limits(lengths),
        )

    def _translation(self, line: str, found: list[Hypothesis]) -> Translation:
        source = (*self.source_segmenter.split(line), SPECIAL[EOS])
        if not found:
            return Translation("", -math.inf, None, source, (), False)
        best = found[0]
        end = (SPECIAL[EOS],) if best.complete else ()
        target = (*self.target_segmenter.pieces(best.ids), *end)
        text = self.target_segmenter.decode(best.ids)
        alignment = None if best.alignment is None else best.alignment.cpu()
        return Translation(text, best.score, alignment, source, target, best.complete)


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    known = list(SearchOptions.__dataclass_fields__)
    for name in changes:
        if name not in known:
            raise InvalidValueError(f"there is no option {name!r} of a search; there are {', '.join(known)}")
    return changes


def _folder(given: Path) -> Path:
    """Where the one translator in a folder is."""
    if (given / files.FACTS).is_file():
        return given
    if not given.is_dir():
        raise InvalidValueError(
            f"there is no folder {str(given)!r}; give one that Translator.save wrote, or a run"
        )
    inside = sorted(path.parent for path in given.glob(f"*/{files.FACTS}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(path) for path in inside)
        raise InvalidValueError(f"{given} has {len(inside)} translators: name one of {names}")
    raise InvalidValueError(f"{given} has no translator: no {files.FACTS} in it, nor in a folder inside")
