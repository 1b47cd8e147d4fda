"""What is measured of a trained model: alignments against the truth, words that agree, and what annotations have read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fingerpost import attention
from fingerpost.experiments._attention_alignment_tasks import Agreement
from fingerpost.experiments._permutations import Task
from fingerpost.experiments._translation import CHUNK

REACH = 3
"""Places from the truth that are told apart: beyond, they count as so many."""
OFFSETS = range(-REACH, REACH + 1)


def padded(rows: Sequence[Sequence[int]], device: str) -> Tensor:
    """Ids (B, longest), 0 behind the end."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[attention.PAD] * (longest - len(row))] for row in rows], device=device)


def forced(model: Any, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, T, S) and likeliest words (B, T) along given target words; at padding they mean nothing."""
    weights, likeliest = [], []
    with torch.no_grad():
        encoded = model.encode(source)
        state, previous = encoded.initial, torch.full_like(target[:, 0], attention.BOS)
        for column in target.unbind(1):
            log_probs, state, by = model.step(encoded, state, previous)
            weights.append(by)
            likeliest.append(log_probs.argmax(1))
            previous = column
    return torch.stack(weights, 1).cpu(), torch.stack(likeliest, 1).cpu()


# orders of the words


def aligned(weights: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Each sentence's scores of weights (B, T, S) on the true places (B, T), without the ending signals.

    Returns:
      ``error`` and ``mass`` as `alignment_error` has them; ``near_error`` and ``near_mass`` where a neighbour of the right word
      counts as right; ``entropy`` over log S; ``tau``, Kendall's τ of the largest weights, ``soft_tau`` of all, and
      ``true_tau`` of the truth; ``missed`` and ``repeated``; ``offsets``, shares of the distances of the largest weight
      from the truth, (B, 7); ``lagging`` and ``leading``, shares of words whose largest weight is on the right word of the
      target word before them, or behind them.
    """
    words = weights.shape[-1]
    score = attention.alignment_error(weights, truth)
    looked = weights.argmax(-1)
    apart = looked - truth
    near = (torch.arange(words) - truth[..., None]).abs() <= 1
    entropy = attention.alignment_entropy(weights, source_lengths=torch.full((len(weights),), words))
    mask = torch.zeros(len(weights), words, dtype=torch.bool).scatter_(1, truth, True)
    read = attention.coverage(weights, source_mask=mask)
    offsets = F.one_hot(apart.clamp(-REACH, REACH) + REACH, len(OFFSETS)).double().mean(1)
    lagging, leading = looked[:, 1:] == truth[:, :-1], looked[:, :-1] == truth[:, 1:]
    largest, true = (F.one_hot(places, words).double() for places in (looked, truth))
    return {
        "error": score.error,
        "mass": score.mass,
        "near_error": (apart.abs() > 1).double().mean(1),
        "near_mass": (weights * near).sum(-1).mean(1),
        "entropy": entropy,
        "tau": attention.monotonicity(largest),
        "soft_tau": attention.monotonicity(weights),
        "true_tau": attention.monotonicity(true),
        "missed": read.missed,
        "repeated": read.repeated,
        "offsets": offsets,
        "lagging": lagging.double().mean(1),
        "leading": leading.double().mean(1),
    }


def scored_orders(model: Any, tests: Task, beam: int, device: str) -> list[dict[str, Any]]:
    """Means over sentences of one length, for each order among them; with exact matches, and scores along own outputs.

    An output's word belongs to the source word of which it is the translation: there is one, as words are distinct. Those that
    translate no word of the source are counted as `strange` and not scored.
    """
    source, target = padded(tests.source, device), padded(tests.target, device)
    truth = torch.tensor(tests.alignment)
    weights = torch.cat(
        [forced(model, source[k : k + CHUNK], target[k : k + CHUNK])[0] for k in range(0, len(source), CHUNK)]
    )
    found = aligned(weights[:, :-1].double(), truth[:, :-1])
    outputs = [
        those[0] if those else None
        for k in range(0, len(source), CHUNK)
        for those in attention.translate_ids(model, source[k : k + CHUNK], width=beam)
    ]
    own = [own_output(one, *pair) for one, *pair in zip(outputs, tests.source, tests.target)]
    rows = []
    for order in dict.fromkeys(tests.orders):
        places = [k for k, name in enumerate(tests.orders) if name == order]
        row: dict[str, Any] = {"order": order, "count": len(places), "words": len(tests.target[0]) - 1}
        for name, values in found.items():
            row[name] = values[places].mean(0).tolist()
        gap = found["tau"] - found["true_tau"]
        row["tau_gap"] = float(gap[places].abs().mean())
        for name in own[0]:
            values = [value for value in (own[k][name] for k in places) if value is not None]
            row[name] = sum(values) / len(values) if values else None
        rows.append(row)
    return rows


