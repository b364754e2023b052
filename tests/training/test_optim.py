"""Schedule, parameter groups, averages and configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tsp3d.training import OptimConfig, load_train_config, overrides_last
from tsp3d.training.optim import AveragedWeights, build_optimizer, freeze, progress, rate

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = nn.Linear(3, 3)
        self.body = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.bias = nn.Parameter(torch.zeros(1, 3))


def test_rate_by_hand() -> None:
    config = OptimConfig(steps=100, warmup_steps=10, final_lr=0.1)
    assert rate(config, 0, 0) == pytest.approx(0.1)
    assert rate(config, 4, 0) == pytest.approx(0.5, abs=0.01)
    assert rate(config, 50, 0) == pytest.approx(0.1 + 0.9 / 2)
    assert rate(config, 100, 0) == pytest.approx(0.1)
    assert rate(OptimConfig(steps=100, warmup_steps=0), 0, 0) == 1
    steps = OptimConfig(steps=100, warmup_steps=10, decay_at=[0.5, 0.75])
    assert [rate(steps, step, 0) for step in (0, 49, 50, 75)] == pytest.approx([0.1, 1, 0.1, 0.01])


def test_progress_is_the_further_of_steps_and_budget() -> None:
    config = OptimConfig(steps=100, max_minutes=10)
    assert progress(config, 30, 60) == 0.3
    assert progress(config, 30, 450) == 0.75
    assert progress(config, 30, 9000) == 1
    assert progress(OptimConfig(steps=100), 30, 1e9) == 0.3


def test_groups_of_parameters() -> None:
    net = Net()
    optimizer = build_optimizer(net, OptimConfig(lr=1, text_lr_scale=0.1, weight_decay=0.5))
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[id(parameter)] = (group["base_lr"], group["weight_decay"])
    names = {name: found[id(parameter)] for name, parameter in net.named_parameters()}
    assert names == {
        "text_encoder.weight": (0.1, 0.5), "text_encoder.bias": (0.1, 0), "body.weight": (1, 0.5), "body.bias": (1, 0),
        "norm.weight": (1, 0), "norm.bias": (1, 0), "bias": (1, 0),
    }  # fmt: skip


def test_freezing() -> None:
    net = Net()
    assert freeze(net, ["text_encoder", "bias"]) == 3
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == {
        "text_encoder.weight",
        "text_encoder.bias",
        "bias",
    }
    with pytest.raises(ValueError, match=r"'head'.*body"):
        freeze(net, ["head"])
    freeze(net, ["text", "body", "norm"])
    with pytest.raises(ValueError, match="no parameter is left"):
        build_optimizer(net, OptimConfig())


def test_averages_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    averaged = AveragedWeights(net, 0.5)
    value = 1.0
    for step in range(1, 12):
        nn.init.constant_(net.weight, float(step))
        averaged.update(net)
        decay = min(0.5, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * step
    with averaged.applied(net):
        assert net.weight.item() == pytest.approx(value)
    assert net.weight.item() == 11
    again = AveragedWeights(net, 0.5)
    again.load_state_dict(averaged.state_dict())
    assert torch.equal(again.values["weight"], averaged.values["weight"]) and again.updates == 11
    with pytest.raises(ValueError, match="another network"):
        AveragedWeights(nn.Linear(1, 1), 0.5).load_state_dict(averaged.state_dict())


def test_configuration_layers_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 3\noptim: {lr: 0.1, steps: 7}\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\noptim: {lr: 0.2}\n")
    config = load_train_config(
        tmp_path / "top.yaml", ["optim.clip=9", "data.augment.flip=0", "freeze=[a,b]", "model.a.b=[1,2]"]
    )
    assert (config.seed, config.optim.lr, config.optim.steps, config.optim.clip) == (3, 0.2, 7, 9)
    assert config.data.augment.flip == 0 and config.freeze == ["a", "b"]
    assert config.model_overrides == ["a.b=[1,2]"]
    (tmp_path / "top.yaml").write_text("base: base.yaml\ninit_from: elsewhere\n")
    assert load_train_config(tmp_path / "top.yaml", ["init_from="]).init_from == ""


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("optim: {learning: 1}\n")
    with pytest.raises(ValueError, match="learning"):
        load_train_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("seed: 1\n")
    for override, expected in (
        ("optim.lr=fast", "fast"),
        ("stage=both", "'both'"),
        ("nonsense", "no '='"),
        ("freeze=[a", "freeze"),
        ("optim.precision=int8", "int8"),
        ("data.sentence_share=10", "sentence_share is 10.0; it must be from 0 to 1"),
        ("data.flip=3", "flip"),
        ("data.augment.flip=nan", "flip is nan"),
        ("data.sentences_per_scene=-1", "sentences_per_scene is -1; it must be at least 0"),
        ("data.sentences_per_scene=0", "needs sentences in each step"),
        ("log.every=0", "log.every is 0; it must be at least 1"),
        ("optim.decay_at=[50,75]", "not epochs"),
        ("optim.betas=[0.9]", "two numbers"),
        ("optim.weight_decay=-1", "weight_decay is -1.0; it must be at least 0"),
        ("optim.warmup_steps=-5", "warmup_steps is -5"),
        ("seed=", r"^[^\n]*seed[^\n]*$"),  # in one line
    ):
        with pytest.raises(ValueError, match=expected):
            load_train_config(tmp_path / "a.yaml", [override])
    with pytest.raises(FileNotFoundError, match="configs/train"):
        load_train_config(tmp_path / "none.yaml")
    for text, expected in (("- seed\n", r"a\.yaml: .*list"), ("base: 3\n", "base is 3")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ValueError, match=expected):
            load_train_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ValueError, match="circle"):
        load_train_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    config = load_train_config(path)
    assert (CONFIGS.parents[1] / config.model).suffix == ".yaml"


def test_overrides_may_stand_among_the_options() -> None:
    given = "optim.lr=1 --config runs/lr=1/a.yaml name=x --resume --distill=lar distill.keep=true".split()
    wanted = "--config runs/lr=1/a.yaml --resume --distill=lar optim.lr=1 name=x distill.keep=true".split()
    assert overrides_last(given) == wanted and overrides_last([]) == []
