"""Whatever a user hands over: one clear message, exit 2, bounded time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cli

CONV = {"op": "conv", "out_channels": 10}
SPEC = "studies/seeds/eva8-session6/spec.json"
HEAD = [{"op": "global_avg_pool"}]


def spec(*layers: Any, **fields: Any) -> dict[str, Any]:
    return {
        "name": "bad",
        "blocks": [{"name": "b", "layers": list(layers) or [CONV]}],
        "output": {"layers": HEAD},
        **fields,
    }


def check(cli: Cli, tmp_path: Path, content: Any) -> str:
    """What validate says of a spec that it must refuse, without the path."""
    path = tmp_path / "spec.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    result = cli("validate", path)
    assert result.status == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    return result.err.replace(str(path), "spec.json")


def test_a_missing_file(cli: Cli, tmp_path: Path) -> None:
    result = cli("validate", tmp_path / "no.json")
    assert result.status == 2
    assert result.err == f"error: {tmp_path}/no.json: cannot be read: No such file or directory\n"


def test_a_folder(cli: Cli, tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in cli("validate", tmp_path).err


def test_not_json(cli: Cli, tmp_path: Path) -> None:
    assert "is not valid JSON" in check(cli, tmp_path, "{'op': 1}")


def test_not_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    result = cli("validate", tmp_path / "x")
    assert result.status == 2
    assert "not UTF-8" in result.err


def test_all_problems_at_once_each_with_place_rule_value_and_remedy(
    cli: Cli, tmp_path: Path
) -> None:
    bad = spec(
        {**CONV, "kernel_size": 0},
        {**CONV, "out_channels": -8},
        {**CONV, "kernal_size": 3},
        {"op": "convolution", "out_channels": 3},
        {**CONV, "stride": "two"},
        {**CONV, "out_channels": 2.5},
        {"op": "conv"},
        {**CONV, "dropout": 1.5},
        {**CONV, "bias": 1},
        {"out_channels": 3},
        {**CONV, "padding": "full"},
        {**CONV, "out_channels": True},
        CONV["op"],
    )
    assert check(cli, tmp_path, bad) == (
        "error: spec.json has 13 problems\n"
        "  blocks.0.layers.0.kernel_size    must be >= 1, got 0\n"
        "  blocks.0.layers.1.out_channels   must be >= 1, got -8\n"
        "  blocks.0.layers.2.kernal_size    unknown key 'kernal_size'; "
        "did you mean 'kernel_size'?\n"
        "  blocks.0.layers.3.op             unknown op 'convolution'; did you mean 'conv'?\n"
        "  blocks.0.layers.4.stride         must be an integer or [height, width], got 'two'\n"
        "  blocks.0.layers.5.out_channels   must be an integer, got 2.5\n"
        "  blocks.0.layers.6.out_channels   is required and not there\n"
        "  blocks.0.layers.7.dropout        must be < 1.0, got 1.5\n"
        "  blocks.0.layers.8.bias           must be true or false, got 1\n"
        "  blocks.0.layers.9.op             is required: which layer is this?\n"
        "  blocks.0.layers.10.padding       must be one of 'same' or 'valid', got 'full'\n"
        "  blocks.0.layers.11.out_channels  must be an integer, got True\n"
        "  blocks.0.layers.12               must be an object, got 'conv'\n"
    )


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({**CONV, "kernel": 3}, "unknown key 'kernel'; did you mean 'kernel_size'?"),
        ({**CONV, "channels": 3}, "unknown key 'channels'; did you mean 'out_channels'?"),
        ({**CONV, "Stride": 3}, "unknown key 'Stride'; did you mean 'stride'?"),
        ({**CONV, "colour": 3}, "unknown key 'colour'; remove or rename it"),
        ({**CONV, "op": "max_pool"}, "max_pool has no out_channels; conv and"),
        ({**CONV, "stride": [2]}, "must be an integer or [height, width], got [2]"),
        ({**CONV, "stride": [2, 2, 2]}, "must be "),
    ],
)
def test_what_was_meant(cli: Cli, tmp_path: Path, layer: Any, told: str) -> None:
    message = check(cli, tmp_path, spec(layer))
    assert message.startswith("error: spec.json has 1 problem\n")
    assert told in message


def test_keys_and_files_cannot_write_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    assert "\x1b" not in check(cli, tmp_path, spec({**CONV, "\x1b[31mred\nx": 1}))
    result = cli("validate", tmp_path / "a\x1b[2J\nb.json")
    assert result.status == 2
    assert "\x1b" not in result.err
    assert result.err.count("\n") == 1


def test_shapes_that_do_not_fit_are_told_all_at_once(cli: Cli, tmp_path: Path) -> None:
    bad = spec(
        {**CONV, "groups": 2},
        {"op": "residual", "body": [{**CONV, "padding": "valid"}]},
        {
            "op": "parallel",
            "merge": "add",
            "branches": [[{**CONV, "out_channels": 4}], [{**CONV, "out_channels": 6}]],
        },
        {"op": "linear", "out_features": 3},
        CONV,
        {"op": "norm", "kind": "group"},
    )
    told = check(cli, tmp_path, bad)
    for place, words in {
        "blocks.0.layers.0.groups": "2 groups do not divide 3 input channels",
        "blocks.0.layers.1 ": "have maps of one size, got 30x30 and 32x32",
        "blocks.0.layers.2 ": "have equal channels, got 4 and 6",
        "blocks.0.layers.3 ": "takes a vector, not a map of",
        "blocks.0.layers.4 ": "conv takes a map, and this follows a flatten or linear layer",
        "blocks.0.layers.5.num_groups": "8 groups do not divide 10 channels",
    }.items():
        assert any(place in line and words in line for line in told.splitlines()), (place, told)


def test_a_map_that_shrinks_below_one(cli: Cli, tmp_path: Path) -> None:
    told = check(cli, tmp_path, spec({**CONV, "kernel_size": 9, "dilation": 5, "padding": 0}))
    assert "blocks.0.layers.0" in told
    assert "a window of 41 does not fit a map of height 32 with 0 of padding" in told
    assert "1 problem\n" in told


def test_the_logits_must_match_the_classes(cli: Cli, tmp_path: Path) -> None:
    assert "ends in 10 channels for 100 classes" in check(cli, tmp_path, spec(classes=100))
    bad = spec()
    bad["output"] = {"layers": [CONV]}
    assert "ends in a map of 32x32" in check(cli, tmp_path, bad)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", "1" + "0" * 400])
def test_numbers_that_are_none(cli: Cli, tmp_path: Path, number: str) -> None:
    text = json.dumps(spec({**CONV, "dropout": "HERE"})).replace('"HERE"', number)
    assert "dropout" in check(cli, tmp_path, text)


def test_a_billion_channels(cli: Cli, tmp_path: Path) -> None:
    told = check(cli, tmp_path, spec({**CONV, "out_channels": 10**9}))
    assert "out_channels  must be <= 1000000, got 1000000000" in told


def test_a_million_channels_are_counted_and_rejected(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec({**CONV, "out_channels": 10**6}, CONV)))
    result = cli("validate", path, "--format", "json")
    assert result.status == 1
    assert json.loads(result.out)["params"] == 27 * 10**6 + 2 * 10**6 + 9 * 10**7 + 20


def test_unknown_versions_are_refused(cli: Cli, tmp_path: Path) -> None:
    assert "format" in check(cli, tmp_path, spec(format=2))


def test_block_names_must_differ(cli: Cli, tmp_path: Path) -> None:
    bad = spec()
    bad["blocks"] = bad["blocks"] * 2
    assert "'b' is taken" in check(cli, tmp_path, bad)


def bounded(*args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run in a process with 1 GiB of address space and 20 s."""
    command = f"ulimit -v 1048576; exec {sys.executable} -m archsearch {' '.join(args)}"
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, input=stdin, capture_output=True, timeout=20, check=False
    )


