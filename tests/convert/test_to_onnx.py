"""`archsearch export --to onnx`: against torch in onnxruntime, and what can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from archsearch.analysis.analyze import Analysis, analyze
from archsearch.common.parse import from_json
from archsearch.convert import to_onnx
from archsearch.convert.to_module import build
from archsearch.convert.to_onnx import SEED, onnx_model
from archsearch.errors import ArchsearchError, CheckpointError
from archsearch.spec.models import Spec
from archsearch.training.checkpoint import load_weights
from tests.conftest import Cli
from tests.convert.test_to_pytorch import EVA8, EVERYTHING, trained

EVERY = Spec.model_validate(EVERYTHING)


def with_weights(analysis: Analysis, path: Path) -> bytes:
    return onnx_model(analysis, lambda net: load_weights(net, path, analysis.spec_hash))


def agree(model: bytes, net: torch.nn.Module) -> None:
    """Check a model's graph, and its logits for one image and for three."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    assert session.get_inputs()[0].shape == ["N", 3, 32, 32]
    for count in (1, 3):
        images = torch.rand(count, 3, 32, 32)
        (logits,) = session.run(None, {"image": images.numpy()})
        with torch.no_grad():
            expected = net.eval()(images)
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoints_weights(tmp_path: Path) -> None:
    analysis = analyze(EVERY)
    net = build(analysis.network)
    trained(net, tmp_path / "checkpoint.pt", analysis)
    model = with_weights(analysis, tmp_path / "checkpoint.pt")
    agree(model, net)
    assert str(Path(to_onnx.__file__).parent).encode() not in model


def test_fresh_weights_through_pipes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "archsearch", "export", "-", "--to", "onnx"],
        input=EVA8.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr.startswith(b"note: fresh, untrained weights")
    assert done.stderr.count(b"\n") == 1
    torch.manual_seed(SEED)
    spec = from_json(Spec, EVA8.read_text(), "eva8")
    agree(done.stdout, build(analyze(spec).network))


def test_another_networks_checkpoint_is_refused(tmp_path: Path, cli: Cli) -> None:
    # The dilation is not in the weights' shapes.
    other = json.loads(EVA8.read_text())
    other["blocks"][2]["layers"][0].update(dilation=1, padding=0)
    spec = Spec.model_validate(other)
    analysis = analyze(spec)
    trained(build(analysis.network), tmp_path / "checkpoint.pt", analysis)
    out = tmp_path / "model.onnx"
    args = ["--to", "onnx", "--out", out, "--checkpoint", tmp_path / "checkpoint.pt"]
    result = cli("export", EVA8, *args)
    assert result.status == 2
    assert "belongs to another network (network " in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"PK\x03\x04junk", "is not a checkpoint")],
)
def test_a_bad_checkpoint_is_told(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        with_weights(analyze(EVERY), path)


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    analysis = analyze(EVERY)
    trained(torch.nn.Linear(2, 2), tmp_path / "checkpoint.pt", analysis)
    with pytest.raises(CheckpointError, match="its weights do not fit this network"):
        with_weights(analysis, tmp_path / "checkpoint.pt")


def test_what_no_file_can_hold_is_told() -> None:
    wide = {**EVERYTHING, "blocks": [{"name": "b", "layers": [
        {"op": "conv", "out_channels": 30_000}, {"op": "conv", "out_channels": 30_000}]}],
        "output": {"layers": [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]},
    }  # fmt: skip
    with pytest.raises(ArchsearchError, match="parameters do not fit into one ONNX file"):
        onnx_model(analyze(Spec.model_validate(wide)))


def test_what_torch_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")

    monkeypatch.setattr(to_onnx, "build", full)
    with pytest.raises(ArchsearchError, match=r"cannot export this network: DefaultCPU.*memory$"):
        onnx_model(analyze(EVERY))


def test_a_missing_extra_and_a_terminal_are_told_at_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archsearch.cli.export.find_spec", lambda name: name == "onnx" or None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = cli("export", EVA8, "--to", "onnx")
    assert result.status == 2
    assert "give --out FILE" in result.err
    assert "--to onnx needs onnxscript: pip install 'archsearch[onnx]'" in result.err
