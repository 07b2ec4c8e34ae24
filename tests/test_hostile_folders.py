"""A folder that somebody else prepared: no command writes outside of it, and none hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

import archsearch as asr
from archsearch.errors import ArchsearchError
from archsearch.study.folder import StudyFolder
from tests.conftest import ROOT, Cli, Result
from tests.search.test_driver import Pretend, go, rows

TRIALS = 2
SPEC = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"
VICTIM = "what nobody may change\n"

FILES = (
    "study.toml", "leaderboard.csv", "rejections.csv", "storage.txt", ".lock", "report.html",
    "study.db", "study.db-journal", "study.db-wal",
    "TRIAL/spec.json", "TRIAL/history.csv", "TRIAL/checkpoint.pt",
)  # fmt: skip
FOLDERS = ("trials", "TRIAL", "TRIAL/final-0", "TRIAL/final-0/evaluation", "reference")
"""Places in a study folder; TRIAL is the folder of its best trial."""


@contextmanager
def a_few_seconds() -> Iterator[None]:
    """Fail instead of waiting for a pipe that nobody writes into."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state_of(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder and below: what files hold, and where links lead."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else "no file"
    return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, of a search that is done, and `outside`, which nothing may change."""
    folder = tmp_path_factory.mktemp("sound")
    go(folder, TRIALS)
    for row in rows(folder):
        trial = StudyFolder(folder / "study").trial(row["spec_hash"])
        (trial / "final-0" / "evaluation").mkdir(parents=True)
    outside = folder / "outside"
    for name in ("v", "v/final-0", "v/evaluation", f"v/trials/{trial.name}"):
        (outside / name).mkdir(parents=True, exist_ok=True)
        for file in ("spec.json", "history.csv", "checkpoint.pt", ".spec.json.7.tmp"):
            (outside / name / file).write_text(VICTIM)
    return folder


@dataclass
class Attack:
    """A copy of the study to plant something in."""

    folder: Path
    cli: Cli

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def victim(self) -> Path:
        return self.folder / "outside" / "v"

    def place(self, name: str) -> Path:
        best = rows(self.folder)[0]["spec_hash"]
        return self.study / name.replace("TRIAL", f"trials/{best[:12]}")

    def search(self) -> Result:
        try:
            go(self.folder, TRIALS + 1, Pretend())
        except ArchsearchError as error:
            return Result(2, "", f"error: {error}\n")
        return Result(0, "", "")

    def run(self, command: str) -> Result:
        """Run a command, and check that it neither hangs, breaks nor changes what is outside."""
        before = state_of(self.victim.parent)
        with a_few_seconds():
            result = self.search() if command == "search" else self.cli(command, self.study)
        assert state_of(self.victim.parent) == before
        assert result.status in (0, 1, 2)
        assert "a bug in archsearch" not in result.err
        return result


@pytest.fixture
def attack(sound: Path, tmp_path: Path, cli: Cli) -> Attack:
    for name in ("study", "outside"):
        shutil.copytree(sound / name, tmp_path / name)
    return Attack(tmp_path, cli)


def leads_to_a_file(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "spec.json")


def leads_to_nothing(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "new")


def leads_to_a_folder(path: Path, victim: Path) -> None:
    path.symlink_to(victim, target_is_directory=True)


def leads_up(path: Path, victim: Path) -> None:
    path.symlink_to(os.path.relpath(victim, path.parent), target_is_directory=True)


def is_a_pipe(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def is_endless(path: Path, _victim: Path) -> None:
    path.symlink_to("/dev/zero")


def is_a_socket(path: Path, _victim: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


Plant = Callable[[Path, Path], None]
COMMANDS = ("status", "leaderboard", "report", "doctor", "search")
IN_FILES: tuple[Plant, ...] = (
    leads_to_a_file, leads_to_nothing, leads_to_a_folder, is_a_pipe, is_endless, is_a_socket,
)  # fmt: skip
IN_FOLDERS: tuple[Plant, ...] = (leads_to_a_folder, leads_up, leads_to_a_file, is_a_pipe)
FEW = ("leaderboard.csv", ".lock", "study.db-journal", "TRIAL/spec.json", "TRIAL", "trials")
"""The places tried without the slow tests."""


def cases() -> Iterator[object]:
    for names, plants in ((FILES, IN_FILES), (FOLDERS, IN_FOLDERS)):
        for name in names:
            for plant in plants:
                few = name in FEW and plant in (leads_to_a_file, leads_to_a_folder, is_a_pipe)
                marks = () if few else pytest.mark.slow
                yield pytest.param(name, plant, marks=marks, id=f"{name} {plant.__name__}")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(("name", "plant"), list(cases()))
def test_nothing_outside_of_a_study_folder_is_changed(
    attack: Attack, name: str, plant: Plant
) -> None:
    place = attack.place(name)
    for command in COMMANDS:
        remove(place)
        plant(place, attack.victim)
        attack.run(command)


@pytest.mark.parametrize("name", ["leaderboard.csv", "rejections.csv", ".lock", "report.html"])
def test_a_link_is_replaced_by_what_is_written(attack: Attack, name: str) -> None:
    place = attack.place(name)
    remove(place)
    leads_to_a_file(place, attack.victim)
    command = "report" if name == "report.html" else "doctor"
    result = attack.run(command)
    assert result.status == 0, result.err
    assert place.is_file()
    assert not place.is_symlink()
    assert VICTIM not in place.read_text()


@pytest.mark.parametrize("name", ["trials", "TRIAL", "TRIAL/final-0"])
def test_a_folder_that_leads_out_is_refused_and_named(attack: Attack, name: str) -> None:
    place = attack.place(name)
    remove(place)
    leads_to_a_folder(place, attack.victim)
    result = attack.run("report")
    assert result.status == 2
    assert f"{place}" in result.err
    assert "leads out of" in result.err
    assert "remove the link" in result.err


def test_a_database_that_is_a_link_is_refused_and_named(attack: Attack) -> None:
    database = attack.study / "study.db"
    database.replace(attack.victim / "study.db")
    database.symlink_to(attack.victim / "study.db")
    for command in ("status", "doctor", "search"):
        result = attack.run(command)
        assert result.status == 2
        assert "study.db: is a symbolic link" in result.err


def test_a_study_folder_may_be_a_link_itself(attack: Attack) -> None:
    attack.study.replace(attack.folder / "elsewhere")
    attack.study.symlink_to(attack.folder / "elsewhere", target_is_directory=True)
    for command in COMMANDS:
        assert attack.run(command).status == 0
    assert len(rows(attack.folder)) == TRIALS + 1


@pytest.mark.parametrize(
    "spec_hash", ["../../../v", "../" * 4 + "etc", "/etc", "..", "", "A" * 64, "0" * 63, "\0" * 64]
)
def test_a_hash_that_names_no_folder_of_the_study_is_refused(
    attack: Attack, spec_hash: str
) -> None:
    with closing(sqlite3.connect(attack.study / "study.db")) as database, database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'spec_hash'",
            (json.dumps(spec_hash),),
        )
    # The folder that trials/<hash> would be: two levels up, beside the study.
    for command in ("status", "search"):
        assert attack.run(command).status == 2
    board = attack.study / "leaderboard.csv"
    text = board.read_text()
    for row in rows(attack.folder):
        text = text.replace(row["spec_hash"], spec_hash.replace("\0", "0")[:64])
    board.write_text(text)
    attack.run("report")
    attack.run("leaderboard")
    doctor = attack.run("doctor")
    assert doctor.status == 0, doctor.out
    assert "spec_hash" in doctor.out
    assert attack.run("status").status == 0


@pytest.mark.parametrize("plant", [is_a_pipe, is_endless, is_a_socket])
@pytest.mark.parametrize(
    "args",
    [
        ("validate", "FILE"),
        ("validate", "FILE", "--format", "ndjson"),
        ("validate", SPEC, "--constraints", "FILE"),
        ("export", "FILE", "--to", "mermaid"),
        ("export", SPEC, "--to", "svg", "--constraints", "FILE"),
        ("diagnose", "FILE"),
        ("diagnose", SPEC, "--recipe", "FILE"),
        ("diagnose", SPEC, "--history", "FILE"),
        ("import", "FILE:Net"),
        ("search", "FILE", "--dry-run"),
        ("search", "--from", "FILE", "--dry-run"),
        ("train", "FILE"),
        ("train", SPEC, "--recipe", "FILE"),
        ("evaluate", "FILE"),
    ],
    ids=lambda args: " ".join(a for a in map(str, args) if a != str(SPEC)),
)
def test_an_input_that_is_no_regular_file_is_refused(
    args: tuple[str | Path, ...], plant: Plant, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "given"
    plant(file, tmp_path)
    with a_few_seconds():
        result = cli(*(str(arg).replace("FILE", str(file)) for arg in args))
    assert result.status == 2
    assert str(file) in result.err
    assert "a bug in archsearch" not in result.err


RUN_FILES = ("spec.json", "recipe.json", "run.json", "history.csv", "model.py", "result.json")
TRAIN = ("--dataset", "shapes", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `given.json`, a spec, `how.json`, a recipe, and their training in `run`."""
    folder = tmp_path_factory.mktemp("trained")
    conv = {"op": "conv", "out_channels": 4, "stride": 4}
    head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
    spec = {
        "name": "tiny", "blocks": [{"name": "b", "layers": [conv]}], "output": {"layers": head},
    }  # fmt: skip
    (folder / "given.json").write_text(json.dumps(spec))
    (folder / "how.json").write_text(json.dumps({"epochs": 1, "target_accuracy": None}))
    asr.train(
        folder / "given.json", folder / "how.json", "shapes", folder=folder / "run", device="cpu",
        precision="fp32",
    )  # fmt: skip
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "outside").mkdir()
    for name in (*RUN_FILES, ".lock", "evaluation.json"):
        (tmp_path / "outside" / name).write_text(VICTIM)
    return tmp_path / "run"


