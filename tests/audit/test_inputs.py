"""Bad input is refused with an error that names the leaf."""

import pytest
import torch

from audit.subjects import normal, quartic, slope_of  # isort: skip
from fingerpost.audit import LayeredLoss, audit, audit_gradients
from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, NumericalError, ShapeError

exact = slope_of(quartic)
PAIR = {"a": normal(16, 3), "b": normal(16, 4)}


def pair_loss(p):
    return quartic(p["a"]) + quartic(p["b"])


def pair_signal(p):
    return {"a": exact(p["a"]), "b": exact(p["b"])}


def changed(**changes):
    return lambda p: {**pair_signal(p), **{k: f(p) for k, f in changes.items()}}


SIGNALS = {
    "wrong shape": (changed(b=lambda p: p["b"][:, :2]), ShapeError, r"\(16, 2\) at leaf 'b'.*\(16, 4\)"),
    "NaN": (changed(b=lambda p: p["b"] * torch.nan), NumericalError, r"leaf 'b' \(64 of 64 entries\)"),
    "infinite": (changed(a=lambda p: p["a"] / 0), NumericalError, "leaf 'a'"),
    "None": (changed(b=lambda p: None), InvalidTypeError, "detached from leaf 'b'"),
    "a number": (changed(b=lambda p: 3.0), InvalidTypeError, "float for leaf 'b'"),
    "missing leaf": (lambda p: {"a": p["a"]}, InvalidTypeError, "nothing for leaf 'b'"),
    "extra leaf": (changed(c=lambda p: p["a"]), InvalidTypeError, "leaf 'c', which the point does not have"),
    "a list": (lambda p: [p["a"], p["b"]], InvalidTypeError, "leaf 'a'"),
    "detached": (
        lambda p: torch.autograd.grad(quartic(p["a"].detach()).sum(), p["a"]), InvalidTypeError, "detached from the point"
    ),
    "unused": (
        lambda p: torch.autograd.grad(quartic(p["a"]).sum(), [p["a"], p["b"]]), InvalidTypeError, "detached from the point"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_is_no_covector_is_refused_by_leaf(name):
    signal, error, words = SIGNALS[name]
    with pytest.raises(error, match=words):
        audit(signal, pair_loss, PAIR)


LOSSES = {
    "ignores everything": (lambda p: torch.ones(16), InvalidValueError, "ignores the point"),
    "ignores b": (lambda p: quartic(p["a"]), InvalidValueError, "ignores leaf 'b'"),
    "detaches": (
        lambda p: pair_loss({k: v.detach() for k, v in p.items()}),
        InvalidValueError,
        "ignores the point",
    ),
    "NaN": (lambda p: pair_loss(p) * torch.nan, NumericalError, "loss is NaN"),
    "infinite": (lambda p: pair_loss(p) / 0, NumericalError, "infinite"),
    "two axes": (lambda p: p["a"] + p["b"][:, :3], InvalidValueError, r"\(16, 3\)"),
    "a float": (lambda p: 1.0, InvalidTypeError, "float"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_loss_of_the_point_is_refused(name):
    loss, error, words = LOSSES[name]
    with pytest.raises(error, match=words):
        audit(pair_signal, loss, PAIR)


POINTS = {
    "integers": (
        {"a": normal(4, 3), "b": torch.arange(4)},
        InvalidTypeError,
        "leaf 'b' has dtype torch.int64",
    ),
    "complex": (torch.ones(3, dtype=torch.complex64), InvalidTypeError, "complex64"),
    "empty tensor": ([normal(4, 3), torch.empty(0, 3)], InvalidValueError, r"leaf '2' has shape \(0, 3\)"),
    "empty list": ([], InvalidValueError, "holds no tensor"),
    "NaN": ([normal(4), normal(4) * torch.nan], InvalidValueError, "leaf '2' holds NaN"),
    "a number": ({"a": 1.0}, InvalidTypeError, "leaf 'a' is a float"),
    "nested None": ({"a": [normal(2), None]}, InvalidTypeError, "leaf 'a.2' is a NoneType"),
}


@pytest.mark.parametrize("name", POINTS)
def test_a_point_that_is_no_point_is_refused_by_leaf(name):
    point, error, words = POINTS[name]
    with pytest.raises(error, match=words):
        audit(lambda p: p, lambda p: p, point)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n=0"), ({"perturbations": 0}, "perturbations=0"), ({"redraws": 1}, "redraws=1"),
        ({"redraws": -1}, "redraws=-1"), ({"level": 1.0}, "level=1.0"), ({"level": 0.1}, "level=0.1"),
        ({"previous": normal(3)}, "previous"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(InvalidValueError, match=words):
        audit(exact, quartic, normal(16, 3), **options)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(InvalidTypeError, match="the signal is a int"):
        audit(3, quartic, normal(4, 3))
    with pytest.raises(InvalidTypeError, match="the loss is a Tensor"):
        audit(exact, normal(3), normal(4, 3))


def test_per_sample_is_refused_where_it_cannot_be():
    with pytest.raises(InvalidValueError, match="one number"):
        audit(exact, lambda x: quartic(x).sum(), normal(16, 3), per_sample=True)
    with pytest.raises(InvalidValueError, match="first axes differ"):
        audit(pair_signal, pair_loss, {"a": normal(16, 3), "b": normal(1, 3)}, per_sample=True)


def test_per_sample_is_refused_where_leaves_have_other_rows_than_the_loss():
    def loss(x):
        return quartic(x).reshape(8, 2).sum(1)

    with pytest.raises(InvalidValueError, match="8 values"):
        audit(slope_of(loss), loss, normal(16, 3), per_sample=True)


def test_errors_of_the_users_own_code_come_through_unchanged():
    def signal(x):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        audit(signal, quartic, normal(4, 3))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        audit(lambda x: x @ x, quartic, normal(4, 3))


def test_a_reference_is_checked_as_a_signal_is():
    with pytest.raises(ShapeError, match="the reference has shape"):
        audit(exact, quartic, normal(4, 3), reference=lambda x: x[:2])


def test_audit_gradients_refuses_bad_models_and_batches():
    model = torch.nn.Linear(3, 2)
    x, y = normal(8, 3).float(), normal(8, 2).float()
    with pytest.raises(InvalidValueError, match="share a non-empty first axis"):
        audit_gradients(model, lambda m, b: None, (x, y[:4]))
    with pytest.raises(InvalidTypeError, match="tuple of tensors"):
        audit_gradients(model, lambda m, b: None, x)
    with pytest.raises(InvalidValueError, match="units=-1"):
        audit_gradients(model, lambda m, b: None, (x, y), units=-1)
    with pytest.raises(InvalidTypeError, match="detached from leaf 'weight'"):
        audit_gradients(model, lambda m, b: None, (x, y))
    with pytest.raises(InvalidTypeError, match="the signal is a"):
        audit_gradients(model, "backward", (x, y))
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(InvalidValueError, match="no parameter"):
        audit_gradients(model, lambda m, b: None, (x, y))


def test_every_refusal_is_a_fingerpost_error():
    for signal, error, _ in SIGNALS.values():
        assert issubclass(error, FingerpostError)
        with pytest.raises(FingerpostError):
            audit(signal, pair_loss, PAIR)


def test_a_plain_function_is_no_layered_loss():
    assert not isinstance(quartic, LayeredLoss)
