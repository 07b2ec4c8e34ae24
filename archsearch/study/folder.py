"""Where a study keeps its files."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import Final

from archsearch.common.guarded_files import SPEC_HASH, inside, kind, open_regular
from archsearch.errors import StudyError, shown

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class StudyFolder:
    """The files of a study."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.study: Final = path / "study.toml"
        """The study file, every field written out."""
        self.leaderboard: Final = path / "leaderboard.csv"
        self.rejections: Final = path / "rejections.csv"
        """Every proposal that cost no trial."""
        self.database: Final = path / "study.db"
        self.storage: Final = f"sqlite:///{self.database}"
        """Optuna's URL of the study's own database."""
        self.elsewhere: Final = path / "storage.txt"
        """Says which other database the study is kept in, if it is not its own."""

    @property
    def reference(self) -> Path:
        """The folder of the spec that the search started from, if that is not a trial.

        Raises:
            StudyError: it is a link that leads out of the study's folder.
        """
        return inside(self.path, self.path / "reference")

    def trial(self, spec_hash: str) -> Path:
        """Return the folder of one network.

        Raises:
            StudyError: this is not a spec's hash, or the folder is a link that leads out of the
                study's folder.
        """
        if not SPEC_HASH.fullmatch(str(spec_hash)):  # what a database holds may be of any type
            raise StudyError(
                f"{self.path}: a spec_hash must be 64 hexadecimal digits, got {shown(spec_hash)}; "
                "another program wrote it: restore study.db and leaderboard.csv from a copy"
            )
        return inside(self.path, self.path / "trials" / spec_hash[:12])

    def check_database(self) -> None:
        """Check that the study's own database, if there is one, is a file in the folder.

        Raises:
            StudyError: it, or a file that SQLite keeps beside it, is a link or not a regular file.
        """
        for suffix in ("", "-journal", "-wal", "-shm"):
            path = Path(f"{self.database}{suffix}")
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if not S_ISREG(mode):
                raise StudyError(
                    f"{path}: is {kind(mode)}, and SQLite would write outside of the folder; put "
                    "a copy of the file in its place, or give the database elsewhere by --storage"
                )
        if _names_another(Path(f"{self.database}-journal")):
            raise StudyError(
                f"{self.database}-journal: names a further journal, which SQLite would delete, and "
                "archsearch never writes one: do not trust this folder, or remove that file"
            )


def _names_another(journal: Path) -> bool:
    """Return whether a rollback journal ends in the name of a super-journal.

    See "The Super-Journal Name" in SQLite's file format: it ends with the journal's magic number.
    """
    try:
        with open_regular(journal) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_JOURNAL_MAGIC)))
            return file.read() == _JOURNAL_MAGIC
    except OSError:
        return False
