"""ep-mnist reads what users have: IDX files, gzipped or not, and .npz; and refuses the rest by name."""

import dataclasses
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import ep_mnist
from fingerpost.lab import RunFolder, run_experiment

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist63k.npz"


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (60, 28, 28), dtype=np.uint8), (np.arange(60) % 10).astype(np.uint8)


def idx_bytes(array):
    return (
        b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


def write_idx(folder, x, y, packed):
    folder.mkdir()
    for name, array in (("train-images-idx3-ubyte", x), ("train-labels-idx1-ubyte", y)):
        content = idx_bytes(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_and_npz_give_the_same_pictures(tmp_path, pictures, packed):
    x, y = pictures
    write_idx(tmp_path / "idx", x, y, packed)
    np.savez(tmp_path / "both.npz", x=x.reshape(60, 784), y=y)
    ours, labels, test, _ = ep_mnist.images(str(tmp_path / "idx"))
    theirs = ep_mnist.images(str(tmp_path / "both.npz"))
    assert test is None
    assert (ours == theirs[0]).all()
    assert (labels == theirs[1]).all()
    assert ours.shape == (60, 784)
    assert float(ours.max()) <= 1


def test_kerass_npz_brings_its_own_test_images(tmp_path, pictures):
    x, y = pictures
    np.savez(tmp_path / "keras.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    ours, _, theirs, labels = ep_mnist.images(str(tmp_path / "keras.npz"))
    assert (len(ours), len(theirs), len(labels)) == (40, 20, 20)


def test_a_torn_idx_file_is_refused_with_its_sizes(tmp_path, pictures):
    (tmp_path / "torn").write_bytes(idx_bytes(pictures[0])[:-5])
    with pytest.raises(ConfigError, match=r"holds 47051 bytes.*copy it again"):
        ep_mnist.read_idx(tmp_path / "torn")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x0d\x01\x00\x00\x00\x01", b"<html>not found</html>"])
def test_what_is_no_idx_file_is_refused(tmp_path, content):
    (tmp_path / "strange").write_bytes(content)
    with pytest.raises(ConfigError, match="no IDX file"):
        ep_mnist.read_idx(tmp_path / "strange")


def test_an_npz_with_other_names_is_refused_and_its_names_listed(tmp_path):
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with pytest.raises(ConfigError, match=r"\['pictures'\]"):
        ep_mnist.images(str(tmp_path / "other.npz"))


def test_pictures_of_another_size_are_refused(tmp_path):
    np.savez(tmp_path / "small.npz", x=np.zeros((5, 64)), y=np.zeros(5, dtype=int))
    with pytest.raises(ConfigError, match=r"\(5, 64\)"):
        ep_mnist.images(str(tmp_path / "small.npz"))


@pytest.mark.parametrize("data", ["", "no/such/file.npz"])
def test_without_files_the_error_says_how_to_get_them(data):
    with pytest.raises(ConfigError, match="train-images-idx3-ubyte"):
        ep_mnist.check(dataclasses.replace(ep_mnist.PRESETS["quick"], data=data))


def test_a_folder_without_labels_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(ConfigError, match="train-labels"):
        ep_mnist.check(dataclasses.replace(ep_mnist.PRESETS["quick"], data=str(tmp_path)))


def test_more_images_than_there_are_is_refused(tmp_path, pictures):
    np.savez(tmp_path / "few.npz", x=pictures[0], y=pictures[1])
    config = dataclasses.replace(ep_mnist.PRESETS["quick"], data=str(tmp_path / "few.npz"))
    with pytest.raises(ConfigError, match="60 images"):
        run_experiment(ep_mnist, config, tmp_path / "run", name="ep-mnist")


@pytest.mark.skipif(not SHARED.exists(), reason="no MNIST file beside the checkout")
def test_on_real_mnist_backpropagation_learns_in_a_few_epochs(tmp_path):
    config = dataclasses.replace(
        ep_mnist.PRESETS["quick"],
        data=str(SHARED),
        examples=1000,
        tests=300,
        epochs=4,
        batch_size=50,
        adam_rate=0.003,
        width=32,
        depth=2,
        steps=5,
        ema=0.5,
    )
    run_experiment(ep_mnist, config, tmp_path / "run", name="ep-mnist")
    rows = [row for row in RunFolder(tmp_path / "run").metrics() if row["stage"] == "adam-backprop-seed0"]
    assert rows[-1]["accuracy"] > 0.6
