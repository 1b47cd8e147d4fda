import pytest
import torch

from fingerpost.credit import HopfieldNetwork
from fingerpost.errors import InvalidValueError, NumericalError, ShapeError


def network(activation, sizes=(6, 5, 4, 3), seed=0):
    draw = torch.Generator().manual_seed(seed)
    net = HopfieldNetwork(sizes, activation, generator=draw).double()
    for bias in net.biases:
        bias.data.fill_(0.2)
    return net, torch.rand(7, sizes[0], generator=draw, dtype=torch.float64), torch.arange(7) % 3


@pytest.mark.parametrize("activation", ["hard_sigmoid", "tanh"])
@pytest.mark.parametrize("sign", [1, -1])
def test_fused_relaxation_is_autograd_on_the_primitive_function(activation, sign):
    net, x, y = network(activation)
    free = net.free_phase(x, 30)
    states = list(free.states)
    for _ in range(20):
        leaves = [s.detach().requires_grad_() for s in states[1:]]
        fields = torch.autograd.grad(net.primitive([x, *leaves], y, sign * 0.5), leaves)
        rho = torch.tanh if activation == "tanh" else lambda z: z.clamp(0, 1)
        states = [x, *(rho(z) for z in fields)]
    got = net.nudged_phase(free, y, beta=0.5, steps=20, sign=sign).states
    assert max(float((a - b).abs().max()) for a, b in zip(got, states)) < 1e-12


def test_fixed_points_are_stationary_for_the_energy():
    net, x, y = network("tanh")
    nudged = net.nudged_phase(net.free_phase(x, 200), y, beta=0.05, steps=400)
    leaves = [s.clone().requires_grad_() for s in nudged.states[1:]]
    slopes = torch.autograd.grad(net.energy([x, *leaves], y, 0.05), leaves)
    assert max(float(g.abs().max()) for g in slopes) < 1e-12


def loss_gradients(net, x, y):
    states = [x, *(x.new_zeros(len(x), m) for m in net.sizes[1:])]
    for _ in range(300):
        fields = []
        for l in range(1, len(states)):
            z = states[l - 1] @ net.weights[l - 1].t() + net.biases[l - 1]
            fields.append(torch.tanh(z + states[l + 1] @ net.weights[l] if l < len(states) - 1 else z))
        states = [x, *fields]
    target = torch.nn.functional.one_hot(y, 3).double()
    loss = (0.5 * (states[-1] - target).square().sum(1)).mean()
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize(("centered", "order"), [(False, 1), (True, 2)])
def test_local_gradients_tend_to_backprop_through_the_free_phase(centered, order):
    net, x, y = network("tanh")
    exact = torch.cat([g.flatten() for g in loss_gradients(net, x, y)])
    free = net.free_phase(x, 300)
    errors = []
    for beta in (0.02, 0.01):
        up = net.nudged_phase(free, y, beta=beta, steps=300)
        if centered:
            down = net.nudged_phase(free, y, beta=beta, steps=300, sign=-1)
            net.local_gradients(x, down, up, 2 * beta)
        else:
            net.local_gradients(x, free, up, beta)
        got = torch.cat([p.grad.flatten() for p in net.parameters()])
        errors.append(float((got - exact).norm() / exact.norm()))
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_bad_arguments_are_named():
    net, x, y = network("tanh")
    free = net.free_phase(x)
    for arguments, name in (({"beta": 0.0}, "beta"), ({"sign": 0}, "sign"), ({"steps": 0}, "steps")):
        with pytest.raises(InvalidValueError, match=name):
            net.nudged_phase(free, y, **arguments)
    with pytest.raises(ShapeError, match=r"expected \(B, 6\)"):
        net.free_phase(x[:, :2])
    with pytest.raises(InvalidValueError, match="activation"):
        HopfieldNetwork([2, 2], "relu")
    with pytest.raises(InvalidValueError, match="sizes"):
        HopfieldNetwork([2])
    with pytest.raises(NumericalError, match="layer 1"):
        net.free_phase(x * float("nan"))
