"""The training loop on a network of a few parameters: resuming, schedules, averages, signals, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsp3d.data import DataConfig, GroundingBatch, PreparedScenes
from tsp3d.data.toy import write_toy_dataset
from tsp3d.training import LogConfig, OptimConfig, TrainConfig, train
from tsp3d.training.checkpoint import load_checkpoint, load_weights, read_weights, save_checkpoint, save_weights
from tsp3d.training.loop import seed_step


@dataclass
class Out:
    boxes: Tensor
    scores: Tensor


class TinyNet(nn.Module):
    """Regresses a target's centre from the scene's mean point; has dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = nn.Embedding(64, 4)
        self.body = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 6))
        self.broken = False

    def predict(self, means: Tensor, texts: list[str]) -> Tensor:
        words = torch.tensor([len(text) % 64 for text in texts])
        return self.body(torch.cat([means, self.text_encoder(words)], 1))

    def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        points = torch.cat([batch.xyz, batch.rgb], 1)
        means = torch.stack([points[batch.batch == s].mean(0) for s in range(batch.num_scenes)])[batch.text_scene]
        pairs = zip(batch.text_scene.tolist(), batch.targets, strict=True)
        want = torch.stack([batch.boxes[scene][target].mean(0) for scene, target in pairs])
        box = (self.predict(means, batch.texts) - want).abs().mean()
        if self.broken:
            box = box * torch.nan
        return {"box": box, "total": box}

    def detection_losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        assert not batch.texts
        total = self.body(torch.cat([batch.xyz, batch.rgb, batch.xyz, batch.rgb], 1)[:, :10]).square().mean()
        return {"total": total}

    def encode(self, xyz: Tensor, rgb: Tensor | None) -> Tensor:
        assert not self.training and rgb is not None
        return torch.cat([xyz, rgb], 1).mean(0)

    def ground(self, encoded: Tensor, texts: list[str], top_k: int = 1) -> list[Out]:
        boxes = self.predict(encoded.expand(len(texts), -1), texts)
        return [Out(box[None], torch.tensor([0.5])) for box in boxes]

    def save_pretrained(self, folder: Path) -> None:
        assert not self.training
        folder.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), train=5)


def settings(folder: Path, out: Path, steps: int = 12, **changes) -> TrainConfig:
    data = DataConfig(str(folder), sentences_per_scene=4, points_per_scene=200, workers=0)
    optim = OptimConfig(steps=steps, lr=1e-2, warmup_steps=3, ema=0.9)
    log = LogConfig(every=4, validate_every=5, validate_scenes=2, validate_queries=3)
    return replace(TrainConfig(name="run", out=str(out), data=data, optim=optim, log=log), **changes)


def run(
    config: TrainConfig,
    resume: bool = False,
    stop_at: int = 0,
    net: TinyNet | None = None,
    signal_number: signal.Signals = signal.SIGTERM,
):
    torch.manual_seed(7)
    net = net or TinyNet()

    def on_step(step: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal_number)

    scenes = PreparedScenes(config.data.folder, "train")
    result = train(config, net, scenes, PreparedScenes(config.data.folder, "val"), resume, on_step)
    return net, result


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_was_stopped_ends_with_the_same_parameters(folder: Path, tmp_path: Path, workers: int) -> None:
    whole = settings(folder, tmp_path / "whole")
    whole.data.workers = workers
    expected, result = run(whole)
    assert result.finished and result.step == 12

    parts = settings(folder, tmp_path / "parts")
    parts.data.workers = workers
    assert run(parts, stop_at=5)[1].step == 5
    _, result = run(parts, resume=True, stop_at=8)
    assert result.step == 8 and not result.finished
    net, result = run(parts, resume=True)
    assert result.finished and result.step == 12
    assert same(net.state_dict(), expected.state_dict())
    for name in ("averaged.safetensors", "export/model.safetensors"):
        assert same(load_file(tmp_path / "whole/run" / name), load_file(tmp_path / "parts/run" / name))


