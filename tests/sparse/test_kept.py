"""What is made of weights is made once, and again where they change: convolutions, alone and with batch norm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tsp3d.sparse import SparseTensor, fused, nn, reference
from tsp3d.sparse.kept import _KEPT, forget_packed_weights, kept


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(5, 7, 2, stride=2, bias=True), nn.BatchNorm(7)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.norm(self.conv(x))


Run = Callable[[Net, SparseTensor], SparseTensor]


@pytest.fixture
def x(make_coords) -> SparseTensor:
    coords = make_coords(200, 4)
    return SparseTensor(torch.randn(len(coords), 5, generator=torch.Generator().manual_seed(0)), coords, batch_size=3)


def alone(net: Net, x: SparseTensor) -> SparseTensor:
    return net.conv(x)


def normed(net: Net, x: SparseTensor) -> SparseTensor:
    return fused.conv_norm(net.conv, net.norm, x, relu=False)


def make(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval()


def plainly(run: Run, net: Net, x: SparseTensor) -> torch.Tensor:
    """By the plain reference, without anything kept."""
    conv, norm = net.conv, net.norm
    target, m = conv.places(x)
    assert m is not None and conv.bias is not None
    out = reference.conv(x.feats, conv.kernel.detach(), m.in_rows, m.out_rows, m.splits, len(target))
    out = out + conv.bias.detach()
    return out if run is alone else norm(SparseTensor.over(out, target)).feats.detach()


def check(run: Run, net: Net, x: SparseTensor) -> None:
    torch.testing.assert_close(run(net, x).feats, plainly(run, net, x), rtol=1e-5, atol=1e-5)


def learn(net: Net, x: SparseTensor) -> None:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with torch.enable_grad():
        net.train()(x).feats.square().sum().backward()
    optimiser.step()
    net.eval()


def learn_fused(net: Net, x: SparseTensor) -> None:
    """By an optimizer that does not count what it writes."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        net(x).feats.square().sum().backward()
    versions = [parameter._version for parameter in net.parameters()]
    optimiser.step()
    assert versions == [parameter._version for parameter in net.parameters()]


def unseen(net: Net, x: SparseTensor) -> None:
    net.conv.kernel.data.mul_(2)
    forget_packed_weights()


def half_and_back(net: Net, x: SparseTensor) -> None:
    net.half()
    net.float()


def in_inference_mode(net: Net, x: SparseTensor) -> None:
    with torch.inference_mode():
        net.conv.kernel.mul_(2)


CHANGES = {
    "in place": lambda net, x: net.conv.kernel.mul_(2),
    "in place, in inference mode": in_inference_mode,
    "load_state_dict": lambda net, x: net.load_state_dict(make(1).state_dict()),
    "load_state_dict, assigned": lambda net, x: net.load_state_dict(make(1).state_dict(), assign=True),
    "another parameter": lambda net, x: setattr(net.conv, "kernel", torch.nn.Parameter(torch.randn(8, 5, 7))),
    "other data": lambda net, x: setattr(net.conv.kernel, "data", torch.randn(8, 5, 7)),
    "to half precision and back": half_and_back,
    "a step of training": learn,
    "a step of a fused optimizer": learn_fused,
    "unseen, and told": unseen,
}


@pytest.mark.parametrize("run", [alone, normed])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_seen(run, change, x):
    net = make()
    with torch.no_grad():
        check(run, net, x)
        first = _KEPT[net.conv]
        check(run, net, x)
        assert _KEPT[net.conv] is first
        before = plainly(run, net, x)
        CHANGES[change](net, x)
        check(run, net, x)
        assert not torch.equal(plainly(run, net, x), before)


def test_averages_and_eps_of_a_norm_are_seen(x):
    """Training writes the averages without counting it."""
    net = make()
    with torch.no_grad():
        check(normed, net, x)
        net.norm.train()
        net(x)
        net.norm.eval()
        check(normed, net, x)
        net.norm.bn.eps = 1.0
        check(normed, net, x)


@pytest.mark.parametrize("run", [alone, normed])
def test_inference_mode_and_double_precision(run, x):
    net = make()
    with torch.inference_mode():
        check(run, net, x)
    with torch.no_grad():
        check(run, net, x)
        check(run, net.double(), x.replace(x.feats.double()))
    with torch.inference_mode():
        made_there = make()  # its weights do not count their changes
        check(run, made_there, x)
        made_there.conv.kernel.mul_(2)
        check(run, made_there, x)
        assert made_there.conv not in _KEPT


def test_nothing_is_kept_where_something_is_learnt(x):
    net = make()
    out = alone(net, x)
    assert out.feats.requires_grad and net.conv not in _KEPT
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert alone(net, x).feats.dtype == torch.bfloat16 and net.conv not in _KEPT


def test_a_copy_keeps_its_own_and_nothing_outlives_its_module(x):
    net = make()
    with torch.no_grad():
        check(alone, net, x)
        other = copy.deepcopy(net)
        other.conv.kernel.mul_(2)
        check(alone, other, x)
        check(alone, net, x)
    assert net.conv in _KEPT and other.conv in _KEPT
    count = len(_KEPT)
    del other
    assert len(_KEPT) == count - 1


def test_a_weight_made_where_another_was_is_another():
    module = torch.nn.Linear(64, 64)
    for number in range(5):
        del module.weight  # its memory would be the next one's
        module.weight = torch.nn.Parameter(torch.full((64, 64), float(number)))
        made = kept(module, [module.weight], lambda: float(module.weight[0, 0]))
        assert made == number


@pytest.mark.parametrize("run", [alone, normed])
def test_threads_share_what_is_kept(run, x):
    net = make()

    def one(_: int) -> torch.Tensor:
        with torch.no_grad():
            return run(net, x).feats

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(16)))
    assert all(torch.equal(result, results[0]) for result in results)
    torch.testing.assert_close(results[0], plainly(run, net, x), rtol=1e-5, atol=1e-5)
