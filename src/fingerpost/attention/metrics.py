"""How good translations are: BLEU, chrF and exact match, with bootstrap intervals over sentences, whole or by length."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fingerpost._lazy import require_extra
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean

TOKENIZERS = ("13a", "none", "intl", "char", "zh")
"""Tokenisers of sacrebleu that neither fetch a file nor need another library."""


@dataclass(frozen=True)
class CorpusScore:
    """A metric of a corpus, 0 to 100, or a difference of two.

    Args:
      score: The value.
      low: Lower end of its bootstrap interval; the score itself without resamples.
      high: Upper end.
      sentences: How many sentences it is of.
      signature: What was computed, as sacrebleu writes it: give it wherever the score is given.
    """

    score: float
    low: float
    high: float
    sentences: int
    signature: str

    @property
    def interval(self) -> tuple[float, float]:
        """The interval alone."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.score:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.sentences} sentences; {self.signature})"


class AbstractCorpusMetric(ABC):
    """A metric that is a function of numbers that add up over sentences, so that a resample costs a sum."""

    name: ClassVar[str]

    @abstractmethod
    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """The numbers of each sentence, (n, k), float64."""

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """The metric, (…,), of numbers summed over sentences, (…, k)."""

    @abstractmethod
    def signature(self) -> str:
        """What is computed."""


class Bleu(AbstractCorpusMetric):
    r"""BLEU of a corpus, by sacrebleu, of the extra "text".

    $\mathrm{BP}\,\exp\bigl(\tfrac14\sum_{n=1}^4 \log p_n\bigr)$, Papineni and others (2002), https://aclanthology.org/P02-1040;
    counts, tokens and signature are sacrebleu's (Post 2018, https://arxiv.org/abs/1804.08771), smoothed as it does by default.

    Args:
      tokenize: One of `TOKENIZERS`: "13a" for text as it is written, "none" for text that is tokenised already.
      lowercase: Whether large and small letters are the same.
    """

    name = "bleu"

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False) -> None:
        library = require_extra("sacrebleu.metrics.bleu", "text", "BLEU")
        if tokenize not in TOKENIZERS:
            raise InvalidValueError(
                f"tokenize is {tokenize!r}; expected one of {', '.join(TOKENIZERS)}, which need no other file"
                f"{did_you_mean(tokenize, TOKENIZERS)}"
            )
        self._make: Any = partial(library.BLEU, tokenize=tokenize, lowercase=lowercase, force=True)
        self._metric = self._make()

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Matching and all n-grams of lengths 1 to 4, and the two lengths in words, (n, 10)."""
        found = [self._metric.corpus_score([h], [[r]]) for h, r in zip(hypotheses, references)]
        return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in found], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        """BLEU of sums (…, 10)."""
        counts, totals, length, wanted = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
        # an order without a match counts as 1/2, the next such as 1/4, …: sacrebleu's "exp"
        empty = (counts == 0) & (totals > 0)
        halved = np.where(empty, 0.5 ** np.cumsum(empty, -1), counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(halved / totals).mean(-1)
            penalty = np.where(length < wanted, np.exp(1 - wanted / length), 1.0)
        whole = (counts.sum(-1) > 0) & (totals > 0).all(-1)
        return np.where(whole, 100 * penalty * np.exp(np.where(whole, logs, 0)), 0.0)

    def signature(self) -> str:
        """What sacrebleu calls it."""
        metric = self._make()
        metric.corpus_score(["a"], [["a"]])  # the number of references is known only then
        return f"BLEU|{metric.get_signature()}"


class Chrf(AbstractCorpusMetric):
    """chrF of a corpus: F_2 of character n-grams of lengths 1 to 6, spaces apart, as sacrebleu has it.

    Popović (2015), https://aclanthology.org/W15-3049; precision and recall are averaged over lengths first.

    Args:
      lowercase: Whether large and small letters are the same.
    """

    name = "chrf"
    order, beta = 6, 2

    def __init__(self, *, lowercase: bool = False) -> None:
        library = require_extra("sacrebleu.metrics.chrf", "text", "chrF")
        self.lowercase = lowercase
        self._make: Any = partial(library.CHRF, lowercase=lowercase)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """n-grams of the hypothesis, of the reference, and in both, for each length, (n, 18)."""
        return np.array([self._counts(h, r) for h, r in zip(hypotheses, references)], dtype=np.float64)

    def _counts(self, hypothesis: str, reference: str) -> list[int]:
        row = []
        for n in range(1, self.order + 1):
            one, other = self._grams(hypothesis, n), self._grams(reference, n)
            row += [one.total() if other else 0, other.total(), (one & other).total()]
        return row

    def _grams(self, line: str, n: int) -> Counter[str]:
        text = "".join((line.lower() if self.lowercase else line).split())
        return Counter(text[i : i + n] for i in range(len(text) - n + 1))

    def score(self, sums: np.ndarray) -> np.ndarray:
        """The chrF of sums (…, 18)."""
        ours, theirs, both = (sums[..., k::3] for k in range(3))
        counted = (ours > 0) & (theirs > 0)
        orders = np.maximum(counted.sum(-1), 1)
        precision = (both / np.where(counted, ours, np.inf)).sum(-1) / orders
        recall = (both / np.where(counted, theirs, np.inf)).sum(-1) / orders
        weight = self.beta**2
        below = weight * precision + recall
        return 100 * (1 + weight) * precision * recall / np.where(below > 0, below, 1.0)

    def signature(self) -> str:
        """What sacrebleu calls it."""
        metric = self._make()
        metric.corpus_score(["a"], [["a"]])
        return f"chrF{self.beta}|{metric.get_signature()}"


class ExactMatch(AbstractCorpusMetric):
    """The share of sentences that equal their reference, runs of spaces being one, in percent.

    Args:
      lowercase: Whether large and small letters are the same.
    """

    name = "exact"

    def __init__(self, *, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Whether they are equal, and 1, (n, 2)."""
        equal = [self._plain(h) == self._plain(r) for h, r in zip(hypotheses, references)]
        return np.stack([np.array(equal, dtype=np.float64), np.ones(len(equal))], 1)

    def _plain(self, line: str) -> str:
        return " ".join((line.lower() if self.lowercase else line).split())

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Percent of sums (…, 2)."""
        return 100 * sums[..., 0] / sums[..., 1]

    def signature(self) -> str:
        """What is computed."""
        return f"exact match|case:{'lc' if self.lowercase else 'mixed'}"


METRICS: dict[str, type[AbstractCorpusMetric]] = {m.name: m for m in (Bleu, Chrf, ExactMatch)}


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> CorpusScore:
    """BLEU with its 95 % bootstrap interval: see `Bleu` and `corpus_score`.

    >>> result = bleu(["the cat sat on the mat"], ["the cat sat on a mat"], resamples=0)
    >>> round(result.score, 2), result.signature.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
    (53.73, True)
    """
    metric = Bleu(tokenize=tokenize, lowercase=lowercase)
    return corpus_score(hypotheses, references, metric, resamples=resamples, seed=seed)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> CorpusScore:
    """The corpus's chrF with its 95 % bootstrap interval: see `Chrf` and `corpus_score`."""
    return corpus_score(hypotheses, references, Chrf(lowercase=lowercase), resamples=resamples, seed=seed)


