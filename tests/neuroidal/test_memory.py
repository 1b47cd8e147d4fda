"""Memory: named items that share their synapses, saved and loaded to the bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal import ImplicitGraph, Item, Memory

from neuroidal.small import GRAPH, N, OTHER, R, K  # isort: skip

DRAWN = ImplicitGraph(N, 80, seed=9)
LARGE = ImplicitGraph(20_000, 200, seed=9)


def filled(graph=DRAWN, k_a=K, k_m=11, r=R, **options) -> Memory:
    memory = Memory(graph, k_a=k_a, k_m=k_m, r=r, seed=4, **options)
    for name in ("red", "square", "blue", "round"):
        memory.add(name)
    memory.join_link("red square", "red", "square")
    memory.link("blue", "round")
    return memory


def large() -> Memory:
    return filled(LARGE, k_a=12, k_m=20, r=800)


def test_what_was_joined_and_linked_is_recognised():
    memory = large()
    assert "red square" in memory.recognised("red", "square")
    assert "red square" not in memory.recognised("red")
    assert "red square" not in memory.recognised("blue", "round")
    assert "round" in memory.recognised("blue")
    assert list(memory) == ["red", "square", "blue", "round", "red square"]
    assert len(memory) == 5


def test_a_join_is_recognised_for_both_of_its_items():
    memory = Memory(DRAWN, k_a=K, r=R)
    memory.add("red")
    memory.add("square")
    made = memory.join("red square", "red", "square")
    assert memory["red square"] is made
    assert memory.recall("red", "square")["red square"] == 1.0
    assert memory.recall("red")["red square"] < 0.2


def test_a_join_in_two_steps_needs_two_cues():
    memory = Memory(DRAWN, k_a=K, r=R)
    memory.add("red")
    memory.add("square")
    memory.join("red square", "red", "square", steps=2)
    assert memory.recall("red", "square")["red square"] == 1.0
    both = memory["red"] | memory["square"]
    assert memory.recall(both)["red square"] < 0.5


def test_a_cue_may_be_a_part_and_thresholds_may_be_lowered():
    memory = large()
    parts = [Item(memory[name].neurons[::2], LARGE.n) for name in ("red", "square")]
    found = memory.recall(*parts)
    assert 0.5 <= found["red"] < 0.52  # the other part has a few of its neurons
    assert found["red square"] < 0.5
    assert memory.recall(*parts, k_m=9)["red square"] > 0.9


def test_memories_disturb_each_other_through_synapses_that_they_share():
    memory = large()
    assert memory.recall("red", "blue")["red square"] < 0.9
    for number in range(20):
        memory.add(f"other {number}")
        memory.join_link(f"more {number}", f"other {number}", "blue")
        memory.link(f"other {number}", "red square", relay=False)
    assert memory.recall("other 3", "blue")["red square"] > 0.9


def test_a_synapse_is_raised_once():
    memory = filled()
    raised = memory.synapses
    memory.link("blue", "round")
    assert memory.synapses == raised > 1000


def test_a_memory_comes_back_to_the_bit(tmp_path):
    memory = filled(projection=ImplicitGraph(N, 80, 7, "target"))
    memory.save(tmp_path / "memory.npz")
    back = Memory.load(tmp_path / "memory.npz")
    assert back.items == memory.items
    assert back.recall("red", "blue") == memory.recall("red", "blue")
    assert (back.k_a, back.k_m, back.r, back.synapses) == (K, 11, R, memory.synapses)
    assert (back.graph, back.projection) == (memory.graph, memory.projection)
    assert back.add("new") == memory.add("new")
    assert [path.name for path in tmp_path.iterdir()] == ["memory.npz"]


def test_a_memory_on_a_stored_graph_wants_that_graph_again(tmp_path):
    path = tmp_path / "memory.npz"
    memory = filled(GRAPH, projection=OTHER)
    memory.save(path)
    with pytest.raises(InvalidValueError, match="give it: load"):
        Memory.load(path)
    back = Memory.load(path, GRAPH, OTHER)
    assert back.recall("blue") == memory.recall("blue")


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "memory.npz"
    memory = filled()
    memory.save(path)
    before = path.read_bytes()
    memory.add("more")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        memory.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["memory.npz"]


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "text"])
def test_a_damaged_file_is_refused_with_its_path(tmp_path, damage):
    path = tmp_path / "memory.npz"
    filled().save(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "foreign":
        with path.open("wb") as file:
            np.savez(file, x=np.arange(3))
    else:
        path.write_text("no memory")
    with pytest.raises(InvalidValueError, match=r"memory\.npz is damaged, or no memory"):
        Memory.load(path)


def test_a_file_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "memory.npz"
    with path.open("wb") as file:
        np.savez(file, about=np.array([{"format": 1}], dtype=object))
    with pytest.raises(InvalidValueError, match="damaged"):
        Memory.load(path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.add("red"), InvalidValueError, "already"),
        (lambda m: m.add(""), InvalidTypeError, "a word"),
        (lambda m: m.add("x", Item([1], 5)), InvalidValueError, "graph of 5 neurons"),
        (lambda m: m["bleu"], InvalidValueError, "did you mean 'blue'"),
        (lambda m: m.join("x", "red", "green"), InvalidValueError, "no item 'green'"),
        (lambda m: m.join_link("red", "blue", "round"), InvalidValueError, "already"),
        (lambda m: m.link("red", "green"), InvalidValueError, "no item 'green'"),
        (lambda m: m.recall(), InvalidTypeError, "needs a cue"),
        (lambda m: m.recall("red", k_m=99), InvalidValueError, "k_m must be from 1"),
        (lambda m: Memory(DRAWN, k_a=81), InvalidValueError, "k_a must be from 1"),
        (lambda m: Memory(DRAWN, k_a=K, r=0), InvalidValueError, "size of an item"),
        (
            lambda m: Memory(DRAWN, k_a=K, projection=ImplicitGraph(50, 5)),
            InvalidValueError,
            "50 neurons and graph 2000",
        ),
    ],
)
def test_wrong_names_and_settings_are_refused_and_change_nothing(call, error, message):
    memory = filled()
    names, synapses = list(memory), memory.synapses
    with pytest.raises(error, match=message):
        call(memory)
    assert (list(memory), memory.synapses) == (names, synapses)


def test_another_graph_than_the_files_is_refused(tmp_path):
    path = tmp_path / "memory.npz"
    filled().save(path)
    with pytest.raises(InvalidValueError, match="another graph"):
        Memory.load(path, ImplicitGraph(N, 80, seed=10))


def test_the_room_does_without_torch_and_numba():
    code = (
        "import sys\nsys.modules['numba'] = None\n"
        "from fingerpost.neuroidal import ImplicitGraph, Memory\n"
        "memory = Memory(ImplicitGraph(2000, 80, seed=9), k_a=6, k_m=11, r=120, seed=4)\n"
        "[memory.add(name) for name in ('red', 'square')]; memory.join_link('both', 'red', 'square')\n"
        "print(memory.recall('red', 'square')['both'], 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    memory = Memory(DRAWN, k_a=6, k_m=11, r=120, seed=4)
    memory.add("red")
    memory.add("square")
    memory.join_link("both", "red", "square")
    assert found.stdout.split() == [str(memory.recall("red", "square")["both"]), "False"]
