from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from embedkit.index.base import IndexContext
from embedkit.testing.conformance.loss import ITEMS, LossConformance, PlainStep, loss_context
from embedkit_hnsw.configs import ExactConfig
from embedkit_hnsw.exact import ExactIndex
from embedkit_itemrec.configs import MinedSoftmaxConfig
from embedkit_itemrec.mined import MinedSoftmax


def context_of():
    return replace(loss_context(), index=lambda dim, metric: ExactIndex(ExactConfig(), context=IndexContext(dim, metric)))


def make(context=None, **options) -> MinedSoftmax:
    return MinedSoftmax(MinedSoftmaxConfig(query="user", target="item", **options), context=context or context_of())


class TestMinedSoftmax(LossConformance):
    def loss(self, context):
        context = replace(context, index=context_of().index)
        return make(context, negatives="a", every=2, each=2, depth=4)


def after_mining(loss, **step):
    found = PlainStep(loss.needs, **step)
    loss.after_update(found, {})
    return found


def test_nothing_is_mined_before_the_first_time():
    loss = make(every=2)
    step = PlainStep(loss.needs)
    assert float(loss(step).loss.detach()) == 0.0
    after_mining(loss)
    assert float(loss(step).parts["mined"]) == 0.0
    after_mining(loss)
    assert float(loss(step).parts["mined"]) > 0


def test_it_is_the_softmax_over_what_was_mined_but_for_guarded_items():
    loss = make(every=1, each=ITEMS, depth=ITEMS, guard=0.9, temperature=0.5)
    step = after_mining(loss)
    rows = step.views["main"].batch.rows["items"]
    queries, targets = step.run("main", "user").embedding, step.run("main", "item").embedding
    items = step.snapshot("item")
    total, left_out = 0.0, 0
    for i in range(len(rows)):
        positive = queries[i] @ targets[i]
        kept = [queries[i] @ items[j] for j in range(ITEMS) if j != rows[i] and queries[i] @ items[j] < 0.9 * positive]
        left_out += ITEMS - len(kept)
        total += torch.logsumexp(torch.stack([positive, *kept]) / 0.5, 0) - positive / 0.5
    assert left_out > len(rows)
    torch.testing.assert_close(loss(step).loss, total / len(rows))


def test_it_mines_the_nearest_and_skips_the_very_nearest():
    loss = make(every=1, each=2, depth=2, skip=1)
    step = after_mining(loss)
    queries = step.run("main", "user").embedding.detach()[:1]
    mined = loss._mine(queries, torch.tensor([0]), step)
    order = (queries @ step.snapshot("item").T)[0].argsort(descending=True)
    assert sorted(mined.tolist()) == sorted(order[1:3].tolist())


def test_it_goes_on_with_the_same_index():
    loss, again = make(every=1), make(every=1)
    step = after_mining(loss)
    again.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(step).loss, again(PlainStep(loss.needs)).loss)


def test_more_than_can_be_drawn_is_refused():
    with pytest.raises(ValueError, match="raise depth"):
        MinedSoftmaxConfig(query="user", target="item", each=5, depth=4)