def exact_match(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> CorpusScore:
    """Percent of sentences that equal their reference, with its bootstrap interval: see `corpus_score`.

    >>> exact_match(["one two", "three"], ["one  two", "four"], resamples=0).score
    50.0
    """
    return corpus_score(
        hypotheses, references, ExactMatch(lowercase=lowercase), resamples=resamples, seed=seed
    )


def corpus_score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    metric: str | AbstractCorpusMetric = "bleu",
    *,
    against: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> CorpusScore:
    """A metric of translations, or the difference of two systems', with a percentile bootstrap interval over sentences.

    Both systems of a difference are resampled together, which is the paired bootstrap of Koehn (2004),
    https://aclanthology.org/W04-3250. The interval says what other test sentences would give, not other trainings.

    Args:
      hypotheses: n translations.
      references: Their n references.
      metric: "bleu", "chrf", "exact", or one with its own options.
      against: Another system's n translations, whose score is taken off.
      resamples: Draws of n sentences with replacement; 0 for no interval.
      level: The interval's level, in (0, 1).
      seed: Seeds the draws.

    Raises:
      ShapeError: If the lists differ in length.
      InvalidTypeError: If one is a text, or holds what is none.
      InvalidValueError: If there are no sentences, a number is out of range, or the metric is not known.
      MissingExtraError: If sacrebleu is needed and not installed.
    """
    chosen = _metric(metric)
    systems = _statistics(chosen, hypotheses, references, against)
    return _scored(chosen, systems, resamples, level, seed)


@dataclass(frozen=True)
class LengthBucket:
    """A metric of the sentences of some lengths.

    Args:
      shortest: Least length.
      longest: Greatest length; None without a limit.
      score: The metric.
      difference: How far it is above another system's, if there is one.
    """

    shortest: int
    longest: int | None
    score: CorpusScore
    difference: CorpusScore | None

    @property
    def label(self) -> str:
        """Its lengths, such as 6–10 or 21+."""
        return f"{self.shortest}+" if self.longest is None else f"{self.shortest}–{self.longest}"


def score_by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    lengths: Sequence[int],
    metric: str | AbstractCorpusMetric = "bleu",
    *,
    edges: Sequence[int] = (5, 10, 15, 20),
    against: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[LengthBucket]:
    """A metric by length of the source: up to the first edge, from there to the next, …, above the last.

    Buckets without a sentence are left out. Intervals are as in `corpus_score`, each within its bucket.

    Args:
      hypotheses: n translations.
      references: Their n references.
      lengths: Length of each source sentence, n, at least 1.
      metric: See `corpus_score`.
      edges: Greatest lengths of the buckets but the last, increasing.
      against: Another system's n translations.
      resamples: Draws; 0 for no interval.
      level: The intervals' level.
      seed: Seeds the draws.

    Raises:
      ShapeError: If the lists differ in length.
      InvalidTypeError: As `corpus_score`.
      InvalidValueError: If edges do not increase, a length is below 1, or as `corpus_score`.

    >>> buckets = score_by_length(["a", "b c d"], ["a", "b c e"], [1, 9], "exact", edges=(5, 10), resamples=0)
    >>> [(bucket.label, bucket.score.score) for bucket in buckets]
    [('1–5', 100.0), ('6–10', 0.0)]
    """
    chosen, sizes = _metric(metric), np.asarray(lengths)
    systems = _statistics(chosen, hypotheses, references, against)
    if sizes.shape != (len(systems[0]),):
        raise ShapeError(f"lengths has shape {sizes.shape} and there are {len(systems[0])} sentences")
    if sizes.min() < 1:
        raise InvalidValueError(f"lengths has {sizes.min()}; a sentence has at least 1 word")
    if not len(edges) or list(edges) != sorted(set(edges)) or edges[0] < 1:
        raise InvalidValueError(f"edges is {tuple(edges)}; expected increasing lengths from 1 up")
    buckets = []
    for shortest, longest in zip([1, *(edge + 1 for edge in edges)], [*edges, None]):
        rows = (sizes >= shortest) & (sizes <= (np.inf if longest is None else longest))
        if rows.any():
            within = [statistics[rows] for statistics in systems]
            score = _scored(chosen, within[:1], resamples, level, seed)
            difference = _scored(chosen, within, resamples, level, seed) if against is not None else None
            buckets.append(LengthBucket(shortest, longest, score, difference))
    return buckets


def perplexity(total: float, count: int) -> float:
    """The exponential of the mean of −log p over words.

    Args:
      total: Σ −log p, in nats, as `TokenLosses.total`.
      count: Number of words, end of sentence among them, as `TokenLosses.count`.

    Raises:
      InvalidValueError: If there are no words.

    >>> round(perplexity(2 * math.log(8.0), 2), 9)
    8.0
    """
    if count < 1:
        raise InvalidValueError(f"count is {count}; a perplexity needs at least one word")
    mean = float(total) / count
    return math.exp(mean) if mean < 709 else math.inf


def _metric(metric: str | AbstractCorpusMetric) -> AbstractCorpusMetric:
    if isinstance(metric, AbstractCorpusMetric):
        return metric
    if metric not in METRICS:
        raise InvalidValueError(
            f"metric is {metric!r}; expected one of {', '.join(METRICS)}{did_you_mean(str(metric), METRICS)}"
        )
    return METRICS[metric]()


def _statistics(
    metric: AbstractCorpusMetric,
    hypotheses: Sequence[str],
    references: Sequence[str],
    against: Sequence[str] | None,
) -> list[np.ndarray]:
    """Each system's numbers."""
    lists = {"hypotheses": hypotheses, "references": references}
    if against is not None:
        lists["against"] = against
    for name, lines in lists.items():
        if isinstance(lines, str) or not all(isinstance(line, str) for line in lines):
            raise InvalidTypeError(f"{name} must be a list of texts, one for each sentence")
        if len(lines) != len(references):
            raise ShapeError(f"{name} has {len(lines)} sentences and references {len(references)}")
    if not len(references):
        raise InvalidValueError("a score needs at least one sentence")
    return [metric.statistics(lines, references) for name, lines in lists.items() if name != "references"]


def _scored(
    metric: AbstractCorpusMetric, systems: Sequence[np.ndarray], resamples: int, level: float, seed: int
) -> CorpusScore:
    """The first system's score, less the second's if there are two."""
    if resamples < 0 or not 0 < level < 1 or seed < 0:
        raise InvalidValueError(
            f"resamples is {resamples}, level {level} and seed {seed}; expected resamples and seed of 0 or more, and a level "
            "between 0 and 1"
        )

    def value(weights: np.ndarray) -> np.ndarray:
        scores = [metric.score(weights @ statistics) for statistics in systems]
        return scores[0] if len(scores) == 1 else scores[0] - scores[1]

    n = len(systems[0])
    score = float(value(np.ones((1, n)))[0])
    low = high = score
    if resamples:
        draw = np.random.default_rng(seed)
        drawn = [value(draw.multinomial(n, np.full(n, 1 / n), size)) for size in _parts(resamples, n)]
        low, high = map(float, np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2]))
    signature = metric.signature() + (f"|bs:{resamples}|seed:{seed}" if resamples else "")
    return CorpusScore(score, low, high, n, signature)


def _parts(resamples: int, n: int) -> list[int]:
    """How many resamples to draw at once: a few million counts."""
    most = max(1, 4_000_000 // n)
    return [min(most, resamples - start) for start in range(0, resamples, most)]
