"""Weights with the release's names and shapes: every name finds its place, and the network computes the same boxes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from release_twin import DenseRelease, release_state

from tsp3d import sparse
from tsp3d.models.config import ModelConfig
from tsp3d.models.convert import compatible, convert, describe, our_name, read_release
from tsp3d.models.net import GroundingNet
from tsp3d.models.pruning import scattered_scores
from tsp3d.models.text import TextConfig
from tsp3d.sparse import SparseTensor, reference
from tsp3d.sparse import nn as snn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa of the release's width with one layer and random weights, as a Hugging Face folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    entries = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_max_length=128,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(entries), hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=64,
        max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def state(roberta: Path) -> dict[str, Tensor]:
    """A release checkpoint's state dict, wrappers off."""
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(1)
    text = RobertaModel(RobertaConfig.from_pretrained(roberta)).state_dict()
    state = release_state(torch.Generator().manual_seed(2), text)
    return {**state, "text_encoder.embeddings.position_ids": torch.arange(130)[None]}  # as older transformers saved it


def base(roberta: Path) -> ModelConfig:
    return compatible(ModelConfig(text=TextConfig(kind="huggingface", name=str(roberta), frozen=True)))


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "ckpt_epoch_70.pth"
    config = argparse.Namespace(dataset=["scanrefer"], lr=5e-4, use_color=True, log_dir="logs", nothing=None)
    torch.save({"config": config, "epoch": 70, "model": {f"module.{k}": v for k, v in state.items()}}, path)
    return path


def test_every_name_of_the_release_finds_its_place(state: dict[str, Tensor], roberta: Path) -> None:
    net = GroundingNet(base(roberta)).eval()
    result = convert(state, net)
    assert (result.missing, result.unexpected, result.shape, result.text_missing) == ([], [], [], [])
    assert result.complete and set(result.loaded) == set(net.state_dict())
    own = net.state_dict()
    for name, value in state.items():
        ours = our_name(name)
        if ours is not None:
            assert torch.equal(own[ours], value), name
    assert describe(result) == f"{len(result.loaded)} tensors converted"


def test_what_does_not_fit_is_listed(state: dict[str, Tensor], roberta: Path) -> None:
    changed = {k: v for k, v in state.items() if not k.startswith("text_encoder.")}
    del changed["head.fuse.conv.kernel"]
    changed["head.bbox_conv.kernel"] = torch.zeros(128, 8)
    changed["head.extra.weight"] = torch.zeros(1)
    net = GroundingNet(base(roberta))
    before = net.head.fuse.conv.kernel.clone()
    result = convert(changed, net)
    assert not result.complete
    assert result.missing == ["head.fuse.conv.kernel"] and result.unexpected == ["head.extra.weight"]
    assert result.shape == ["head.bbox_conv.kernel: (128, 8) in the checkpoint, (128, 6) in the network"]
    assert result.text_missing and all(name.startswith("text_encoder.") for name in result.text_missing)
    assert torch.equal(net.head.fuse.conv.kernel, before)
    text = describe(result)
    assert "1 missing in the checkpoint:\n  head.fuse.conv.kernel" in text and "the pretrained ones stay" in text


