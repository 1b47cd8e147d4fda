"""Pictures for the experiments as arrays: a user's own, scikit-image's, text that is rendered here; PNG in and out."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import, require_extra
from fingerpost._pictures import load_picture, shrink
from fingerpost.errors import ConfigError, InvalidValueError
from fingerpost.lab.files import write_bytes

np = lazy_import("numpy")

SAMPLES = ("astronaut", "camera", "coffee", "chelsea")
_SMALLEST = 32
_LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789&?!"
_INKS = ("#000000", "#1b3a6b", "#8a1c1c", "#14532d", "#5b2a86", "#7a4a00")


def check_own(path: str) -> None:
    """Raises ConfigError unless a user's picture can be read and is large enough to be fitted; imports no torch."""
    own_picture(path, None)


def own_picture(path: str, largest: int | None) -> Any:
    """A user's picture, shrunk to `largest` and cut to even sides; what is wrong with it is a ConfigError."""
    try:
        array = load_picture(path, largest)
    except InvalidValueError as error:
        raise ConfigError(f"--path: {error}") from error
    height, width = (n // 2 * 2 for n in array.shape[:2])
    if min(height, width) < _SMALLEST:
        raise ConfigError(
            f"--path: {path} has {array.shape[1]}×{array.shape[0]} pixels here; at least {_SMALLEST} on each side are "
            "needed to train on some and test on others"
        )
    return array[:height, :width]


def needs_samples(what: str) -> None:
    """Raises ConfigError unless scikit-image is installed."""
    if importlib.util.find_spec("skimage") is None:
        raise ConfigError(
            f"scikit-image is needed for {what}: pip install 'fingerpost[image]' brings it, or give a picture "
            "of yours to fingerpost run image --path photo.jpg"
        )


def sample_picture(name: str, size: int) -> Any:
    """One of scikit-image's pictures, inside its wheel: the middle square, averaged down to `size` pixels."""
    source = require_extra("skimage.data", "image", "the pictures inside its wheel")
    array = np.asarray(getattr(source, name)(), np.float32) / 255
    array = array[..., None] if array.ndim == 2 else array
    side = min(array.shape[:2])
    top, left = ((n - side) // 2 for n in array.shape[:2])
    return shrink(array[top : top + side, left : left + side], size)


def text_picture(size: int, seed: int) -> Any:
    """Words of random letters in random sizes and inks on white, in DejaVu Sans, which matplotlib brings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    generator = np.random.default_rng(seed)
    figure = Figure(figsize=(1, 1), dpi=size, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    y = 0.97
    while y > 0.06:
        height = generator.uniform(0.06, 0.16)
        x = -generator.uniform(0, 0.1)
        while x < 1:
            word = "".join(generator.choice(list(_LETTERS), generator.integers(2, 9)))
            ink = generator.choice(list(_INKS))
            style: dict[str, Any] = {
                "family": "DejaVu Sans",
                "weight": str(generator.choice(["normal", "bold"])),
            }
            text = figure.text(x, y, word, va="top", fontsize=72 * height * 0.85, color=ink, **style)
            x = text.get_window_extent(canvas.get_renderer()).x1 / size + 0.35 * height
        y -= height
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.float32)[..., :3] / 255


def eight_bit(array: Any) -> Any:
    """Values in [0, 1] as bytes, (height, width) for one channel: what a PNG file holds."""
    whole = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
    return whole[..., 0] if whole.shape[-1] == 1 else whole


def write_png(path: Path, array: Any) -> None:
    """Writes a picture (height, width, channels) in [0, 1] as an 8-bit PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(eight_bit(array)).save(buffer, format="PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def read_png(path: Path) -> Any:
    """Reads what `write_png` wrote."""
    return load_picture(path)
