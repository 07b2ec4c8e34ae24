"""A search that starts from a spec: its trials near it, its reference, what it gained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, judge
from archsearch.common import csv_files
from archsearch.common.page import plain
from archsearch.common.parse import from_json
from archsearch.errors import StudyError
from archsearch.leaderboard.entry import Entry
from archsearch.monitor.doctor import examine
from archsearch.monitor.live_view import SearchState
from archsearch.monitor.status import status
from archsearch.search.distributions import distributions
from archsearch.search.events import Event, ReferenceEnded, Started
from archsearch.search.improvement import Gain, gain_of, gain_page
from archsearch.search.sampler import FeasibleSampler
from archsearch.search.trials import REFERENCE, FinalResult
from archsearch.space.counting.account import Accounting, estimate_proportion
from archsearch.space.counting.near import account_any
from archsearch.space.counting.view import accounting_page
from archsearch.space.edits.knobs import edits_of, knobs_of
from archsearch.space.neighbourhood import Neighbourhood
from archsearch.space.settings import complete, describe_edits, knob_choices, minimal_edits
from archsearch.spec.models import Spec
from archsearch.study.config import Sampler, Study
from archsearch.study.folder import StudyFolder
from archsearch.study.near_spec import study_near
from tests.conftest import ROOT, Cli
from tests.search.test_driver import Killed, Pretend, accuracy, check_done, demo, go, rows
from tests.strategies import Json

HEAD: list[Json] = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
SMALL: Json = {
    "name": "small",
    "blocks": [
        {"name": "conv1", "layers": [{"op": "conv", "out_channels": 8, "stride": 2}]},
        {"name": "conv2", "layers": [{"op": "conv", "out_channels": 16, "activation": None}]},
    ],
    "output": {"layers": HEAD},
}
BASE = Spec.model_validate(SMALL)
NO_LIMITS: dict[str, Any] = dict.fromkeys(Constraints.model_fields) | dict.fromkeys(
    ("depthwise_separable", "dilated", "global_avg_pool"), False
)
LIMITS = Constraints(**NO_LIMITS | {"max_params": 1_600})
"""Kept by `BASE` (1,586 parameters)."""
TIGHT = Constraints(**NO_LIMITS | {"max_params": 1_500})
"""Broken by it."""


def accounted(study: Study) -> Accounting:
    return account_any(study.space, study.constraints, start=study.start, seed=study.seed)


def near(constraints: Constraints = TIGHT, base: Spec = BASE, **changes: Any) -> Study:
    study = study_near(demo(constraints=constraints), base)
    return study.model_copy(update={"name": "test", **changes})


def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def reference(tmp_path: Path) -> Any:
    study = optuna.load_study(study_name="test", storage=folder(tmp_path).storage)
    return REFERENCE.of(study)


def gain(tmp_path: Path) -> Gain:
    found = status(folder(tmp_path)).gain
    assert found
    return found


def check_near(tmp_path: Path, config: Study) -> None:
    """Every row within the limits, at most so many edits from the spec, each of which counts."""
    space = config.space
    assert isinstance(space, Neighbourhood)
    study = optuna.load_study(study_name="test", storage=folder(tmp_path).storage)
    board = rows(tmp_path)
    written = [name.removeprefix("knob_") for name in board[0] if name.startswith("knob_")]
    assert written == [
        name for name in knob_choices(space) if any(row.get(f"knob_{name}") for row in board)
    ]
    for row in board:
        knobs = complete(space, study.trials[int(row["trial"])].params)
        edits = edits_of(space.base, knobs)
        cells = {name: row[f"knob_{name}"] for name in written if row[f"knob_{name}"]}
        assert cells == {name: str(value) for name, value in edits.items()}
        assert len(edits) <= space.max_edits
        assert minimal_edits(space, edits) == edits
        assert row["edits"] == "; ".join(describe_edits(space, knobs))
        spec_hash = row["spec_hash"]
        assert (spec_hash == analyze(space.base).spec_hash) <= (not edits)
        assert int(row["params"]) <= (config.constraints.max_params or 0)
    csv = tmp_path / "study" / "rejections.csv"
    rejected = csv_files.read_csv(csv) if csv.exists() else []  # of so few, none may be rejected
    assert all(len(row["knobs"].split()) <= space.max_edits for row in rejected)


@pytest.mark.parametrize("kind", ["tpe", "random", "nsga2"])
def test_a_spec_over_its_limits_is_mended_first_and_trained_beside(
    tmp_path: Path, kind: str
) -> None:
    config = near(sampler=Sampler(kind=kind, startup_trials=3))
    events: list[Event] = []
    executor = Pretend()
    entries = go(tmp_path, 7, executor, config, events)
    check_done(tmp_path, 7)
    check_near(tmp_path, config)
    assert (tmp_path / "study" / "rejections.csv").exists()
    first = next(entry for entry in entries if entry.trial == 0)
    assert first.edits == "; ".join(describe_edits(config.space, config.start[0]))
    base = analyze(BASE)
    assert base.spec_hash not in {entry.spec_hash for entry in entries}
    assert executor.trained.count("reference") == 1
    assert reference(tmp_path).val_acc == accuracy(base.spec_hash)
    [ended] = [event for event in events if isinstance(event, ReferenceEnded)]
    assert ended.val_acc == accuracy(base.spec_hash)
    [started] = [e for e in events if isinstance(e, Started) and e.key == "reference"]
    assert (started.number, started.epochs) == (None, config.recipe.epochs)
    found = gain(tmp_path)
    assert found.val_acc == accuracy(base.spec_hash)
    assert found.best == next(entry for entry in entries if entry.rank == 1)


def test_a_spec_within_its_limits_is_the_first_trial_and_the_reference(tmp_path: Path) -> None:
    config = near(LIMITS)
    assert config.start == ({},)
    executor = Pretend()
    entries = go(tmp_path, 4, executor, config)
    check_near(tmp_path, config)
    first = next(entry for entry in entries if entry.trial == 0)
    assert first.spec_hash == analyze(BASE).spec_hash
    assert first.edits == ""
    assert "reference" not in executor.trained
    assert gain(tmp_path).val_acc == first.val_acc


@pytest.mark.parametrize(
    ("dies_at", "capacity"), [(2, 1), (16, 1), (18, 1), (20, 1), (22, 1), (16, 2), (19, 2)]
)
def test_killed_at_any_report_the_reference_is_trained_once(
    tmp_path: Path, dies_at: int, capacity: int
) -> None:
    config = near()
    trained: list[str] = []
    try:
        go(tmp_path, 3, Pretend(capacity=capacity, dies_at=dies_at, trained=trained), config)
    except Killed:
        go(tmp_path, 3, Pretend(capacity=capacity, trained=trained), config)
    check_done(tmp_path, 3)
    check_near(tmp_path, config)
    assert trained.count("reference") == 1
    assert reference(tmp_path).epochs == config.recipe.epochs


def test_a_search_in_two_calls_proposes_what_one_would_have_proposed(tmp_path: Path) -> None:
    config = near(sampler=Sampler(startup_trials=3))
    go(tmp_path / "one", 5, config=config)
    go(tmp_path / "two", 2, config=config)
    go(tmp_path / "two", 5, config=config)
    found = [
        sorted((int(row["trial"]), row["spec_hash"]) for row in rows(tmp_path / part))
        for part in ("one", "two")
    ]
    assert found[0] == found[1]


def test_the_same_command_again_does_nothing(tmp_path: Path) -> None:
    go(tmp_path, 3, config=near())
    idle = Pretend()
    go(tmp_path, 3, idle, near())
    assert idle.reports == 0


def test_a_reference_that_cannot_be_trained_is_told_and_not_tried_again(tmp_path: Path) -> None:
    def fails(job: Any) -> bool:
        return bool(job.key == "reference")

    go(tmp_path, 3, Pretend(fails=fails), near())
    assert gain(tmp_path).val_acc is None
    assert "it burst" in plain(gain_page(gain(tmp_path)))
    idle = Pretend()
    go(tmp_path, 3, idle, near())
    assert idle.reports == 0


def test_another_spec_is_refused(tmp_path: Path) -> None:
    go(tmp_path, 2, config=near())
    blocks = (BASE.blocks[0], BASE.blocks[1].model_copy(update={"name": "other"}))
    with pytest.raises(StudyError, match=r"differs in space.*choose another --name"):
        go(tmp_path, 2, config=near(base=BASE.model_copy(update={"blocks": blocks})))


def test_the_folder_is_sound_and_mended_as_any(tmp_path: Path) -> None:
    config = near()
    go(tmp_path, 3, config=config)
    assert examine(folder(tmp_path)) == []
    before = {
        name: (tmp_path / "study" / name).read_text() for name in ("study.toml", "leaderboard.csv")
    }
    for name in before:
        (tmp_path / "study" / name).write_text("gone")
    assert [finding.mended for finding in examine(folder(tmp_path))] == [True, True]
    for name, text in before.items():
        assert (tmp_path / "study" / name).read_text() == text


def test_the_reference_in_training_is_shown() -> None:
    config = near()
    state = SearchState(wanted=1, final_runs=1, trial_epochs=4, final_epochs=8)
    line = state.apply(Started("reference", None, analyze(BASE), config.recipe.epochs))
    assert line
    assert line.startswith("reference ")
    assert state.in_flight["reference"].label == "reference"
    told = state.apply(ReferenceEnded("reference", 0.5, ""))
    assert told == "reference, the spec itself: 50.00% of the hold-out"
    assert not state.in_flight


class Leaves(RandomSampler):
    """Proposes the spec as it is, but leaves out one knob, as NSGA-II does where it mutates."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {name: knobs_of(BASE)[name].as_is for name in search_space if name != "conv1.0.op"}


