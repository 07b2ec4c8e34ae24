"""A search from start to end: who trains is opened, the driver searches, results are read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
from archsearch.search.storage.url import database_url
from archsearch.study.config import Study, load_study, with_changes
from archsearch.study.folder import StudyFolder

if TYPE_CHECKING:
    import pandas as pd

Opener = Callable[[Callable[[str], None]], AbstractContextManager[Executor]]
"""Opens an executor; it is given what to tell the user's warnings to."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search has found.

    Attributes:
        study: what was searched.
        folder: where everything is kept.
        entries: the leaderboard's rows.
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
        """The best, with the test accuracy that they had once retrained."""
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

    Everything is saved as it happens: after an interruption (Ctrl-C raises `KeyboardInterrupt`)
    the same call goes on where it stopped.

    Args:
        study: a shipped study's name, a study file, the same as a dict, or a `Study`.
        trials: networks to train in all, over restarts.
        on_event: is given every event of `archsearch.search.events`.
        on_note: is told what is worth knowing; it is printed otherwise.
        data: the data set, instead of the study's own.
        data_dir: where that is.
        device: "cpu", "cuda", "cuda:1"; the best there is unless given.
        precision: "fp32" or "bf16"; the faster one unless given.
        seed: instead of the study's own.
        folder: where everything is kept; studies/<name> unless given.
        workers: processes that train side by side; 0: train in this one; None: one a GPU, or a
            core and at most 4. A script that has any needs `if __name__ == "__main__":`.
        storage: an Optuna URL instead of the folder's own SQLite file.

    Raises:
        InputError: the study has problems; with every one of them.
        StudyError: the folder is another study's, or in use, or its study is in another database.
        HopelessSpaceError: the space holds (almost) nothing within the limits.
        ArchsearchError: what else went wrong: the data set, the device, the disk.

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
        database_url(storage),
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
    with opener(on_note) as executor:
        at = executor.run_of(config.seed)
        on_event(ExecutorReady(config.name, folder.path, at, executor.capacity))
        entries = driver.search(config, folder, executor, trials, on_event, storage)
    return SearchResult(config, folder.path, tuple(entries))
