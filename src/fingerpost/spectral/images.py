"""Pictures as regression problems: reading, pixels to train and test on, PSNR, and a network fitted to them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fingerpost._pictures import load_picture
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.spectral._image_training import ImageJob, pixel_batches
from fingerpost.spectral._image_training import train as train_here
from fingerpost.spectral.nets import CoordinateMLP

_CHUNK = 8192
_LARGEST_CACHE = 2**29  # bytes of features that are kept; more are made anew for each batch


class PixelSplit(NamedTuple):
    """Coordinates (n, 2) and values (n, channels) of the pixels to train and to test on."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True)
class ImageFit:
    """What `fit_image` returns.

    Attributes:
      model: The trained network: coordinates (…, 2) to values (…, channels).
      psnr_train: Peak signal-to-noise ratio on the training pixels, in dB.
      psnr_test: The same on the pixels between them.
      reconstruction: The network at every pixel, shape (height, width, channels).
      curve: One row for each evaluation: ``step``, ``loss``, ``psnr_train``, ``psnr_test``.
    """

    model: CoordinateMLP
    psnr_train: float
    psnr_test: float
    reconstruction: Tensor
    curve: list[dict[str, float]]


def read_image(path: str | Path, *, largest: int | None = None) -> Tensor:
    """Reads a picture file: upright, on white where it is transparent.

    Takes what Pillow reads, among it 16-bit gray, palettes and pictures that a camera stored on their side (EXIF
    orientation).

    Args:
      path: The file; ``~`` is expanded.
      largest: Pixels of the longer side, at most: a larger picture is averaged down. None keeps all pixels.

    Returns:
      float32 in [0, 1], shape (height, width, 1) for a gray picture, (height, width, 3) for others.

    Raises:
      InvalidValueError: If there is no such file, it is a folder, cannot be read, is no picture, is damaged, or has
        fewer than 4 pixels on a side.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (12, 8), "red").save(f"{folder}/red.png")
    ...     image = read_image(f"{folder}/red.png", largest=6)
    >>> image.shape, image[0, 0]
    (torch.Size([4, 6, 3]), tensor([1., 0., 0.]))
    """
    if largest is not None and largest < 1:
        raise InvalidValueError(f"largest is {largest}; give at least 1 pixel, or None for all")
    return torch.from_numpy(load_picture(path, largest).copy())