def test_a_knob_that_mutates_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(_self: FeasibleSampler, _seed: int) -> tuple[BaseSampler, int]:
        return Leaves(), 1_000

    monkeypatch.setattr(FeasibleSampler, "_sampler", leaves)
    space, drawn = Neighbourhood(base=BASE), []
    for seed in range(20):
        sampler = FeasibleSampler(space, LIMITS, Sampler(), seed, lambda _rejection: None)
        study = optuna.create_study(sampler=sampler)
        drawn.append(edits_of(BASE, study.ask(distributions(space)).params))
    assert {"conv1.0.op": "depthwise_separable"} in drawn
    assert {} in drawn
    assert all(edits.keys() <= {"conv1.0.op"} for edits in drawn)


# How much of the neighbourhood is within the limits


def test_the_share_within_the_limits_is_of_near_settings() -> None:
    config = near()
    found = accounted(config)
    assert not found.exact
    assert not found.hopeless
    assert 0 < found.feasible.low <= found.feasible.fraction <= found.feasible.high < 1
    assert found.feasible.fraction <= found.alone["max_params"].fraction
    assert list(found.quantiles) == ["params", "macs", "receptive_field"]


def test_a_large_spec_is_sampled_as_often_as_there_is_time_for() -> None:
    """And no more is claimed."""
    conv = {"op": "conv", "out_channels": 8}
    large = BASE.model_validate(SMALL | {"blocks": [{"name": "b", "layers": [conv] * 200}]})
    config = Study(name="x", space=Neighbourhood(base=large), constraints=LIMITS)
    found = accounted(config)
    assert found.samples == 100_000 // sum(1 for _ in analyze(large).network.nodes())
    assert f"sampled: {found.samples:,} settings drawn" in plain(accounting_page("x", found))
    assert found.feasible == estimate_proportion(0, found.samples)
    assert accounted(near()).samples == 2_000


