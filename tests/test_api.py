"""The Python API: what it loads, what it names, and that it does what the command line does."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nbformat
import optuna
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from optuna.trial import FixedTrial

import archsearch
import archsearch as asr
from archsearch.search.events import Event, ExecutorReady, Rejection, TrialEnded
from archsearch.training.records import Epoch
from tests.conftest import ROOT, Cli

SEEDS = ROOT / "studies" / "seeds"
ERA = SEEDS / "era-s9" / "spec.json"
HEAVY = ("torch", "optuna", "numpy", "pandas", "pydantic", "rich", "typer", "typing")
SHORT = {"epochs": 2, "batch_size": 500, "target_accuracy": None}

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_importing_it_loads_nothing() -> None:
    code = f"import archsearch, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_that_check_can_fail() -> None:
    code = "import archsearch, sys; archsearch.Spec; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_it_names_what_it_has() -> None:
    dunders = {name for name in dir(archsearch) if name.startswith("__")}
    assert set(dir(archsearch)) == set(asr.__all__) | dunders
    assert {"__version__", "__all__"} <= dunders
    assert asr.__all__ == sorted(asr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = asr.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(str(archsearch.__file__)).read_text())
    seen = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in seen.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"archsearch.{home}" for name, home in vars(archsearch)["_HOMES"].items()}
    assert imported == homes | {"search": "archsearch.search.run"}
    assert imported.keys() == set(asr.__all__)


@pytest.mark.parametrize("name", asr.__all__)
def test_every_name_is_there_and_explained(name: str) -> None:
    value = getattr(asr, name)
    assert callable(value)
    assert value.__doc__
    assert ">>> import archsearch as asr" in value.__doc__


def test_the_search_package_is_the_function() -> None:
    from archsearch.search import driver  # which makes `archsearch.search` the package
    from archsearch.search.run import search

    assert inspect.ismodule(driver)
    assert inspect.signature(asr.search) == inspect.signature(search)


# A network


@pytest.mark.parametrize(
    "path", sorted(SEEDS.glob("*/spec.json")), ids=lambda path: path.parent.name
)
def test_what_validate_counts_torch_builds(path: Path) -> None:
    spec = asr.load_spec(path)
    verdict = asr.validate(spec)
    assert verdict.params == sum(p.numel() for p in asr.to_module(spec).parameters())
    assert asr.validate(str(path)) == verdict
    assert asr.validate(json.loads(path.read_text())) == verdict


def test_a_verdict_says_what_the_command_says(cli: Cli) -> None:
    verdict = asr.validate(ERA, constraints="cifar10-200k")
    assert f"{verdict}\n\n" == cli("validate", ERA).out
    data = json.loads(cli("validate", ERA, "--format", "json").out)
    for name in ("params", "macs", "receptive_field", "receptive_field_with_gap", "spec_hash"):
        assert getattr(verdict, name) == data[name]
    assert [violation.data() for violation in verdict.violations] == data["violations"]
    frame = verdict.layers_frame()
    assert list(frame["out_shape"]) == [layer["out_shape"] for layer in data["layers"]]
    assert frame["params"].sum() == verdict.params


def test_a_notebook_shows_names_as_text() -> None:
    name = "<script>alert(1)</script>&"
    raw = json.loads(ERA.read_text()) | {"name": name}
    raw["blocks"][0]["name"] = "<b>"
    shown = asr.validate(raw)._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in shown
    assert "214,651" in shown


def test_errors_are_those_that_the_command_prints(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text('{"name": "x", "blocks": [], "output": 3}')
    with pytest.raises(asr.InputError) as error:
        asr.validate(path)
    assert cli("validate", path).err == f"error: {error.value}\n"
    assert {problem.place for problem in error.value.problems} == {"blocks", "output"}
    # Shapes that do not fit are told of the file too.
    raw = json.loads(ERA.read_text())
    raw["output"]["layers"][-1] = {"op": "linear", "out_features": 7}
    path.write_text(json.dumps(raw))
    told: list[Callable[[Path], object]] = [asr.validate, asr.to_module, asr.diagnose]
    for call in told:
        with pytest.raises(asr.InputError) as error:
            call(path)
        assert error.value.source == str(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asr.validate(ERA, "cifar10-200K"), "no such constraints file"),
        (lambda: asr.diagnose(ERA, recipe="slow"), "no such recipe file"),
        (lambda: asr.load_study("cifar10"), "no such study file"),
        (lambda: asr.read_leaderboard("nowhere"), "cannot be read"),
        (lambda: asr.validate(ERA, {"max_param": 3}), "did you mean 'max_params'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(call: Callable[[], object], message: str) -> None:
    with pytest.raises(asr.ArchsearchError, match=message):
        call()


def test_records_may_be_given_as_themselves() -> None:
    study = asr.load_study("cifar10-200k")
    assert asr.load_study(study) is study
    assert asr.load_study({"name": "x", "dataset": "shapes"}).dataset == "shapes"
    limits = asr.Constraints(max_params=1)
    assert asr.validate(ERA, limits) == asr.validate(ERA, {"max_params": 1})


def test_a_module_is_read_as_the_command_reads_it(cli: Cli) -> None:
    from tests.convert.from_module import modules

    notes: list[str] = []
    module = modules.Eva8()
    spec = asr.from_module(module, input=(3, 32, 32), on_note=notes.append)
    assert asr.validate(spec).params == sum(p.numel() for p in module.parameters())
    result = cli("import", f"{modules.__file__}:Eva8")
    assert asr.load_spec(json.loads(result.out)) == spec
    assert all(f"note: {note}\n" in result.err for note in notes)


# A user's own Optuna study


@pytest.mark.parametrize("kind", ["tpe", "random", "nsga2"])
def test_a_users_own_loop_trains_nothing_outside_the_limits(
    kind: Literal["tpe", "random", "nsga2"],
) -> None:
    space, limits = asr.Space(), asr.Constraints(max_params=150_000)
    specs: list[asr.Spec] = []
    rates: list[float] = []
    rejected: list[Rejection] = []

    def objective(trial: optuna.Trial) -> float:
        specs.append(asr.suggest_spec(trial, space))
        rates.append(trial.suggest_float("lr", 1e-3, 1.0, log=True))  # not a knob of the space
        return -asr.validate(specs[-1]).macs

    sampler = asr.FeasibleSampler(space, limits, kind, seed=3, on_rejection=rejected.append)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=16, n_jobs=1)
    verdicts = [asr.validate(spec, limits) for spec in specs]
    assert all(verdict.accepted for verdict in verdicts)
    assert len({verdict.spec_hash for verdict in verdicts}) == len(set(rates)) == 16
    assert rejected
    for spec in specs[::5]:
        assert sum(p.numel() for p in asr.to_module(spec).parameters()) <= 150_000


def test_what_is_queued_comes_out_as_it_is() -> None:
    space = asr.Space()
    study = optuna.create_study(sampler=asr.FeasibleSampler(space))
    known = study.ask()
    spec = asr.suggest_spec(known, space)
    whole = asr.suggest_spec(FixedTrial(known.params), space)
    assert asr.validate(whole).spec_hash == asr.validate(spec).spec_hash
    # A part alone is kept, and the rest fits to it.
    study.enqueue_trial({"block1.width": 32, "block2.body": known.params["block2.body"]})
    trial = study.ask()
    found = asr.validate(asr.suggest_spec(trial, space))
    assert trial.params["block1.width"] == 32
    assert found.accepted
    assert found.spec_hash != asr.validate(spec).spec_hash


def test_other_samplers_may_be_used() -> None:
    space = asr.Space()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = asr.validate(asr.suggest_spec(study.ask(), space))
    assert study.trials[0].user_attrs["spec_hash"] == found.spec_hash


# Training and searching


def short_study(**changes: Any) -> dict[str, Any]:
    study = asr.load_study("demo").model_dump()
    return study | {"recipe": SHORT, "final_recipe": SHORT} | changes


@pytest.mark.slow
def test_training_goes_on_after_an_interruption(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Epoch] = []

    def stop(epoch: Epoch) -> None:
        seen.append(epoch)
        raise KeyboardInterrupt

    def train(on_epoch: Callable[[Epoch], None], folder: str) -> Any:
        return asr.train(
            ERA, SHORT, "shapes", device="cpu", precision="fp32", folder=folder, on_epoch=on_epoch
        )

    with pytest.raises(KeyboardInterrupt):
        train(stop, "one")
    run = train(seen.append, "one")
    assert [epoch.epoch for epoch in seen] == [1, 1, 2]
    assert seen[0] == seen[1]
    (tmp_path / "recipe.json").write_text(json.dumps(SHORT))
    options = ("--recipe", "recipe.json", "--dataset", "shapes", "--device", "cpu")
    done = cli("train", ERA, *options, "--precision", "fp32", "--out", "two")
    assert f"test accuracy {run.test_acc:.2%}" in done.out
    ours, theirs = (
        json.loads((tmp_path / folder / "result.json").read_text()) for folder in ("one", "two")
    )
    assert {**ours, "train_seconds": 0} == {**theirs, "train_seconds": 0}
    assert ours["test_acc"] == run.test_acc
    weights = run.to_module().state_dict()
    assert weights.keys() == asr.to_module(ERA).state_dict().keys()
    found = asr.diagnose(ERA, SHORT, run.history)
    assert list(found) == list(asr.diagnose(ERA, SHORT, tmp_path / "one" / "history.csv"))


@pytest.mark.slow
def test_a_search_finds_what_the_command_finds(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from archsearch.study.config import study_toml

    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        if isinstance(event, TrialEnded):
            raise KeyboardInterrupt

    study = asr.load_study(short_study(name="mine"))
    where: dict[str, Any] = {"device": "cpu", "precision": "fp32", "seed": 5}
    with pytest.raises(KeyboardInterrupt):
        asr.search(study, 3, on_event=interrupt, folder="there", **where)
    assert len(asr.read_leaderboard("there")) == 1
    result = asr.search(study, 3, on_event=events.append, folder="there", **where)
    assert isinstance(events[0], ExecutorReady)
    assert sum(isinstance(event, TrialEnded) for event in events) == 3
    assert result.folder == Path("there")
    assert len(result.finalists) == 1
    (tmp_path / "mine.toml").write_text(study_toml(study))
    options = ("--trials", "3", "--workers", "0", "--seed", "5", "--device", "cpu")
    assert cli("search", "mine.toml", *options, "--precision", "fp32").status == 0
    theirs = asr.read_leaderboard("studies/mine")
    untimed = [
        column
        for column in map(str, theirs)
        if not re.search("seconds|per_second", column) and column != "spec_path"
    ]
    assert result.leaderboard[untimed].equals(theirs[untimed])
    best = asr.load_spec(result.folder / result.finalists["spec_path"].iloc[0])
    assert asr.validate(best, study.constraints).accepted


# Documents


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


API = (ROOT / "docs" / "api.md").read_text()


def test_the_page_explains_every_name() -> None:
    headings = set(re.findall(r"^### `(\w+)", API, re.MULTILINE))
    assert headings == set(asr.__all__)
    for name in asr.__all__:
        (section,) = re.findall(rf"^### `{name}\b.*?(?=^##|\Z)", API, re.MULTILINE | re.DOTALL)
        assert any(f"asr.{name}" in block for block in blocks(section)), name


@pytest.mark.slow
def test_what_the_page_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies", target_is_directory=True)
    namespace: dict[str, Any] = {}
    for block in blocks(API):
        exec(block, namespace)  # noqa: S102 (the page's own code)


class ThisPython(AsyncKernelManager):
    """Kernels of the Python that runs the tests, whatever kernels this machine has."""

    @property
    def kernel_cmd_here(self) -> list[str]:
        return [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        filled = [
            part.format(connection_file=self.connection_file) for part in self.kernel_cmd_here
        ]
        return [*filled, *(extra_arguments or [])]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text = (ROOT / "examples" / "quickstart.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells)
    (tmp_path / "studies").symlink_to(ROOT / "studies", target_is_directory=True)
    client = NotebookClient(
        notebook, timeout=600, kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(tmp_path)}},
    )  # fmt: skip
    client.execute()


@pytest.mark.parametrize(
    ("record", "fields", "place"),
    [
        ("Spec", {"name": "net", "blocks": []}, "blocks"),
        ("Constraints", {"max_param": 1}, "max_param"),
        ("Recipe", {"epochs": 0}, "epochs"),
        ("Space", {"blok": 1}, "blok"),
    ],
)
def test_a_record_made_in_python_reports_its_problems_as_a_file_does(
    record: str, fields: dict[str, Any], place: str
) -> None:
    with pytest.raises(asr.InputError, match=rf"^{record}\(\) has ") as found:
        getattr(asr, record)(**fields)
    assert place in {problem.place for problem in found.value.problems}


def test_a_study_made_in_python_is_held_to_the_rules_of_a_study_file() -> None:
    study = asr.load_study("demo")
    with pytest.raises(asr.InputError, match="nope"):
        asr.load_study(study.model_copy(update={"start": ({"nope": 1},)}))


def test_errors_and_samplers_come_back_from_another_process() -> None:
    with pytest.raises(asr.InputError) as found:
        asr.validate({"name": "net", "blocks": []})
    again = pickle.loads(pickle.dumps(found.value))  # noqa: S301 (our own)
    assert (str(again), again.problems) == (str(found.value), found.value.problems)
    assert pickle.loads(pickle.dumps(asr.search)) is asr.search  # noqa: S301 (our own)
    sent = pickle.dumps(asr.FeasibleSampler(asr.Space(), seed=3))
    sampler = pickle.loads(sent)  # noqa: S301 (our own)
    study = optuna.create_study(sampler=sampler)
    study.set_user_attr("reference", "paper")  # a user's own attribute of our name
    assert asr.validate(asr.suggest_spec(study.ask(), asr.Space())).accepted