def pixel_centres(height: int, width: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Coordinates ((i + ½)/height, (j + ½)/width) of pixel centres, each axis in [0, 1).

    Args:
      height: Rows.
      width: Columns.
      dtype: Precision.

    Returns:
      Shape (height, width, 2).

    >>> pixel_centres(2, 1)
    tensor([[[0.2500, 0.5000]],
    <BLANKLINE>
            [[0.7500, 0.5000]]])
    """
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).to(dtype)


def split_pixels(image: Tensor) -> PixelSplit:
    """Every second pixel of every second row to train on, and the pixels diagonally between them to test on.

    ``image[::2, ::2]`` and ``image[1::2, 1::2]``: the protocol of Tancik et al. (2020), section 6.1,
    https://arxiv.org/abs/2006.10739. The rest is not used.

    Args:
      image: Shape (height, width, channels).

    Returns:
      Pixels row by row, with the coordinates of `pixel_centres`, in the picture's dtype and device.

    Raises:
      InvalidTypeError: If the picture is no floating-point tensor.
      ShapeError: If it is not of that shape, with 2 pixels or more on each side.
      InvalidValueError: If it has values that are not finite.

    >>> split = split_pixels(torch.arange(16.0).reshape(4, 4, 1))
    >>> split.y_train.flatten(), split.y_test.flatten()
    (tensor([ 0.,  2.,  8., 10.]), tensor([ 5.,  7., 13., 15.]))
    """
    _check_image(image)
    x = pixel_centres(*image.shape[:2], dtype=image.dtype).to(image.device)
    parts = [part[k::2, k::2].flatten(0, 1) for k in (0, 1) for part in (x, image)]
    return PixelSplit(*parts)


def psnr(prediction: Tensor, target: Tensor, *, peak: float = 1.0) -> float:
    r"""Peak signal-to-noise ratio, $10 \log_{10}(\text{peak}^2 / \text{MSE})$, in dB.

    Args:
      prediction: Any shape.
      target: The same shape.
      peak: The largest value that the signal can take; 1 for pictures in [0, 1].

    Returns:
      dB; infinite where both are equal.

    Raises:
      ShapeError: If the shapes differ or there are no values.
      InvalidValueError: If a value or the peak is not finite, or the peak is not above 0.

    >>> round(psnr(torch.full((4, 4), 0.6), torch.full((4, 4), 0.5)), 3)
    20.0
    """
    if prediction.shape != target.shape or not prediction.numel():
        raise ShapeError(
            f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}; expected one shape "
            "with at least one value"
        )
    if not (math.isfinite(peak) and peak > 0):
        raise InvalidValueError(f"peak is {peak}; expected a finite number above 0")
    error = float((prediction.detach().double() - target.detach().double()).square().mean())
    if not math.isfinite(error):
        raise InvalidValueError("prediction or target has NaN or infinite values; their PSNR is not defined")
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def fit_image(
    image: Tensor,
    encoding: nn.Module | None = None,
    *,
    width: int = 256,
    depth: int = 3,
    steps: int = 2000,
    learning_rate: float = 1e-3,
    batch: int | None = None,
    evaluate_every: int | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
    train: Callable[[ImageJob], list[dict[str, float]]] | None = None,
) -> ImageFit:
    """Fits a coordinate network to a quarter of a picture's pixels, and tests it between them.

    `CoordinateMLP` with ReLU and a sigmoid at its end, trained on `split_pixels` by Adam on the mean squared error: the
    2D image regression of Tancik et al. (2020), section 6.1, https://arxiv.org/abs/2006.10739. The encoding is fixed: its
    features are computed once, not at each step. The network trains where the picture is, and in its precision.

    Args:
      image: Values in [0, 1], shape (height, width, channels); `read_image` gives one.
      encoding: Module from (…, 2) to (…, features), such as `FourierFeatures`; None hands over bare coordinates.
        A copy becomes part of the model.
      width: Units of each hidden layer.
      depth: Hidden layers; the paper counts the last layer too, and calls this 4.
      steps: Updates.
      learning_rate: Adam's.
      batch: Pixels of an update; None takes all, as the paper does.
      evaluate_every: Updates between evaluations; a tenth of `steps` unless given.
      generator: Gives initial weights and the order of pixels; None takes torch's own.
      progress: Whether to show a bar on standard error.
      train: Another loop that carries out the job, such as one that keeps checkpoints.

    Raises:
      InvalidTypeError, ShapeError, InvalidValueError: If the picture or a setting is wrong.

    >>> draw = torch.Generator().manual_seed(0)
    >>> stripes = (0.5 + 0.4 * torch.sin(8 * torch.pi * pixel_centres(16, 16)[..., :1]))
    >>> fit = fit_image(stripes, width=16, steps=20, generator=draw)
    >>> fit.reconstruction.shape, len(fit.curve), fit.psnr_test > 5
    (torch.Size([16, 16, 1]), 10, True)
    """
    _check_settings(steps=steps, batch=batch, evaluate_every=evaluate_every)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise InvalidValueError(f"learning_rate is {learning_rate}; expected a finite number above 0")
    split = split_pixels(image)
    if float(image.min()) < 0 or float(image.max()) > 1:
        raise InvalidValueError(
            f"image has values from {float(image.min()):g} to {float(image.max()):g}; expected 0 to 1, which is what the "
            "network's sigmoid can reach: divide by the largest"
        )
    seed = int(torch.randint(2**62, (), generator=generator))
    net = CoordinateMLP(
        2, image.shape[-1], width, depth, encoding=copy.deepcopy(encoding), sigmoid=True,
        generator=torch.Generator().manual_seed(seed),
    ).to(image)  # fmt: skip
    job = _job(net, split, seed, steps, learning_rate, batch, evaluate_every or max(1, steps // 10))
    curve = train_here(job, progress) if train is None else train(job)
    return ImageFit(
        net, curve[-1]["psnr_train"], curve[-1]["psnr_test"], render(net, *image.shape[:2]), curve
    )


def render(model: CoordinateMLP, height: int, width: int) -> Tensor:
    """A network's picture at any size: its values at `pixel_centres`.

    It is computed in float64, so that last bits that depend on where tensors lie in memory do not reach a picture.

    Args:
      model: Maps coordinates (…, 2) to values.
      height: Rows.
      width: Columns.

    Returns:
      Shape (height, width, channels), of the network's dtype, without gradients.

    >>> net = CoordinateMLP(2, 3, width=8, depth=1, generator=torch.Generator().manual_seed(0))
    >>> render(net, 4, 5).shape
    torch.Size([4, 5, 3])
    """
    like = next(model.parameters())
    x = pixel_centres(height, width, dtype=torch.float64).to(like.device).flatten(0, 1)
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        rows = [exact(part) for part in x.split(_CHUNK)]
    return torch.cat(rows).reshape(height, width, -1).to(like.dtype)


def _job(
    net: CoordinateMLP, split: PixelSplit, seed: int, steps: int, rate: float, batch: int | None, every: int
) -> ImageJob:
    """The training of a network on features that are made once, where they fit into memory."""
    ours, theirs = _features(net, split.x_train), _features(net, split.x_test)

    def step(model: Any, index: Any) -> dict[str, Tensor]:
        loss = nn.functional.mse_loss(model.from_features(ours(index)), split.y_train[index])
        loss.backward()
        return {"loss": loss.detach()}

    def evaluate(model: Any) -> dict[str, float]:
        return {
            "psnr_train": _psnr_of(model, ours, split.y_train),
            "psnr_test": _psnr_of(model, theirs, split.y_test),
        }

    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate, fused=True)
    batches = pixel_batches(len(split.x_train), batch, seed, split.x_train.device)
    return ImageJob(net, optimizer, step, batches, steps, evaluate, every, seed)


def _features(net: CoordinateMLP, x: Tensor) -> Callable[[Any], Tensor]:
    """From indices to the features of these points; kept from the first if the encoding is fixed and they are few."""
    with torch.no_grad():
        row = net.encode(x[:1])
    learnt = net.encoding is not None and any(p.requires_grad for p in net.encoding.parameters())
    if learnt or row.numel() * row.element_size() * len(x) > _LARGEST_CACHE:
        return lambda index: net.encode(x[index])
    with torch.no_grad():
        kept = torch.cat([net.encode(part) for part in x.split(_CHUNK)])
    return lambda index: kept[index]


def _psnr_of(net: CoordinateMLP, features: Callable[[Any], Tensor], y: Tensor) -> float:
    with torch.no_grad():
        starts = range(0, len(y), _CHUNK)
        parts = [net.from_features(features(slice(start, start + _CHUNK))) for start in starts]
    return psnr(torch.cat(parts), y)


def _check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        found = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise InvalidTypeError(
            f"image is {found}; expected a floating-point tensor in [0, 1]: read_image(path) gives one"
        )
    if image.ndim != 3 or min(image.shape) < 1 or min(image.shape[:2]) < 2:
        raise ShapeError(
            f"image has shape {tuple(image.shape)}; expected (height, width, channels) with 2 pixels or more on each side"
        )
    if not torch.isfinite(image).all():
        row, column = (~torch.isfinite(image)).any(-1).nonzero()[0].tolist()
        raise InvalidValueError(f"image is not finite at row {row}, column {column}; mend those pixels first")


def _check_settings(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InvalidValueError(f"{name} is {value}; it must be at least 1")