def test_training_changes_parameters_and_the_loss_falls(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path, steps=80)
    config.log.validate_every = 0
    run(config)
    lines = [
        line for line in (tmp_path / "run/train.log").read_text().splitlines() if " step " in line and "box" in line
    ]
    assert len(lines) == 20 and "steps/s" in lines[0] and "lr" in lines[0]
    first, last = (float(line.split("box ")[1].split()[0]) for line in (lines[0], lines[-1]))
    assert last < 0.8 * first
    assert list((tmp_path / "run/tensorboard").iterdir())


def test_validation_and_files(folder: Path, tmp_path: Path) -> None:
    _, result = run(settings(folder, tmp_path))
    rows = (tmp_path / "run/validation.jsonl").read_text().splitlines()
    assert len(rows) == 3 and all('"queries": 6.0' in row and '"acc@0.25"' in row for row in rows)
    assert result.export == tmp_path / "run/export"
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["step-00000012.pt"]
    assert "lr: 0.01" in (tmp_path / "run/config.yaml").read_text()
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.endswith((".partial", ".old"))]


def test_a_finished_run_is_not_trained_further(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    trained, _ = run(config)
    with pytest.raises(FileExistsError, match="--resume"):
        run(config)
    again, result = run(config, resume=True)
    assert result.finished and result.step == 12 and same(again.state_dict(), trained.state_dict())


def test_a_broken_checkpoint_gives_way_to_the_one_before(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    run(config, stop_at=4)
    run(config, resume=True, stop_at=6)
    newest = tmp_path / "run/checkpoints/step-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    net, result = run(config, resume=True)
    assert result.finished
    expected, _ = run(settings(folder, tmp_path / "other"))
    assert same(net.state_dict(), expected.state_dict())


@pytest.mark.parametrize("content", [[1], {"step": 6}])
def test_a_file_that_is_no_state_gives_way_too(folder: Path, tmp_path: Path, content: object, caplog) -> None:
    config = settings(folder, tmp_path)
    run(config, stop_at=4)
    torch.save(content, tmp_path / "run/checkpoints/step-00000006.pt")
    assert run(config, resume=True)[1].finished
    assert "step-00000006.pt cannot be read (it is no state of a run)" in caplog.text


def test_a_checkpoint_of_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    run(config, stop_at=4)
    other = TinyNet()
    other.body[0] = nn.Linear(10, 9)
    with pytest.raises(ValueError, match="does not fit this network"):
        run(config, resume=True, net=other)


def test_the_budget_ends_a_run(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path, steps=100_000)
    config.optim.max_minutes = 1e-4
    _, result = run(config)
    assert result.finished and result.step < 1000
    _, again = run(config, resume=True)
    assert again.finished and again.step == result.step


def test_the_detection_stage_has_no_texts_and_feeds_the_next(folder: Path, tmp_path: Path) -> None:
    first = settings(folder, tmp_path, steps=6, name="first", stage="detection")
    first.data.sentences_per_scene = 0
    net, _ = run(first)
    assert '"total"' in (tmp_path / "first/validation.jsonl").read_text()
    second = settings(folder, tmp_path, name="second", init_from=str(tmp_path / "first"), freeze=["body.0"])
    second.optim.ema = 0
    started, _ = run(second)
    averaged = load_file(tmp_path / "first/averaged.safetensors")
    assert torch.equal(started.state_dict()["body.0.weight"], averaged["body.0.weight"])
    assert not torch.equal(started.state_dict()["body.4.weight"], averaged["body.4.weight"])


def test_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    state["body.4.weight"] = torch.zeros(7, 8)
    state["extra"] = torch.zeros(1)
    del state["body.0.bias"]
    (tmp_path / "weights").mkdir()
    save_file(state, tmp_path / "weights/model.safetensors")
    config = settings(folder, tmp_path, steps=2, init_from=str(tmp_path / "weights"))
    with pytest.raises(
        ValueError, match=r"missing body\.0\.bias.*unused extra.*shape body\.4\.weight \(7, 8\) is \(6, 8\)"
    ):
        run(config)
    assert run(replace(config, strict=False))[1].finished
    with pytest.raises(FileNotFoundError, match="init_from"):
        run(replace(config, init_from=str(tmp_path / "nowhere"), name="other"))


def test_gradients_that_are_not_finite_end_the_run(folder: Path, tmp_path: Path) -> None:
    net = TinyNet()
    net.broken = True
    before = {name: value.clone() for name, value in net.named_parameters()}
    config = settings(folder, tmp_path, steps=100)
    config.log.validate_every = 0
    with pytest.raises(FloatingPointError, match="lower optim.lr"):
        run(config, net=net)
    assert all(torch.equal(before[name], value) for name, value in net.named_parameters())


def test_a_step_has_its_own_seed() -> None:
    seed_step(0, 5)
    first = torch.rand(3)
    torch.rand(10)
    seed_step(0, 5)
    assert torch.equal(first, torch.rand(3))
    seed_step(0, 6)
    assert not torch.equal(first, torch.rand(3))


def test_weights_can_be_left_out_of_the_start(tmp_path: Path) -> None:
    first, second = TinyNet(), TinyNet()
    save_weights(tmp_path / "first.safetensors", first)
    old = second.text_encoder.weight.detach().clone()
    assert load_weights(second, tmp_path / "first.safetensors", skip=["text_"]) == []
    assert torch.equal(second.text_encoder.weight, old)
    assert torch.equal(second.body[0].weight, first.body[0].weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init_skip: no weight's name begins with 'texts'"):
        load_weights(second, tmp_path / "first.safetensors", skip=["texts"])
    assert "text_encoder.embed.weight" in read_weights("tsp3d-tiny")


def test_settings_of_the_optimiser_can_change_at_a_resume(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    run(config, stop_at=4)
    before = torch.load(tmp_path / "run/checkpoints/step-00000004.pt", weights_only=True)
    config.optim.lr, config.optim.weight_decay = 0.0, 0.25
    _, result = run(config, resume=True)
    after = torch.load(tmp_path / "run/checkpoints/step-00000012.pt", weights_only=True)
    assert result.finished
    assert {group["base_lr"] for group in after["optimizer"]["param_groups"]} == {0.0}
    assert {group["weight_decay"] for group in after["optimizer"]["param_groups"]} == {0.0, 0.25}
    assert all(torch.equal(before["net"][name], after["net"][name]) for name in ("body.0.weight", "body.4.bias"))


def test_averages_that_begin_at_a_resume_begin_with_the_weights_that_are_there(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    config.optim.ema = 0
    net, _ = run(config)
    config.optim.ema = 0.9
    run(config, resume=True)  # it is finished: not one step moves the averages
    assert same(load_file(tmp_path / "run/averaged.safetensors"), net.state_dict())


def test_a_run_is_not_resumed_in_another_stage(folder: Path, tmp_path: Path) -> None:
    run(settings(folder, tmp_path, steps=2, stage="detection"))
    written = (tmp_path / "run/config.yaml").read_text()
    with pytest.raises(ValueError, match="are of stage=detection.*init_from="):
        run(settings(folder, tmp_path, steps=4), resume=True)
    assert (tmp_path / "run/config.yaml").read_text() == written  # by which it is known as a detector


def test_a_run_without_a_readable_checkpoint_does_not_begin_anew(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, tmp_path)
    run(config, stop_at=4)
    (tmp_path / "run/checkpoints/step-00000004.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the checkpoints .* can be read"):
        run(config, resume=True)


def test_a_damaged_checkpoint_does_not_push_out_the_new_ones(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.pt").write_bytes(b"")
    save_checkpoint(tmp_path, 3, {"step": 3}, keep=1)
    save_checkpoint(tmp_path, 5, {"step": 5}, keep=1)
    assert load_checkpoint(tmp_path) == {"step": 5}


def test_a_step_that_is_left_out_leaves_no_trace(folder: Path, tmp_path: Path) -> None:
    """Batch norm takes its statistics in the forward pass, before anybody knows that the step is broken."""

    class Spoiled(TinyNet):
        calls = 0

        def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
            self.calls += 1
            batch.xyz[:] = torch.nan if self.calls == 3 else batch.xyz
            return super().losses(batch)

    config = settings(folder, tmp_path)
    run(config, net=Spoiled())
    for weights in ("averaged.safetensors", "export/model.safetensors"):
        assert all(bool(value.isfinite().all()) for value in load_file(tmp_path / "run" / weights).values())


def test_half_precision_lowers_its_scale_after_an_overflow(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with optim.precision=fp16 on a GPU: the scaler has to hear of the steps that it must leave out."""

    class Steep(TinyNet):
        def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
            return {name: 100 * value for name, value in super().losses(batch).items()}

    def half(config: TrainConfig) -> Accelerator:
        accelerator = Accelerator()
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
        return accelerator

    def unscale(self: Accelerator) -> None:
        self.scaler.unscale_(self._optimizers[0].optimizer)  # type: ignore[union-attr]

    monkeypatch.setattr("tsp3d.training.loop._accelerator", half)
    monkeypatch.setattr(Accelerator, "unscale_gradients", unscale)
    assert run(settings(folder, tmp_path), net=Steep())[1].finished
    state = torch.load(tmp_path / "run/checkpoints/step-00000012.pt", weights_only=True)
    assert state["scaler"]["scale"] < 2.0**127 and 0 < state["averaged"]["updates"] < 12


def test_a_validation_that_fails_costs_no_weights(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tsp3d.training.loop.validate", lambda *_: 1 / 0)
    config = settings(folder, tmp_path, steps=4)
    with pytest.raises(ZeroDivisionError):
        run(config)
    assert (tmp_path / "run/export/model.safetensors").is_file()


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK something else")
    with pytest.raises(ValueError, match=r"weights\.pt .*safetensors"):
        load_weights(TinyNet(), tmp_path / "weights.pt")


def test_a_disk_that_is_full_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 832 vs 726")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"step-00000003\.pt .*disk"):
        save_checkpoint(tmp_path, 3, {})
    assert not list(tmp_path.iterdir())


def launch(data: Path, out: Path, stop_at: int, resume: bool) -> None:
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    command += [str(data), str(out), str(stop_at), str(int(resume))]
    # In a session of its own, so that a signal to the group of processes stays among them.
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, start_new_session=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_agree_and_go_on_where_they_stopped(folder: Path, tmp_path: Path) -> None:
    launch(folder, tmp_path / "whole", 0, False)
    ranks = [load_file(tmp_path / f"whole/rank{rank}.safetensors") for rank in (0, 1)]
    weights = [name for name, value in ranks[0].items() if value.is_floating_point() and "running" not in name]
    assert weights and all(torch.equal(ranks[0][name], ranks[1][name]) for name in weights)
    lines = (tmp_path / "whole/run/validation.jsonl").read_text().splitlines()
    assert len(lines) == 3  # steps 5, 10 and the last, 12

    launch(folder, tmp_path / "parts", 5, False)
    launch(folder, tmp_path / "parts", 0, True)
    for name in ("averaged.safetensors", "export/model.safetensors"):
        whole, parts = (load_file(tmp_path / start / "run" / name) for start in ("whole", "parts"))
        assert all(torch.equal(whole[key], parts[key]) for key in whole)


if __name__ == "__main__":
    data_folder, out_folder, at, again = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
    rank = int(os.environ["RANK"])
    # Only one process is told to stop: the others have to hear of it.
    trained, _ = run(settings(data_folder, out_folder), again, at if rank == 1 else 0)
    state = {name: value.contiguous() for name, value in trained.state_dict().items()}
    save_file(state, out_folder / f"rank{rank}.safetensors")
    torch.distributed.destroy_process_group()
    # A thread of the group that outlives it may abort the process at its exit.
    if sys.platform == "linux":
        threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        assert not [name for name in threads if "gloo" in name], threads