def own_output(found: Any, source: list[int], target: list[int]) -> dict[str, float | None]:
    """Scores of one output of the beam search."""
    ids: list[int] = [] if found is None else [word for word in found.ids if word != attention.EOS]
    truth = torch.tensor([source.index(word) if word in source else -1 for word in ids])
    scores: dict[str, float | None] = {
        "exact": float(found is not None and list(found.ids) == target),
        "strange": float((truth < 0).double().mean()) if ids else None,
        "own_error": None,
        "own_near_error": None,
    }
    if found is not None and (truth >= 0).any():
        weights = found.alignment[: len(ids)].cpu().double()
        scores["own_error"] = float(attention.alignment_error(weights, truth).error)
        scored = truth >= 0
        scores["own_near_error"] = float(((weights.argmax(-1) - truth).abs() > 1)[scored].double().mean())
    return scores


def map_of(model: Any, tests: Task, place: int, device: str) -> list[list[float]]:
    """Weights (T, S) along the right translation of one sentence."""
    weights, _ = forced(
        model,
        padded(tests.source[place : place + 1], device),
        padded(tests.target[place : place + 1], device),
    )
    return [[round(float(w), 4) for w in row] for row in weights[0]]


# words that agree


def scored_agreement(model: Any, tests: Agreement, beam: int, device: str) -> dict[str, Any]:
    """Words along the right translation, and whole sentences by beam search.

    Returns:
      ``agreeing``: for each word that agrees [1 if the likeliest word is right, its distance from the noun, 1 in the last
      phrase, offset of the largest weight]; ``others``: share of words with one translation that are right, the sentence's last
      apart, and ``last_word`` of that; ``exact``: share of sentences that come out right.
    """
    agreeing, others, last, exact = [], [], [], []
    pairs = list(zip(tests.task.source, tests.task.target, tests.agreeing))
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        source, target = (padded(rows, device) for rows in ([p[0] for p in part], [p[1] for p in part]))
        weights, likeliest = forced(model, source, target)
        right, looked = (likeliest == target.cpu()).tolist(), weights.argmax(-1).tolist()
        outputs = attention.translate_ids(model, source, width=beam)
        for row, (_, words, places) in enumerate(part):
            those = {place for place, _, _ in places}
            agreeing += [
                [int(right[row][place]), abs(noun - place), final, looked[row][place] - place]
                for place, noun, final in places
            ]
            others += [right[row][k] for k in range(len(words) - 2) if k not in those]
            last.append(right[row][len(words) - 2])
            exact.append(bool(outputs[row]) and list(outputs[row][0].ids) == words)
    shares = {"others": others, "last_word": last, "exact": exact}
    return {"agreeing": agreeing, **{name: sum(values) / len(values) for name, values in shares.items()}}


# what annotations have read


def sensitivity(encoder: Any, sentence: Sequence[int]) -> Tensor:
    """‖∂h_j/∂x_k‖ (S, S, 2): how much the onward and the backward half of annotation j feel the embedding of word k.

    In float64 and on the processor; the backward half is 0 where the encoder has none.
    """
    reader = copy.deepcopy(encoder).cpu().double().eval()
    source = torch.tensor([list(sentence)])
    mask = torch.ones_like(source, dtype=torch.bool)
    embeddings = reader.embedding(source).detach()

    def annotations(given: Tensor) -> Tensor:
        return reader(source, mask, embeddings=given, fused=False).states[0]

    found = torch.autograd.functional.jacobian(annotations, embeddings, vectorize=True)
    assert isinstance(found, Tensor)
    by_word = found[:, :, 0].square().sum(-1)  # (S, annotation, S)
    n = reader.hidden
    halves = [by_word[:, :n].sum(1), by_word[:, n:].sum(1)]
    return torch.stack(halves, -1).sqrt()
