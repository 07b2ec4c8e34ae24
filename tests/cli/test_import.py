"""`archsearch import` on the command line: files that fail, arguments, what is printed where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from archsearch.cli import main
from archsearch.common.parse import from_json
from archsearch.spec.models import Spec
from tests.conftest import ROOT, Cli

MODELS = ROOT / "tests" / "convert" / "from_module" / "modules.py"
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, kind="a"):
        super().__init__()
        print("kind", kind)
        self.body = nn.Sequential(nn.Conv2d(3, 8, (3, 5)), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

    def forward(self, x):
        return self.head(self.body(x))

def make(classes):
    return Net(classes)

def nothing():
    return 3

class Other:
    pass

number = 3
net = Net()
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(NET)
    return path


def test_the_spec_goes_to_stdout_and_all_else_to_stderr(models: Path, cli: Cli) -> None:
    result = cli("import", f"{models}:Net", "--arg", "kind=text", "--input", "3,16,20")
    assert result.status == 0
    assert json.loads(result.out) == {
        "name": "Net",
        "input": {"height": 16, "width": 20},
        "blocks": [
            {
                "name": "body",
                "layers": [
                    {
                        "op": "conv",
                        "out_channels": 8,
                        "kernel_size": [3, 5],
                        "padding": 0,
                        "bias": True,
                    }
                ],
            }
        ],
        "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
    }
    assert result.out.index('"op": "conv"') < result.out.index("out_channels")
    assert f"importing Net runs the code in {models}\n" in result.err
    assert "kind text" in result.err


def test_what_a_file_prints_by_any_way_goes_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "loud.py"
    loud = "import os, sys\nprint('one')\nos.write(1, b'two\\n')\nos.system('echo three')\n"
    path.write_text(f"{loud}print('four', file=sys.__stdout__)\n{NET}")
    monkeypatch.setattr(sys, "argv", ["archsearch", "import", f"{path}:Net"])
    with pytest.raises(SystemExit):
        main()
    printed = capfd.readouterr()
    assert json.loads(printed.out)["name"] == "Net"
    for word in ("one", "two", "three", "four", "kind a"):
        assert word in printed.err


def test_what_is_printed_is_a_spec_that_validate_reads(models: Path, cli: Cli) -> None:
    out = cli("import", f"{models}:make", "--arg", "classes=7", "--name", "seven").out
    spec = from_json(Spec, out, "out")
    assert (spec.name, spec.classes) == ("seven", 7)
    (models.parent / "spec.json").write_text(out)
    assert cli("validate", models.parent / "spec.json", "--min-rf", "0").status in (0, 1)


def test_a_module_that_the_file_made(models: Path, cli: Cli) -> None:
    made = cli("import", f"{models}:net", "--name", "Net")
    assert (made.status, made.out) == (0, cli("import", f"{models}:Net").out)
    assert "note: blocks: " in made.err


def test_a_file_sees_no_arguments_and_neighbours_cannot_stand_in_for_torch(
    models: Path, cli: Cli
) -> None:
    (models.parent / "torch.py").write_text("raise RuntimeError\n")
    (models.parent / "json.py").write_text("raise RuntimeError\n")
    script = "import argparse\nargs = argparse.ArgumentParser().parse_args()\n"
    models.write_text(script + models.read_text())
    result = cli("import", f"{models}:Net")
    assert result.status == 0, result.err


def test_eva8_from_a_file(cli: Cli) -> None:
    out = cli("import", f"{MODELS}:Eva8").out
    (layer, *_) = json.loads(out)["blocks"][1]["layers"][1:]
    assert layer == {
        "op": "depthwise_separable",
        "out_channels": 64,
        "dropout": 0.01,
        "dropout_kind": "channel",
        "order": "act_norm",
        "pointwise_padding": 1,
    }


@pytest.mark.parametrize(
    ("target", "extra", "words"),
    [
        ("{}", [], ["must be FILE.py:CLASS"]),
        ("{}:a/b", [], ["must be FILE.py:CLASS"]),
        (":Net", [], ["must be FILE.py:CLASS"]),
        ("{}:Nope", [], ["has no Nope; it has Net, make, nothing"]),
        ("{}:number", [], ["number is of type int; name a class or a function"]),
        ("{}:net", ["--arg", "a=1"], ["net is of type Net; name a class or a function"]),
        ("{}:nothing", [], ["nothing makes an object of type int"]),
        ("{}:make", [], ["make() fails", "classes", "--arg"]),
        ("{}:Net", ["--arg", "depth=3"], ["Net(depth=3) fails", "depth"]),
        ("{}:Net", ["--arg", "depth"], ["--arg", "name=value", "'depth'"]),
        ("{}:Net", ["--arg", "a=1", "--arg", "a=2"], ["--arg", "'a=2'"]),
        ("{}:Net", ["--input", "3,32"], ["--input", "'3,32'"]),
        ("{}:Net", ["--input", "3,0,32"], ["--input", "'3,0,32'"]),
        ("{}:Net", ["--input", "x"], ["--input", "'x'"]),
        ("{}:Net", ["--input", "1,32,32"], ["forward fails on images of (1, 32, 32)", "body.0"]),
        ("{}:Net", ["--input", "3,2,2"], ["forward fails on images of (3, 2, 2)"]),
        ("{}:Net", ["--input", "1000000,16384,16384"], ["values an image", "at most 100,000,000"]),
        ("{}:Net", ["--name", ""], ["--name"]),
        ("{}:Net", ["--input", "x", "--arg", "y"], ["2 problems", "--input", "--arg"]),
        ("{}.txt:Net", [], ["is not a file"]),
        ("/:Net", [], ["is not a file"]),
    ],
)
def test_bad_arguments_are_a_sentence(
    target: str, extra: list[str], words: list[str], models: Path, cli: Cli
) -> None:
    result = cli("import", target.format(models), *extra)
    assert result.status == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    assert "a bug in archsearch" not in result.err
    for word in words:
        assert word in result.err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1 / 0", "(line 1): ZeroDivisionError: division by zero"),
        ("\nimport sys\nsys.exit(3)", "(line 3): SystemExit: 3"),
        ("class Odd(BaseException): pass\nraise Odd('no')", "Odd: no"),
        ("def f(:", "SyntaxError"),
        ("import no_such_module_here", "No module named 'no_such_module_here'"),
        ("from .sibling import x", "attempted relative import"),
        (
            "def Net(): raise ValueError('two\\nlines')",
            "Net() fails (line 1): ValueError: two lines",
        ),
        (
            "import asyncio\nfrom torch import nn\nclass Net(nn.Module):\n"
            "    def forward(self, x): raise asyncio.CancelledError()",
            "forward fails on images of (3, 32, 32): asyncio.exceptions.CancelledError",
        ),
        ("import sys\ndef Net(): sys.exit()", "Net() fails (line 2): SystemExit"),
    ],
)
def test_code_that_fails_is_a_sentence(code: str, words: str, tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "failing.py"
    path.write_text(code)
    result = cli("import", f"{path}:Net")
    assert result.status == 2
    assert words in result.err
    assert "Traceback" not in result.err


def test_a_file_imports_its_neighbours(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "neighbour_of_models.py").write_text(NET)
    path = tmp_path / "it_imports.py"
    path.write_text("from neighbour_of_models import Net as Base\nclass Net(Base): pass\n")
    before = list(sys.path)
    assert cli("import", f"{path}:Net").status == 0
    assert sys.path == before


def test_a_file_named_like_a_module_that_is_loaded(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "json.py"
    path.write_text(NET)
    assert cli("import", f"{path}:Net").status == 0
    assert sys.modules["json"] is json


def test_all_problems_of_a_module_come_at_once(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "odd.py"
    path.write_text(NET.replace("nn.ReLU()", "nn.ELU(), nn.Tanh()"))
    result = cli("import", f"{path}:Net")
    assert result.status == 2
    assert f"{path}:Net has 2 problems" in result.err
    assert "body.2" in result.err
    assert "body.3" in result.err
