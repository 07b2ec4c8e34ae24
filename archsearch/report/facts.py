"""All that a report tells of a study, read from its folder; its database is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.constraints import Constraints, active_rules
from archsearch.common.csv_records import MAX_TEXT, read_rows
from archsearch.common.guarded_files import SPEC_HASH, inside
from archsearch.common.parse import M, from_json, read_text
from archsearch.errors import ArchsearchError, InputError, Problem, StudyError, one_line, shown
from archsearch.leaderboard.entry import Entry
from archsearch.leaderboard.reader import DTYPES, entries, read_board
from archsearch.report.records import MAX_TRIALS, PublicSolution, RejectionRow
from archsearch.spec.models import Spec
from archsearch.study.config import Study, load_study
from archsearch.study.folder import StudyFolder
from archsearch.training.evaluation.records import EvaluationRecord
from archsearch.training.records import Epoch, RunRecord, read_history
from archsearch.training.run_paths import EvaluationPaths, RunPaths, final_folders

MAX_FINAL_RUNS = 20
"""Of one finalist; the page shows the first."""

T = TypeVar("T")
Hashed = TypeVar("Hashed", Analysis, EvaluationRecord)


@dataclass(frozen=True, slots=True)
class Absent:
    """Why something is not told, in a sentence that says what would bring it."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A finalist's training on all training images, by one seed.

    Attributes:
        folder: of the run.
        recipe: `recipe.json`, as it is written.
        pixels: the images of the mistakes that the evaluation tells, side by side; None where
            they were not kept.
    """

    folder: Path
    seed: int
    run: RunRecord | Absent
    recipe: str | Absent
    history: tuple[Epoch, ...] | Absent
    evaluation: EvaluationRecord | Absent
    pixels: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A network with a page of its own.

    Attributes:
        folder: of the trial.
        analysis: of its spec.
        finals: by seed; empty where it was not trained on all images.
    """

    row: Entry
    folder: Path
    analysis: Analysis | Absent
    finals: tuple[Final, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A study.

    Attributes:
        rows: the leaderboard, in its order.
        curves: epochs of the search that the hold-out scored, by spec_hash; of the trials whose
            history is there.
        finalists: those that were tested; before any was, the best so far.
        public: what others have published for the same images and limits.
    """

    folder: Path
    study: Study
    rows: tuple[Entry, ...]
    rejections: tuple[RejectionRow, ...] | Absent
    curves: Mapping[str, tuple[Epoch, ...]]
    finalists: tuple[Finalist, ...]
    public: tuple[PublicSolution, ...]

    def of(self, status: str) -> tuple[Entry, ...]:
        """The rows of one status."""
        return tuple(row for row in self.rows if row.status == status)

    @property
    def tested(self) -> tuple[Entry, ...]:
        """The finalists' rows, best first as they were ranked."""
        return tuple(row for row in self.rows if row.test_acc is not None)


def read_facts(path: Path) -> Facts:
    """What a study's folder holds.

    Raises:
        InputError: `study.toml` or the leaderboard has problems.
        ArchsearchError: this is no study folder, or a file cannot be read.
    """
    folder = StudyFolder(path)
    name = one_line(str(path))
    if not folder.study.is_file():
        raise StudyError(f"{name}: holds no study.toml; give a folder that archsearch search wrote")
    study = load_study(str(folder.study))
    if not folder.leaderboard.is_file():
        raise StudyError(
            f"{name}: holds no leaderboard.csv: no network has ended yet; "
            "run the search again, it goes on where it stopped"
        )
    rows = _rows(folder)
    curves = {row.spec_hash: _scored(folder.trial(row.spec_hash)) for row in rows if row.epochs}
    tested = [row for row in rows if row.test_acc is not None]
    leading = tested or [row for row in rows if row.status == "trained"][: study.finalists]
    return Facts(
        folder=path,
        study=study,
        rows=rows,
        rejections=_part(
            folder.rejections,
            lambda file: read_rows(RejectionRow, file),
            "the search writes it; a search that rejected nothing has none",
        ),
        curves={spec_hash: curve for spec_hash, curve in curves.items() if curve},
        finalists=tuple(_finalist(row, folder.trial(row.spec_hash)) for row in leading),
        public=public_solutions() if _is_coursework(study) else (),
    )


def _rows(folder: StudyFolder) -> tuple[Entry, ...]:
    """Return the leaderboard's rows, each of another network and with text that can be shown.

    Raises:
        InputError: the leaderboard has problems.
        ArchsearchError: it cannot be read, or is too large for a page.
    """
    path = folder.leaderboard
    seen: set[str] = set()
    found = entries(read_board(folder.path, ""))
    if len(found) > MAX_TRIALS:
        name = one_line(str(path))
        raise ArchsearchError(f"{name}: more than {MAX_TRIALS:,} rows: a report takes no more")
    for row in found:
        if not SPEC_HASH.fullmatch(row.spec_hash):
            message = f"spec_hash must be 64 hexadecimal digits, got {shown(row.spec_hash)}"
            raise InputError(str(path), [Problem(f"trial {row.trial}", "spec_hash", message)])
        if row.spec_hash in seen:
            message = "is there twice; archsearch trains no network twice: remove one of the rows"
            raise InputError(str(path), [Problem(row.spec_hash[:12], "twice", message)])
        seen.add(row.spec_hash)
    return tuple(map(_showable, found))


def _showable(row: Entry) -> Entry:
    texts: dict[str, Any] = {
        column: one_line(getattr(row, column)[:MAX_TEXT])
        for column, dtype in DTYPES.items()
        if dtype == "string"
    }
    return replace(row, **texts)


def _is_coursework(study: Study) -> bool:
    """Whether a study has the data set and limits of the coursework; it may have more limits."""
    return study.dataset == "cifar10" and all(
        getattr(study.constraints, rule) == limit for rule, limit, _ in active_rules(Constraints())
    )


def public_solutions() -> tuple[PublicSolution, ...]:
    """What others have published for CIFAR-10 within 200,000 parameters, most accurate first."""
    with resources.as_file(resources.files(__package__) / "public_solutions.csv") as path:
        return read_rows(PublicSolution, path)


def _finalist(row: Entry, folder: Path) -> Finalist:
    return Finalist(
        row=row,
        folder=folder,
        analysis=_part(
            RunPaths(folder).spec,
            lambda file: _of_network(row.spec_hash, analyze(_json(Spec, file))),
            "the search writes it",
        ),
        finals=tuple(
            _final(path, seed, row.spec_hash)
            for seed, path in islice(final_folders(folder).items(), MAX_FINAL_RUNS)
        ),
    )


def _final(folder: Path, seed: int, spec_hash: str) -> Final:
    paths = RunPaths(folder)
    evaluation = EvaluationPaths(paths.evaluation)
    pixels = evaluation.mistakes_pixels
    return Final(
        folder=folder,
        seed=seed,
        run=_part(paths.run, lambda file: _json(RunRecord, file), "the search writes it"),
        recipe=_part(paths.recipe, lambda file: read_text(str(file)), "the search writes it"),
        history=_history(paths.history),
        evaluation=_part(
            evaluation.record,
            lambda file: _of_network(spec_hash, _json(EvaluationRecord, file)),
            f"`archsearch evaluate {one_line(str(folder))}` writes it",
        ),
        pixels=pixels if pixels.is_file() and not pixels.is_symlink() else None,
    )


def _of_network(spec_hash: str, found: Hashed) -> Hashed:
    if found.spec_hash != spec_hash:
        raise ArchsearchError("is of another network than the leaderboard's row")
    return found


def _json(model: type[M], path: Path) -> M:
    return from_json(model, read_text(str(path)), path.name)


def _scored(folder: Path) -> tuple[Epoch, ...]:
    """The epochs of a trial that the hold-out scored."""
    history = _history(RunPaths(folder).history)
    told = () if isinstance(history, Absent) else history
    return tuple(epoch for epoch in told if epoch.val_acc is not None)


def _history(path: Path) -> tuple[Epoch, ...] | Absent:
    return _part(path, read_history, "training writes it")


def _part(path: Path, read: Callable[[Path], T], remedy: str) -> T | Absent:
    """A file that a page can do without; what lies outside of the folder is not for the page."""
    name = one_line("/".join(path.parts[-4:]))
    if not path.is_file():
        return Absent(f"{name} is not there; {remedy}.")
    try:
        return read(inside(path.parent, path))
    except ArchsearchError as error:
        return Absent(f"{name} cannot be used: {one_line(str(error))[:300]}; {remedy}.")
