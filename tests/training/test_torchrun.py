"""Several processes of one run, as torchrun starts them: the same losses as one, and an end that can be resumed from.

This file is also what the processes run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import TinyNet, run, settings

from tsp3d.data import GroundingBatch
from tsp3d.data.toy import write_toy_dataset

KILLED_AT = 7


class PlainNet(TinyNet):
    """Without dropout, which each process draws for itself, and batch norm, which sees one process's scenes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 6))
        self.seen: list[float] = []

    def losses(self, batch: GroundingBatch) -> dict[str, Tensor]:
        losses = super().losses(batch)
        self.seen.append(float(losses["total"].detach()))
        return losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), train=6)


def launch(mode: str, data: Path, out: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [__file__, mode, str(data), str(out)]
    # In a session of its own, so that a signal to the group of processes stays among them.
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, start_new_session=True)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_with_the_same_scenes(folder: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = launch("losses", folder, out, processes)
        assert done.returncode == 0, done.stderr[-3000:]
    one = torch.load(tmp_path / "1/losses0.pt", weights_only=True)
    both = torch.stack([torch.load(tmp_path / f"2/losses{rank}.pt", weights_only=True) for rank in (0, 1)])
    assert one.shape == (12,) and not torch.allclose(both[0], both[1], rtol=0.01)  # each has scenes of its own
    # Float32 sums in another order differ in the last digits, which twelve steps of Adam let grow.
    assert torch.allclose(both.mean(0), one, rtol=1e-4)
    assert float(one[-3:].mean()) < float(one[:3].mean())
    ends = [load_file(tmp_path / f"{processes}/run/averaged.safetensors") for processes in (1, 2)]
    assert all(torch.allclose(ends[0][name], ends[1][name], rtol=1e-3, atol=1e-5) for name in ends[0])


@pytest.mark.slow
def test_a_run_goes_on_after_a_process_was_killed(folder: Path, tmp_path: Path) -> None:
    assert launch("whole", folder, tmp_path / "whole").returncode == 0
    killed = launch("killed", folder, tmp_path / "killed")
    assert killed.returncode != 0 and "SIGKILL" in killed.stderr
    assert "another process of this run has ended" in killed.stderr and "--resume" in killed.stderr
    saved = sorted(path.name for path in (tmp_path / "killed/run/checkpoints").iterdir())
    assert saved[-1] in (f"step-{KILLED_AT - 1:08d}.pt", f"step-{KILLED_AT:08d}.pt")
    resumed = launch("resumed", folder, tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    whole, parts = (load_file(tmp_path / name / "run/averaged.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def work(mode: str, data: Path, out: Path) -> None:
    """What a process does."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    config = settings(data, out)
    config.log.checkpoint_minutes = 0.0  # a checkpoint after every step
    config.log.validate_every = 0
    if mode == "losses":
        config.data.scenes_per_step = 2 // world
        config.data.detection_probability = config.data.mirror_probability = 0.0  # as many sentences in each process
        torch.manual_seed(7)
        net, _ = run(config, net=PlainNet())
        assert isinstance(net, PlainNet)
        torch.save(torch.tensor(net.seen), out / f"losses{rank}.pt")
    else:
        victim = mode == "killed" and rank == 1
        run(config, resume=mode == "resumed", stop_at=KILLED_AT if victim else 0, signal_number=signal.SIGKILL)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