def train_again(cli: Cli, run: Path) -> Result:
    given = (run.parent / "given.json", "--recipe", run.parent / "how.json")
    with a_few_seconds():
        return cli("train", *given, *TRAIN, "--out", run)


def test_training_replaces_links_in_its_folder(run: Path, cli: Cli) -> None:
    outside = run.parent / "outside"
    before = state_of(outside)
    for name in (*RUN_FILES, ".lock"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / name)
    result = train_again(cli, run)
    assert result.status == 0, result.err
    assert state_of(outside) == before
    for name in (*RUN_FILES, ".lock"):
        assert not (run / name).is_symlink()
        assert VICTIM not in (run / name).read_text()


@pytest.mark.parametrize("name", [".lock", "checkpoint.pt", "history.csv"])
def test_training_refuses_a_pipe_in_its_folder(run: Path, cli: Cli, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    result = train_again(cli, run)
    assert result.status == 2
    assert f"{run / name}: cannot be" in result.err
    assert "is a pipe, not a regular file" in result.err


@pytest.mark.parametrize("folder", ["evaluation", "evaluation-holdout"])
def test_evaluate_refuses_a_folder_that_leads_out(run: Path, cli: Cli, folder: str) -> None:
    before = state_of(run.parent / "outside")
    (run / folder).symlink_to(run.parent / "outside", target_is_directory=True)
    split = "holdout" if folder.endswith("holdout") else "test"
    result = cli("evaluate", run, "--split", split, "--device", "cpu")
    assert result.status == 2
    assert f"{run / folder}: leads out of" in result.err
    assert state_of(run.parent / "outside") == before


@pytest.mark.slow
def test_evaluate_replaces_links_in_its_folder(run: Path, cli: Cli) -> None:
    outside = run.parent / "outside"
    before = state_of(outside)
    (run / "evaluation").mkdir()
    for name in ("evaluation.json", "log.txt", "confusion.csv", "mistakes_pixels.png"):
        (run / "evaluation" / name).symlink_to(outside / "evaluation.json")
    assert cli("evaluate", run, "--device", "cpu").status == 0
    assert state_of(outside) == before
    assert not any(path.is_symlink() for path in (run / "evaluation").iterdir())
