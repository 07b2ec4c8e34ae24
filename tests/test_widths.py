"""What commands print on terminals of 80, 100 and 140 columns."""

from __future__ import annotations

import io
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from archsearch.analysis.validate import validate
from archsearch.analysis.verdict_view import verdict_page
from archsearch.common.console import rendered
from archsearch.common.fit_width import fitted
from archsearch.common.page import Grid, Line, Page
from archsearch.diagnosis import diagnose
from archsearch.diagnosis.fix import Offer
from archsearch.diagnosis.view import diagnosis_page
from archsearch.leaderboard.query import Query, chosen
from archsearch.leaderboard.reader import entries, names_of, read_board
from archsearch.leaderboard.view import board_page, main_columns
from archsearch.monitor.live_view import InFlight, SearchState
from archsearch.monitor.status import status
from archsearch.space.counting.near import account_any
from archsearch.space.counting.view import accounting_page
from archsearch.study.config import load_study
from archsearch.study.folder import StudyFolder
from archsearch.training import shapes
from archsearch.training.evaluation.evaluate import evaluate
from archsearch.training.evaluation.run_folder import read
from archsearch.training.evaluation.view import Report
from archsearch.training.evaluation.view import page as evaluation_page
from archsearch.training.recipe import Recipe
from archsearch.training.records import Epoch
from archsearch.training.training_view import TrainingView, line_printer
from tests.conftest import ROOT, Cli

WIDTHS = (80, 100, 140)
OLD = ROOT / "tests" / "written_by_4c21fd6"
SEEDS = ROOT / "studies" / "seeds"
STUDIES = [ROOT / "studies" / name for name in ("cifar10-200k", "random-baseline")]
NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def leaderboard() -> Page:
    boards = [
        read_board(folder, name) for folder, name in zip(STUDIES, names_of(STUDIES), strict=True)
    ]
    return board_page(chosen(boards, Query(top=4)), main_columns(several=True))


def live() -> Page:
    best = entries(read_board(STUDIES[0], "s"))[:3]
    state = SearchState(wanted=50, final_runs=3, trial_epochs=12, final_epochs=300, at_a_time=2)
    state.done, state.best = 23, best
    state.curves = {row.trial: [0.5, 0.6, 0.7, 0.75, 0.8, 0.82] * 4 for row in best}
    state.trial_epoch_seconds = [1234.5]
    state.rejected = Counter(max_params=1_204, min_receptive_field=77)
    state.proposals_rejected = 1_230
    told = "5fa9f89058ef: 128,866 params, RF 65, 18.6M MACs"
    figures = "loss 0.123, train 99.99%, hold-out 93.12%, 1,234.5 s, 12,345 images/s"
    state.in_flight = {
        "trial-23": InFlight(23, told, 12, final=False, done=11, figures=figures),
        "final-0": InFlight(0, told, 300, final=True),
    }
    state.epoch_share = {"trial-23": 0.45, "final-0": 0.0}.__getitem__
    return without_load(state.page(elapsed_s=36_000.0))


def without_load(page: Page) -> Page:
    """Leave out how busy this machine is."""
    return [
        part._replace(text=part.text.partition(";")[0])
        if isinstance(part, Line) and part.text.startswith("in training")
        else part
        for part in page
    ]


