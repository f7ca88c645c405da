from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from embedkit.testing.conformance.loss import ITEMS, PlainStep, loss_context
from embedkit_itemrec.configs import BprConfig, GbceConfig, SampledSoftmaxConfig
from embedkit_itemrec.negatives import Bpr, Gbce
from embedkit_itemrec.sampled_softmax import SampledSoftmax


def step_of(loss, rows, others):
    step = PlainStep(loss.needs)
    step.views["main"].batch.rows["items"].copy_(torch.tensor(rows))
    # every view of a plain step shares one tensor of rows
    step.views["a"].batch.rows["items"] = torch.tensor(others)
    return step


def scores(step, i, j=None):
    query = step.run("main", "user").embedding[i].detach()
    return float(query @ (step.run("main", "item").embedding[i] if j is None else step.run("a", "item").embedding[j]))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


ROWS, OTHERS = [0, 1, 2, 3, 4, -1], [5, 1, 6, 7, 0, 8]


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_gbce_by_hand(t):
    loss = Gbce(GbceConfig(query="user", target="item", negatives="a", calibration=t, temperature=0.5), context=loss_context())
    step = step_of(loss, ROWS, OTHERS)
    total = 0.0
    for i in range(5):
        kept = [j for j in range(6) if OTHERS[j] != ROWS[i]]
        share = len(kept) / (ITEMS - 1)
        power = share * (t * (1 - 1 / share) + 1 / share)
        told = power * math.log(sigmoid(scores(step, i) / 0.5)) + sum(math.log(1 - sigmoid(scores(step, i, j) / 0.5)) for j in kept)
        total -= told / (len(kept) + 1)
    assert float(loss(step).loss.detach()) == pytest.approx(total / 5, rel=1e-5)


def test_without_calibration_it_is_binary_cross_entropy():
    loss = Gbce(GbceConfig(query="user", target="item", negatives="a", calibration=0.0), context=loss_context())
    positive, negative = torch.tensor([0.3]), torch.tensor([[0.1, -2.0]])
    logits, label = torch.tensor([0.3, 0.1, -2.0]), torch.tensor([1.0, 0.0, 0.0])
    want = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
    assert loss.per_row(positive, negative, torch.ones(1, 2, dtype=torch.bool))[0] == pytest.approx(float(want))


def test_bpr_by_hand():
    loss = Bpr(BprConfig(query="user", target="item", negatives="a"), context=loss_context())
    step = step_of(loss, ROWS, OTHERS)
    total = 0.0
    for i in range(5):
        kept = [j for j in range(6) if OTHERS[j] != ROWS[i]]
        total -= sum(math.log(sigmoid(scores(step, i) - scores(step, i, j))) for j in kept) / len(kept)
    assert float(loss(step).loss.detach()) == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize("in_batch", [True, False])
def test_sampled_softmax_corrects_for_what_the_sampler_draws(in_batch):
    chances = torch.arange(1, ITEMS + 1) / sum(range(1, ITEMS + 1))
    context = replace(loss_context(), chances=lambda view: chances if view == "a" else None)
    options = {"query": "user", "target": "item", "negatives": "a", "in_batch": in_batch, "temperature": 1.0}
    loss = SampledSoftmax(SampledSoftmaxConfig(**options), context=context)
    step = step_of(loss, ROWS, OTHERS)
    counts = context.frequencies("items").clamp(min=1)
    total = 0.0
    for i in range(5):

        def expected(row):
            return (6 * float(counts[row] / counts.sum()) if in_batch else 0.0) + 6 * float(chances[row])

        own = scores(step, i) - math.log(expected(ROWS[i]))
        others = [scores(step, i, j) - math.log(expected(OTHERS[j])) for j in range(6) if OTHERS[j] != ROWS[i]]
        if in_batch:
            query, items = step.run("main", "user").embedding[i].detach(), step.run("main", "item").embedding
            others += [float(query @ items[j]) - math.log(expected(ROWS[j])) for j in range(5) if j != i]
        total += math.log(sum(math.exp(s) for s in [own, *others])) - own
    assert float(loss(step).loss.detach()) == pytest.approx(total / 5, rel=1e-5)
