"""The writer that an experiment is handed: everything that a run leaves behind goes through here."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fingerpost._table import Table
from fingerpost.errors import InvalidTypeError, InvalidValueError, RunError
from fingerpost.lab import files, manifest
from fingerpost.lab._ranks import here
from fingerpost.lab._shadow import Shadow, SharedFiles
from fingerpost.lab.claims import Claim
from fingerpost.lab.folder import CLAIMS, CONTENTS, MANIFEST, METRICS, RunFolder, read_claims, read_rows
from fingerpost.lab.lock import NAME as LOCK_NAME
from fingerpost.lab.lock import FolderLock
from fingerpost.lab.metrics import MetricsFile, format_row
from fingerpost.lab.rng import isolated_rng

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,=+@-]{0,119}")


def checked_name(name: str) -> str:
    """Returns `name` when it can be a file's name everywhere.

    Raises:
      InvalidValueError: If it is empty, longer than 120, or holds anything but letters, digits and ``. _ , =
        + @ -``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f"{name!r} cannot name a file of a run: use up to 120 letters, digits and . _ , = + @ - , "
            "beginning with a letter or digit"
        )
    return name


def resolved_config(config: Any) -> dict[str, Any]:
    """Returns a configuration (a dataclass instance or a mapping) as what JSON gives back."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return files.jsonable(dataclasses.asdict(config))
    return files.jsonable(dict(config))  # pyright: ignore[reportCallIssue, reportArgumentType]


class Run:
    """Writes one run folder; opened by `Run.open`, handed to an experiment by `run_experiment`.

    Every method may be called again with the same arguments after a kill: claims and contents are replaced
    by name in place, logged lines that stand already are not repeated, finished stages are not run again.

    Under torchrun every process makes the same calls. Rank 0 writes; the others write into a folder of their own that
    they throw away, and receive what the experiment itself wrote into rank 0's, after each stage.

    Attributes:
      directory: The run folder; on other ranks than 0, until the run is closed, their own.
      id: The run's identifier, also the folder's name unless the folder was chosen by hand.
      preset: The preset's name.
      config: The resolved configuration, as JSON holds it.
      seed: The configuration's ``seed`` (0 when it has none).
      finished: Whether the run had completed before; then nothing can be written.
    """

    def __init__(self, directory: Path, facts: dict[str, Any], lock: FolderLock | None) -> None:
        self.directory = directory
        self.id: str = facts["id"]
        self.preset: str = facts["preset"]
        self.config: dict[str, Any] = facts["config"]
        self.seed: int = int(facts.get("seed") or 0)
        self.finished = lock is None
        self._facts = facts
        self._lock = lock
        self._stages: list[list[str]] = []
        self._begun: set[str] = set()
        self._trained: list[str] = []
        self._home = directory
        self._shadow: Shadow | None = None
        self._shared = SharedFiles(directory)
        if lock is not None:
            self._claims = [claim.to_json() for claim in read_claims(directory)]
            self._contents = read_rows(directory / CONTENTS)
            self.metrics = MetricsFile(directory / METRICS)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        experiment: str,
        config: Any,
        preset: str = "custom",
        command: Sequence[str] = (),
        resume: bool = True,
        title: str = "",
        summary: str = "",
    ) -> Run:
        """Creates the run in `directory`, resumes it, or finds it finished.

        Args:
          directory: The run folder; made when it is missing.
          experiment: The experiment's name.
          config: The resolved configuration: a dataclass instance or a mapping.
          preset: The name of the preset that `config` came from.
          command: The words of the command line that repeats this run.
          resume: Whether a run that stands there already may be continued.
          title: The experiment's title, for readers of the folder.
          summary: What the experiment measures, in a sentence or two.

        Raises:
          RunError: If the folder is another run's, is damaged, is being written, holds something else, or
            holds this run and `resume` is False. Nothing is overwritten.
        """
        path = Path(directory).absolute()
        facts: dict[str, Any] = {"id": path.name, "experiment": experiment, "preset": preset}
        facts |= {"title": title, "summary": summary, "config": resolved_config(config)}
        facts["seed"] = facts["config"].get("seed", 0)
        facts["command"] = list(command)
        opened: list[Run] = []

        def begin() -> tuple[str, dict[str, Any], bool]:
            opened.append(cls._open(path, facts, resume))
            return str(path), opened[0]._facts, opened[0].finished

        told = here().first("opening the run", begin)
        run = opened[0] if opened else cls._follow(facts, *told)
        if not run.finished:
            run._shared.share()
        return run

    @classmethod
    def _follow(cls, asked: dict[str, Any], path: str, facts: dict[str, Any], finished: bool) -> Run:
        """Takes part in the run that rank 0 has opened, in a folder of its own."""
        if manifest.config_digest(asked["experiment"], asked["config"]) != manifest.config_digest(
            facts["experiment"], facts["config"]
        ):
            raise RunError(f"the processes of {path} have not one configuration: {_difference(facts, asked)}")
        if finished:
            return cls(Path(path), facts, None)
        shadow = Shadow()
        run = cls(shadow.directory, facts, FolderLock(shadow.directory))
        run._shadow, run._home = shadow, Path(path)
        return run

    @classmethod
    def _open(cls, path: Path, facts: dict[str, Any], resume: bool) -> Run:
        with files.naming_the_path(path):
            path.mkdir(parents=True, exist_ok=True)
        if (path / MANIFEST).exists():
            if not resume:
                raise RunError(f"{path} holds a run already; resume it, or use another folder")
            standing = _standing(path, facts)
            if standing.get("exit") == "completed":
                return cls(path, standing, None)
        elif strangers := sorted(item.name for item in path.iterdir() if not item.name.startswith(".")):
            raise RunError(f"{path} is not empty and not a run folder (it holds {strangers[0]!r})")
        lock = FolderLock(path)
        try:
            return cls._begin(path, facts, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _begin(cls, path: Path, asked: dict[str, Any], lock: FolderLock) -> Run:
        """Creates or resumes under the lock; what was seen before it may have changed."""
        fresh = {"finished": None, "exit": None, "files": {}}
        processes = {} if here().alone else {"processes": here().size}
        if not (path / MANIFEST).exists():
            facts = {"format": manifest.FORMAT, **asked, **manifest.environment(), "started": manifest.now()}
            facts |= {"resumed": [], **fresh, **processes}
            files.write_json(path / MANIFEST, facts)  # first of all, so that the folder is known for a run's
            return cls(path, facts, lock)
        facts = _standing(path, asked)
        if facts.get("exit") == "completed":
            lock.release()
            return cls(path, facts, None)
        now = {"at": manifest.now(), "git": manifest.git_state(Path.cwd())}
        facts.pop("processes", None)
        facts |= {"resumed": [*facts.get("resumed", []), now], **fresh, **processes}
        run = cls(path, facts, lock)
        files.write_json(path / MANIFEST, facts)  # last, so that a damaged folder is refused as it is
        return run

    # What an experiment writes.

    def log(self, stage: str, step: int, /, **numbers: Any) -> dict[str, Any]:
        """Appends one line of metrics.

        Args:
          stage: The stage's name.
          step: The step's number within the stage.
          **numbers: The measured numbers; tensors and arrays of one element are accepted.

        Returns:
          The row.
        """
        self._writable()
        self.metrics.append(format_row(stage, step, numbers))
        return {"stage": stage, "step": step, **numbers}

    def claim(self, claim: Claim) -> Claim:
        """States a claim; one of the same name is replaced in place."""
        self._writable()
        _put(self._claims, claim.to_json(), ("name",))
        files.write_json(self.directory / CLAIMS, self._claims)
        return claim

    def text(self, title: str, paragraph: str) -> None:
        """Adds a titled paragraph to the report."""
        self._show(kind="text", name=title, path=None, title=title, caption=paragraph)

    def figure(self, name: str, figure: Any, *, title: str = "", caption: str = "") -> None:
        """Saves a matplotlib Figure as ``figures/<name>.svg``, the same bytes for the same data."""
        from fingerpost.lab.style import svg_bytes

        path = self._path("figures", name, "svg")
        files.write_bytes(path, svg_bytes(figure, title=title, description=caption))
        self._show(kind="figure", name=name, path=path, title=title, caption=caption)

    def table(self, name: str, table: Table, show: bool = True) -> None:
        """Saves a table as ``tables/<name>.csv``; `show` puts it, its title and its caption in the report."""
        path = self._path("tables", name, "csv")
        files.write_text(path, table.to_csv())
        if show:
            self._show(kind="table", name=name, path=path, title=table.title, caption=table.caption)

    def curve(
        self,
        name: str,
        table: Table,
        *,
        x: str,
        series: Sequence[str],
        title: str = "",
        caption: str = "",
        x_label: str = "",
        y_label: str = "",
    ) -> None:
        """Saves long curves as ``tables/<name>.csv``, to be drawn by the report.

        Args:
          name: The curve's name.
          table: One row per point.
          x: The column of the abscissa.
          series: The columns to draw.
          title: A short heading.
          caption: What is seen and how it was measured.
          x_label: The abscissa's label, with its unit; `x` when empty.
          y_label: The ordinate's label, with its unit.
        """
        missing = [column for column in [x, *series] if column not in table.columns]
        if missing:
            raise InvalidValueError(f"curve {name!r}: no column {missing[0]!r} in {list(table.columns)}")
        path = self._path("tables", name, "csv")
        files.write_text(path, table.to_csv())
        labels = {"x": x, "series": list(series), "x_label": x_label or x, "y_label": y_label}
        self._show(kind="curve", name=name, path=path, title=title, caption=caption, **labels)

    def audit(self, name: str, report: Any, *, title: str = "", caption: str = "") -> None:
        """Saves an audit (anything whose ``to_json()`` gives JSON text or data) as ``audits/<name>.json``."""
        path = self._path("audits", name, "json")
        content = report.to_json()
        files.write_json(path, json.loads(content) if isinstance(content, str) else content)
        self._show(kind="audit", name=name, path=path, title=title, caption=caption)

    def once(self, stage: str, function: Callable[[], T]) -> T:
        """Runs `function` once in the run's life, and returns its result, stored as JSON.

        The global random generators are seeded from (the run's seed, the stage's name) inside, and given back
        outside. A stage that is under way when the run is killed runs again from its start, or from the
        checkpoint that `train` left. When its result is on disk, its checkpoints are removed. Under torchrun all
        ranks run `function`, and all get rank 0's result.

        Args:
          stage: The stage's name, unique in the run.
          function: Returns what JSON can hold; fresh or resumed, the caller gets what JSON gives back.

        Raises:
          InvalidTypeError: If JSON cannot hold the result.
          InvalidValueError: If the name cannot be a file's, or was used before.
          RunError: If a stored result is damaged.
        """
        self._writable()
        path = self.directory / "stages" / f"{checked_name(stage)}.json"
        if stage in self._begun:
            raise InvalidValueError(
                f"stage {stage!r} was run before in this run; give each stage a name of its own"
            )
        self._begun.add(stage)
        found = here().first(f"stage {stage!r}", lambda: [self._stored_result(path)] if path.exists() else [])
        if not found:
            found.append(self._carried_out(stage, function, path))
        self._shared.share()
        return found[0]

    def _carried_out(self, stage: str, function: Callable[[], Any], path: Path) -> Any:
        """Runs a stage on every rank, and stores rank 0's result."""
        facts: dict[str, Any] = {"stage": stage, "metrics": [self.metrics.cursor], "checkpoints": []}
        self._stages.append(facts["checkpoints"])
        try:
            with isolated_rng(self.seed, stage):
                result = here().together(f"the end of stage {stage!r}", function)
        finally:
            self._stages.pop()

        def store() -> Any:
            facts["metrics"].append(self.metrics.sync())
            files.write_text(path, _stage_text(facts, result))
            return self._stored_result(path)

        return here().first(f"storing stage {stage!r}", store)

    def progress(self, iterable: Iterable[T], description: str = "") -> Iterable[T]:
        """Returns `iterable` with a progress bar on standard error when that is a terminal."""
        if not sys.stderr.isatty() or self._shadow is not None:
            return iterable
        from tqdm import tqdm

        return tqdm(iterable, desc=description, leave=False)

    # What the lab itself calls.

    def checkpoint_folder(self, stage: str) -> Path:
        """Returns ``checkpoint/<stage>/``; the stage of `once` under way removes it when done."""
        self._writable()
        if any(stage in names for names in [*self._stages, self._trained]):
            raise InvalidValueError(
                f"stage {stage!r} was trained before; give each call of train its own stage="
            )
        (self._stages[-1] if self._stages else self._trained).append(stage)
        return self._checkpoint_path(stage)

    @property
    def digest(self) -> str:
        """The SHA-256 that identifies the experiment with its resolved configuration."""
        return manifest.config_digest(self._facts["experiment"], self.config)

    def close(self, reason: str | None) -> None:
        """Records why the run ended and releases the folder; a second call does nothing.

        Under torchrun ``"completed"`` is a call that all ranks make.

        Args:
          reason: ``"completed"``, ``"interrupted"`` or ``"error: …"``; None records nothing (as a kill
            would).
        """
        if self._lock is None:
            return
        try:
            if reason == "completed":
                here().first("completing the run", lambda: self._end(reason))
                self.finished = True
            elif reason is not None and self._shadow is None:
                self._end(reason)
        finally:
            self.metrics.close()
            self._lock.release()
            self._lock = None
            self.directory = self._home
            if self._shadow is not None:
                self._shadow.remove()

    def _end(self, reason: str) -> None:
        if reason == "completed":
            self._complete()
        self._facts |= {"exit": reason, "finished": manifest.now()}
        files.write_json(self.directory / MANIFEST, self._facts)

    def _complete(self) -> None:
        self.metrics.cut()
        self.metrics.sync()
        for name, rows in ((CLAIMS, self._claims), (CONTENTS, self._contents)):
            files.write_json(self.directory / name, rows)
        for leftover in self.directory.rglob(f"{files.TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)
        self._facts["files"] = checksums(self.directory)
        self.finished = True

    def _writable(self) -> None:
        if self._lock is None:
            state = "finished" if self.finished else "closed"
            raise RunError(f"{self.directory} is {state}: nothing can be written to it")

    def _checkpoint_path(self, stage: str) -> Path:
        return self.directory / "checkpoint" / checked_name(stage)

    def _path(self, folder: str, name: str, suffix: str) -> Path:
        self._writable()
        return self.directory / folder / f"{checked_name(name)}.{suffix}"

    def _show(self, *, kind: str, name: str, path: Path | None, **row: Any) -> None:
        self._writable()
        relative = None if path is None else path.relative_to(self.directory).as_posix()
        _put(self._contents, {"kind": kind, "name": name, "path": relative, **row}, ("kind", "name"))
        files.write_json(self.directory / CONTENTS, self._contents)

    def _stored_result(self, path: Path) -> Any:
        stored = files.read_json(path)
        try:
            (_, end), checkpoints, result = stored["metrics"], stored["checkpoints"], stored["result"]
        except (TypeError, KeyError, ValueError) as error:
            raise RunError(
                f"{path} is not a stage's result: {error!r}; remove it to run the stage again"
            ) from error
        self.metrics.jump(end)
        for name in checkpoints:
            shutil.rmtree(self._checkpoint_path(name), ignore_errors=True)
        return result


def checksums(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a run but the manifest, the lock and temporary files, by path."""
    skipped = {MANIFEST, LOCK_NAME}
    paths = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.name not in skipped]
    paths = [p for p in paths if not p.name.startswith(files.TEMPORARY_PREFIX)]
    return {path.relative_to(directory).as_posix(): files.sha256(path) for path in paths}


def _put(rows: list[dict[str, Any]], row: dict[str, Any], keys: Sequence[str]) -> None:
    for index, old in enumerate(rows):
        if all(old.get(key) == row[key] for key in keys):
            rows[index] = row
            return
    rows.append(row)


def _stage_text(facts: Mapping[str, Any], result: Any) -> str:
    try:
        return json.dumps({**facts, "result": result}, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"stage {facts['stage']!r} returned something that JSON cannot hold ({error}); "
            "return numbers, strings, lists and dictionaries (tensor.tolist(), float(x))"
        ) from error


def _standing(path: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the manifest that stands in `path`, and refuses it when it is another run's."""
    facts = RunFolder(path).manifest
    pairs = [(run["experiment"], run["config"]) for run in (facts, asked)]
    if manifest.config_digest(*pairs[0]) != manifest.config_digest(*pairs[1]):
        raise RunError(
            f"{path} holds a run of {facts['experiment']!r} with {_difference(facts, asked)}; "
            "use another folder"
        )
    return facts


def _difference(facts: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    if facts["experiment"] != asked["experiment"]:
        return f"another experiment than {asked['experiment']!r}"
    old, new = facts["config"], asked["config"]
    key = next(key for key in [*new, *old] if old.get(key) != new.get(key) or (key in old) != (key in new))
    return f"{key} = {old.get(key)!r}, where {new.get(key)!r} was asked"
