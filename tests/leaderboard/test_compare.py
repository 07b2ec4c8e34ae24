"""`archsearch leaderboard --diff A B`: what differs in two networks, and whether it matters."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.common.parse import from_json
from archsearch.leaderboard.compare import IMAGES, standard_error
from archsearch.space.edits.knobs import apply, knobs_of
from archsearch.spec import models as s
from archsearch.spec.diff import aligned, differences
from archsearch.training import images
from archsearch.training.datasets import HOLDOUT_SHARE
from tests import strategies
from tests.conftest import ROOT, Cli
from tests.leaderboard.test_leaderboard import CHANCE, OLD, OURS, by_hand

ERA = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"


def spec(*blocks: list[dict[str, Any]], **changes: Any) -> s.Spec:
    named = [{"name": f"b{i}", "layers": layers} for i, layers in enumerate(blocks)]
    head = {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]}
    return s.Spec.model_validate({"name": "x", "blocks": named, "output": head} | changes)


def conv(width: int, **fields: Any) -> dict[str, Any]:
    return {"op": "conv", "out_channels": width} | fields


# Networks


def test_a_setting_a_layer_more_and_another_kind() -> None:
    first = spec([conv(8), conv(16, stride=2)], [conv(32)])
    second = spec(
        [conv(8), conv(8), conv(24, stride=2, activation=None)],
        [{"op": "depthwise_separable", "out_channels": 32}],
        input={"channels": 1},
    )
    assert [tuple(change) for change in differences(first, second)] == [
        ("input", "3x32x32", "1x32x32"),
        ("b0.0", "", "conv out_channels 8"),
        (
            "b0.1",
            "conv out_channels 16, activation relu",
            "conv out_channels 24, activation none",
        ),
        ("b1.0", "conv out_channels 32", "depthwise_separable out_channels 32"),
    ]


def test_what_is_inside_of_layers() -> None:
    def of(width: int, merge: str, *more: dict[str, Any]) -> s.Spec:
        body = [
            {
                "op": "parallel",
                "merge": merge,
                "branches": [[conv(width)], [], *([list(more)] * bool(more))],
            }
        ]
        return spec([conv(8), {"op": "residual", "body": [*body, conv(8, kernel_size=[3, 5])]}])

    assert [tuple(change) for change in differences(of(4, "concat"), of(6, "add", conv(6)))] == [
        ("b0.1.body.0", "parallel merge concat", "parallel merge add"),
        ("b0.1.body.0.branches.0.0", "conv out_channels 4", "conv out_channels 6"),
        ("b0.1.body.0.branches.2.0", "", "conv out_channels 6"),
    ]
    plain = spec([conv(8), conv(8)])
    assert differences(plain, of(4, "concat"))[0].second == (
        "residual (parallel (conv out_channels 4 | nothing); conv out_channels 8, kernel_size 3x5)"
    )


def test_blocks_that_one_has_more() -> None:
    one, two = spec([conv(8)]), spec([conv(8)], [conv(16), conv(16)])
    assert [change.where for change in differences(one, two)] == ["b1.0", "b1.1"]
    assert [change.where for change in differences(two, one)] == ["b1.0", "b1.1"]


@given(strategies.specs())
def test_nothing_differs_from_itself(spec: s.Spec) -> None:
    assert differences(spec, spec.model_copy(update={"name": "another"})) == []


def test_every_edit_is_told_in_its_block_and_nowhere_else() -> None:
    era = from_json(s.Spec, ERA.read_text(), "")
    for name, knob in knobs_of(era).items():
        if not knob.place or knob.kind == "width":
            continue
        for value in knob.choices.keys() - {knob.as_is}:
            changes = differences(era, apply(era, {name: value}, "edited"))
            block = knob.where.split(".")[0]
            assert {change.where.split(".")[0] for change in changes} == {block}, (name, value)


LAYERS = st.lists(
    st.sampled_from([conv(8), conv(16), {"op": "norm"}, {"op": "activation", "kind": "gelu"}]),
    min_size=1,
    max_size=5,
)


@given(LAYERS, LAYERS)
def test_an_alignment_is_one_in_order(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    first, second = (spec(layers).blocks[0].layers for layers in (one, two))
    pairs = aligned(first, second)
    assert [i for i, _ in pairs if i is not None] == list(range(len(first)))
    assert [j for _, j in pairs if j is not None] == list(range(len(second)))
    common = [first[i] for i, j in pairs if i is not None and j is not None]
    if one == two:
        assert len(common) == len(one)


def test_a_layer_put_in_anywhere_is_the_only_change() -> None:
    rng = random.Random(0)
    layers = [conv(8 * (1 + i), stride=1 + i % 2) for i in range(6)]
    for at in range(7):
        more = [*layers[:at], conv(rng.randrange(100, 200), kernel_size=5), *layers[at:]]
        (change,) = differences(spec(layers), spec(more))
        assert (change.where, change.first) == (f"b0.{at}", "")


def test_long_lists_are_held_against_each_other_by_number() -> None:
    many = [conv(1 + i) for i in range(1_500)]
    changes = differences(spec(many), spec([conv(9_999), *many]))
    assert len(changes) == 1_501


# Which rows


@pytest.mark.parametrize("ref", ["2", "t41", "trial41", "trial-41", "970e8f7feae3", "970e"])
def test_a_row_by_its_rank_trial_or_hash(ref: str, cli: Cli) -> None:
    found = json.loads(cli("leaderboard", OURS, "--diff", "1", ref, "--format", "json").out)
    assert found["second"]["trial"] == 41


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("99", "no such row; give a rank"),
        ("t999", "no such row"),
        ("97", "no such row"),
        ("1", "is in cifar10-200k, random-baseline; write STUDY:1"),
        ("elsewhere:1", "no study 'elsewhere' here; choose of cifar10-200k, random-baseline"),
        ("\x1b[31m", "no such row"),
    ],
)
def test_no_row_or_several(ref: str, told: str, cli: Cli) -> None:
    result = cli("leaderboard", OURS, CHANCE, "--diff", "cifar10-200k:1", ref)
    assert (result.status, result.out) == (2, "")
    assert told in result.err
    assert "\x1b" not in result.err


def test_of_several_studies(cli: Cli) -> None:
    for name in ("random-baseline", str(CHANCE), f"{CHANCE}/"):
        result = cli("leaderboard", OURS, CHANCE, "--diff", "5fa9f89058ef", f"{name}:1")
        assert (result.status, result.err) == (0, "")
        assert result.out.startswith("A  cifar10-200k: rank 1, trial 0, 5fa9f89058ef, trained\n")
        assert "B  random-baseline: rank 1, trial 26, 5dda92be29e9, trained\n" in result.out
    assert (
        "recipes that differ"
        in cli("leaderboard", OURS, OLD, "--diff", "cifar10-200k:1", "first-light:1").err
    )


def test_diff_stands_alone(cli: Cli) -> None:
    for args in (("--top", "3"), ("--format", "csv"), ("--columns", "rank"), ("--where", "rank=1")):
        assert cli("leaderboard", OURS, "--diff", "1", "2", *args).status == 2


# The outcome


def outcome(cli: Cli, *args: Any) -> dict[str, dict[str, Any]]:
    result = cli("leaderboard", *args, "--format", "json")
    return {at.pop("figure"): at for at in json.loads(result.out)["outcome"]}


def test_noise_is_told_as_such(cli: Cli) -> None:
    board = by_hand(OURS)
    found = outcome(cli, OURS, "--diff", "1", "2")
    a, b = (float(row["val_acc"]) for row in board[:2])
    hold_out = found["val_acc"]
    assert hold_out["difference"] == pytest.approx(b - a)
    assert hold_out["errors"][0] == pytest.approx(math.sqrt(a * (1 - a) / 5_000))
    assert hold_out["errors"][2] == pytest.approx(math.sqrt((a * (1 - a) + b * (1 - b)) / 5_000))
    assert hold_out["remark"] == "within noise"
    assert found["params"]["difference"] == int(board[1]["params"]) - int(board[0]["params"])
    trained = [row for row in board if row["status"] == "trained"]
    far = outcome(cli, OURS, "--diff", "1", trained[-1]["rank"])
    assert far["val_acc"]["remark"] == "beyond noise"
    assert far["test_acc"] == {
        "first": 0.9134, "second": None, "difference": None, "errors": None, "remark": "",
    }  # fmt: skip
    pruned = next(row for row in board if row["status"] == "pruned")
    stopped = outcome(cli, OURS, "--diff", "1", pruned["rank"])
    assert stopped["val_acc"]["remark"] == f"after 3 and {pruned['epochs']} epochs"


def test_the_page_tells_both_with_their_errors(cli: Cli) -> None:
    out = cli("leaderboard", OURS, "--diff", "1", "2").out
    assert "hold-out %             85.12 ± 0.50  85.04 ± 0.50  -0.08 ± 0.71  within noise\n" in out
    assert "parameters                  128,866       142,434       +13,568\n" in out
    assert "conv2.0         conv out_channels 48 -> conv out_channels 32\n" in out


def test_a_row_and_itself(cli: Cli) -> None:
    out = cli("leaderboard", OURS, "--diff", "1", "1").out
    assert "\nthe same network\n" in out
    assert "->" not in out


def test_accuracies_of_other_images_are_not_compared(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(OURS, tmp_path / "other")
    path = tmp_path / "other" / "leaderboard.csv"
    path.write_text(path.read_text().replace(",cifar10,", ",shapes,"))
    found = outcome(cli, OURS, tmp_path / "other", "--diff", "cifar10-200k:1", "other:1")
    assert found["val_acc"]["difference"] is None
    assert found["val_acc"]["remark"] == "other images: cannot be compared"


def test_seeds_count_where_there_are_several() -> None:
    of_images = math.sqrt(0.9 * 0.1 / 10_000)
    assert standard_error(0.9, 10_000, {}) == pytest.approx(of_images)
    assert standard_error(0.9, 10_000, {"test_acc_std": 0.02, "test_seeds": 4}) == pytest.approx(
        math.sqrt(of_images**2 + 0.01**2)
    )
    assert standard_error(1.0, 100, {}) == pytest.approx(math.sqrt(0.01 * 0.99 / 100))


def test_the_images_that_accuracies_are_of() -> None:
    shapes = images.load("shapes", None)
    held = images.holdout(shapes.train)[1]
    assert IMAGES["shapes"] == (len(held.labels), len(shapes.test.labels))
    assert IMAGES["cifar10"] == (50_000 // HOLDOUT_SHARE, 10_000)


# Files


def two_rows(tmp_path: Path, spec_path: str, knobs: tuple[str, str] = ("", "")) -> Path:
    """A study of two rows, the second of which has its spec elsewhere."""
    board = by_hand(OURS)
    study = tmp_path / "study"
    shutil.copytree(OURS / "trials" / "5fa9f89058ef", study / "trials" / "5fa9f89058ef")
    lines = ["rank,trial,spec_hash,status,val_acc,params,spec_path,knobs"]
    for row, path, told in zip(board, (board[0]["spec_path"], spec_path), knobs, strict=False):
        lines.append(f"{row['rank']},{row['trial']},{row['spec_hash']},trained,0.5,9,{path},{told}")
    (study / "leaderboard.csv").write_text("\n".join(lines) + "\n")
    return study


@pytest.mark.parametrize(
    ("spec_path", "told"),
    [
        ("../outside.json", "leads out of the study's folder"),
        ("/etc/hostname", "leads out of the study's folder"),
        ("link/spec.json", "leads out of the study's folder"),
        ("trials/../../outside.json", "leads out of the study's folder"),
        ("trials/gone.json", "is not there"),
        ("trials", "is not there"),
        ("loop", "is n"),
        ("a\0b", "is no path"),
        ("x" * 5_000, "is n"),
        ("trials/5fa9f89058ef/spec.json", "is network 5fa9f89058ef, the leaderboard says '970e"),
        ("trials/5fa9f89058ef/history.csv", "is not valid JSON"),
        ("", "is not there"),
    ],
)
def test_a_spec_that_is_not_to_be_had_leaves_the_figures(
    spec_path: str, told: str, cli: Cli, tmp_path: Path
) -> None:
    study = two_rows(tmp_path, spec_path)
    (tmp_path / "outside.json").write_text(ERA.read_text())
    (study / "link").symlink_to(ERA.parent)
    (study / "loop").symlink_to(study / "loop")
    result = cli("leaderboard", study, "--diff", "1", "2")
    assert result.status == 2
    assert told in result.err
    assert "hold-out %" in result.out
    assert "->" not in result.out
    assert len(result.err) < 1_000


def test_settings_are_compared_where_the_leaderboard_has_them(cli: Cli, tmp_path: Path) -> None:
    study = two_rows(tmp_path, "", ("a.width=24 a.kernel=3 b.x=1", "a.width=32 a.kernel=3 c.y=2"))
    found = json.loads(cli("leaderboard", study, "--diff", "1", "2", "--format", "json").out)
    assert found["settings"] == [
        {"where": "a.width", "first": "24", "second": "32"},
        {"where": "b.x", "first": "1", "second": ""},
        {"where": "c.y", "first": "", "second": "2"},
    ]
    assert found["layers"] is None
    assert len(found["problems"]) == 1
    out = cli("leaderboard", study, "--diff", "1", "2").out
    assert "a.width  24 -> 32\nb.x      only A: 1\nc.y      only B: 2\n" in out


def test_a_layer_that_only_the_second_has_is_not_confused_with_one_of_the_first(
    cli: Cli,
) -> None:
    out = cli("leaderboard", OURS, "--diff", "1", "3").out
    places = [
        line.partition("  ")[0] for line in out.splitlines() if "only" in line or "->" in line
    ]
    assert len(places) == len(set(places))
    # Of the second network's conv4, the first two layers are new; the first's own follow them.
    assert re.search(r"^conv4.0 of B +only B: conv out_channels 96", out, re.M)
    assert re.search(r"^conv4.0 +depthwise_separable out_channels 112", out, re.M)


def test_the_epochs_of_both_accuracies_are_compared(cli: Cli) -> None:
    out = cli("leaderboard", OURS, "--diff", "1", "2").out
    assert re.search(r"^search epochs +3 +3 ", out, re.M)
    assert re.search(r"^test epochs +30 +30 ", out, re.M)
