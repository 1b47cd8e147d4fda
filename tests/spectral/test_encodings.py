"""Encodings: the formulas, the frequencies of each family, precision, saving, limits, and what is refused."""

import math
import warnings

import numpy as np
import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.spectral import CoordinateMLP, FourierFeatures, NyquistWarning


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, d, dtype=torch.float64):
    return torch.rand(n, d, dtype=dtype, generator=seeded(1))


FAMILIES = {
    "basic": lambda: FourierFeatures.basic(2),
    "power": lambda: FourierFeatures.power(1.0, 16),
    "paper": lambda: FourierFeatures.positional(2, 16, 32.0),
    "released": lambda: FourierFeatures.positional(2, 16, 32.0, "released"),
    "octave": lambda: FourierFeatures.positional(3, 15, spacing="octave"),
    "gaussian": lambda: FourierFeatures.gaussian(2, 16, 10.0, seeded()),
    "own": lambda: FourierFeatures(torch.tensor([[1.0, 2.5], [0.0, 3.0]]), torch.tensor([1.0, 3.0])),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_the_cosines_and_sines_of_equation_5(name):
    encode = FAMILIES[name]().double()
    v = points(7, encode.dimension)
    phase = 2 * np.pi * v.numpy() @ encode.B.numpy().T
    expected = np.concatenate([encode.a.numpy() * np.cos(phase), encode.a.numpy() * np.sin(phase)], -1)
    out = encode(v)
    assert out.shape == (7, encode.features)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gram_depends_on_differences_alone(name):
    encode = FAMILIES[name]().double()
    v, shift = points(6, encode.dimension), torch.full((encode.dimension,), 0.137, dtype=torch.float64)
    torch.testing.assert_close(encode(v) @ encode(v).T, encode(v + shift) @ encode(v + shift).T)


@pytest.mark.parametrize("name", FAMILIES)
def test_normalized_features_have_unit_length(name):
    plain = FAMILIES[name]().double()
    encode = FourierFeatures(plain.B, plain.a, normalize=True)
    torch.testing.assert_close(
        encode(points(5, plain.dimension)).norm(dim=-1), torch.ones(5, dtype=torch.float64)
    )


def test_power_law_amplitudes_and_their_limits():
    torch.testing.assert_close(FourierFeatures.power(0, 8, normalize=False).a, torch.ones(4))
    torch.testing.assert_close(FourierFeatures.power(math.inf, 8).a, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    half = FourierFeatures.power(0.5, 8, normalize=False)
    torch.testing.assert_close(half.a, torch.tensor([1, 2, 3, 4.0]).rsqrt())
    torch.testing.assert_close(FourierFeatures.power(0.5, 8).a, half.a / half.a.norm())
    assert len(FourierFeatures.power(1.0, 9).B) == 4


def test_the_last_sine_of_a_power_law_vanishes_on_the_training_grid():
    n = 16
    out = FourierFeatures.power(0.0, n).double()(torch.arange(n, dtype=torch.float64)[:, None] / n)
    assert out[:, -1].abs().max() < 1e-14
    assert out[:, -2].abs().max() > 0.1


def test_positional_spacings_are_the_papers_the_released_codes_and_octaves():
    paper = FourierFeatures.positional(2, 8, 16.0).B
    torch.testing.assert_close(paper[::2, 0], torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert torch.equal(paper[::2, 0], paper[1::2, 1])
    assert not paper[::2, 1].any()
    released = FourierFeatures.positional(1, 3, 64.0, "released").B
    torch.testing.assert_close(released.flatten(), torch.tensor([0.0, 7.0, 63.0]))
    octave = FourierFeatures.positional(1, 4, spacing="octave").B
    torch.testing.assert_close(octave.flatten(), torch.tensor([1.0, 2.0, 4.0, 8.0]))


def test_gaussian_frequencies_have_their_spread_and_come_from_their_generator():
    state = torch.random.get_rng_state()
    B = FourierFeatures.gaussian(2, 20_000, 5.0, seeded(3)).B
    assert B.std().item() == pytest.approx(5.0, rel=0.02)  # 40,000 draws: standard error 0.35 %
    assert torch.equal(B, FourierFeatures.gaussian(2, 20_000, 5.0, seeded(3)).B)
    assert torch.equal(state, torch.random.get_rng_state())


def test_frequencies_and_amplitudes_are_saved_and_not_trained():
    one, two = (FourierFeatures.gaussian(2, 8, 3.0, seeded(s)) for s in (1, 2))
    assert set(one.state_dict()) == {"B", "a"}
    assert not list(one.parameters())
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(points(4, 2)), two(points(4, 2)))


def test_under_bfloat16_autocast_phases_keep_float32():
    encode = FourierFeatures.gaussian(2, 64, 100.0, seeded())
    v = points(9, 2, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = encode(v)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, encode(v))
    exact = FourierFeatures(encode.B.double(), normalize=False)(v.double())
    assert (cast - exact).abs().max() < 3e-4  # 100 cycles in float32


def test_casting_a_network_to_half_leaves_its_frequencies_and_gives_half_features():
    net = CoordinateMLP(2, 1, 8, 1, encoding=FourierFeatures.gaussian(2, 8, 100.0, seeded()))
    before = net.encoding.B.clone()
    net.bfloat16()
    assert torch.equal(net.encoding.B, before)
    v = points(4, 2, torch.bfloat16)
    assert net(v).dtype == torch.bfloat16
    assert net.double().encoding.B.dtype == torch.float64


def test_double_frequencies_serve_a_network_in_single_precision():
    B = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (8, 2)))  # numpy's own dtype
    net = CoordinateMLP(2, 1, 8, 1, encoding=FourierFeatures(B))
    v = points(4, 2, torch.float32)
    assert net(v).dtype == torch.float32
    exact = FourierFeatures(B)(v.double())
    assert (net.encode(v) - exact).abs().max() < 1e-7  # phases in float64, rounded once


