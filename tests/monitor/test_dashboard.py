"""`archsearch dashboard`: what it shows, to whom, and that nothing can be changed through it."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from archsearch.common import csv_files, folder_lock
from tests.conftest import ROOT, Cli
from tests.search.test_driver import go, rows


class Served(NamedTuple):
    """A dashboard at work."""

    process: subprocess.Popen[str]
    port: int
    study_id: int

    def ask(
        self, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(host, self.port, timeout=60)
        connection.request(method, path, headers={"Accept-Encoding": "gzip"} | headers)
        with connection.getresponse() as response:
            return response.status, response.read()

    def study(self) -> dict[str, Any]:
        status, body = self.ask(f"/api/studies/{self.study_id}")
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found


@contextmanager
def served(folder: Path, *args: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "archsearch", "dashboard", str(folder), "--port", "0", *args]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/dashboard/studies/(\d+)  \(read-only", line)
        assert found, line + process.stderr.read()
        yield Served(process, int(found[1]), int(found[2]))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched study whose folder's name an URL must escape."""
    path = tmp_path_factory.mktemp("dash")
    go(path, 4)
    folder = path / "a study? 100%"
    shutil.copytree(path / "study", folder)
    return folder


@pytest.fixture(scope="module")
def dashboard(study: Path) -> Iterator[Served]:
    with served(study) as found:
        yield found


def test_trials_with_their_figures_and_verdicts(study: Path, dashboard: Served) -> None:
    shown = {trial["number"]: trial for trial in dashboard.study()["trials"]}
    board = {int(row["trial"]): row for row in csv_files.read_csv(study / "leaderboard.csv")}
    assert shown.keys() == board.keys()
    for number, row in board.items():
        attrs = {attr["key"]: attr["value"] for attr in shown[number]["user_attrs"]}
        for name in ("params", "receptive_field", "macs", "spec_hash"):
            assert attrs[name] == row[name]
        assert attrs["verdict"] == "accepted"
        assert shown[number]["params"]
        if row["status"] == "trained":
            assert shown[number]["values"] == [pytest.approx(float(row["val_acc"]))]
    sortable = {attr["key"] for attr in dashboard.study()["union_user_attrs"] if attr["sortable"]}
    assert sortable >= {"params", "receptive_field", "macs"}


def test_the_page_itself_and_what_it_loads(dashboard: Served) -> None:
    status, page = dashboard.ask(f"/dashboard/studies/{dashboard.study_id}")
    assert status == 200
    (script,) = re.findall(rb'src="(/static/[^"]+)"', page)
    assert dashboard.ask(script.decode())[0] == 200


def test_nothing_can_be_changed(study: Path, dashboard: Served) -> None:
    def state() -> str:
        return hashlib.sha256((study / "study.db").read_bytes()).hexdigest()

    before, one = state(), f"/api/studies/{dashboard.study_id}"
    for method, path in (
        ("DELETE", one),
        ("POST", f"{one}/rename"),
        ("PUT", f"{one}/note"),
        ("POST", "/api/studies"),
        ("POST", "/incompatible-rdb-schema"),
    ):
        status, body = dashboard.ask(path, method)
        assert (status, json.loads(body)) == (403, {"reason": "archsearch dashboard is read-only"})
    assert state() == before
    assert not list(study.glob("study.db-*"))


def test_the_database_is_opened_to_be_read(study: Path) -> None:
    from optuna.exceptions import StorageInternalError

    from archsearch.monitor.dashboard import read_only
    from archsearch.study.folder import StudyFolder

    storage = read_only(StudyFolder(study), None)
    (found,) = storage.get_all_studies()
    with pytest.raises(StorageInternalError) as refused:
        storage.delete_study(found._study_id)
    assert "readonly database" in str(refused.value.__cause__)
    storage.remove_session()


def test_only_this_machine_is_answered(dashboard: Served) -> None:
    with pytest.raises(ConnectionRefusedError), socket.socket() as other:
        other.connect(("127.0.0.2", dashboard.port))  # all of 127/8 is loopback: another address
    for name in ("evil.example", f"evil.example:{dashboard.port}", ""):
        assert dashboard.ask("/api/studies", Host=name)[0] == 403
    for name in ("localhost", f"localhost:{dashboard.port}"):
        assert dashboard.ask("/api/studies", Host=name)[0] == 200


def test_it_shows_a_search_as_it_goes_on_and_holds_nothing(tmp_path: Path) -> None:
    go(tmp_path, 2)
    with served(tmp_path / "study") as found:
        assert len(found.study()["trials"]) == 2
        with folder_lock.locked(tmp_path / "study"):  # as the search does that is at work
            pass
        go(tmp_path, 4)
        shown = found.ask(f"/api/studies/{found.study_id}?after=2")[1]
        while not json.loads(shown)["trials"]:  # it keeps what it has read for two seconds
            shown = found.ask(f"/api/studies/{found.study_id}?after=2")[1]
        assert len(found.study()["trials"]) == len(rows(tmp_path)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it(study: Path, number: signal.Signals) -> None:
    with served(study) as found:
        found.study()
        found.process.send_signal(number)
        out, err = found.process.communicate(timeout=60)
        assert (out, err, found.process.returncode) == ("", "", 130)


def test_another_address_is_warned_of(study: Path) -> None:
    command = [sys.executable, "-m", "archsearch", "dashboard", str(study), "--host", "127.0.0.2"]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
        finally:
            process.kill()
    assert told == "warning: whoever reaches 127.0.0.2 can look at this study\n"


def test_a_port_that_is_taken(study: Path, cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cli("dashboard", study, "--port", taken.getsockname()[1])
    assert result.status == 2
    assert "Address already in use; --port 0 takes a free port" in result.err


def test_what_there_is_nothing_to_show_of(
    study: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    shutil.copy(study / "study.toml", kept)
    told = cli("dashboard", kept)
    assert told.status == 2
    assert "has no study.db" in told.err
    assert f"archsearch leaderboard {kept}" in told.err
    assert "is no study folder" in cli("dashboard", tmp_path).err
    (kept / "study.db").write_text("no database")
    assert "database cannot be used: file is not a database" in cli("dashboard", kept).err
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna_dashboard" else find(name)
    )
    assert cli("dashboard", study).err == (
        "error: the dashboard needs optuna-dashboard: pip install 'archsearch[dashboard]'\n"
    )
