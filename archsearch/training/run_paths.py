"""Where a training run keeps its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from archsearch.common.guarded_files import inside

_FINAL = re.compile(r"final-(\d{1,7})", re.ASCII)


class RunPaths:
    """The files of one training run."""

    def __init__(self, folder: Path) -> None:
        self.spec: Final = folder / "spec.json"
        self.recipe: Final = folder / "recipe.json"
        self.run: Final = folder / "run.json"
        self.checkpoint: Final = folder / "checkpoint.pt"
        self.damaged_checkpoint: Final = folder / "checkpoint.corrupt"
        self.history: Final = folder / "history.csv"
        self.model: Final = folder / "model.py"
        self.written_by_training: Final = (
            self.spec, self.recipe, self.run, self.checkpoint, self.damaged_checkpoint,
            self.history, self.model,
        )  # fmt: skip
        self.result: Final = folder / "result.json"
        self._folder: Final = folder

    @property
    def evaluation(self) -> Path:
        """The folder of its evaluation on the test images.

        Raises:
            StudyError: it is a link that leads out of the run's folder.
        """
        return inside(self._folder, self._folder / "evaluation")

    @property
    def holdout_evaluation(self) -> Path:
        """The folder of its evaluation on the hold-out.

        Raises:
            StudyError: it is a link that leads out of the run's folder.
        """
        return inside(self._folder, self._folder / "evaluation-holdout")


class EvaluationPaths:
    """The files of one evaluation that others read."""

    def __init__(self, folder: Path) -> None:
        self.record: Final = folder / "evaluation.json"
        self.mistakes_pixels: Final = folder / "mistakes_pixels.png"
        self.log: Final = folder / "log.txt"


def final_folder(trial: Path, seed: int) -> Path:
    """Return the folder of a finalist's retraining, in that of its trial.

    Raises:
        StudyError: it is a link that leads out of the trial's folder.
    """
    return inside(trial, trial / f"final-{seed}")


def final_folders(trial: Path) -> dict[int, Path]:
    """Return the folders of a finalist's retrainings by seed, lowest first.

    Raises:
        StudyError: one is a link that leads out of the trial's folder.
    """
    try:
        seeds = sorted(int(n[1]) for p in trial.iterdir() if (n := _FINAL.fullmatch(p.name)))
    except OSError:
        return {}
    return {seed: final_folder(trial, seed) for seed in seeds}
