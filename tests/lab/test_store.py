from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

from fingerpost.errors import InvalidValueError, RunError
from fingerpost.lab import Claim, Run, RunFolder, Store, compare, verify


def make_run(directory, seed=0, reason="completed", measured=1.0, **config):
    run = Run.open(directory, experiment="toy", config={"seed": seed, **config})
    run.log("s", 1, loss=float(seed))
    run.claim(Claim("c", "s", "t", "≥ 0", measured, low=0.0))
    run.close(reason)
    return run.directory


def test_runs_get_readable_unique_names():
    store = Store()
    names = {store.new_directory("ep-digits").name for _ in range(50)}
    assert len(names) == 50
    assert all(
        name.startswith("ep-digits-20") and len(name) == len("ep-digits-20261123-185901-ab12")
        for name in names
    )


def test_a_name_that_is_no_folder_is_refused():
    with pytest.raises(InvalidValueError, match="cannot name"):
        Store().new_directory("../up")


def test_a_run_is_listed_with_its_claims_and_found_by_id_prefix_and_path():
    store = Store()
    path = make_run(store.new_directory("toy"), measured=-1.0)
    store.record(path)
    (row,) = store.list()
    assert (row.id, row.status, row.claims, row.held) == (path.name, "completed", 1, 0)
    assert store.find(path.name) == store.find(path.name[:12]) == store.find(path) == path


def test_what_fits_no_run_or_two_is_refused():
    store = Store()
    for seed in (0, 1):
        store.record(make_run(store.new_directory("toy"), seed))
    with pytest.raises(RunError, match="fits 2 runs: toy-"):
        store.find("toy")
    with pytest.raises(RunError, match="no run 'nothing'"):
        store.find("nothing")


def test_the_index_is_rebuilt_from_the_folders_and_keeps_runs_from_elsewhere(tmp_path):
    store = Store()
    here, nested = make_run(store.home / "a"), make_run(store.home / "sweep" / "b", 1)
    elsewhere = make_run(tmp_path / "elsewhere", 2)
    for path in (here, elsewhere):
        store.record(path)
    assert {row.path for row in store.rebuild()} == {str(here), str(nested), str(elsewhere)}
    assert store.list() == store.rebuild()


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_lost_or_damaged_index_is_made_anew(damage):
    store = Store()
    store.record(make_run(store.home / "a"))
    before = store.list()
    for path in store.home.glob("index-*"):
        path.unlink() if damage == "missing" else path.write_bytes(b"not a database, surely" * 50)
    assert store.list() == before


def test_a_damaged_run_is_listed_as_such_and_does_not_hide_the_others():
    store = Store()
    good, bad, gone = (make_run(store.home / name) for name in ("good", "bad", "gone"))
    for path in (good, bad, gone):
        store.record(path)
    (bad / "manifest.json").write_text("{")
    for path in sorted(gone.rglob("*")):
        path.unlink()
    gone.rmdir()
    rows = {row.id: row for row in store.list()}
    assert {name: row.status for name, row in rows.items()} == {"good": "completed", "bad": "damaged"}
    assert "manifest.json" in rows["bad"].problem
    with pytest.raises(RunError, match=r"bad/manifest\.json"):
        RunFolder(bad)


def test_a_change_of_a_run_is_seen_without_being_told():
    store = Store()
    run = Run.open(store.home / "a", experiment="toy", config={"seed": 0})
    store.record(run.directory)
    assert [row.status for row in store.list()] == ["running"]
    run.close(None)
    assert [row.status for row in store.list()] == ["killed"]
    make_run(store.home / "a")
    assert [row.status for row in store.list()] == ["completed"]


def _write_many(home, first):
    store = Store(home)
    for seed in range(first, first + 8):
        store.record(make_run(store.new_directory("toy"), seed))


def test_two_processes_write_runs_and_the_index_at_once():
    store = Store()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(store.home, first)) for first in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(row.seed for row in store.list()) == [*range(8), *range(100, 108), *range(200, 208)]


def test_verify_names_what_changed_what_is_missing_and_what_is_new(tmp_path):
    path = make_run(tmp_path / "r")
    assert verify(path) == []
    (path / "claims.json").write_text("[]")
    (path / "contents.json").unlink()
    (path / "new.txt").write_text("x")
    sentences = "\n".join(verify(path))
    for sentence in ("claims.json has changed", "contents.json is missing", "new.txt was not there"):
        assert sentence in sentences


def test_an_unfinished_run_cannot_be_verified(tmp_path):
    with pytest.raises(RunError, match="is interrupted"):
        verify(make_run(tmp_path / "r", reason="interrupted"))


def test_two_runs_are_compared_in_settings_claims_and_last_metrics(tmp_path):
    one = make_run(tmp_path / "one", 0, lr=0.1, same=1)
    two = make_run(tmp_path / "two", 1, measured=-1.0, lr=0.2, same=1)
    settings, claims, metrics = compare(one, two)
    assert [tuple(row) for row in settings.rows if row[0] != "git"] == [("seed", 0, 1), ("lr", 0.1, 0.2)]
    (claim,) = claims.rows
    assert (claim[2], claim[4], claim[5], claim[7]) == (1.0, True, -1.0, False)
    assert ("s", "loss", 0.0, 1.0) in metrics.rows


def test_reading_and_listing_never_import_torch_or_numpy(tmp_path):
    make_run(tmp_path / "home" / "a")
    code = (
        "import sys; from fingerpost.lab import Claim, Run, RunFolder, Store, compare, sweep, verify;"
        "(row,) = Store().list(); path = row.path; verify(path); compare(path, path);"
        "RunFolder(path).metrics(); print({'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
