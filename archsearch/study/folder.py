"""Where a study keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """What is where in a study folder."""

    path: Path

    @property
    def study(self) -> Path:
        """The resolved study file."""
        return self.path / "study.toml"

    @property
    def leaderboard(self) -> Path:
        """The result."""
        return self.path / "leaderboard.csv"

    @property
    def rejections(self) -> Path:
        """Every proposal that cost no trial."""
        return self.path / "rejections.csv"

    @property
    def storage(self) -> str:
        """Optuna's URL of the study's own database."""
        return f"sqlite:///{self.path / 'study.db'}"

    @property
    def elsewhere(self) -> Path:
        """Says which other database the study is kept in, where it is not its own."""
        return self.path / "storage.txt"

    @property
    def reference(self) -> Path:
        """The folder of the spec that the search started from, where it is no trial."""
        return self.path / "reference"

    def trial(self, spec_hash: str) -> Path:
        """The folder of one network."""
        return self.path / "trials" / spec_hash[:12]