def test_ten_thousand_nested_residuals(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    opening, closing = '{"op": "residual", "body": [', "]}"
    layer = opening * 10_000 + json.dumps(CONV) + closing * 10_000
    path.write_text(json.dumps(spec("HERE")).replace('"HERE"', layer))
    done = bounded("validate", str(path))
    assert done.returncode == 2
    assert b"nested too deeply" in done.stderr
    assert len(done.stderr) < 400


def test_nesting_that_json_allows_is_still_bounded(cli: Cli, tmp_path: Path) -> None:
    layer: dict[str, Any] = CONV
    for _ in range(60):
        layer = {"op": "residual", "body": [layer]}
    assert "nest" in check(cli, tmp_path, spec(layer))


def test_very_many_layers(cli: Cli, tmp_path: Path) -> None:
    told = check(cli, tmp_path, spec(*[{"op": "norm"}] * 20_000))
    assert "20,001 layers; at most 2,000" in told


def test_very_many_problems_are_cut(cli: Cli, tmp_path: Path) -> None:
    told = check(cli, tmp_path, spec(*[{"op": "nrm"}] * 5_000))
    assert "spec.json has 5,000 problems" in told
    assert "and 4,960 more" in told
    assert len(told.splitlines()) == 42


def test_two_hundred_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    done = bounded("validate", str(path))
    assert done.returncode == 2
    assert b"larger than 512 KiB" in done.stderr


def test_endless_standard_input() -> None:
    done = bounded("validate", "-", "<", "/dev/zero")
    assert done.returncode == 2
    assert b"standard input: larger than 512 KiB" in done.stderr


def test_one_broken_spec_does_not_stop_the_others(cli: Cli, tmp_path: Path) -> None:
    good = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    result = cli("validate", bad, good, "--format", "json")
    first, second = json.loads(result.out)
    assert result.status == 2
    assert (first["verdict"], second["verdict"]) == ("invalid", "accepted")
    lines = cli("validate", good, bad, "--format", "ndjson").out.splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["accepted", "invalid"]


def test_bad_constraints_name_their_file_and_field(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text('{"max_params": -1, "max_rf": 3}')
    good = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
    result = cli("validate", good, "--constraints", path)
    assert result.status == 2
    assert "max_params" in result.err
    assert "unknown key 'max_rf'" in result.err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    seeds = ROOT / "studies" / "seeds" / "era-s9" / "spec.json"
    command = f"{sys.executable} -m archsearch validate {seeds} --format json | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=20, check=False
    )
    assert done.stderr == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("{}")
    path.chmod(0)
    assert "cannot be read: Permission denied" in cli("validate", path).err


def validate_in_bash(given: str) -> subprocess.CompletedProcess[str]:
    """Run validate on a pipe that carries a spec, as a user would type it."""
    command = (
        f"cat {SPEC} | {sys.executable} -m archsearch validate {given} --format ndjson --brief"
    )
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_a_pipe_is_read_as_standard_input_and_refused_as_a_path() -> None:
    for given in ("-", "/dev/stdin"):
        result = validate_in_bash(given)
        assert json.loads(result.stdout)["name"] == "eva8-session6", result.stderr
    result = validate_in_bash(f"<(cat {SPEC})")
    assert result.returncode == 2
    told = "cannot be read: is a pipe, not a regular file; pipe it in and give - instead"
    assert told in result.stderr
