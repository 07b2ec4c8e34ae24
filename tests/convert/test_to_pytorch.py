"""`archsearch export`: the PyTorch file against `build`, torch and hostile names; the command."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import keyword
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.constraints import Constraints, judge
from archsearch.analysis.verdict_view import verdict_page
from archsearch.common.page import plain
from archsearch.common.parse import from_json
from archsearch.convert.diagram import mermaid
from archsearch.convert.to_module import DepthwiseConv2d, ElementDropout, Net, build
from archsearch.convert.to_pytorch import MODULE_ATTRIBUTES, identifiers, pytorch_source
from archsearch.convert.to_svg import svg
from archsearch.spec.models import Spec
from archsearch.training import checkpoint
from archsearch.training.checkpoint import Checkpoint, State
from tests.conftest import ROOT, Cli
from tests.strategies import examples, specs

EVA8 = ROOT / "studies" / "seeds" / "eva8-session6" / "spec.json"
GOLDEN = ROOT / "tests" / "golden"
HOSTILE = [
    '"""\nimport os; os.abort()\n"""',
    "'''\\\n", "\\", '"', "a\rraise SystemExit\r", "# coding: utf-7", "# fmt: on",
    "</text><script>alert(1)</script>", "<!--", "]]>", "&amp;", "%%{init: {}}%%", "end", "`x`",
    "class", "None", "train", "forward", "self", "__init__", "output", "_parameters", "0", "  ",
    "../../etc/passwd", "C:\\new", "{analysis}", "%s", "[red]", "\u202e\u2028\x00\x1b[2J",
    "日本語", "ﬁ", "fi", "é", "e\u0301", "x" * 200, "=cmd()",
]  # fmt: skip
NAMES = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=20)),
                 min_size=2, max_size=6, unique=True)  # fmt: skip
EVERYTHING: dict[str, Any] = {
    "name": "everything",
    "blocks": [
        {"name": "splits", "layers": [
            {"op": "conv", "out_channels": 16},
            {"op": "squeeze_excite"},
            {"op": "parallel", "split": True, "branches": [
                [], [{"op": "conv", "out_channels": 8, "kernel_size": [4, 2], "dilation": [2, 1]}],
                [{"op": "depthwise_separable", "out_channels": 8, "dilation": 2}],
                [{"op": "parallel", "merge": "add", "branches": [
                    [], [{"op": "conv", "out_channels": 4, "norm": "layer"}]]}]]},
            {"op": "depthwise_separable", "out_channels": 24, "stride": 2, "mid_norm": "batch"},
        ]},
        {"name": "sums", "layers": [
            {"op": "residual", "activation": "gelu", "body": [
                {"op": "conv", "out_channels": 24, "groups": 3, "norm": "group"},
                {"op": "dropout"}]},
            {"op": "residual", "body": [{"op": "conv", "out_channels": 8, "stride": [1, 2]}]},
            {"op": "parallel", "split": True, "merge": "add", "branches": [
                [{"op": "activation", "kind": "hardswish"}], [{"op": "norm"}]]},
            {"op": "max_pool", "padding": 1, "kernel_size": 3, "stride": 2},
            {"op": "avg_pool"},
        ]},
    ],
    "output": {"layers": [
        {"op": "flatten"},
        {"op": "linear", "out_features": 12, "activation": "leaky_relu", "dropout": 0.1},
        {"op": "norm"},
        {"op": "linear", "out_features": 10, "bias": False}]},
}  # fmt: skip


def named(*names: str) -> Spec:
    """A spec of one convolution a block; the first name is the network's."""
    blocks = [{"name": n, "layers": [{"op": "conv", "out_channels": 4}]} for n in names[1:]]
    head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
    return Spec.model_validate({"name": names[0], "blocks": blocks, "output": {"layers": head}})


def imported(source: str, folder: Path) -> ModuleType:
    """The module of a file that holds `source`."""
    path = folder / "model.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(net: nn.Module, path: Path, analysis: Analysis) -> None:
    """Give `net` weights and statistics that no two tensors share, and save its checkpoint."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                scale = torch.rand(tensor.shape, generator=generator) + 0.5
                tensor.mul_(scale) if "running" in name else tensor.mul_(scale).add_(0.01 * scale)
    run = f"network {analysis.spec_hash[:12]} recipe 0 data shapes/fit seed 0 fp32"
    state = State.of(net, [optim.SGD(net.parameters(), lr=0.1)], None, batch_size=1)
    checkpoint.save(path, Checkpoint(run, (), state))


def difference(net: Net, other: nn.Module, images: torch.Tensor) -> float:
    """The largest one between two networks' logits, as a share of the largest logit."""
    logits = []
    for module in (net, other):
        torch.manual_seed(5)
        with torch.no_grad():
            logits.append(module(images))
    return float((logits[0] - logits[1]).abs().max() / logits[0].abs().max().clamp(min=1))


