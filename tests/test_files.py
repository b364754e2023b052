"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

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
