"""The models' equations, sentence by sentence and word by word, straight from the paper: what all faster ways are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.attention import BOS, PAD, RNNEncoderDecoder, RNNSearch


def unit_step(unit, x, s, c=None):
    """One vector through a gated unit."""
    n = unit.hidden_size
    given = unit.input.weight @ x + unit.input.bias
    if c is not None:
        given = given + unit.context.weight @ c
    wz, wr, w = given[:n], given[n : 2 * n], given[2 * n :]
    uz, ur, u = unit.recurrent[:n], unit.recurrent[n : 2 * n], unit.recurrent[2 * n :]
    z, r = torch.sigmoid(wz + uz @ s), torch.sigmoid(wr + ur @ s)
    if unit.reset == "before":
        candidate = torch.tanh(w + u @ (r * s))
    else:
        candidate = torch.tanh(w + r * (u @ s + unit.inner_bias))
    return (1 - z) * s + z * candidate


def annotate(encoder, words):
    """Lists of →h_j and ←h_j (or None) of a sentence's embedded words; ←h starts at 0 beyond the last word."""
    zero = words[0].new_zeros(encoder.hidden)
    onward, s = [], zero
    for x in words:
        s = unit_step(encoder.forward_unit, x, s)
        onward.append(s)
    if encoder.backward_unit is None:
        return onward, None
    backward, s = [], zero
    for x in reversed(words):
        s = unit_step(encoder.backward_unit, x, s)
        backward.insert(0, s)
    return onward, backward


def look(attention, s, states):
    """c_i and α_i of an additive attention."""
    w, u, v = attention.query.weight, attention.key.weight, attention.score_vector
    odds = [torch.exp(v @ torch.tanh(w @ s + u @ h)) for h in states]
    weights = [o / sum(odds) for o in odds]
    return sum(a * h for a, h in zip(weights, states)), torch.stack(weights)


def sentence(
    model: RNNSearch | RNNEncoderDecoder, source: list[int], target: list[int]
) -> tuple[Tensor, Tensor | None]:
    """log p of each target word (T,), and the weights (T, S), of one sentence without padding."""
    encoder, decoder = model.encoder, model.decoder
    onward, backward = annotate(encoder, [encoder.embedding.weight[j] for j in source])
    states = onward if backward is None else [torch.cat(pair) for pair in zip(onward, backward)]
    if isinstance(model, RNNSearch):
        start, fixed = (onward[-1] if backward is None else backward[0]), None
    else:
        start = fixed = onward[-1] if backward is None else torch.cat([onward[-1], backward[0]])
    s = torch.tanh(decoder.start.weight @ start + decoder.start.bias)
    found, weights = [], []
    for i, y in enumerate(target):
        previous = decoder.embedding.weight[target[i - 1] if i else BOS]
        c, alpha = (fixed, None) if fixed is not None else look(decoder.attention, s, states)
        taken = decoder.embedding.weight[y] if decoder.readout_state == "original" else previous
        after = unit_step(decoder.unit, taken, s, c)
        read = after if decoder.readout_state == "current" else s
        pairs = (
            decoder.from_state.weight @ read
            + decoder.from_word.weight @ previous
            + decoder.from_word.bias
            + decoder.from_context.weight @ c
        )
        size = len(pairs) // 2
        t = torch.stack([torch.maximum(pairs[k], pairs[size + k]) for k in range(size)])
        logits = decoder.output.weight @ t + decoder.output.bias
        found.append(logits[y] - torch.log(torch.exp(logits).sum()))
        weights.append(alpha)
        s = after
    return torch.stack(found), None if fixed is not None else torch.stack(weights)


def strip(row: Tensor) -> list[int]:
    return [i for i in row.tolist() if i != PAD]
