"""A memory's file, its lists of names, and when a JOIN-LINK needs relays."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
from scipy import sparse

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal import ImplicitGraph, Item, Memory, StoredGraph
from fingerpost.neuroidal._raised import RaisedSynapses

from neuroidal.small import GRAPH, N, R, K  # isort: skip

DRAWN = ImplicitGraph(N, 80, seed=9)
NAMES = ["red", "square", "blue", "round"]


def filled(graph=DRAWN, k_m: int | None = 11, **options) -> Memory:
    memory = Memory(graph, k_a=K, k_m=k_m, r=R, seed=4, **options)
    for name in NAMES:
        memory.add(name)
    return memory


def test_lists_of_names_make_what_one_after_another_makes():
    one, many = filled(), filled()
    for name, a, b in (("x", "red", "blue"), ("y", "square", "round")):
        one.join(name, a, b)
    joins = many.join(["x", "y"], ["red", "square"], ["blue", "round"])
    assert many["y"] is joins[1]
    for name, a, b in (("v", "red", "square"), ("w", "blue", "round")):
        one.join_link(name, a, b)
    many.join_link(["v", "w"], ["red", "blue"], ["square", "round"])
    for source, target in (("red", "round"), ("blue", "x")):
        one.link(source, target)
    many.link(["red", "blue"], ["round", "x"])
    assert one.items == many.items
    assert one.synapses == many.synapses
    for cue in (("red", "square"), ("red",), ("blue", "round"), ("x", "y")):
        assert one.recall(*cue) == many.recall(*cue)


def test_a_list_that_can_not_be_had_changes_nothing():
    memory = filled()
    for call, error, message in (
        (lambda: memory.join(["x", "x"], ["red"] * 2, ["blue"] * 2), InvalidValueError, "given twice"),
        (lambda: memory.join(["x", "red"], ["red"] * 2, ["blue"] * 2), InvalidValueError, "already"),
        (lambda: memory.join(["x"], ["red"] * 2, ["blue"] * 2), ShapeError, "1 name for 2 items"),
        (lambda: memory.join_link(["x", "y"], ["red"], ["blue"]), ShapeError, "2 names for 1 item;"),
        (lambda: memory.join_link(["x", "y"], ["red", "ret"], ["blue"] * 2), InvalidValueError, "did you mean 'red'"),
        (lambda: memory.link(["red"], ["blue", "round"]), ShapeError, "1 sources and 2 targets"),
        (lambda: memory.join([3], ["red"], ["blue"]), InvalidTypeError, "a word"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert list(memory) == NAMES
    assert memory.synapses == 0


def test_a_join_link_has_relays_where_its_join_is_too_small_to_fire_the_target():
    graph = ImplicitGraph(20_000, 200, seed=2)
    for k_m, relays in ((20, True), (16, False)):
        memory = Memory(graph, k_a=10, k_m=k_m)
        for name in ("red", "square"):
            memory.add(name)
        memory.join_link("both", "red", "square")
        assert memory.recall("red", "square")["both"] > 0.9
        plain = Memory(graph, k_a=10, k_m=k_m)
        for name in ("red", "square"):
            plain.add(name)
        plain.join_link("both", "red", "square", relay=relays)
        assert plain.synapses == memory.synapses
        other = Memory(graph, k_a=10, k_m=k_m)
        for name in ("red", "square"):
            other.add(name)
        other.join_link("both", "red", "square", relay=not relays)
        assert other.synapses != memory.synapses


def test_raised_synapses_are_a_set_that_fires_what_a_matrix_of_it_fires():
    draw = np.random.default_rng(3)
    found, dense = RaisedSynapses(), np.zeros((50, 50), bool)
    assert len(found) == 0
    assert found.fire(np.arange(50), 1).tolist() == []
    for _ in range(5):
        source, target = draw.integers(0, 50, (2, 80))
        found.add(source, target)
        dense[source, target] = True
        active = draw.choice(50, 20, replace=False)
        for k in (1, 3, 6):
            assert found.fire(active, k).tolist() == np.flatnonzero(dense[active].sum(0) >= k).tolist()
        assert len(found) == dense.sum()
    source, target = found.edges()
    assert np.array_equal(np.stack(np.nonzero(dense.T)), np.stack([target, source]))


def loaded(path) -> Memory | str:
    """The memory, or the words in which it was refused."""
    try:
        return Memory.load(path)
    except FingerpostError as error:
        return str(error)


def test_no_byte_of_a_file_can_change_unnoticed(tmp_path):
    path, draw = tmp_path / "memory.npz", np.random.default_rng(0)
    memory = filled()
    memory.link("blue", "round")
    memory.save(path)
    content, expected = path.read_bytes(), memory.recall("blue")
    for place in [
        *draw.integers(0, len(content), 60),
        *range(0, 40),
        *range(len(content) - 40, len(content)),
    ]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        outcome = loaded(path)
        if isinstance(outcome, str):
            assert str(path) in outcome
        else:  # a date, or another field of the archive that holds nothing of the memory
            assert outcome.recall("blue") == expected
            assert outcome.items == memory.items


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_cut_file_is_refused(tmp_path, length):
    path = tmp_path / "memory.npz"
    filled().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InvalidValueError, match=r"memory\.npz is damaged"):
        Memory.load(path)


def rewritten(path, **changes):
    with np.load(path) as file:
        contents = {name: file[name] for name in file.files}
    np.savez(path, **(contents | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_0": np.array([5, N])}, "outside a graph"),
        ({"item_0": np.array([0.5])}, "integers"),
        ({"source": np.array([-1, 2]), "target": np.array([1, 2])}, "outside a graph"),
        ({"source": np.array([1]), "target": np.array([1, 2])}, "damaged"),
        ({"about": np.frombuffer(b"[1]", np.uint8)}, "damaged"),
        ({"about": np.frombuffer(b'{"format": 2}', np.uint8)}, "format 2"),
        ({"about": np.frombuffer(b'{"format": 1}', np.uint8)}, "no graph"),
        ({"about": np.frombuffer(b'{"format": 1, "graph": {"kind": "implicit"}}', np.uint8)}, "damaged"),
    ],
)
def test_a_file_whose_content_makes_no_sense_is_refused_with_its_path(tmp_path, changes, message):
    path = tmp_path / "memory.npz"
    filled().save(path)
    rewritten(path, **changes)
    with pytest.raises(InvalidValueError, match=message) as caught:
        Memory.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Memory.load(tmp_path / "none.npz")


def test_a_stored_graph_with_other_edges_is_refused(tmp_path):
    path = tmp_path / "memory.npz"
    filled(GRAPH).save(path)
    moved = sparse.csr_array(GRAPH.matrix[np.r_[1, 0, 2:N]])
    with pytest.raises(InvalidValueError, match="another graph"):
        Memory.load(path, StoredGraph(moved, GRAPH.degree, GRAPH.seed))
    with pytest.raises(InvalidValueError, match="another graph"):
        Memory.load(path, DRAWN)
    assert Memory.load(path, GRAPH).items == filled(GRAPH).items


def test_a_projection_that_was_not_there_is_refused(tmp_path):
    path = tmp_path / "memory.npz"
    filled().save(path)
    with pytest.raises(InvalidValueError, match="without a projection"):
        Memory.load(path, projection=ImplicitGraph(N, 80, 1))
    filled(projection=GRAPH).save(path)
    with pytest.raises(InvalidValueError, match=r"projection=…"):
        Memory.load(path)


def test_a_file_is_readable_as_others_in_its_folder_are(tmp_path):
    path, plain = tmp_path / "memory.npz", tmp_path / "plain"
    filled().save(path)
    plain.write_text("x")
    assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(os.stat(plain).st_mode)


def test_an_item_of_another_graph_is_refused_as_a_cue():
    with pytest.raises(InvalidValueError, match="one graph"):
        filled()["red"].fraction_firing(Item([1], 5))
    with pytest.raises(InvalidValueError, match="graph of 5 neurons"):
        filled().recall(Item([1], 5))
