"""The backward pass written by hand against autograd and differences, and faults planted to see whether they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.experiments._attention_signal_reach import in_double

torch = lazy_import("torch")
attention = lazy_import("fingerpost.attention")
scores = lazy_import("fingerpost.attention.scores")
audit = lazy_import("fingerpost.audit")

BY_HAND = "by hand"


class Planted(NamedTuple):
    """A mistake that a backward pass written by hand could have.

    Args:
      words: What is wrong.
      plant: Gives parts of a model their faulty forms; see `with_fault`.
      searching: Whether it takes attention to have it.
    """

    words: str
    plant: Callable[[Any, Callable[[Any, str, Any], None]], None]
    searching: bool = False


def _weights(model: Any, put: Any, made: Callable[[Any, Any], Any]) -> None:
    """Weights α of a form of their own, of scores and mask."""
    layer = model.decoder.attention

    def attend(query: Any, prepared: Any, values: Any, mask: Any) -> tuple[Any, Any]:
        weights = made(layer.score(query, prepared), mask)
        return scores.mean_under(weights, values), weights

    put(layer, "attend", attend)


def _stopped(model: Any, put: Any) -> None:
    _weights(model, put, lambda e, mask: scores.masked_softmax(e, mask).detach())


def _unnormalised(model: Any, put: Any) -> None:
    def made(e: Any, mask: Any) -> Any:
        e = e if mask is None else e.masked_fill(~mask, -torch.inf)
        return (e - e.logsumexp(-1, keepdim=True).detach()).exp()

    _weights(model, put, made)


def _turned(model: Any, put: Any) -> None:
    layer = model.decoder.attention
    vector = layer.score_vector

    def score(query: Any, prepared: Any) -> Any:
        hidden = torch.tanh(prepared + layer.query(query).unsqueeze(-2))
        return hidden @ (2 * vector.detach() - vector)

    put(layer, "score", score)


def _cut_decoder(model: Any, put: Any) -> None:
    unit, layer = model.decoder.unit, model.decoder.attention
    advance = unit.advance
    put(unit, "advance", lambda gates, state: advance(gates, state.detach()))
    if layer is not None:
        attend = layer.attend
        put(layer, "attend", lambda query, *given: attend(query.detach(), *given))


def _cut_encoder(model: Any, put: Any) -> None:
    for unit in _encoding(model):
        advance = unit.advance
        put(unit, "advance", lambda gates, state, advance=advance: advance(gates, state.detach()))


def _no_reset(model: Any, put: Any) -> None:
    for unit in (*_encoding(model), model.decoder.unit):
        put(unit, "advance", lambda gates, state, unit=unit: _without_reset(unit, gates, state))


def _without_reset(unit: Any, gates: Any, state: Any) -> Any:
    """A step of a unit that resets before its product, with a reset gate that nothing flows back through."""
    n = unit.hidden_size
    opened = torch.sigmoid(gates[..., : 2 * n] + torch.nn.functional.linear(state, unit.recurrent[: 2 * n]))
    z, r = opened[..., :n], opened[..., n:].detach()
    within = torch.nn.functional.linear(r * state, unit.recurrent[2 * n :])
    return state + z * (torch.tanh(gates[..., 2 * n :] + within) - state)


def _unread(model: Any, put: Any) -> None:
    layer = model.decoder.from_context
    put(layer, "forward", lambda x: torch.nn.functional.linear(x.detach(), layer.weight))


def _encoding(model: Any) -> list[Any]:
    encoder = model.encoder
    return [unit for unit in (encoder.forward_unit, encoder.backward_unit) if unit is not None]


FAULTS = {
    "scores": Planted("no gradient through the weights α", _stopped, searching=True),
    "normaliser": Planted("softmax without its normaliser's part", _unnormalised, searching=True),
    "sign": Planted("flipped sign of ∂/∂v_a", _turned, searching=True),
    "decoder": Planted("decoder cut after one step", _cut_decoder),
    "encoder": Planted("encoder cut after one step", _cut_encoder),
    "reset": Planted("no gradient through reset gates", _no_reset),
    "context": Planted("no gradient from the output to the context", _unread),
}


@contextmanager
def with_fault(model: Any, fault: str | None) -> Iterator[None]:
    """Records every step, with a fault in it or none, inside the block; after it the model is as before."""
    before, fused = [], model.fused

    def put(owner: Any, name: str, form: Any) -> None:
        before.append((owner, name))
        object.__setattr__(owner, name, form)  # in the instance alone; nn.Module would want a module

    model.fused = False
    try:
        if fault is not None:
            FAULTS[fault].plant(model, put)
        yield
    finally:
        model.fused = fused
        for owner, name in before:
            owner.__dict__.pop(name, None)


def losses(model: Any, part: Any) -> Any:
    """−log p of each target sentence, (B,): every step recorded by autograd, each sentence alone and without padding."""
    with with_fault(model, None):
        alone = [(x[None, x != attention.PAD], y[None, y != attention.PAD]) for x, y in zip(*part)]
        return torch.stack([-model.log_probs(x, y).sum() for x, y in alone])


def signal(model: Any, part: Any, fault: str) -> Any:
    """∂/∂ parameters of the mean of `losses`: by the hand-written pass, or by autograd through a fault."""
    parameters = dict(model.named_parameters())
    source, target = part
    if fault == BY_HAND:
        mean = model.loss(source, target).total / len(source)
        found = torch.autograd.grad(mean, list(parameters.values()))
    else:
        with with_fault(model, fault):
            mean = -model.log_probs(source, target).sum(1).mean()
            found = torch.autograd.grad(
                mean, list(parameters.values()), allow_unused=True, materialize_grads=True
            )
    return dict(zip(parameters, found))


def audited(model: Any, made: Any, units: int, fault: str, seed: int) -> str:
    """The report, as JSON, of one pass for all parameters, in float64."""
    pairs = attention.EncodedPairs(made.source, made.target).batch(range(len(made)))
    report = audit.audit_gradients(
        in_double(model),
        lambda model, part: signal(model, part, fault),
        (pairs.source, pairs.target),
        loss=losses,
        units=units,
        quick=True,
        cost=False,
        double=False,  # all is float64 already
        generator=torch.Generator().manual_seed(seed),
    )
    return report.to_json()


def faults_of(kind: str) -> list[str]:
    """The faults that a kind of model can have."""
    return [name for name, fault in FAULTS.items() if kind == "search" or not fault.searching]
