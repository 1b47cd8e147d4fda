"""The perceptron on coordinates that every experiment here trains, in the standard or the NTK parametrization."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


class NTKLinear(nn.Module):
    r"""A dense layer whose weights have unit variance and whose output carries the scale.

    $y = \sigma_W W x / \sqrt{n_\text{in}} + \sigma_b b$, with W, b ~ N(0, 1) at the start: gradients by W and b carry the
    factors, so that the tangent kernel has a limit as the width grows. Source: Jacot, Gabriel and Hongler (2018),
    Neural tangent kernel, section 3, https://arxiv.org/abs/1806.07572; it is the parametrization "ntk" of
    neural-tangents' `stax.Dense`.

    Args:
      in_features: Numbers that come in, n_in.
      out_features: Numbers that go out.
      bias: Whether there is a b.
      weight_std: σ_W.
      bias_std: σ_b.
      generator: Where the draws come from; None takes torch's own.

    >>> layer = NTKLinear(4, 2, generator=torch.Generator().manual_seed(0))
    >>> layer.weight_scale, layer(torch.ones(3, 4)).shape
    (0.7071067811865476, torch.Size([3, 2]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_std: float = math.sqrt(2.0),
        bias_std: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight_scale = weight_std / math.sqrt(in_features)
        self.bias_scale = bias_std
        self.weight = nn.Parameter(torch.empty(out_features, in_features).normal_(generator=generator))
        self.bias = nn.Parameter(torch.empty(out_features).normal_(generator=generator)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, shape (…, out_features)."""
        y = self.weight_scale * nn.functional.linear(x, self.weight)
        return y if self.bias is None else y + self.bias_scale * self.bias

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        scales = f"weight_scale={self.weight_scale:.6g}, bias_scale={self.bias_scale:.6g}"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, {scales}"


class CoordinateMLP(nn.Module):
    r"""A perceptron on coordinates, behind an encoding if one is given.

    $h_0 = \gamma(v)$, $h_l = \phi(A_l h_{l-1})$ for l = 1…depth, $f = \alpha A_{\text{depth}+1} h_\text{depth}$ with affine A.
    Both parametrizations start at one function for one draw, and train differently: in "standard" the
    weights are N(0, σ_W²/n_in) and the biases N(0, σ_b²); in "ntk" they are N(0, 1) and the layer carries the
    factors (`NTKLinear`). Only the second has a tangent kernel that stays finite as the width grows. With α and the learning
    rate over α², training moves the weights 1/α as far (Chizat, Oyallon and Bach 2019, On lazy training,
    https://arxiv.org/abs/1812.07956); the initial output is multiplied by α too.

    Args:
      inputs: Coordinates d of a point.
      outputs: Numbers that go out.
      width: Units of each hidden layer.
      depth: Hidden layers; "4 layers of 256" of Tancik et al. (2020), which counts the last one, is depth 3.
      encoding: Module that maps (…, inputs) to (…, features), such as `FourierFeatures`.
      parametrization: "standard" or "ntk".
      activation: One of `ACTIVATIONS`.
      bias: Whether the layers have biases.
      weight_std: σ_W; √2 keeps the scale of ReLU activations from layer to layer.
      bias_std: σ_b.
      output_scale: α.
      sigmoid: Whether the output goes through a sigmoid, as for pictures in [0, 1].
      generator: Where the draws come from; None takes torch's own.

    Raises:
      InvalidValueError: If a size is below 1, a scale is not finite, or a name is not known.
      ShapeError: If the encoding does not take points of `inputs` coordinates.

    >>> net = CoordinateMLP(2, 3, width=16, depth=2, generator=torch.Generator().manual_seed(0))
    >>> net(torch.rand(5, 7, 2)).shape
    torch.Size([5, 7, 3])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        *,
        encoding: nn.Module | None = None,
        parametrization: Literal["standard", "ntk"] = "standard",
        activation: str = "relu",
        bias: bool = True,
        weight_std: float = math.sqrt(2.0),
        bias_std: float = 0.1,
        output_scale: float = 1.0,
        sigmoid: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(inputs=inputs, outputs=outputs, width=width, depth=depth)
        _check_scales(weight_std=weight_std, bias_std=bias_std, output_scale=output_scale)
        _check_name("parametrization", parametrization, ("standard", "ntk"))
        _check_name("activation", activation, ACTIVATIONS)
        self.inputs, self.outputs, self.output_scale = inputs, outputs, output_scale
        self.parametrization = parametrization
        self.encoding = encoding
        sizes = [_features(encoding, inputs), *[width] * depth, outputs]
        make = _standard if parametrization == "standard" else NTKLinear
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [
                make(n_in, n_out, bias, weight_std=weight_std, bias_std=bias_std, generator=generator),
                ACTIVATIONS[activation](),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.squash = nn.Sigmoid() if sigmoid else None

    def forward(self, x: Tensor) -> Tensor:
        """The network's output.

        Args:
          x: Points, shape (…, inputs).

        Returns:
          Shape (…, outputs).

        Raises:
          ShapeError: If the last axis of x is not `inputs`.
        """
        if x.shape[-1:] != (self.inputs,):
            raise ShapeError(f"x has shape {tuple(x.shape)}; this network expects (…, {self.inputs})")
        return self.from_features(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """The features γ(x) of points (…, inputs); x itself without an encoding. Compute them once for fixed points."""
        return x if self.encoding is None else self.encoding(x)

    def from_features(self, features: Tensor) -> Tensor:
        """The network's output from `encode(x)`, shape (…, outputs)."""
        y = self.layers(features)
        if self.output_scale != 1.0:
            y = self.output_scale * y
        return y if self.squash is None else self.squash(y)


def _standard(
    in_features: int,
    out_features: int,
    bias: bool,
    *,
    weight_std: float,
    bias_std: float,
    generator: torch.Generator | None,
) -> nn.Linear:
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, in_features, out_features, bias))
    with torch.no_grad():  # unit draws times the scale: the same draws as NTKLinear's
        layer.weight.normal_(generator=generator).mul_(weight_std / math.sqrt(in_features))
        if bias:
            layer.bias.normal_(generator=generator).mul_(bias_std)
    return layer


def _features(encoding: nn.Module | None, inputs: int) -> int:
    """What the first layer gets: the encoding's width, read off one point."""
    if encoding is None:
        return inputs
    if not isinstance(encoding, nn.Module):
        raise InvalidTypeError(
            f"encoding is {type(encoding).__name__}; expected a torch module such as FourierFeatures"
        )
    tensors = [*encoding.buffers(), *encoding.parameters()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    with torch.no_grad():
        out = encoding(torch.zeros(1, inputs, dtype=like.dtype, device=like.device))
    if out.ndim != 2 or len(out) != 1:
        raise ShapeError(
            f"encoding maps (1, {inputs}) to {tuple(out.shape)}; expected (1, features): one row a point"
        )
    return out.shape[1]


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidTypeError(f"{name} is {value!r}; expected an integer")
        if value < 1:
            raise InvalidValueError(f"{name} is {value}; expected at least 1")


def _check_scales(**scales: float) -> None:
    for name, value in scales.items():
        if not math.isfinite(value) or value < 0:
            raise InvalidValueError(f"{name} is {value}; expected a finite number, 0 or more")


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := list(known)):
        listed = ", ".join(map(repr, names))
        raise InvalidValueError(
            f"{what} is {name!r}; expected one of {listed}{did_you_mean(str(name), names)}"
        )