def pair(spec: Spec, folder: Path) -> tuple[Net, nn.Module]:
    """What `build` makes of `spec`, trained, and the exported file's network with its weights."""
    analysis = analyze(spec)
    net = build(analysis.network)
    trained(net, folder / "checkpoint.pt", analysis)
    module = imported(pytorch_source(analysis), folder)
    exported: nn.Module = module.load_checkpoint(folder / "checkpoint.pt")
    assert sum(p.numel() for p in exported.parameters()) == analysis.params
    assert not exported.training
    return net.eval(), exported


@pytest.mark.property
@examples(150)
@given(spec=specs())
def test_the_file_computes_what_build_does(
    spec: Spec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    net, exported = pair(spec, tmp_path_factory.mktemp("model"))
    # Their detours are for fp32, and throw other dice.
    for module in net.modules():
        if isinstance(module, DepthwiseConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment] # its subclass
        if isinstance(module, ElementDropout):
            module.__class__ = nn.Dropout  # type: ignore[assignment] # its subclass
    shape = (4, spec.input.channels, spec.input.height, spec.input.width)
    images = torch.rand(shape, dtype=torch.float64)
    assert difference(net.double(), exported.double(), images) < 1e-9
    # The same dropout in the same places; batch norms over few values blow rounding up.
    assert difference(net.train(), exported.train(), images) < 1e-5


def test_in_fp32_the_file_computes_what_build_does(tmp_path: Path) -> None:
    for spec in (from_json(Spec, EVA8.read_text(), "eva8"), Spec.model_validate(EVERYTHING)):
        net, exported = pair(spec, tmp_path)
        assert difference(net, exported, torch.rand(4, 3, 32, 32)) < 1e-5


@pytest.mark.property
@examples(100)
@given(spec=specs())
def test_the_file_imports_as_the_same_network(
    spec: Spec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from archsearch.convert.from_module import import_module

    analysis = analyze(spec)
    net = imported(pytorch_source(analysis), tmp_path_factory.mktemp("model")).Net()
    image = (spec.input.channels, spec.input.height, spec.input.width)
    again = import_module(net, image, "again").spec
    assert analyze(again).spec_hash == analysis.spec_hash


LAYER = re.compile(r"^ +(\S.*?),? +# (\d+(?:x\d+)*) +([\d,]+)  RF (.+)$", re.MULTILINE)
STEP = re.compile(r"(\d+) \+ \((\d+) - 1\) \* (\d+) = (\d+)")


@settings(max_examples=100)
@given(spec=specs())
def test_each_comment_says_what_torch_runs(
    spec: Spec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    analysis = analyze(spec)
    source = pytorch_source(analysis)
    net = imported(source, tmp_path_factory.mktemp("model")).Net().eval()
    lines = [line for line in LAYER.findall(source) if not line[0].startswith((")", "]"))]
    ran: list[tuple[str, int]] = []

    def record(module: nn.Module, _args: Any, out: torch.Tensor) -> None:
        shape = "x".join(map(str, out.shape[1:]))
        ran.append((shape, sum(p.numel() for p in module.parameters())))

    gates = {m for n, m in net.named_modules() if ".gates" in n}
    for module in net.modules():
        leaf = not list(module.children()) or type(module).__name__ == "SqueezeExcite"
        if leaf and module not in gates and not isinstance(module, nn.Identity):
            module.register_forward_hook(record)
    net(torch.rand(1, *analysis.network.image.shape))
    assert [(shape, int(params.replace(",", ""))) for _, shape, params, _ in lines] == ran


@settings(max_examples=100)
@given(spec=specs())
def test_the_comments_figures_add_up(spec: Spec) -> None:
    analysis = analyze(spec)
    source = pytorch_source(analysis)
    layers = [int(params.replace(",", "")) for _, _, params, _ in LAYER.findall(source)]
    blocks = [int(n.replace(",", "")) for n in re.findall(r", ([\d,]+) parameters$", source, re.M)]
    assert sum(layers) == sum(blocks) == analysis.params
    assert f"parameters       {analysis.params:,}\n" in source
    assert f"MACs             {analysis.macs:,} " in source
    for r, k, j, result in STEP.findall(source):
        assert int(r) + (int(k) - 1) * int(j) == int(result)
    last = LAYER.findall(source)[-1][3]
    ends = [int(re.findall(r"\d+", axis.partition("  (")[0])[-1]) for axis in last.split("; ")]
    assert {*ends} == {*analysis.receptive_field_with_gap}


@settings(max_examples=300)
@given(names=NAMES)
def test_no_name_becomes_code(names: list[str]) -> None:
    harmless = [f"b{i}" for i in range(len(names))]
    trees = []
    for some in (names, harmless):
        tree = ast.parse(pytorch_source(analyze(named(*some))))
        doc = tree.body.pop(0)
        assert isinstance(doc, ast.Expr)
        assert isinstance(doc.value, ast.Constant)
        assert str(doc.value.value).startswith(f"{some[0]}: an image classifier")
        text = ast.dump(tree)
        for i, attribute in enumerate(identifiers(some[1:])):
            text = text.replace(f"attr={attribute!r}", f"attr={i}")
        trees.append(text)
    assert trees[0] == trees[1]


@given(names=NAMES)
def test_attributes_are_free_to_take(names: list[str]) -> None:
    found = identifiers(names)
    assert len({*found, "output"}) == len(names) + 1
    for word in found:
        assert word.isidentifier()
        assert word.isascii()
        assert not keyword.iskeyword(word)
        assert not hasattr(nn.Module(), word)


def test_torchs_own_attributes_are_known() -> None:
    assert {name for name in dir(nn.Module()) if not name.startswith("_")} <= MODULE_ATTRIBUTES
    assert identifiers(["train", "class", "1", "a b", "a-b", "Ω", "conv1"]) == [
        "train_block", "class_block", "block_1", "a_b", "a_b_2", "block", "conv1",
    ]  # fmt: skip


@pytest.mark.parametrize("spec", [named(*HOSTILE), Spec.model_validate(EVERYTHING)])
def test_the_file_is_clean(spec: Spec, tmp_path: Path) -> None:
    source = pytorch_source(analyze(spec))
    path = tmp_path / "model.py"
    path.write_text(source, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    rules = ["--isolated", "--select", "E,F,W,I", "--ignore", "E501"]
    subprocess.run([*ruff, "check", *rules, path], check=True, capture_output=True)
    subprocess.run(
        [*ruff, "format", "--isolated", "--check", path], check=True, capture_output=True
    )
    subprocess.run([sys.executable, "-W", "error", path], check=True, capture_output=True)
    assert "archsearch" not in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)


def dilated(dilation: int) -> Spec:
    """A network whose dilation shows in no weight's shape."""
    layers = [{"op": "conv", "out_channels": 4, "dilation": dilation}]
    head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
    return Spec.model_validate(
        {"name": "n", "blocks": [{"name": "b", "layers": layers}], "output": {"layers": head}}
    )


@pytest.mark.parametrize("other", [Spec.model_validate(EVERYTHING), dilated(1)])
def test_another_networks_checkpoint_does_not_load(other: Spec, tmp_path: Path) -> None:
    analysis = analyze(other)
    trained(build(analysis.network), tmp_path / "checkpoint.pt", analysis)
    module = imported(pytorch_source(analyze(dilated(2))), tmp_path)
    told = rf"belongs to another network \(network {analysis.spec_hash[:12]} "
    with pytest.raises(ValueError, match=told):
        module.load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_another_format_is_not_called_another_networks(tmp_path: Path) -> None:
    analysis = analyze(dilated(2))
    path = tmp_path / "checkpoint.pt"
    trained(build(analysis.network), path, analysis)
    module = imported(pytorch_source(analysis), tmp_path)
    torch.save({**torch.load(path), "format": 3, "run": "of a kind to come"}, path)
    with pytest.raises(ValueError, match="format 3, not 2: export it again"):
        module.load_checkpoint(path)


def test_a_damaged_checkpoint_does_not_load(tmp_path: Path) -> None:
    analysis = analyze(dilated(2))
    path = tmp_path / "checkpoint.pt"
    trained(build(analysis.network), path, analysis)
    module = imported(pytorch_source(analysis), tmp_path)
    content = bytearray(path.read_bytes())
    weight = module.load_checkpoint(path).state_dict()[next(iter(module.Net().state_dict()))]
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its checksum does not match"):
        module.load_checkpoint(path)


@given(names=NAMES)
def test_every_character_is_visible(names: list[str]) -> None:
    analysis = analyze(named(*names))
    page = plain(verdict_page(judge(analysis, Constraints())))
    for text in (pytorch_source(analysis), mermaid(analysis), svg(analysis, None), page):
        assert text.replace("\n", "").isprintable()
    lines = [
        plain(verdict_page(judge(analyze(named(*some)), Constraints()))).count("\n")
        for some in (names, [f"b{i}" for i in range(len(names))])
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("to", ["pytorch", "mermaid", "svg"])
def test_the_seed(to: str, cli: Cli, request: pytest.FixtureRequest) -> None:
    out = cli("export", EVA8, "--to", to).out
    golden = GOLDEN / f"export-eva8-session6-{to}.txt"
    if request.config.getoption("--overwrite"):
        golden.write_text(out)
    assert out == golden.read_text()


# The command


def test_standard_input_and_a_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = json.dumps({**EVERYTHING, "name": "héllo"})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(spec.encode())))
    out = tmp_path / "new" / "model.py"
    result = cli("export", "-", "--to", "pytorch", "--out", out)
    assert (result.status, result.out, result.err) == (0, "", "")
    written = from_json(Spec, spec, "spec")
    assert out.read_bytes() == pytorch_source(analyze(written)).encode()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "svg", "--out", "/proc/none/x.svg"], "/proc/none/x.svg: cannot be written"),
        (["--to", "svg", "--out", "."], "--out . is a folder: give a file in it"),
        (["--to", "svg", "--out", "/dev/full"], "/dev/full: cannot be written: No space left"),
        (["--to", "svg", "--checkpoint", "x.pt"], "--checkpoint goes with --to onnx, not svg"),
        (
            ["--to", "mermaid", "--constraints", "x"],
            "--constraints goes with --to svg, not mermaid",
        ),
        (["--to", "svg", "--constraints", "none.json"], "none.json: no such constraints file"),
    ],
)
def test_what_cannot_be_done_is_told(cli: Cli, args: list[str], message: str) -> None:
    result = cli("export", EVA8, *args)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert message in result.err


