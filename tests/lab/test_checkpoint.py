from __future__ import annotations

import errno
import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fingerpost.errors import RunError
from fingerpost.lab.checkpoint import Checkpoint, pack, unpack

STATE = {"step": 3, "model": {"w": torch.arange(4.0)}, "metrics": [0, 10]}

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


def saved(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", "digest")
    checkpoint.begin({"metrics": [0, 0]})
    checkpoint.save(STATE)
    return tmp_path / "c"


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(trees)
def test_any_nested_state_comes_back_with_its_types(tree):
    tensors = {}
    back = unpack(pack(tree, tensors), tensors)
    assert back == tree
    assert repr(back) == repr(tree)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex128])
def test_tensors_of_every_kind_come_back(tmp_path, dtype):
    value = torch.arange(6).reshape(2, 3).to(dtype)
    checkpoint = Checkpoint(tmp_path / "c", "d")
    checkpoint.save(
        {"plain": value, "turned": value.T, "scalar": value[0, 1], "same": value, "empty": value[:0]}
    )
    back = Checkpoint(tmp_path / "c", "d").begin({})
    for name, expected in {
        "plain": value,
        "turned": value.T,
        "scalar": value[0, 1],
        "empty": value[:0],
    }.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], expected)


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot hold /extra/f: a function"):
        Checkpoint(tmp_path / "c", "d").save({"extra": {"f": lambda: 1}})


def test_a_fresh_folder_gives_the_facts_and_a_saved_one_its_state(tmp_path):
    folder = tmp_path / "c"
    assert Checkpoint(folder, "digest").begin({"metrics": [1, 1]}) == {"metrics": [1, 1]}
    assert Checkpoint(folder, "digest").begin({"metrics": [9, 9]}) == {"metrics": [1, 1]}
    saved(tmp_path)
    back = Checkpoint(folder, "digest").begin({})
    assert back["step"] == 3
    assert torch.equal(back["model"]["w"], torch.arange(4.0))


def test_one_pair_is_kept_and_the_same_state_gives_the_same_bytes(tmp_path):
    folder = saved(tmp_path)
    before = bytes_of(folder)
    Checkpoint(folder, "digest").save({**STATE, "model": {"w": torch.ones(2)}})
    assert len(bytes_of(folder)) == 2
    Checkpoint(folder, "digest").save(STATE)
    assert bytes_of(folder) == before


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_every_flipped_byte_is_refused_with_the_path_and_nothing_is_overwritten(tmp_path, suffix):
    folder = saved(tmp_path)
    (path,) = folder.glob(f"*.{suffix}")
    content = path.read_bytes()
    for place in range(0, len(content) - 2, 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        before = bytes_of(folder)
        with pytest.raises(RunError, match=path.name):
            Checkpoint(folder, "digest").begin({})
        assert bytes_of(folder) == before


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("length", [0, 1, 20, 70])
def test_a_cut_file_is_refused(tmp_path, suffix, length):
    folder = saved(tmp_path)
    (path,) = folder.glob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=path.name):
        Checkpoint(folder, "digest").begin({})


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_missing_file_is_refused(tmp_path, suffix):
    folder = saved(tmp_path)
    (path,) = folder.glob(f"*.{suffix}")
    path.unlink()
    before = bytes_of(folder)
    with pytest.raises(RunError, match=f"{path.name} is missing"):
        Checkpoint(folder, "digest").begin({})
    assert bytes_of(folder) == before


class Trap:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_as_such_and_never_loaded(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path)
    (path,) = folder.glob("*.safetensors")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save(Trap(), path)
    with pytest.raises(RunError, match="is a pickle where safetensors belong"):
        Checkpoint(folder, "digest").begin({})
    assert not (tmp_path / "trapped").exists()


def test_another_configuration_s_checkpoint_is_refused(tmp_path):
    folder = saved(tmp_path)
    with pytest.raises(RunError, match="belongs to another experiment or configuration"):
        Checkpoint(folder, "other").begin({})


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    folder = saved(tmp_path)
    before = bytes_of(folder)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in range(1, 5):
        fsync, count = os.fsync, [0]

        def counted(descriptor, place=place, fsync=fsync, count=count):
            count[0] += 1
            return full() if count[0] == place else fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted)
            with pytest.raises(RunError, match="No space left"):
                Checkpoint(folder, "digest").save({**STATE, "step": 4, "model": {"w": torch.ones(place)}})
        if place <= 3:
            assert Checkpoint(folder, "digest").begin({})["step"] == 3
            assert bytes_of(folder).items() >= before.items()
