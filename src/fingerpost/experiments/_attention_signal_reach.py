"""How much gradient each target word sends to each source word, and how it falls with distance and with length."""

from __future__ import annotations

import copy
from typing import Any

from fingerpost._lazy import lazy_import

torch = lazy_import("torch")

TINY = 1e-300
ROWS = 128
"""Most sentences in a batch, so that memory is bounded."""
LEAST = 1e-15
"""Smallest 1 − p that float64 can tell from 0."""
STATES = ("start", "trained")


def in_double(model: Any) -> Any:
    """A copy on the processor in float64, with dropout off: gradients fall below what float32 holds."""
    return copy.deepcopy(model).cpu().double().eval()


def norms(model: Any, source: Any, target: Any) -> tuple[Any, Any]:
    """‖∂ log p(y_i)/∂x_j‖ by the embeddings x_j of source words.

    Sentences of a batch have nothing to do with each other: with each as often in it as it has words, one pass back gives
    every word its own gradient. A word that the model is sure of has hardly any gradient left, whatever source word it
    looks at; the gradient of its log-odds, log p/(1 − p), is the same over 1 − p and keeps its size.

    Args:
      model: A model.
      source: Ids (B, S), all of one length.
      target: Ids (B, T), all of one length.

    Returns:
      The norms for log p, (B, T, S); and 1 − p of each word, (B, T).
    """
    rows, unsure, per = [], [], max(1, ROWS // len(source))
    for first in range(0, target.shape[1], per):
        places = torch.arange(first, min(first + per, target.shape[1]))
        again, so_far = len(places), target[:, : first + per]  # a word does not depend on those after it
        many = source.repeat_interleave(again, 0)
        embeddings = model.encoder.embedding(many).detach().requires_grad_()
        logs = model.log_probs(many, so_far.repeat_interleave(again, 0), source_embeddings=embeddings)
        logs = logs.gather(1, places.repeat(len(source))[:, None])[:, 0]
        (found,) = torch.autograd.grad(logs.sum(), embeddings)
        rows.append(found.norm(dim=-1).unflatten(0, (len(source), again)))
        unsure.append(-torch.expm1(logs.detach()).unflatten(0, (len(source), again)))
    return torch.cat(rows, 1), torch.cat(unsure, 1)


def steps_to_context(kind: str, words: int) -> Any:
    """Fewest steps of an encoder's unit between each source word and what every target word reads, (words,).

    The end of a sentence is one more word. The fixed context is →h of the end, and ←h of the first word beside it if the
    encoder reads back too; it enters every output, so that no step of the decoder is added. With attention each annotation
    is read itself: None, as there are no steps.
    """
    onward = words - torch.arange(words)
    if kind == "search":
        return None
    return onward if kind == "encdec" else torch.minimum(onward, torch.arange(words))


def slope(values: Any, x: Any, within: int) -> float:
    """Least squares slope of values (B, T, S) on x (T, S), with a level of its own for each row (−1) or column (−2)."""
    x = x.to(values.dtype)
    x = x - x.mean(within, keepdim=True)
    centred = values - values.mean(within, keepdim=True)
    return float((centred * x).sum((1, 2)).mean() / x.square().sum())


def curve(values: Any, distance: Any, size: int) -> list[float]:
    """Means of values (B, T, S) over all pairs at distance 0, 1, …, size − 1 (T, S)."""
    flat, at = values.mean(0).flatten(), distance.flatten()
    total = torch.zeros(size, dtype=flat.dtype).index_add_(0, at, flat)
    return (total / torch.bincount(at, minlength=size).clamp_min(1)).tolist()


def reach(model: Any, kind: str, made: Any) -> dict[str, Any]:
    """What arrives, over sentences of one length n in one order; ends of sentences enter the map and the share alone.

    Returns:
      ``true``: mean log-norm at the true source word, of the log-odds; ``raw``: the same of log p; ``share``: mean share of
      the true word in the squared norm of the gradient by all source words, ``near``: of the true word and its neighbours;
      ``top``: how often its gradient is the largest, ``alpha``: how often its weight is (None without); ``slopes`` of the
      log-norm: ``path`` on `steps_to_context` (None with attention), ``end`` on words to the end and ``apart`` on words from
      the true one, all within a target word, and ``decoder`` on the target word's place within a source word; ``by_end`` and
      ``by_apart``: mean log-norms by these distances, from 1 and from 0; ``map``: mean log share of the squared norm,
      (n + 1, n + 1).
    """
    source, target, alignment = (torch.tensor(rows) for rows in (made.source, made.target, made.alignment))
    model = in_double(model)
    found, unsure = norms(model, source, target)
    logs = found.clamp_min(TINY).log()
    odds = logs - unsure.clamp_min(LEAST).log().unsqueeze(-1)
    n = source.shape[1] - 1
    squared = found.square()
    shares = squared / squared.sum(-1, keepdim=True).clamp_min(TINY)
    truth = alignment.unsqueeze(-1)
    words, places = odds[:, :n, :n], torch.arange(n)
    apart = (alignment[0, :n, None] - places).abs()
    to_end, path = (n - places).expand(n, n), steps_to_context(kind, n)
    return {
        "true": float(odds.gather(-1, truth)[:, :n].mean()),
        "raw": float(logs.gather(-1, truth)[:, :n].mean()),
        "share": float(shares.gather(-1, truth)[:, :n].mean()),
        "near": float((shares[:, :n, :n] * (apart <= 1)).sum(-1).mean()),
        "top": _hits(found, alignment),
        "alpha": _hits(model.alignments(source, target), alignment) if kind == "search" else None,
        "slopes": {
            "path": None if path is None else slope(words, path.expand(n, n), -1),
            "end": slope(words, to_end, -1),
            "apart": slope(words, apart, -1),
            "decoder": slope(words, places[:, None].expand(n, n), -2),
        },
        "by_end": curve(words, to_end, n + 1)[1:],
        "by_apart": curve(words, apart, n),
        "map": shares.clamp_min(TINY).log().mean(0).tolist(),
    }


def _hits(values: Any, alignment: Any) -> float:
    """How often the largest of values (B, T, S) is the true word's, ends of sentences apart."""
    return float((values.argmax(-1) == alignment)[:, :-1].double().mean())


def fitted(values: Any, lengths: Any) -> float:
    """Least squares slope of values on lengths."""
    x = torch.tensor(lengths, dtype=torch.float64)
    y = torch.tensor(values, dtype=torch.float64)
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())