def test_settings_are_counted_exactly() -> None:
    """Second direction: one by one."""
    base = Spec.model_validate(
        {
            "name": "x",
            "blocks": [{"name": "b", "layers": [{"op": "max_pool"}, {"op": "avg_pool"}]}],
            "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
        }
    )
    two = near(Constraints(**NO_LIMITS), base, space=Neighbourhood(base=base, max_edits=2))
    # widths (15), activation (4), and each pool left out or not (2, 2)
    alone = [14, 3, 1, 1]
    pairs = sum(a * b for i, a in enumerate(alone) for b in alone[i + 1 :])
    assert accounted(two).settings == 1 + sum(alone) + pairs


# What it gained


def entry(**changes: Any) -> Entry:
    row: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    row |= {"trial": 3, "spec_hash": "f", "val_acc": 0.75, "params": 1_500, "macs": 10**6}
    row |= {
        "receptive_field": (9, 9),
        "edits": "conv1.0: 3x3 -> 5x5; conv2.0: no activation -> relu",
    }
    return Entry(**row | changes)


def test_the_gain_is_told_edit_by_edit_and_figure_by_figure() -> None:
    base = analyze(BASE)
    text = plain(gain_page(Gain(base, 0.5, "", entry())))
    assert text.splitlines() == [
        "the best network (trial 3) is small with these edits:",
        "  conv1.0: 3x3 -> 5x5",
        "  conv2.0: no activation -> relu",
        "                   small    trial 3  difference",
        "hold-out %         50.00      75.00      +25.00",
        "parameters         1,586      1,500         -86",
        "MACs             350,368  1,000,000    +649,632",
        "receptive field        7          9          +2",
    ]
    untrained = plain(gain_page(Gain(base, None, "not trained yet", entry())))
    assert "hold-out %       not trained yet      75.00" in untrained
    same = plain(gain_page(Gain(base, 0.5, "", entry(spec_hash=base.spec_hash, trial=0))))
    assert same == "nothing near small was better than small itself (trial 0)\n"