def test_standard_output_by_name_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "both.txt"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        subprocess.run(
            [sys.executable, "-m", "archsearch", "export", EVA8, "--to", "mermaid", "--out",
             "/dev/stdout"],
            stdout=file, check=True,
        )  # fmt: skip
        file.write(b"after\n")
    drawing = mermaid(analyze(from_json(Spec, EVA8.read_text(), "eva8")))
    assert path.read_text() == f"before\n{drawing}after\n"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            {"max_params": 90_000, "conv_blocks": None},
            ["limits           max_params 90,000, min_receptive_field 44,",
             "                 depthwise_separable, dilated, global_avg_pool",
             "rejected: 97,284 parameters, 7,284 over the limit of 90,000"],
        ),
        (
            dict.fromkeys(Constraints.model_fields),
            ["limits           none", "accepted"],
        ),
        ({"dilated": False, "depthwise_separable": None, "global_avg_pool": False,
          "conv_blocks": False}, ["limits           max_params 200,000, min_receptive_field 44",
                                  "accepted"]),
    ],
)  # fmt: skip
def test_a_picture_tells_the_limits_that_it_was_given(
    limits: dict[str, Any], told: list[str], cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(limits))
    lines = [cli("export", EVA8, "--to", "svg", *args).out.splitlines()
             for args in (["--constraints", path], [])]  # fmt: skip
    texts = [[t for line in some for t in re.findall(r"^<text[^>]*>(.*)</text>$", line)]
             for some in lines]  # fmt: skip
    assert [text for text in texts[0] if text not in texts[1]] == told


def test_a_bad_spec_is_told_with_its_place(cli: Cli, tmp_path: Path) -> None:
    bad = {**EVERYTHING, "output": {"layers": [{"op": "global_avg_pool"}]}}
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(bad))
    result = cli("export", path, "--to", "mermaid")
    assert result.status == 2
    assert f"{path} has 1 problem" in result.err
