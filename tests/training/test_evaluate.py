"""`archsearch evaluate`: figures against independent formulas, and the command on a real run."""

from __future__ import annotations

import csv
import functools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from archsearch.cli import main
from archsearch.common.interval import Interval, wilson
from archsearch.errors import ArchsearchError
from archsearch.training import checkpoint, shapes
from archsearch.training.augment import normalised, statistics
from archsearch.training.device import choose
from archsearch.training.evaluation.evaluate import answers, calibration, evaluate, trained
from archsearch.training.evaluation.run_folder import read
from archsearch.training.images import holdout, load
from archsearch.training.loop import evaluate as score
from tests.conftest import Cli

PIXELS = "mistakes_pixels.png"
TABLES = ("per_class.csv", "confusion.csv", "calibration.csv", "mistakes.csv")
CHARTS = ("confusion.png", "calibration.png", "curves.png", "mistakes.png", "per_class.png")
HOSTILE = "[bold]x\nred\x1b[31m $\\frac{"
SPEC = {
    "name": HOSTILE,
    "blocks": [{"name": "a", "layers": [{"op": "conv", "out_channels": 8, "stride": 4}]}],
    "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
}
RECIPE = {
    "epochs": 1,
    "batch_size": 128,
    "average": {"decay": 0.9},
    "augment": {"flip": 0.0, "translate": 0},
    "target_accuracy": 0.05,
}