@pytest.mark.parametrize(
    ("row", "val_acc", "reason"),
    [
        ({"status": "trained", "val_acc": 0.5, "epochs": 4}, 0.5, ""),
        ({"status": "pruned", "val_acc": 0.25, "epochs": 2}, None, "stopped early after epoch 2"),
        ({"status": "failed", "reason": "it burst"}, None, "it burst"),
        ({"spec_hash": "another", "status": "trained", "val_acc": 0.5}, None, "not trained yet"),
    ],
)
def test_a_base_that_was_a_trial_counts_if_it_was_trained_to_its_end(
    row: dict[str, Any], val_acc: float | None, reason: str
) -> None:
    best = entry(status="trained")
    entries = [best, entry(**{"trial": 0, "spec_hash": analyze(BASE).spec_hash} | row)]
    study = optuna.create_study()
    found = gain_of(study, near(LIMITS), entries)
    assert found == Gain(analyze(BASE), val_acc, reason, best)
    [_, *figures] = plain(gain_page(found)).splitlines()[4].split("  ")
    told = [figure.strip() for figure in figures if figure.strip()]
    assert told == (["50.00", "75.00", "+25.00"] if val_acc else [reason, "75.00"])
    REFERENCE.store(study, FinalResult(val_acc=0.4))
    again = gain_of(study, near(LIMITS), entries)
    assert again
    assert again.val_acc == (val_acc or 0.4)


def test_a_reference_that_was_trained_is_no_trial_after_it(tmp_path: Path) -> None:
    """Of a study without a start, whose spec is within its limits."""
    raw = SMALL | {"blocks": [{"name": "b", "layers": [{"op": "max_pool"}] * 2}]}
    space = Neighbourhood(base=Spec.model_validate(raw), max_edits=1)
    config = near(LIMITS, space=space, start=(), sampler=Sampler(kind="random", patience=100))
    first, more = Pretend(), Pretend()
    go(tmp_path, 1, first, config)
    assert "reference" in first.trained
    go(tmp_path, 9, more, config)
    assert more.trained == []
    assert [row["edits"] for row in rows(tmp_path)] == ["b.0: once -> left out"]


