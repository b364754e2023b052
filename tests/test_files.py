"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from tsp3d.files import replacing, save_tensors, write_text


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "new/a.txt", "old")
    with pytest.raises(KeyError), replacing(tmp_path / "new/a.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new/a.txt").read_text() == "old"


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there/a.txt")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there/a.txt").read_text() == text
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a.txt"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_text(tmp_path / "pipe", "whole")
        assert read.result(timeout=60) == "whole"
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_a_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "stat", lambda *_, **__: SimpleNamespace(st_mode=stat.S_IFBLK))
    with pytest.raises(OSError, match="it is a disk"):
        write_text("/dev/sda", "")


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_tensors_are_written_for_every_reader(tmp_path: Path, kind: str) -> None:
    turned = torch.arange(6.0).view(2, 3).T.requires_grad_()
    file = tmp_path / "w.safetensors"
    save_tensors(file, {"a": turned} if kind == "tensors" else {"a": turned.detach().numpy()}, {"k": "v"})
    assert torch.equal(load_file(file)["a"], turned)
    with safetensors.safe_open(str(file), framework="pt") as opened:
        assert opened.metadata() == {"k": "v"}
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_disk_that_is_full_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(f"safetensors.{kind}.save_file", full)
    with pytest.raises(OSError, match=r"w\.safetensors cannot be written .*disk"):
        save_tensors(tmp_path / "w.safetensors", {"a": torch.ones(1) if kind == "torch" else np.ones(1)})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())
