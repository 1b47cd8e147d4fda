"""Pictures: reading files of every kind, the pixels to train and test on, PSNR, and the fit."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.spectral.images import fit_image, pixel_centres, psnr, read_image, render, split_pixels

RED, HALF = (255, 0, 0), 128


def ramp(dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    return np.linspace(0, top, 48).reshape(6, 8).astype(dtype)


def test_gray_and_colour_files_keep_their_values(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for name, array in (("gray.png", ramp()), ("rgb.png", rgb), ("rgb.bmp", rgb), ("rgb.tiff", rgb)):
        Image.fromarray(array).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.dtype == torch.float32
        assert image.shape == (6, 8, 1 if array.ndim == 2 else 3)
        expected = torch.from_numpy(array.astype(np.float32) / 255).reshape(image.shape)
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-7)


def test_a_jpeg_is_read_to_its_own_error(tmp_path):
    smooth = np.repeat(ramp()[..., None], 3, -1)
    Image.fromarray(smooth).resize((64, 48)).save(tmp_path / "photo.jpg", quality=95)
    assert read_image(tmp_path / "photo.jpg").shape == (48, 64, 3)


def test_transparency_lies_on_white(tmp_path):
    rgba = np.zeros((5, 5, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, HALF
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png")
    assert image[0, 0].tolist() == [1, 1, 1]
    torch.testing.assert_close(image[1, 1], torch.tensor([1, 1 - HALF / 255, 1 - HALF / 255]))
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    gray = read_image(tmp_path / "la.png")
    assert gray.shape == (5, 5, 1)
    assert gray[0, 0].item() == 1 > gray[1, 1].item()


def test_palettes_with_and_without_a_transparent_colour_are_read(tmp_path):
    picture = Image.new("P", (5, 5), 1)
    picture.putpalette([0, 0, 255, *RED, *[0] * 762])
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "plain.png")[2, 2].tolist() == [1, 0, 0]
    assert read_image(tmp_path / "clear.png")[2, 2].tolist() == [1, 1, 1]


def test_black_and_white_and_print_colours_are_read(tmp_path):
    Image.new("1", (5, 5), 1).save(tmp_path / "bits.png")
    Image.new("CMYK", (5, 5), (0, 255, 255, 0)).save(tmp_path / "print.tiff")
    assert read_image(tmp_path / "bits.png").flatten().tolist() == [1] * 25
    assert read_image(tmp_path / "print.tiff")[0, 0].tolist() == [1, 0, 0]


def test_sixteen_bits_keep_their_steps(tmp_path):
    deep = ramp(np.uint16, 65_535)
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(deep).save(tmp_path / name)
        image = read_image(tmp_path / name)
        torch.testing.assert_close(image[..., 0], torch.from_numpy(deep.astype(np.float32) / 65_535))


def test_floats_are_read_from_zero_to_one_and_refused_beyond(tmp_path):
    values = ramp(np.float32, 1)
    Image.fromarray(values).save(tmp_path / "float.tiff")
    torch.testing.assert_close(read_image(tmp_path / "float.tiff")[..., 0], torch.from_numpy(values))
    Image.fromarray(values * 300).save(tmp_path / "wide.tiff")
    with pytest.raises(InvalidValueError, match="from 0 to 300"):
        read_image(tmp_path / "wide.tiff")


def test_a_picture_stored_on_its_side_is_turned_upright(tmp_path):
    array = np.zeros((4, 8, 3), np.uint8)
    array[:, 0] = 255  # the left column, which orientation 6 turns to the top row
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "side.png", exif=exif)
    image = read_image(tmp_path / "side.png")
    assert image.shape == (8, 4, 3)
    assert image[0].min() == 1
    assert image[1:].max() == 0


def test_a_large_picture_is_averaged_down(tmp_path):
    array = np.kron(ramp(), np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "large.png")
    small = read_image(tmp_path / "large.png", largest=8)
    torch.testing.assert_close(small[..., 0], torch.from_numpy(ramp().astype(np.float32) / 255))
    assert read_image(tmp_path / "large.png", largest=100).shape == (24, 32, 1)


def damaged_files(folder):
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    (folder / "cut.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "words.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (9, 2)).save(folder / "flat.png")
    (folder / "folder.png").mkdir()
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "there is no file"),
        ("folder.png", "is a folder"),
        ("words.jpg", "is not a picture"),
        ("empty.png", "is not a picture"),
        ("cut.png", "damaged or cut short"),
        ("cut.jpg", "damaged or cut short"),
        ("flat.png", "has 9×2 pixels"),
        ("bomb.png", "too many pixels"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, name, message):
    damaged_files(tmp_path)
    with pytest.raises(InvalidValueError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_largest_below_one_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match="largest is 0"):
        read_image(tmp_path / "any.png", largest=0)


def test_pixel_centres_are_half_a_pixel_in():
    x = pixel_centres(4, 10, dtype=torch.float64)
    assert x.shape == (4, 10, 2)
    torch.testing.assert_close(x[1, 2], torch.tensor([0.375, 0.25], dtype=torch.float64))
    assert x.min() > 0
    assert x.max() < 1


@pytest.mark.parametrize(("height", "width", "train", "test"), [(6, 8, 12, 12), (5, 7, 12, 6)])
def test_train_and_test_pixels_are_the_papers_and_disjoint(height, width, train, test):
    image = torch.rand(height, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    split = split_pixels(image)
    assert split.x_train.shape == (train, 2)
    assert split.x_test.shape == (test, 2)
    torch.testing.assert_close(split.y_train, image[::2, ::2].reshape(-1, 3))
    torch.testing.assert_close(split.y_test, image[1::2, 1::2].reshape(-1, 3))
    apart = torch.cdist(split.x_train, split.x_test).min()
    assert apart > 0.9 * math.hypot(1 / height, 1 / width)


def test_psnr_is_its_formula_and_infinite_for_equals():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 9, 5, 3, generator=generator, dtype=torch.float64)
    expected = 10 * math.log10(4 / (a - b).square().mean())
    assert psnr(a, b, peak=2.0) == pytest.approx(expected, rel=1e-12)
    assert psnr(a, a) == math.inf


def test_psnr_refuses_what_has_none():
    a = torch.zeros(3, 2)
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\(2, 3\)"):
        psnr(a, torch.zeros(2, 3))
    with pytest.raises(InvalidValueError, match="NaN or infinite"):
        psnr(a, torch.full((3, 2), math.nan))
    with pytest.raises(InvalidValueError, match="peak is 0"):
        psnr(a, a, peak=0)


class Waves(torch.nn.Module):
    """Sines and cosines of integer frequencies, small enough to count."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("k", torch.arange(1.0, frequencies + 1, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        phase = 2 * math.pi * (x[..., None] * self.k).flatten(-2)
        return torch.cat([phase.sin(), phase.cos()], -1)