def test_reading_runs_no_code(checkpoint: Path, tmp_path: Path) -> None:
    release = read_release(checkpoint)
    assert release.epoch == 70
    assert release.options == {"lr": 5e-4, "use_color": True, "log_dir": "logs", "nothing": None}
    assert not any(name.startswith("module.") for name in release.state)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_release(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"text\.pth"):
        read_release(tmp_path / "text.pth")
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut off"):
        read_release(tmp_path / "cut.pth")
    torch.save({"epoch": 3, "lr": 1.0}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"no state dict.*\['epoch', 'lr'\]"):
        read_release(tmp_path / "empty.pth")

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": {"a": torch.zeros(1)}, "evil": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match="could run code"):
        read_release(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    torch.save({"module._orig_mod.vision_backbone.a": torch.ones(2)}, tmp_path / "bare.pth")
    assert list(read_release(tmp_path / "bare.pth").state) == ["vision_backbone.a"]
    for name in ("layer.weight", 7):
        torch.save({"model": {name: torch.ones(2)}}, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=rf"other\.pth is no checkpoint of TSP3D.*first are {name}"):
            read_release(tmp_path / "other.pth")


def test_the_tool_writes_weights_that_the_package_loads(
    checkpoint: Path, roberta: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = importlib.util.spec_from_file_location("tool_convert", ROOT / "tools" / "convert_checkpoint.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    out = tmp_path / "weights"
    tool.main(tool.Options(checkpoint, out, text=str(roberta)))
    assert "epoch 70" in capsys.readouterr().out
    assert json.loads((out / "source.json").read_text())["random"] == []
    net = GroundingNet.from_pretrained(out)
    assert net.config.compat.prune_sign and net.config.compat.no_half_voxel and net.config.head.min_score == 0
    stored = read_release(checkpoint).state
    assert torch.equal(net.head.fuse.conv.kernel, stored["head.fuse.conv.kernel"])
    weight = "embeddings.word_embeddings.weight"
    assert torch.equal(net.text_encoder.state_dict()[f"model.{weight}"], stored[f"text_encoder.{weight}"])
    short = {k: v for k, v in stored.items() if k != "head.com_cls.bias"}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(SystemExit, match="nothing is written"):
        tool.main(tool.Options(tmp_path / "short.pth", tmp_path / "no", text=str(roberta)))
    assert not (tmp_path / "no").exists() and "head.com_cls.bias" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="text encoder"):
        tool.main(tool.Options(checkpoint, tmp_path / "no", text=str(tmp_path / "absent")))
    with pytest.raises(SystemExit, match="convert_checkpoint: .*File exists"):
        tool.main(tool.Options(checkpoint, checkpoint, text=str(roberta)))


@pytest.mark.parametrize("k", range(27))
def test_each_offset_of_a_kernel_is_where_minkowski_engine_has_it(k: int) -> None:
    """k = (x+1) + 3(y+1) + 9(z+1); a convolution reads in[u + offset], a generative one writes out[u + offset]."""
    offset = torch.tensor([k % 3 - 1, k // 3 % 3 - 1, k // 9 - 1])
    here = torch.tensor([4, 4, 4])
    coords = torch.cat([torch.zeros(2, 1), torch.stack([here, here + offset])], 1).int().unique(dim=0)
    x = SparseTensor(torch.arange(1.0, len(coords) + 1)[:, None], coords)
    conv, up = snn.Conv3d(1, 1), snn.GenerativeConvTranspose3d(1, 1)
    with torch.no_grad():
        for layer in (conv, up):
            layer.kernel.zero_()
            layer.kernel[k] = 1
    seen = sparse.align_features(conv(x), torch.tensor([[0, *here.tolist()]], dtype=torch.int32)).item()
    neighbour = sparse.align_features(x, torch.tensor([[0, *(here + offset).tolist()]], dtype=torch.int32)).item()
    assert seen == neighbour
    coarse = SparseTensor(torch.ones(1, 1), torch.tensor([[0, 4, 4, 4]], dtype=torch.int32), stride=2)
    made = up(coarse)
    assert made.coords[made.feats[:, 0] == 1, 1:].tolist() == [(here + offset).tolist()]
    assert reference.kernel_offsets((3, 3, 3))[k] == tuple(offset.tolist())


def scene() -> tuple[Tensor, Tensor]:
    """Points (N, 3), one at most in each centimetre of two 64 cm cells a side, on a floor and in a few boxes; rgb."""
    g = torch.Generator().manual_seed(3)
    floor = torch.rand(1500, 3, generator=g) * torch.tensor([128.0, 128.0, 2.0])
    corners = torch.tensor([[10.0, 70, 0], [80.0, 20, 0], [70.0, 80, 75]])
    boxes = [torch.rand(500, 3, generator=g) * 30 + corner for corner in corners]
    cells = torch.cat([floor, *boxes]).floor().unique(dim=0)
    return (cells + 0.5) * 0.01, torch.rand(len(cells), 3, generator=g)


def test_the_network_computes_what_the_release_does_on_dense_grids(state: dict[str, Tensor], roberta: Path) -> None:
    net = GroundingNet(base(roberta)).eval()
    xyz, rgb = scene()
    text = "the brown chair next to the desk"
    twin = DenseRelease(dict(state))
    with torch.inference_mode():
        dense, mask = torch.zeros(6, 128, 128, 128), torch.zeros(128, 128, 128, dtype=torch.bool)
        x, y, z = (xyz / 0.01).floor().long().unbind(1)
        mean = torch.tensor([109.8, 97.2, 83.8])
        dense[:, x, y, z] = torch.cat([xyz, (rgb * 255 - mean) / 256], 1).T
        mask[x, y, z] = True
        convert(state, net)
        tokens = net.text_encoder([text]).tokens
        levels, want = twin.ground(dense, mask, tokens)
        convert(twin.w, net)  # with the biases that it chose
        encoded = net.encode(xyz, rgb)
        for ours, (theirs, there) in zip(encoded.levels, levels, strict=True):
            assert len(ours) == int(there.sum())
            at = (ours.coords[:, 1:] // ours.stride).long().unbind(1)
            torch.testing.assert_close(ours.feats, theirs[:, at[0], at[1], at[2]].T, rtol=1e-3, atol=1e-3)
        out = net.head(encoded.levels, net._text([text]).tokens, [len(tokens)], torch.zeros(1, dtype=torch.long))
    level2, kept2, level1, kept1, level0, added = want["counts"].tolist()
    assert 0 < kept2 < level2 and 0 < kept1 < level1 and added > 0, want["counts"]  # every branch is taken
    assert len(out.trace["level2"]) == kept2 and len(out.trace["level1"]) == kept1
    assert len(out.trace["level0"]) == level0 and len(out.trace["completed"]) == level0 + added
    best = want["logits"].argmax()
    torch.testing.assert_close(out.boxes[out.logits.argmax()], want["boxes"][best], rtol=1e-3, atol=1e-3)
    order, theirs = out.logits.argsort(), want["logits"].argsort()
    torch.testing.assert_close(out.logits[order], want["logits"][theirs], rtol=1e-3, atol=1e-3)
    for column in range(6):
        ours, wanted = out.boxes[:, column].sort().values, want["boxes"][:, column].sort().values
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-3)


def test_scattered_choice_is_even_and_repeatable() -> None:
    coords = torch.cartesian_prod(torch.arange(1), *[torch.arange(-8, 8)] * 3).int()
    x = SparseTensor(torch.zeros(len(coords), 1), coords * torch.tensor([1, 16, 16, 16], dtype=torch.int32), stride=16)
    scores = scattered_scores(x)
    chosen = x.coords[scores.argsort()[:2048], 1:] < 0
    assert ((chosen.float().mean(0) - 0.5).abs() < 0.05).all()  # half of the voxels are below 0 on each axis
    assert scores.unique().numel() > 0.99 * len(scores)
    assert torch.equal(scores, scattered_scores(x))