@pytest.fixture(scope="module", autouse=True)
def _one_data_set() -> Iterator[None]:
    """Made once, not once a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "generate", functools.cache(shapes.generate))
        yield


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch on shapes, trained by the command."""
    folder = tmp_path_factory.mktemp("run")
    spec, recipe = folder / "spec.json", folder / "recipe.json"
    spec.write_text(json.dumps(SPEC))
    recipe.write_text(json.dumps(RECIPE))
    args = ["train", spec, "--recipe", recipe, "--out", folder / "run", "--dataset", "shapes"]
    args += ["--device", "cpu", "--precision", "fp32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["archsearch", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, 1)
    return folder / "run"


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib is not installed; the pictures, which take longest, have their own tests."""
    monkeypatch.delitem(sys.modules, "archsearch.training.evaluation.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def random_answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(500, 4, generator=generator)
    mirrored = logits + torch.randn(500, 4, generator=generator)
    return logits, mirrored, torch.randint(4, (500,), generator=generator)


def largest(values: torch.Tensor) -> int:
    listed = values.tolist()
    return int(listed.index(max(listed)))


def test_figures_agree_with_plain_loops() -> None:
    logits, mirrored, labels = random_answers()
    found = evaluate(logits, mirrored, labels)
    cells: Counter[tuple[int, int]] = Counter()
    loss, both_right, wrong = 0.0, 0, []
    for i, true in enumerate(labels.tolist()):
        p, q = (
            torch.exp(x[i].double()) / torch.exp(x[i].double()).sum() for x in (logits, mirrored)
        )
        best = largest(p)
        cells[true, best] += 1
        loss -= float(torch.log(p[true]))
        both_right += largest(p + q) == true
        if best != true:
            wrong.append((float(p[best]), i, true, best))
    assert found.images == 500
    assert {(i, j): n for i, r in enumerate(found.confusion) for j, n in enumerate(r) if n} == cells
    assert found.accuracy == 1 - len(wrong) / 500
    assert found.accuracy_with_flip == both_right / 500
    assert found.loss == pytest.approx(loss / 500)
    wrong.sort(reverse=True)
    assert [m[:3] for m in found.mistakes] == [w[1:] for w in wrong]
    assert [m.confidence for m in found.mistakes] == pytest.approx([w[0] for w in wrong])
    assert sum(c.images for c in found.confusions) == len(wrong)
    assert found.confusions[0].images == max(n for (i, j), n in cells.items() if i != j)
    for label, score_ in enumerate(found.per_class):
        assert score_.images == int((labels == label).sum())
        assert score_.accuracy == pytest.approx(cells[label, label] / score_.images)


def test_flip_averaging_is_of_probabilities_not_of_logits_or_votes() -> None:
    # Class 1 is just ahead in the image, class 0 far ahead in its mirror image.
    logits = torch.log(torch.tensor([[0.45, 0.55]]))
    mirrored = torch.log(torch.tensor([[0.9, 0.1]]))
    found = evaluate(logits, mirrored, torch.tensor([0]))
    assert (found.accuracy, found.accuracy_with_flip) == (0.0, 1.0)
    # Mean of logits: class 1; of probabilities: class 0.
    logits = torch.log(torch.tensor([[0.001, 0.5, 0.499]]))
    mirrored = torch.log(torch.tensor([[0.8, 0.1, 0.1]]))
    assert (logits + mirrored).argmax() == 1
    found = evaluate(logits, mirrored, torch.tensor([0]))
    assert found.accuracy_with_flip == 1.0


def test_calibration_of_a_case_made_by_hand() -> None:
    # Sure of 0.9 and right 3 of 4 times; sure of 0.5 and right 1 of 2 times.
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = torch.tensor([True, True, True, False, True, False])
    bins = [b for b in calibration(confidence, right) if b.images]
    assert [(b.images, b.accuracy) for b in bins] == [(2, 0.5), (4, 0.75)]
    assert [b.confidence for b in bins] == pytest.approx([0.5, 0.9])
    assert [b.low for b in bins] == pytest.approx([7 / 15, 13 / 15])
    assert [b.high for b in bins] == pytest.approx([8 / 15, 14 / 15])
    logits = torch.log(torch.tensor([[0.9, 0.1]] * 4 + [[0.5001, 0.4999]] * 2))
    found = evaluate(logits, logits, torch.tensor([0, 0, 0, 1, 0, 1]))
    assert found.calibration_error == pytest.approx((4 * 0.15 + 2 * 0.0001) / 6, abs=1e-5)
    assert found.mean_confidence == pytest.approx((4 * 0.9 + 2 * 0.5001) / 6, abs=1e-5)


def test_bins_end_with_their_upper_edge_and_hold_every_image() -> None:
    confidence = torch.tensor([0.0, 0.2, 0.2000001, 1.0], dtype=torch.float64)
    counts = [b.images for b in calibration(confidence, torch.ones(4, dtype=torch.bool))]
    assert sum(counts) == 4
    assert [i for i, count in enumerate(counts) if count] == [0, 2, 3, 14]


def test_the_interval_is_where_the_normal_test_does_not_reject() -> None:
    for right, count in ((0, 10), (7, 10), (8_500, 10_000), (100, 100)):
        for end in wilson(right, count):
            share = right / count
            if end not in (0.0, 1.0):
                # Wilson's ends solve |share - end| = z * sqrt(end * (1 - end) / count).
                z = abs(share - end) / (end * (1 - end) / count) ** 0.5
                assert z == pytest.approx(1.959964, rel=1e-5)
    low, high = wilson(8_500, 10_000)
    assert low == pytest.approx(0.8429, abs=1e-4)
    assert high == pytest.approx(0.8569, abs=1e-4)
    assert wilson(0, 0) == Interval(0.0, 1.0)


def test_a_class_without_images_has_no_accuracy() -> None:
    logits = torch.eye(3)[torch.tensor([0, 1])]
    found = evaluate(logits, logits, torch.tensor([0, 1]))
    assert [s.accuracy for s in found.per_class] == [1.0, 1.0, None]
    assert found.mistakes == ()


def test_answers_that_are_no_numbers_are_an_error(run: Path) -> None:
    found = read(run)
    model = trained(found)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    images = load("shapes", None).test[torch.arange(0, 1000, 100)]
    with pytest.raises(ArchsearchError, match=r"10 of 10 images are not finite numbers"):
        answers(model, images, torch.zeros(3), torch.ones(3), choose("cpu", "fp32"))


def test_the_forward_pass_is_the_tests_and_mirrors_the_width(run: Path) -> None:
    data = load("shapes", None)
    fit, _ = holdout(data.train)
    mean, std = statistics(fit.pixels)
    model, cpu = trained(read(run)), choose("cpu", "fp32")
    some = data.test[torch.arange(0, 1000, 7)]
    plain, mirrored = answers(model, some, mean, std, cpu)
    with torch.inference_mode():
        by_hand = model(normalised(some.pixels, mean, std).flip(-1))
    assert torch.allclose(mirrored, by_hand, atol=1e-5)
    assert not torch.allclose(mirrored, plain, atol=1e-3)
    noted = score(model, some, mean, std, cpu)
    found = evaluate(plain, mirrored, some.labels)
    assert found.accuracy == noted.accuracy
    assert found.loss == pytest.approx(noted.loss, rel=1e-5)
    assert found.loss == pytest.approx(F.cross_entropy(plain, some.labels).item(), rel=1e-5)


def test_the_command_gives_the_same_accuracy_as_training_and_every_file(
    run: Path, cli: Cli
) -> None:
    noted = json.loads((run / "result.json").read_text())["test_acc"]
    done = cli("evaluate", run, "--device", "cpu")
    assert done.status == 0, done.err
    assert f"{noted:.2%}" in done.out.splitlines()[1]
    assert "training noted" not in done.out
    assert "says nothing of CIFAR-10" in done.out
    assert "unfinished" not in done.out
    assert "choose on the test set" in done.err
    noted_run = json.loads((run / "run.json").read_text())
    for text in ("shapes test", noted_run["device"], "seed 0", f"torch {torch.__version__}"):
        assert text in done.out
    assert "\x1b" not in done.out
    assert "[bold]x\\nred" in done.out
    out = run / "evaluation"
    names = {"evaluation.json", "log.txt", PIXELS, *TABLES, *CHARTS}
    assert {path.name for path in out.iterdir()} == names
    found = json.loads((out / "evaluation.json").read_text())
    assert found["accuracy"] == noted == found["test_acc_after_training"]
    assert found["accuracy_low"] < noted < found["accuracy_high"]
    assert found["images"] == 1000
    assert found["finished"] is True
    confusion = rows(out / "confusion.csv")
    assert sum(int(row[row["true"]]) for row in confusion) == round(1000 * noted)
    assert {sum(int(v) for k, v in row.items() if k != "true") for row in confusion} == {100}
    assert len(rows(out / "mistakes.csv")) == 1000 - round(1000 * noted)
    assert sum(int(row["images"]) for row in rows(out / "calibration.csv")) == 1000
    assert (out / "log.txt").read_text().startswith("epoch 1/1 lr ")


@pytest.mark.usefixtures("no_charts")
def test_json_on_standard_output_is_the_file(run: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("evaluate", run, "--device", "cpu", "--format", "json", "--out", tmp_path / "o")
    assert done.status == 0
    assert done.out == (tmp_path / "o" / "evaluation.json").read_text()
    assert not (run / "evaluation").exists()


@pytest.mark.usefixtures("no_charts")
def test_the_pixels_kept_are_those_of_the_mistakes_told_in_their_order(run: Path, cli: Cli) -> None:
    assert cli("evaluate", run, "--device", "cpu").status == 0
    told = json.loads((run / "evaluation" / "evaluation.json").read_text())["mistakes"]
    test = load("shapes", None).test.pixels
    with Image.open(run / "evaluation" / PIXELS) as strip:
        assert strip.size == (32 * len(told), 32)
        for i, mistake in enumerate(told):
            tile = strip.crop((32 * i, 0, 32 * i + 32, 32))
            assert tile.tobytes() == test[mistake["image"]].numpy().tobytes()


@pytest.mark.usefixtures("no_charts")
def test_the_holdout_agrees_with_the_last_epoch(run: Path, cli: Cli) -> None:
    done = cli("evaluate", run, "--device", "cpu", "--split", "holdout", "--format", "json")
    found = json.loads(done.out)
    assert found["accuracy"] == found["val_acc"]
    assert found["images"] == 500
    assert found["accuracy"] == float(rows(run / "history.csv")[-1]["val_acc"])
    assert "choose on the test set" not in done.err
    assert (run / "evaluation-holdout" / "confusion.csv").exists()


@pytest.mark.usefixtures("no_charts")
def test_what_is_missed_unfinished_or_different_is_told(run: Path, cli: Cli) -> None:
    change(run / "recipe.json", target_accuracy=0.999, epochs=7)
    change(run / "result.json", test_acc=0.5)
    done = cli("evaluate", run, "--device", "cpu")
    assert done.status == 1
    assert "99.90%  not reached" in done.out
    assert "unfinished: 1 of 7 epochs were trained" in done.out
    assert "training noted 50.00% of the same images, this is " in done.out
    assert "on the same device in the same precision" in done.out


@pytest.mark.usefixtures("no_charts")
def test_no_target_is_reached_and_another_machine_may_differ(run: Path, cli: Cli) -> None:
    change(run / "recipe.json", target_accuracy=None)
    change(run / "result.json", test_acc=0.5, device="a\x1b[31m GPU")
    done = cli("evaluate", run, "--device", "cpu")
    assert done.status == 0
    assert "it was on a\\x1b[31m GPU, fp32" in done.out
    assert "\ntarget " not in done.out


@pytest.mark.usefixtures("no_charts")
def test_without_matplotlib_the_tables_are_written(run: Path, cli: Cli) -> None:
    done = cli("evaluate", run, "--device", "cpu")
    assert done.status == 0
    assert "pip install 'archsearch[charts]'" in done.err
    assert {path.name for path in (run / "evaluation").iterdir()} == {
        "evaluation.json", "log.txt", PIXELS, *TABLES,
    }  # fmt: skip


def test_every_problem_of_a_folder_is_told_at_once(run: Path, cli: Cli) -> None:
    change(run / "recipe.json", lr=-1)
    change(run / "run.json", seed="zero", precision="fp8")
    (run / "result.json").write_text("{")
    (run / "spec.json").unlink()
    (run / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:-50])
    done = cli("evaluate", run)
    assert done.status == 2
    assert "has 6 problems" in done.err
    for text in (
        "spec.json ", "is not there; run the command that trained it again",
        "recipe.json lr", "must be > 0.0, got -1", "run.json seed", "got 'zero'",
        "run.json precision", "got 'fp8'", "checkpoint.pt", "is not a checkpoint that can be read",
        "result.json", "is not valid JSON",
    ):  # fmt: skip
        assert text in done.err
    assert not (run / "evaluation").exists()
    assert "Traceback" not in done.err


def test_another_networks_files_are_told(run: Path, cli: Cli) -> None:
    spec = json.loads((run / "spec.json").read_text())
    spec["blocks"][0]["layers"][0]["dilation"] = 2  # the same weights, another network
    (run / "spec.json").write_text(json.dumps(spec))
    done = cli("evaluate", run)
    assert done.status == 2
    assert "has 2 problems" in done.err
    assert done.err.count("the files are of two runs") == 2


def test_weights_that_do_not_fit_are_told(run: Path, cli: Cli) -> None:
    path = run / "checkpoint.pt"
    found = checkpoint.read(path)
    assert found.state.average
    found.state.average.popitem()
    checkpoint.save(path, found)
    done = cli("evaluate", run, "--device", "cpu")
    assert done.status == 2
    assert "its weights do not fit the network in spec.json" in done.err


def test_a_full_run_has_no_holdout(run: Path, cli: Cli) -> None:
    change(run / "run.json", full=True)
    done = cli("evaluate", run, "--split", "holdout")
    assert done.status == 2
    assert "was trained on all training images, so it has no hold-out" in done.err


def test_folders_that_are_no_run(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "study" / "trials").mkdir(parents=True)
    for folder, told in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "holds no training run"),
        (tmp_path / "study", "is a study; give one of its runs"),
    ):
        done = cli("evaluate", folder)
        assert done.status == 2
        assert told in done.err


def test_an_output_that_cannot_be_written_is_told(run: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("evaluate", run, "--device", "cpu", "--out", tmp_path / "file")
    assert done.status == 2
    assert "cannot be written" in done.err