# The command


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    (tmp_path / "limits.toml").write_text(
        'name = "limits"\ndataset = "shapes"\nfinalists = 1\n'
        "[constraints]\nmax_params = 1_500\nmin_receptive_field = false\nconv_blocks = false\n"
        "depthwise_separable = false\ndilated = false\nglobal_avg_pool = false\n"
        "[recipe]\nepochs = 1\nbatch_size = 500\naugment = {flip = 0.0}\n"
        "[final_recipe]\nepochs = 1\nbatch_size = 500\ntarget_accuracy = false\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_whole_search_from_a_spec(cli: Cli, home: Path) -> None:
    command = ("search", "--from", "small.json", "limits.toml", "--trials", "2", "--workers", "0")
    result = cli(*command, "--device", "cpu")
    assert result.status == 0, result.err
    assert "the best network (trial " in result.out
    assert "reference, the spec itself: " in result.err
    study = home / "studies" / "small-near"
    board = csv_files.read_csv(study / "leaderboard.csv")
    assert len(board) == 2
    for row in board:
        spec = from_json(Spec, (study / row["spec_path"]).read_text(), "spec")
        verdict = judge(analyze(spec), TIGHT)
        assert verdict.accepted
        assert verdict.analysis.spec_hash == row["spec_hash"]
    assert json.loads((study / "reference" / "spec.json").read_text()) == SMALL
    again = cli(*command, "--device", "cpu")
    assert again.status == 0
    assert again.out == result.out
    assert "the best network (trial " in cli("status", study).out
    assert cli("doctor", study).status == 0


@pytest.mark.slow
def test_a_dry_run_tells_the_mend_and_trains_nothing(cli: Cli, home: Path) -> None:
    result = cli("search", "--from", "small.json", "limits.toml", "--dry-run", "--workers", "0")
    assert result.status == 0, result.err
    assert 'name = "small-near"' in result.out
    assert "small is outside the limits; the first trial is within: conv" in result.err
    assert "[space.base]" in result.out
    assert "max_params" in result.out
    answer, space, study = map(result.out.index, ("time: about", "settings of", 'name = "small'))
    assert answer < space < study
    assert result.out.startswith("small-near: 50 trials of ")
    assert not (home / "studies").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"input": {"channels": 3, "height": 16, "width": 16}},
            "  must be 3x32x32 for shapes, got 3x16x16",
        ),
        ({"classes": 3}, "  must be 10 for shapes, got 3"),
        ({"blocks": [{"name": "b", "layers": [{"op": "conv"}]}]}, "out_channels  is required"),
    ],
)
def test_a_spec_that_cannot_be_searched_around(
    cli: Cli, home: Path, change: Json, words: str
) -> None:
    (home / "bad.json").write_text(json.dumps(SMALL | change))
    result = cli("search", "--from", "bad.json", "limits.toml")
    assert result.status == 2
    assert result.err.startswith("error: bad.json has ")
    assert words in result.err
    assert not (home / "studies").exists()


def test_a_spec_that_nothing_mends_writes_nothing(cli: Cli, home: Path) -> None:
    result = cli("search", "--from", "small.json", "cifar10-200k", "--max-edits", "2")
    assert result.status == 2
    assert "small: no network within 2 edits was found that keeps" in result.err
    assert "conv_blocks" in result.err
    assert not (home / "studies").exists()


def test_max_edits_goes_with_from(cli: Cli) -> None:
    result = cli("search", "--max-edits", "2")
    assert result.status == 2
    assert "--from" in result.err


def test_the_reference_of_the_seed_is_the_seed() -> None:
    """The seed that fails by 14,651 parameters, as the shipped limits see it."""
    path = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"
    spec = from_json(Spec, path.read_text(), "era-s9")
    study = study_near(demo(constraints=Constraints()), spec)
    assert study.start == ({"conv4.0.width": 48},)
    assert describe_edits(study.space, study.start[0]) == ["conv4.0: 64 channels -> 48 channels"]
