"""Reading a picture file as an array, without torch: what a command line checks before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fingerpost.errors import InvalidValueError

if TYPE_CHECKING:
    import numpy as np

SMALLEST = 4
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def load_picture(path: str | Path, largest: int | None = None) -> np.ndarray:
    """Reads a picture upright, on white where it is transparent, shrunk by averaging where it is too large.

    Args:
      path: The file; ``~`` is expanded.
      largest: Pixels of the longer side, at most; None keeps them all.

    Returns:
      float32 in [0, 1], shape (height, width, 1) for a gray picture and (height, width, 3) for others.

    Raises:
      InvalidValueError: If there is no such file, it is a folder, cannot be read, is no picture, is damaged, or has
        fewer than 4 pixels on a side.
    """
    file = Path(path).expanduser()
    picture = _opened(file)
    array = _as_array(picture, file)
    if largest is not None:
        array = shrink(array, largest)
    if min(array.shape[:2]) < SMALLEST:
        raise InvalidValueError(
            f"{file} has {array.shape[1]}×{array.shape[0]} pixels; at least {SMALLEST}×{SMALLEST} are needed"
        )
    return array


def _opened(file: Path) -> Any:
    """The decoded picture, turned as its EXIF orientation says."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if file.is_dir():
        raise InvalidValueError(f"{file} is a folder; give one picture file")
    if not file.exists():
        raise InvalidValueError(f"there is no file {str(file)!r}; give a picture, such as photo.jpg")
    try:
        with Image.open(file) as source:
            source.load()
            return ImageOps.exif_transpose(source)
    except UnidentifiedImageError as error:
        raise InvalidValueError(
            f"{file} is not a picture that can be read here; give PNG, JPEG, TIFF, WebP, GIF or BMP"
        ) from error
    except Image.DecompressionBombError as error:
        raise InvalidValueError(f"{file} has too many pixels to be read safely; shrink it first") from error
    except PermissionError as error:
        raise InvalidValueError(f"{file} cannot be read: {error.strerror}") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:  # what Pillow's decoders raise
        raise InvalidValueError(f"{file} is damaged or cut short: {error}") from error


def _as_array(picture: Any, file: Path) -> np.ndarray:
    import numpy as np

    if picture.mode in _DEEP or picture.mode == "F":
        return _deep(np.asarray(picture), picture.mode, file)[..., None]
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"), np.float32) / 255
        alpha = rgba[..., 3:]
        array = rgba[..., :3] * alpha + (1 - alpha)
        return array[..., :1] if picture.mode in _GRAY else array
    array = np.asarray(picture.convert("L" if picture.mode in _GRAY else "RGB"), np.float32) / 255
    return array[..., None] if array.ndim == 2 else array


def _deep(array: np.ndarray, mode: str, file: Path) -> np.ndarray:
    """A picture of one channel with more than 8 bits: integers count to 65,535, floats to 1."""
    import numpy as np

    full = 1.0 if mode == "F" else 65_535.0
    values = array.astype(np.float32) / full
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):
        raise InvalidValueError(
            f"{file} has values from {least * full:g} to {most * full:g}; a picture of mode {mode!r} is read when "
            f"they lie from 0 to {full:g}: save it with 8 or 16 bits"
        )
    return values


def shrink(array: np.ndarray, largest: int) -> np.ndarray:
    """Averages a picture (height, width, channels) down until its longer side has at most `largest` pixels."""
    import numpy as np

    height, width = array.shape[:2]
    scale = largest / max(height, width)
    if scale >= 1:
        return array
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.stack([_averaged(array[..., k], size) for k in range(array.shape[2])], -1)


def _averaged(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import numpy as np
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(small).clip(0, 1)
