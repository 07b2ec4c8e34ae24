"""Where a study keeps its files."""

from __future__ import annotations

from pathlib import Path
from typing import Final


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
        self.reference: Final = path / "reference"
        """The folder of the spec that the search started from, if that is not a trial."""

    def trial(self, spec_hash: str) -> Path:
        """Return the folder of one network."""
        return self.path / "trials" / spec_hash[:12]