def test_gradients_by_coordinates_are_right():
    encode = FAMILIES["gaussian"]().double()
    v = points(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(encode, v)


def test_works_under_vmap():
    encode = FAMILIES["paper"]().double()
    v = points(5, 2)
    torch.testing.assert_close(torch.func.vmap(encode)(v), encode(v))


def test_a_frequency_past_the_nyquist_limit_is_warned_of_once():
    encode = FourierFeatures(torch.tensor([[3.0, 0.0], [0.0, 9.0]]))
    with pytest.warns(NyquistWarning, match=r"1 of 2 frequencies pass the Nyquist limit \[8.0, 8.0\]"):
        assert not encode.check_nyquist((16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not encode.check_nyquist((16, 16))
        assert encode.check_nyquist((8, 18))
        assert FourierFeatures.power(1.0, 16).check_nyquist([16])  # n/2 itself is on the limit
        assert FourierFeatures(torch.tensor([[1.0], [9.0]]), [1.0, 0.0]).check_nyquist(
            [4]
        )  # it has no weight
    with pytest.warns(NyquistWarning):
        FourierFeatures(torch.tensor([[9.0]]), grid=(16,))


BAD = [
    (lambda: FourierFeatures(torch.ones(3)), ShapeError, r"B has shape \(3,\); expected \(m, d\)"),
    (lambda: FourierFeatures(torch.ones(0, 2)), ShapeError, "B has shape"),
    (lambda: FourierFeatures(torch.ones(3, 2), torch.ones(2)), ShapeError, r"a has shape \(2,\) and B \(3, 2\)"),
    (lambda: FourierFeatures(torch.tensor([[math.nan]])), InvalidValueError, "B has NaN"),
    (lambda: FourierFeatures(torch.ones(2, 1), torch.zeros(2)), InvalidValueError, "all amplitudes a are 0"),
    (lambda: FourierFeatures(torch.ones(2, 1) * 1j), InvalidTypeError, "real numbers"),
    (lambda: FourierFeatures.basic(0), InvalidValueError, "d is 0"),
    (lambda: FourierFeatures.power(1.0, 1), InvalidValueError, "n is 1"),
    (lambda: FourierFeatures.power(math.nan, 8), InvalidValueError, "p is nan"),
    (lambda: FourierFeatures.power(-math.inf, 8), InvalidValueError, "overflows"),
    (lambda: FourierFeatures.positional(2, 5, 4.0), InvalidValueError, "a multiple of d"),
    (lambda: FourierFeatures.positional(2, 4), InvalidValueError, "needs a positive number"),
    (lambda: FourierFeatures.positional(2, 4, 2.0, "octave"), InvalidValueError, "octaves"),
    (lambda: FourierFeatures.positional(2, 4, 2.0, "linear"), InvalidValueError, "spacing is 'linear'"),
    (lambda: FourierFeatures.gaussian(2, 4, 0.0), InvalidValueError, "sigma is 0.0"),
    (lambda: FourierFeatures.basic(2)(torch.zeros(4, 3)), ShapeError, r"\(4, 3\); this encoding expects \(…, 2\)"),
    (lambda: FourierFeatures.basic(2)(torch.zeros(4, 2).long()), InvalidTypeError, "int64"),
    (lambda: FourierFeatures.basic(1)(torch.tensor([[0.0], [math.nan]])), InvalidValueError, "the first at row 1"),
    (lambda: FourierFeatures.basic(2).check_nyquist((4,)), ShapeError, r"grid \(4,\)"),
    (lambda: CoordinateMLP(3, 1, 8, 1, encoding=FourierFeatures.basic(2)), ShapeError, "this encoding expects"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "said"), BAD)
def test_bad_input_is_refused_with_its_shapes(make, error, said):
    with pytest.raises(error, match=said):
        make()
