"""Small seeded chains that the credit tests share, in float64."""

import torch
from torch import nn
from torch.autograd.functional import jacobian

from fingerpost.credit import ResidualBlock, ResidualChain, residual_mlp


def mlp(depth=3, width=6, classes=4, batch=5, seed=0, in_features=None, **kwargs):
    draw = torch.Generator().manual_seed(seed)
    inputs = in_features or width
    chain = residual_mlp(inputs, width, classes, depth, generator=draw, **kwargs).double()
    x = torch.randn(batch, inputs, generator=draw, dtype=torch.float64)
    return chain, x, torch.arange(batch) % classes


def mixed(seed=0, batch=5):
    """Unequal widths, a stem, a plain linear block and a block without a skip."""
    draw = torch.Generator().manual_seed(seed)
    modules = [
        nn.Linear(7, 6),
        ResidualBlock(6, generator=draw),
        nn.Sequential(nn.Linear(6, 5), nn.Tanh()),
        nn.Linear(5, 3),
    ]
    for parameter in (p for m in modules for p in m.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=draw) * 0.4
    stem, *blocks, readout = modules
    chain = ResidualChain(blocks, readout, stem=stem).double()
    x = torch.randn(batch, 7, generator=draw, dtype=torch.float64)
    return chain, x, torch.arange(batch) % 3


def true_gradients(chain, x, y):
    """∂(Σ loss)/∂h_l by autograd, independent of the package's own backward pass."""
    h = chain.stem(x)
    hidden = []
    for block in chain.blocks:
        h = block(h)
        h.retain_grad()
        hidden.append(h)
    chain.loss(chain.readout(h), y).sum().backward()
    gradients = [h.grad.clone() for h in hidden]
    chain.zero_grad()
    return gradients


def jacobians(chain, x):
    """Dense J_l (B, d, d) of each block at the free states."""
    _, hidden = chain(x, return_hidden=True)
    return [
        torch.stack([jacobian(lambda v, block=block: block(v[None])[0], h) for h in states.detach()])
        for block, states in zip(chain.blocks, hidden)
    ]


def distance(a, b):
    """Relative distance of two lists of tensors."""
    flat = [torch.cat([t.flatten() for t in tensors]) for tensors in (a, b)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())
