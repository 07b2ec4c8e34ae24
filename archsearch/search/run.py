"""Run a search from start to end: open an executor, run the driver, return the results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import optuna

from archsearch.common import folder_lock
from archsearch.common.console import note
from archsearch.common.parse import Given
from archsearch.executors.messages import WorkerConfig
from archsearch.executors.open import open_executor
from archsearch.executors.protocol import Executor
from archsearch.leaderboard.entry import Entry
from archsearch.search import driver
from archsearch.search.events import Event, ExecutorReady
from archsearch.search.storage.open import check_storage
from archsearch.search.storage.url import complete_url
from archsearch.study.config import Study, load_study, with_changes
from archsearch.study.folder import StudyFolder

if TYPE_CHECKING:
    import pandas as pd

Opener = Callable[[Callable[[str], None]], AbstractContextManager[Executor]]
"""Opens an executor; it is given what to tell the user's warnings to."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        study: the study that was searched.
        folder: the study folder.
        entries: rows of the leaderboard.
    """

    study: Study
    folder: Path
    entries: tuple[Entry, ...]

    @property
    def leaderboard(self) -> pd.DataFrame:
        """Every trial, best first."""
        from archsearch.leaderboard.reader import read_leaderboard

        return read_leaderboard(self.folder)

    @property
    def finalists(self) -> pd.DataFrame:
        """The retrained finalists, with their test accuracy."""
        board = self.leaderboard
        return board[board["test_acc"].notna()]


def search(
    study: Study | Given,
    trials: int = 50,
    *,
    on_event: Callable[[Event], None] = lambda _event: None,
    on_note: Callable[[str], None] = note,
    data: Literal["cifar10", "shapes"] | None = None,
    data_dir: str | PathLike[str] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    seed: int | None = None,
    folder: str | PathLike[str] | None = None,
    workers: int | None = 0,
    storage: str | None = None,
) -> SearchResult:
    """Search for networks within the limits, train them, retrain and test the best.

    Progress is saved continuously: after an interruption (Ctrl-C raises `KeyboardInterrupt`), the
    same call resumes the search.

    Args:
        study: name of a shipped study, a study file, a dict or a `Study`.
        trials: total number of trials, including those of interrupted runs.
        on_event: called with each event (see `archsearch.search.events`).
        on_note: called with each note for the user; by default notes are printed.
        data: name of the data set; overrides the study's.
        data_dir: folder of the data set.
        device: "cpu", "cuda", "cuda:1"; the best available by default.
        precision: "fp32" or "bf16"; the faster one by default.
        seed: random seed; overrides the study's.
        folder: study folder; studies/<name> by default.
        workers: number of worker processes. 0 trains in this process; None starts one per GPU, or
            on a CPU one per core, at most 4. With workers, guard your script's entry point with
            `if __name__ == "__main__":`.
        storage: an Optuna storage URL; an SQLite file in the study folder by default.

    Raises:
        InputError: the study is invalid; the error lists all problems.
        StudyError: the folder is in use or has another study, or its study is in another database.
        HopelessSpaceError: (almost) no network of the search space is within the limits.
        ArchsearchError: any other failure: the data set, the device, the disk.

    Example:
        >>> import archsearch as asr
        >>> result = asr.search("demo", trials=3, on_event=print)  # doctest: +SKIP
        >>> result.leaderboard[["rank", "val_acc", "params"]]  # doctest: +SKIP
    """
    config = with_changes(load_study(study), "search()", dataset=data, seed=seed)
    place = WorkerConfig(config.dataset, Path(data_dir) if data_dir else None, device, precision)
    return run(
        config,
        StudyFolder(Path(folder) if folder else Path("studies") / config.name),
        partial(open_executor, place, workers),
        trials,
        on_event,
        on_note,
        complete_url(storage, "storage") if storage else None,
    )


def run(
    config: Study,
    folder: StudyFolder,
    opener: Opener,
    trials: int,
    on_event: Callable[[Event], None],
    on_note: Callable[[str], None],
    storage: str | None,
) -> SearchResult:
    """Search with the executor that `opener` opens; see `search`."""
    # Before workers are started, which takes seconds.
    folder_lock.refuse_if_held(folder.path)
    check_storage(folder, storage)
    verbosity = optuna.logging.get_verbosity()
    try:
        with opener(on_note) as executor:
            at = executor.run_of(config.seed)
            on_event(ExecutorReady(config.name, folder.path, at, executor.capacity))
            entries = driver.search(config, folder, executor, trials, on_event, storage)
    finally:
        optuna.logging.set_verbosity(verbosity)  # which the driver lowers
    return SearchResult(config, folder.path, tuple(entries))
