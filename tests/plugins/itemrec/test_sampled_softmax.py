from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from embedkit.data.batch import Batch
from embedkit.errors import UsageError
from embedkit.nn.values import Outputs, Tokens
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.training.loss import LossContext
from embedkit.training.schedule import Clock
from embedkit.views import Random, View
from embedkit_itemrec.configs import SampledSoftmaxConfig
from embedkit_itemrec.sampled_softmax import SampledSoftmax

M = 7
COUNTS = torch.tensor([10, 5, 1, 0, 2, 7, 3])


def outputs(x: torch.Tensor) -> Outputs:
    tokens = Tokens(x.unsqueeze(1), torch.zeros(len(x), 1, dtype=torch.bool), torch.zeros(len(x), 1, dtype=torch.bool), {})
    return Outputs(tokens, x, x, x, (x.shape[1],))


class FakeStep:
    """Serves fixed vectors."""

    def __init__(self, vectors, rows, extra=None):
        self.vectors, self.random = vectors, Random(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
        self.views = {"main": View(Batch({}, rows={"items": rows}))}
        if extra is not None:
            self.views["extra"] = View(Batch({}, rows={"items": extra}))

    def run(self, view, tower, network="student", layers=()):
        return outputs(self.vectors[view, tower])

    def value(self, number):
        return Clock(0, 1).value(number)


def loss_of(**options) -> SampledSoftmax:
    towers = {"user": Tower("user", (), "events"), "item": Tower("item", (), "items")}
    context = LossContext(Schema({}, towers, {}), {"user": 4, "item": 4}, 4, ("main",), lambda table: COUNTS, {"items": M})
    return SampledSoftmax(SampledSoftmaxConfig(query="user", target="item", **options), context=context)


def vectors(n, seed=0, extra=None):
    g = torch.Generator().manual_seed(seed)
    found = {("main", t): F.normalize(torch.randn(n, 4, generator=g), dim=1) for t in ("user", "item")}
    if extra:
        found["extra", "item"] = F.normalize(torch.randn(extra, 4, generator=g), dim=1)
    return found


def by_hand(v, rows, t, correct, mask_hits, columns=None, extra=None):
    """The definition, one row and one candidate at a time."""
    n = len(rows)
    columns = range(n) if columns is None else columns
    share = COUNTS.clamp(min=1) / COUNTS.clamp(min=1).sum()
    u = 0 if extra is None else len(extra)

    def score(i, x, row):
        s = float(v["main", "user"][i] @ x) / t
        return s - (math.log(len(columns) * float(share[row]) + u / M) if correct else 0.0)

    total, count = 0.0, 0
    for i in range(n):
        if rows[i] < 0:
            continue
        positive = score(i, v["main", "item"][i], rows[i])
        others = [
            score(i, v["main", "item"][j], rows[j]) for j in columns if j != i and rows[j] >= 0 and not (mask_hits and rows[j] == rows[i])
        ]
        if extra is not None:
            others += [score(i, v["extra", "item"][j], extra[j]) for j in range(u) if not (mask_hits and extra[j] == rows[i])]
        total += math.log(sum(math.exp(s) for s in [positive, *others])) - positive
        count += 1
    return total / count


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("mask_hits", [True, False])
def test_is_the_softmax_over_the_batch(correct, mask_hits):
    rows = torch.tensor([0, 1, 1, 5, -1, 0, 6])
    v = vectors(7)
    loss = loss_of(correct_popularity=correct, mask_hits=mask_hits, temperature=0.2)
    found = loss(FakeStep(v, rows)).loss
    assert float(found) == pytest.approx(by_hand(v, rows.tolist(), 0.2, correct, mask_hits), abs=1e-5)


def test_uniform_negatives_change_the_expected_counts():
    rows, extra = torch.tensor([0, 1, 5]), torch.tensor([3, 1, 2, 4])
    v = vectors(3, extra=4)
    found = loss_of(negatives="extra", temperature=0.5)(FakeStep(v, rows, extra)).loss
    assert float(found) == pytest.approx(by_hand(v, rows.tolist(), 0.5, True, True, extra=extra.tolist()), abs=1e-5)


def test_a_subsample_keeps_every_positive():
    rows = torch.arange(7)
    v = vectors(7)
    step = FakeStep(v, rows)
    drawn = torch.randperm(7, generator=torch.Generator().manual_seed(0))[:3].tolist()
    found = loss_of(max_candidates=3, temperature=0.5)(step).loss
    assert float(found) == pytest.approx(by_hand(v, rows.tolist(), 0.5, True, True, columns=sorted(drawn)), abs=1e-5)


@pytest.mark.parametrize("rows", [[-1, -1, -1], []])
def test_no_known_target_is_a_zero_with_zero_gradients(rows):
    v = {k: x.requires_grad_() for k, x in vectors(len(rows)).items()}
    found = loss_of()(FakeStep(v, torch.tensor(rows, dtype=torch.int64))).loss
    found.backward()
    assert float(found.detach()) == 0.0
    assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in v.values())


