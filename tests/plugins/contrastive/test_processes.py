"""Two processes over gloo: each loss of a batch that they share has the value and the gradients that one process finds."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from embedkit.testing import kills

WORK = """
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from embedkit.data.batch import Batch
from embedkit.nn.unit import unit
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import Schema, Tower
from embedkit.training.distributed import average_gradients
from embedkit.training.loss import LossContext
from embedkit.views import Mix, View
from embedkit_contrastive.barlow import BarlowTwins, MixedBarlowTwins
from embedkit_contrastive.configs import BarlowTwinsConfig, InfoNCEConfig, MixedBarlowTwinsConfig
from embedkit_contrastive.configs_spread_out import SpreadOutConfig
from embedkit_contrastive.info_nce import InfoNCE
from embedkit_contrastive.spread_out import SpreadOut

ROWS, WIDTH, VIEWS = 8, 4, ("a", "b", "m")
PAIR = {"tower": "item", "views": ("a", "b")}
LOSSES = {
    "barlow_twins": (BarlowTwins, BarlowTwinsConfig(**PAIR, projector=[6, 5])),
    "plain": (BarlowTwins, BarlowTwinsConfig(**PAIR, projector=[], unit_length=True)),
    "mixed": (MixedBarlowTwins, MixedBarlowTwinsConfig(**PAIR, mixed="m", projector=[6, 5])),
    "info_nce": (InfoNCE, InfoNCEConfig(**PAIR)),
    "projected": (InfoNCE, InfoNCEConfig(**PAIR, projector=[6, 5])),
    "log_sum_exp": (SpreadOut, SpreadOutConfig(tower="item", view="a", form="log_sum_exp")),
    "moments": (SpreadOut, SpreadOutConfig(tower="item", view="a", form="moments")),
}
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
if size > 1:
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size)
own = slice(0, ROWS) if size == 1 else slice(*((0, cut), (cut, ROWS))[rank])
draw = torch.Generator().manual_seed(3)
raw = {name: torch.randn(ROWS, WIDTH, generator=draw) for name in VIEWS}
number = torch.tensor([0, 1, 2, 1, 4, 5, -1, -1])  # a copy across the cut, and rows that are not known
order = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])  # rows are mixed with rows of their own shard
views = {name: View(Batch({}, {"items": number[own]}, {})) for name in VIEWS}
views["m"] = View(views["a"].batch, mix=Mix(views["b"], order[own] - own.start, 0.3))


class Step:
    views = views

    def __init__(self, weight):
        self.weight = weight

    def run(self, view, tower, network="student", layers=()):
        x = raw[view][own] @ self.weight  # one parameter stands for the model
        empty = torch.zeros(len(x), 1, dtype=torch.bool)
        return Outputs(Tokens(x.unsqueeze(1), empty, empty, {}), x, unit(x), x, (WIDTH,))

    def value(self, number):
        return number


found = {}
for name, (kind, config) in LOSSES.items():
    context = LossContext(Schema({}, {"item": Tower("item", (), "items")}, {}), {"item": WIDTH}, WIDTH, VIEWS, None, {"items": 9})
    torch.manual_seed(5)
    loss = kind(config, context=context)
    weight = torch.nn.Parameter(torch.eye(WIDTH) + 0.1)
    parameters = {"model": weight, **dict(loss.named_parameters())}
    value = loss(Step(weight)).loss
    value.backward()
    average_gradients(parameters.values())
    value = value.detach()
    if size > 1:
        dist.all_reduce(value)
    found[name] = value / size
    found |= {f"{name}.{part}": parameter.grad for part, parameter in parameters.items()}
save_file(found, out)
if size > 1:
    dist.destroy_process_group()
"""


def outcome(folder, size, cut):
    """Loss → its value, and loss and parameter → gradient, as every process finds them."""
    paths = [folder / f"{size}-{cut}-{rank}.safetensors" for rank in range(size)]
    names = {"size": size, "cut": cut, "store": str(folder / f"store-{cut}")}
    work = [kills.start(WORK, rank=rank, out=str(path), **names) for rank, path in enumerate(paths)]
    for process in work:
        process.join(120)
        assert process.exitcode == 0
    return [load_file(path) for path in paths]


@pytest.mark.parametrize("cut", [2, 4, 8])
def test_two_processes_find_what_one_does(tmp_path, cut):
    (alone,) = outcome(tmp_path, 1, cut)
    assert all(alone[f"{name}.model"].abs().max() > 1e-3 for name in alone if "." not in name)
    for together in outcome(tmp_path, 2, cut):
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
