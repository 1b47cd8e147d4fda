"""The networks are fields: they take any time, keep shapes, act on each row alone, and start where they say."""

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.flow import CondOT, FlowMLP, GaussianStart, TimeEmbedding, Trigonometric, UNet
from fingerpost.flow.nets import ClassEmbedding
from fingerpost.ode import solve


def noisy(net, seed=0):
    """The net with weights that are zero nowhere: as built, it gives zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return net.double().eval()


NETS = {
    "mlp": lambda: (FlowMLP(3, 16, 2), (3,), None),
    "mlp-classes": lambda: (FlowMLP(3, 16, 2, classes=4), (3,), torch.tensor([0, 1, 2, 3, 4])),
    "mlp-vector": lambda: (FlowMLP(3, 16, 2, condition=2), (3,), torch.randn(5, 2, dtype=torch.float64)),
    "unet-8": lambda: (UNet((1, 8, 8), 8, classes=10), (1, 8, 8), torch.tensor([0, 9, 10, 3, 3])),
    "unet-28": lambda: (UNet((1, 28, 28), 8, (1, 2, 2)), (1, 28, 28), None),
    "unet-odd": lambda: (UNet((2, 7, 9), 8, (1, 2, 2), blocks=2), (2, 7, 9), None),
}


def built(name):
    net, shape, condition = NETS[name]()
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return noisy(net), x, () if condition is None else (condition,)


@pytest.mark.parametrize("name", NETS)
def test_one_time_is_the_same_as_that_time_for_every_row(name):
    net, x, condition = built(name)
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(net(t, x, *condition), net(t.expand(5), x, *condition))


@pytest.mark.parametrize("name", NETS)
def test_each_row_is_treated_alone_at_its_own_time(name):
    net, x, condition = built(name)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    whole = net(t, x, *condition)
    assert whole.shape == x.shape
    alone = [net(t[i : i + 1], x[i : i + 1], *(c[i : i + 1] for c in condition)) for i in range(5)]
    torch.testing.assert_close(whole, torch.cat(alone))
    assert (whole[0] - net(t.flip(0), x, *condition)[0]).abs().max() > 1e-6  # the time matters


@pytest.mark.parametrize("name", ["mlp-classes", "unet-8"])
def test_no_condition_is_the_null_class(name):
    net, x, _ = built(name)
    t = torch.tensor(0.5, dtype=torch.float64)
    null = torch.full((5,), net.null)
    torch.testing.assert_close(net(t, x), net(t, x, null))
    assert (net(t, x) - net(t, x, torch.zeros(5, dtype=torch.long))).abs().max() > 1e-6


@pytest.mark.parametrize("net", [FlowMLP(2, 8, 1), UNet((1, 8, 8), 8)])
def test_a_fresh_net_is_the_zero_field_and_learns_from_there(net):
    x = torch.randn(3, *net.event_shape)
    v = net(torch.rand(3), x)
    assert (v == 0).all()
    (v - x).square().sum().backward()
    assert max(float(p.grad.abs().max()) for p in net.parameters() if p.grad is not None) > 0


def test_a_net_is_an_ode_field_as_it_is():
    net = noisy(FlowMLP(2, 8, 1))
    x0 = torch.randn(4, 2, dtype=torch.float64)
    assert solve(net, x0, [0.0, 1.0]).ys.shape == (2, 4, 2)


@pytest.mark.parametrize("path", [CondOT(), CondOT(0.1), Trigonometric()])
def test_the_gaussian_start_moves_noise_to_standard_normal_data_exactly(path):
    """The flow of x₀ ~ N(0, I) to N(0, α² + σ²): every path between must scale x₀ by √(α² + σ²)."""
    field = GaussianStart(FlowMLP(2, 8, 1).double(), path)
    x0 = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.0, 0.4, 0.9], dtype=torch.float64)
    ys = solve(field, x0, times, rtol=1e-9, atol=1e-10).ys
    alpha, sigma, *_ = path.schedule(times)
    torch.testing.assert_close(
        ys, (alpha**2 + sigma**2).sqrt()[:, None, None] * x0, rtol=1e-7, atol=1e-8, check_dtype=False
    )


def test_times_in_a_unit_interval_are_told_apart_by_their_lowest_frequency():
    embed = TimeEmbedding(4, features=8)
    assert float(embed.frequencies.min()) == pytest.approx(1.0)
    assert float(embed.frequencies.max()) == pytest.approx(30.0)


BAD = [
    (lambda: FlowMLP(0), InvalidValueError, "dimension is 0"),
    (lambda: FlowMLP(2, depth=0), InvalidValueError, "depth is 0"),
    (lambda: FlowMLP(2, classes=2, condition=3), InvalidValueError, "both given"),
    (lambda: TimeEmbedding(4, features=7), InvalidValueError, "even number"),
    (lambda: TimeEmbedding(4, highest=1.0), InvalidValueError, "above 1"),
    (lambda: ClassEmbedding(0, 4), InvalidValueError, "classes is 0"),
    (lambda: UNet((1, 8), 8), InvalidValueError, "channels, rows, columns"),
    (lambda: UNet((1, 8, 8), 12), InvalidValueError, "multiple of 8"),
    (lambda: UNet((1, 8, 8), 8, ()), InvalidValueError, "at least one"),
    (lambda: UNet((1, 3, 8), 8, (1, 1, 1)), InvalidValueError, "do not fit into 3×8"),
    (lambda: FlowMLP(2, 8, 1)(torch.rand(3), torch.zeros(4, 2)), ShapeError, r"t has shape \(3,\) and x 4"),
    (lambda: FlowMLP(2, 8, 1)(torch.tensor(0.0), torch.zeros(4, 3)), ShapeError, r"expects \(B, 2\)"),
    (lambda: FlowMLP(2, 8, 1)(torch.tensor(0.0), torch.zeros(2)), ShapeError, r"expects \(B, 2\)"),
    (
        lambda: FlowMLP(2, 8, 1)(torch.tensor(0.0), torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)),
        ShapeError,
        "built without",
    ),
    (
        lambda: FlowMLP(2, 8, 1, classes=3)(torch.tensor(0.0), torch.zeros(4, 2), torch.zeros(3, dtype=torch.long)),
        ShapeError,
        "3 rows and x 4",
    ),
    (
        lambda: FlowMLP(2, 8, 1, classes=3)(torch.tensor(0.0), torch.zeros(4, 2), torch.zeros(4)),
        InvalidTypeError,
        "classes as integers",
    ),
    (lambda: FlowMLP(2, 8, 1, condition=3)(torch.tensor(0.0), torch.zeros(4, 2)), ShapeError, "expects"),
    (
        lambda: UNet((1, 8, 8), 8)(torch.tensor(0.0), torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long)),
        ShapeError,
        "built without",
    ),
    (lambda: GaussianStart(torch.nn.Identity(), "straight"), InvalidValueError, "schedules"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "said"), BAD)
def test_what_cannot_be_built_or_called_is_refused_with_its_shapes(make, error, said):
    with pytest.raises(error, match=said):
        make()