def test_unknown_targets_get_no_gradient():
    v = {k: x.requires_grad_() for k, x in vectors(3).items()}
    loss_of()(FakeStep(v, torch.tensor([0, -1, 1]))).loss.backward()
    for x in v.values():
        assert torch.isfinite(x.grad).all()
        assert not x.grad[1].any()


def test_a_misspelt_tower_is_refused():
    towers = {"item": Tower("item", (), "items")}
    context = LossContext(Schema({}, towers, {}), {"item": 4}, 4, ("main",), lambda table: COUNTS, {"items": M})
    with pytest.raises(UsageError, match="query = 'usr' is no tower; the towers are item"):
        SampledSoftmax(SampledSoftmaxConfig(query="usr", target="item"), context=context)


def trained_logits(correct: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Learned logits, log P(item | user) and log P(item) of papers/core.md section 1, check 1."""
    users, items, batch = 20, 200, 64
    g = torch.Generator().manual_seed(seed)
    popularity = 1.0 / torch.arange(1, items + 1)
    joint = popularity * torch.exp(0.85 * torch.randn(users, items, generator=g))
    given = joint / joint.sum(1, keepdim=True)
    marginal = given.mean(0)
    towers = {"user": Tower("user", (), "events"), "item": Tower("item", (), "items")}
    counts = (marginal * 10_000_000).round().long()
    context = LossContext(Schema({}, towers, {}), {"user": items, "item": items}, 4, ("main",), lambda t: counts, {"items": items})
    config = SampledSoftmaxConfig(query="user", target="item", temperature=1.0, mask_hits=False, correct_popularity=correct)
    loss = SampledSoftmax(config, context=context)
    table = torch.nn.Parameter(torch.zeros(users, items))
    optimizer = torch.optim.Adam([table], lr=0.05, fused=True)
    one_hot = torch.eye(items)
    steps = 8000
    draws = torch.multinomial((given / users).flatten(), steps * batch, replacement=True, generator=g).view(steps, batch)
    for step, drawn in enumerate(draws):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        who, rows = drawn // items, drawn % items
        fake = FakeStep({("main", "user"): F.embedding(who, table), ("main", "item"): F.embedding(rows, one_hot)}, rows)
        optimizer.zero_grad()
        loss(fake).loss.backward()
        optimizer.step()
    logits = table.detach()
    return logits - logits.mean(1, keepdim=True), given.log(), marginal.log()


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over users of the correlation over items."""
    return float(torch.stack([torch.corrcoef(torch.stack([x, y]))[0, 1] for x, y in zip(a, b, strict=True)]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("correct", [True, False])
def test_log_q_turns_a_pmi_ranker_into_a_probability_ranker(correct):
    logits, given, marginal = trained_logits(correct, seed=3)
    to_probability, to_pmi = correlation(logits, given), correlation(logits, given - marginal)
    if correct:
        assert to_probability > 0.95
    else:
        assert to_probability < 0.7
        assert to_pmi > 0.9


def weighted_step(v, rows, weights):
    step = FakeStep(v, rows)
    step.views["main"] = View(replace(step.views["main"].batch, labels={"importance": weights}))
    return step


def weighted_loss(**options):
    spec = FieldSpec("importance", "number", "events", "importance", "importance", "weight")
    towers = {"item": Tower("item", (), "items"), "user": Tower("user", (), "events")}
    context = LossContext(
        Schema({"importance": spec}, towers, {}), {"item": 4, "user": 4}, 4, ("main",), lambda table: COUNTS, {"items": M}
    )
    config = SampledSoftmaxConfig(query="user", target="item", temperature=0.5, weight_by="importance", **options)
    return SampledSoftmax(config, context=context)


def test_an_event_of_weight_zero_asks_nothing():
    v = {k: x.requires_grad_() for k, x in vectors(4).items()}
    loss = weighted_loss()
    assert loss.needs.labels == ("importance",)
    loss(weighted_step(v, torch.tensor([0, 1, 5, 6]), torch.tensor([1.0, 0.0, 2.0, 1.0]))).loss.backward()
    grad = v["main", "user"].grad
    assert not grad[1].any()
    assert grad[0].any()
    assert v["main", "item"].grad[1].any()  # its target is still a candidate


def test_a_weight_of_two_counts_as_two_rows():
    """Row i's own term is weighed: sum_i w_i l_i / sum_i w_i, for whatever terms the unweighted loss is the mean of."""
    v, rows = vectors(3), torch.tensor([0, 1, 5])
    one = [weighted_loss()(weighted_step(v, rows, torch.eye(3)[i])).loss for i in range(3)]
    found = weighted_loss()(weighted_step(v, rows, torch.tensor([1.0, 2.0, 1.0]))).loss
    assert float(found) == pytest.approx(float((one[0] + 2 * one[1] + one[2]) / 4), abs=1e-6)
    plain = loss_of(temperature=0.5)(FakeStep(v, rows)).loss
    assert float(plain) == pytest.approx(float(sum(one) / 3), abs=1e-6)