def stripes(periods: int = 4, side: int = 32) -> torch.Tensor:
    x = pixel_centres(side, side, dtype=torch.float64)
    return 0.5 + 0.4 * torch.sin(2 * math.pi * periods * x[..., :1]) * torch.ones(3, dtype=torch.float64)


def fitted(image, encoding=None, **options):
    options = {"width": 32, "steps": 60, "learning_rate": 5e-3} | options
    return fit_image(image, encoding, generator=torch.Generator().manual_seed(3), **options)


def test_features_of_the_right_frequency_reach_what_bare_coordinates_do_not():
    bare, waves = fitted(stripes()), fitted(stripes(), Waves(4))
    assert waves.psnr_test > bare.psnr_test + 10
    assert waves.reconstruction.shape == (32, 32, 3)
    assert waves.reconstruction.dtype == torch.float64


def test_a_fit_reports_what_its_network_gives():
    image = stripes()
    fit = fitted(image, Waves(4), batch=16, evaluate_every=25)
    assert [row["step"] for row in fit.curve] == [25, 50, 60]
    split = split_pixels(image)
    with torch.no_grad():
        assert psnr(fit.model(split.x_train), split.y_train) == pytest.approx(fit.psnr_train, rel=1e-12)
        assert psnr(fit.model(split.x_test), split.y_test) == pytest.approx(fit.psnr_test, rel=1e-12)
    assert psnr(fit.reconstruction[1::2, 1::2], image[1::2, 1::2]) == pytest.approx(fit.psnr_test, rel=1e-9)
    torch.testing.assert_close(fit.reconstruction, render(fit.model, 32, 32))


def test_the_generator_alone_decides_and_the_global_one_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fitted(stripes(), Waves(2), batch=10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = fitted(stripes(), Waves(2), batch=10)
    torch.testing.assert_close(first.reconstruction, second.reconstruction, rtol=0, atol=0)


def test_features_are_made_once_and_the_callers_encoding_is_left_alone():
    encoding = Waves(2)
    short, long = (fitted(stripes(), encoding, steps=steps).model.encoding.calls for steps in (5, 50))
    assert short == long
    assert encoding.calls == 0


def test_a_learnt_encoding_is_learnt():
    linear = torch.nn.Linear(2, 8, dtype=torch.float64)
    fit = fitted(stripes(), linear)
    assert not torch.equal(fit.model.encoding.weight, linear.weight)


def test_features_beyond_the_cache_give_the_same_fit(monkeypatch):
    kept = fitted(stripes(), Waves(2), batch=16)
    monkeypatch.setattr("fingerpost.spectral.images._LARGEST_CACHE", 0)
    made = fitted(stripes(), Waves(2), batch=16)
    torch.testing.assert_close(made.reconstruction, kept.reconstruction, rtol=1e-9, atol=1e-12)


def test_every_epoch_of_batches_visits_each_pixel_once():
    seen = []

    def carry_out(job):
        seen.extend(job.batches(k) for k in range(32))
        return [{"step": 1.0, "loss": 0.0, **job.evaluate(job.model)}]

    fitted(stripes(), batch=16, train=carry_out)
    for epoch in (seen[:16], seen[16:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(256))
    assert not torch.equal(torch.cat(seen[:16]), torch.cat(seen[16:]))


def test_progress_goes_to_standard_error_and_says_the_psnr(capsys):
    fitted(stripes(), steps=10, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "dB" in err


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.zeros(8, 8, 3, dtype=torch.uint8), InvalidTypeError, "uint8"),
        (np.zeros((8, 8, 3)), InvalidTypeError, "ndarray"),
        (torch.zeros(8, 8), ShapeError, r"\(8, 8\)"),
        (torch.zeros(1, 8, 3), ShapeError, r"\(1, 8, 3\)"),
        (torch.full((8, 8, 3), 255.0), InvalidValueError, "from 255 to 255"),
        (torch.full((8, 8, 3), math.nan), InvalidValueError, "row 0, column 0"),
    ],
)
def test_what_is_no_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        fit_image(image)


@pytest.mark.parametrize("option", ["steps", "batch", "evaluate_every", "learning_rate"])
def test_settings_that_cannot_work_are_refused_by_name(option):
    with pytest.raises(InvalidValueError, match=f"{option} is 0"):
        fit_image(stripes(), **{option: 0})
