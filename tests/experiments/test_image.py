"""image: a user's own picture read, refused or fitted; figures and claims where they must fail; the whole in small."""

import dataclasses
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from fingerpost.cli import main
from fingerpost.errors import ConfigError
from fingerpost.experiments import _image_figures as figures
from fingerpost.experiments import _image_files as files
from fingerpost.experiments import _image_fits as fits
from fingerpost.experiments import image
from fingerpost.lab import Run, trainer

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "largest": 48, "sigmas": (1.0, 4.0), "highest": (4.0, 8.0), "frequencies": 16, "width": 8, "depth": 1, "steps": 12,
    "batch": 32,
}  # fmt: skip


def photo(path, width=60, height=41):
    """A picture with an edge and a wave, which bare coordinates can't follow in a few steps."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * (3 * x + 2 * y))
    array = np.stack([wave, np.where(x > 0.5, 0.9, 0.1), y], -1)
    Image.fromarray((255 * array).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("image")
    return carry_out("image", root / "run", path=str(photo(root / "photo.png")), **TINY)


def test_the_folder_holds_the_original_and_every_reconstruction_as_png(folder):
    pictures = folder.directory / "pictures"
    names = {path.name for path in pictures.iterdir()}
    assert names == {"original.png", "none.png", "basic.png", "positional.png", "gaussian.png"}
    assert {Image.open(path).size for path in pictures.iterdir()} == {(48, 32)}


def test_the_report_shows_reconstructions_curves_and_the_choice_of_sigma(folder):
    assert {path.stem for path in (folder.directory / "figures").iterdir()} == {
        "reconstructions",
        "curves",
        "sigma",
    }
    svg = (folder.directory / "figures" / "reconstructions.svg").read_text()
    ElementTree.fromstring(svg)
    assert svg.count("<image ") == 14 + 1  # five wholes, five cut-outs, four errors; the bar
    table = (folder.directory / "tables" / "psnr.csv").read_text()
    assert all(name in table for name in [*fits.ENCODINGS, "cubic splines"])


def test_a_second_run_leaves_the_same_bytes(folder, tmp_path):
    path = str(folder.directory.parent / "photo.png")
    carry_out("image", tmp_path / "again", path=path, **TINY)
    assert results_of(tmp_path / "again") == results_of(folder.directory)


def test_a_run_that_was_killed_while_training_ends_the_same(folder, tmp_path, monkeypatch):
    config = dataclasses.replace(
        image.PRESETS["quick"], path=str(folder.directory.parent / "photo.png"), **TINY
    )
    train, calls = trainer.train, []

    def train_and_die(*arguments, **options):
        calls.append(options["stage"])
        if len(calls) == 3:
            with pytest.raises(KeyboardInterrupt):
                train(
                    *arguments,
                    **options | {"steps": 12, "checkpoint_seconds": 0, "evaluate": interrupt(options)},
                )
            raise KeyboardInterrupt
        return train(*arguments, **options)

    def interrupt(options):
        seen = []

        def evaluate(model):
            seen.append(1)
            if len(seen) == 5:
                raise KeyboardInterrupt
            return options["evaluate"](model)

        return evaluate

    options = {"experiment": "image", "config": config, "preset": "quick"}
    monkeypatch.setattr(trainer, "train", train_and_die)
    run = Run.open(tmp_path / "run", **options)
    with pytest.raises(KeyboardInterrupt):
        image.run(config, run)
    run.close(None)
    monkeypatch.setattr(trainer, "train", train)
    run = Run.open(tmp_path / "run", **options)
    image.run(config, run)
    run.close("completed")
    assert results_of(tmp_path / "run") == results_of(folder.directory)


def test_curves_start_at_the_picture_of_the_protocol(folder):
    rows = [
        line for line in (folder.directory / "metrics.jsonl").read_text().splitlines() if "psnr_test" in line
    ]
    assert {re.search(r'"stage": ?"([a-z]+)-train"', row).group(1) for row in rows} == set(fits.STEM.values())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jpg", None, "there is no file"),
        ("words.jpg", b"not a picture", "is not a picture"),
        ("empty.png", b"", "is not a picture"),
    ],
)
def test_a_bad_path_is_one_line_and_exit_status_2(tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["run", "image", "--path", str(tmp_path / name), "--run-dir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_bad_path_is_told_before_torch_is_loaded(tmp_path):
    code = (
        "import sys\n"
        "from fingerpost.cli import main\n"
        f"status = main(['run', 'image', '--path', {str(tmp_path)!r}])\n"
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "is a folder" in done.stderr


def test_a_picture_too_small_to_split_is_refused(tmp_path):
    Image.new("RGB", (200, 20)).save(tmp_path / "strip.png")
    with pytest.raises(ConfigError, match="200×20"):
        image.check(dataclasses.replace(image.Config(), path=str(tmp_path / "strip.png")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"frequencies": 7}, "must be even"),
        ({"batch": -1}, "batch is -1"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"sigmas": ()}, "sigmas is"),
        ({"highest": (-1.0,)}, "highest is"),
        ({"largest": 8}, "largest is 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        image.check(dataclasses.replace(image.Config(), **changes))


def test_a_picture_with_odd_sides_is_cut_to_even_ones(tmp_path):
    assert files.own_picture(str(photo(tmp_path / "odd.png", 61, 43)), None).shape == (42, 60, 3)


def test_the_cut_out_is_where_the_gain_is():
    gain = np.zeros((30, 40))
    gain[12:17, 21:26] = 1.0
    window = figures.where_most(gain, 5)
    assert window == (12, 21, 5)
    assert window.of(gain).min() == 1
    assert figures.where_most(gain, 99).side == 30


def test_splines_find_a_smooth_picture_between_the_pixels_and_not_a_rough_one():
    x = (np.arange(64) + 0.5) / 64
    smooth = torch.from_numpy(0.5 + 0.4 * np.sin(2 * np.pi * x)[:, None] * np.cos(2 * np.pi * x))[..., None]
    noise = torch.rand(64, 64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert fits.interpolated(smooth) > 40
    assert fits.interpolated(noise) < 12


def test_claims_fail_where_features_do_not_help():
    rng = np.random.default_rng(0)
    original = rng.uniform(size=(64, 64, 3))
    good, bad = original + rng.normal(0, 0.01, original.shape), original + rng.normal(0, 0.2, original.shape)
    scores = dict(zip(fits.ENCODINGS, ({"psnr_test": v} for v in (10.0, 15.0, 20.0, 21.0))))
    pictures = dict.fromkeys(fits.ENCODINGS, bad)
    held = image.claims(original, pictures | {fits.GAUSSIAN: good}, scores)
    assert [claim.holds for claim in held] == [True, True]
    scores[fits.GAUSSIAN] = {"psnr_test": 19.0}
    failed = image.claims(original, pictures | {fits.NONE: good}, scores)
    assert [claim.holds for claim in failed] == [False, False]
    assert failed[1].measured == pytest.approx(-1.0)


def test_png_files_give_back_their_bytes(tmp_path):
    for channels in (1, 3):
        array = np.random.default_rng(0).integers(0, 256, (9, 7, channels)).astype(np.float32) / 255
        files.write_png(tmp_path / "a.png", array)
        np.testing.assert_allclose(files.read_png(tmp_path / "a.png"), array, atol=1e-7)


def test_no_figure_of_a_detailed_picture_passes_half_a_megabyte():
    from fingerpost.lab.style import svg_bytes

    noise = np.random.default_rng(0).uniform(size=(256, 256, 3))
    rough = (noise + np.linspace(0, 1, 256)[:, None, None]) / 2
    figure = figures.comparison(
        rough,
        dict.fromkeys(fits.ENCODINGS, rough),
        dict.fromkeys(fits.ENCODINGS, 20.0),
        figures.Window(0, 0, figures.CUT),
    )
    assert len(svg_bytes(figure)) < 1_000_000