def evaluated() -> Page:
    labels = torch.arange(1_000) % 10
    taken = torch.where(torch.arange(1_000) < 137, (labels + 1) % 10, labels)
    logits = 3.0 * torch.nn.functional.one_hot(taken, 10)
    run = read(OLD / "run")
    report = Report(
        run=run, split="test", classes=shapes.CLASSES, on=run.made,
        evaluation=evaluate(logits, logits, labels),
    )  # fmt: skip
    return evaluation_page(report, Path("run/evaluation"), ["evaluation.json", "mistakes.png"])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Pages of commands, by command."""
    folder = tmp_path_factory.mktemp("studies")
    shutil.copytree(OLD / "studies" / "old", folder / "old")
    study = load_study("demo")
    return {
        "validate": verdict_page(validate(SEEDS / "eva8-session6" / "spec.json")),
        "validate --explain": verdict_page(validate(SEEDS / "era-s9" / "spec.json"), explain=True),
        "leaderboard": leaderboard(),
        "search": live(),
        "status": without_load(status(StudyFolder(folder / "old")).state.page()),
        "diagnose": diagnosis_page(
            diagnose(STUDIES[0] / "trials" / "5fa9f89058ef" / "spec.json"), Offer((), (), {})
        ),
        "evaluate": evaluated(),
        "space": accounting_page("demo", account_any(study.space, study.constraints)),
    }


def console(width: int) -> Console:
    return Console(width=width, file=io.StringIO(), color_system=None, force_terminal=True)


def text_of(at: Console) -> str:
    assert isinstance(at.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in at.file.getvalue().splitlines())


def printed(page: Page, width: int) -> str:
    at = console(width)
    at.print(rendered(page, width))
    return text_of(at)


def epochs(width: int) -> str:
    """What `train` prints while it resumes and goes on."""
    at, now = console(width), [0.0]
    view = TrainingView(
        Recipe(epochs=300, batch_size=256), 45_000, 5_000, line_printer(at),
        seconds=lambda: now[0],
    )  # fmt: skip
    for number in range(1, 5):
        if number > 2:
            for _ in range(180):
                view.step()
                now[0] += 0.5
        view.epoch(
            Epoch(
                epoch=number, lr=0.1, train_loss=2.3 / number, train_acc=0.99, val_loss=1,
                val_acc=0.2 * number, train_seconds=12_345.67, images_per_second=123_456.7,
            )
        )  # fmt: skip
    return text_of(at)


@pytest.mark.parametrize("width", WIDTHS)
def test_golden(width: int, pages: dict[str, Page], request: pytest.FixtureRequest) -> None:
    texts = {name: printed(page, width) for name, page in pages.items()} | {"train": epochs(width)}
    out = "\n".join(f"$ {name}\n{text}" for name, text in texts.items())
    golden = ROOT / "tests" / "golden" / f"width-{width}.txt"
    if request.config.getoption("--overwrite"):
        golden.write_text(out, encoding="utf-8")
    assert out == golden.read_text(encoding="utf-8")


def numbers(texts: Sequence[str]) -> Counter[str]:
    return Counter(number for text in texts for number in NUMBER.findall(text))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_digit_is_lost_and_no_line_too_long(width: int, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        shown = printed(page, width)
        assert all(len(line) <= width for line in shown.splitlines()), name
        for part in page:
            if isinstance(part, Line):
                wanted = [part.text]
            else:
                table = fitted([part], width)[0]
                assert isinstance(table, Grid)
                kept = [i for i, title in enumerate(part.titles) if title in table.titles]
                kept = kept or list(range(len(part.rows[0])))
                wanted = [row[i] for row in part.rows for i in kept]
            lost = numbers(wanted) - numbers([shown])
            assert not lost, (name, lost)
    assert all(len(line) <= width for line in epochs(width).splitlines())
    assert numbers([epochs(400)]) == numbers([epochs(width)])


def test_what_must_be_read_off_a_narrow_terminal_is_there(pages: dict[str, Page]) -> None:
    validated = printed(pages["validate"], 80)
    assert re.search(r"^block +layer +k +s +p +d ", validated, re.M)
    assert "not shown in 80 columns: g, jump; use a wider terminal or --format json" in validated
    assert re.search(
        r"^study .* hold-out % +test % +params +RF$", printed(pages["leaderboard"], 80), re.M
    )


def test_a_pipe_gets_every_column_and_columns_that_were_asked_for_stay(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "seconds" in cli("leaderboard", STUDIES[0]).out.splitlines()[0]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "not shown" in cli("leaderboard", *STUDIES).out
    asked = cli("leaderboard", STUDIES[0], "--columns", "rank,macs,epochs,train_seconds,test_acc")
    assert "not shown" not in asked.out
    assert "seconds" in asked.out
