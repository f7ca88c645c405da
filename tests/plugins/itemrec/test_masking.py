from __future__ import annotations

import numpy as np
import pytest
import torch

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.errors import UsageError
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.views import AugmentationContext, Random, View
from embedkit_itemrec.configs import CorrelatedMaskingConfig, FieldMaskingConfig, RandomMaskingConfig, ValueDropoutConfig
from embedkit_itemrec.masking import CorrelatedMasking, FieldMasking, RandomMasking, ValueDropout


def schema_of(names, key=None, text=()):
    fields = {n: FieldSpec(n, "text" if n in text else "category", "items", n, n, "key" if n == key else "feature") for n in names}
    return Schema(fields, {"item": Tower("item", tuple(names), "items")}, {"items": key} if key else {})


def context_of(names, information=None, makes=2, **kw):
    return AugmentationContext(
        schema_of(names, **kw), "items", tuple(names), makes, lambda fields: information if information is not None else np.eye(len(fields))
    )


def view_of(names, n=5):
    return View(Batch({name: Column(torch.arange(n)) for name in names}))


def random_of(seed=0):
    return Random(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1))


def planted_pairs(pairs: int) -> np.ndarray:
    """Empirical mutual information of near-copies f_2j, f_2j+1."""
    rng = np.random.default_rng(0)
    columns = []
    for _ in range(pairs):
        a = rng.integers(0, 8, 4000)
        b = np.where(rng.random(4000) < 0.95, a, rng.integers(0, 8, 4000))
        columns += [a, b]
    k = 2 * pairs
    found = np.zeros((k, k))
    for i in range(k):
        for j in range(k):
            joint = np.histogram2d(columns[i], columns[j], bins=8)[0] / 4000
            product = np.outer(joint.sum(1), joint.sum(0))
            found[i, j] = (joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])).sum()
    return found


def test_the_seeds_partner_is_masked_with_it():
    """papers/core.md section 1, check 2: more than 95% of draws on planted pairs; random masking far below."""
    names = [f"f{i}" for i in range(10)]
    correlated = CorrelatedMasking(CorrelatedMaskingConfig(), context=context_of(names, planted_pairs(5)))
    random = RandomMasking(RandomMaskingConfig(), context=context_of(names))
    draws, together, by_chance = 1000, 0, 0
    for draw in range(draws):
        shared = torch.Generator().manual_seed(draw)
        seed = int(torch.randint(10, (), generator=torch.Generator().manual_seed(draw)))
        masked = correlated.draw(shared)
        assert names[seed] in masked
        assert len(masked) == 6
        together += names[seed ^ 1] in masked
        masked = random.draw(torch.Generator().manual_seed(draw))
        by_chance += sum(f"f{i ^ 1}" in masked for i in range(10) if f"f{i}" in masked) / len(masked)
    assert together / draws > 0.95
    assert by_chance / draws == pytest.approx(4 / 9, abs=0.05)


@pytest.mark.parametrize("kind", [(CorrelatedMasking, CorrelatedMaskingConfig), (RandomMasking, RandomMaskingConfig)])
@pytest.mark.parametrize("names", [("id", "a"), ("id", "a", "b", "c"), ("id", "t"), ("id", "t", "a"), ("a", "b"), ("a", "t")])
def test_views_are_complementary_and_the_key_stays_in_the_first(kind, names):
    cls, config = kind
    masking = cls(config(), context=context_of(names, key="id" if "id" in names else None, text=("t",)))
    for draw in range(20):
        first, second = masking(view_of(names), random_of(draw))
        assert set(first.hidden) | set(second.hidden) == set(names)
        assert not set(first.hidden) & set(second.hidden)
        assert first.hidden, "the second view must show something that the first hides"
        assert second.hidden
        assert "id" not in first.hidden
        assert all(mask.all() and mask.shape == (5,) for v in (first, second) for mask in v.hidden.values())


def test_one_pattern_a_batch_from_the_shared_generator():
    names = tuple("abcdef")
    masking = RandomMasking(RandomMaskingConfig(), context=context_of(names))
    left, right = (masking(view_of(names), Random(torch.Generator().manual_seed(7), torch.Generator().manual_seed(i))) for i in (1, 2))
    assert [set(v.hidden) for v in left] == [set(v.hidden) for v in right]


def test_values_of_lists_are_dropped_in_visible_fields_only():
    names = ("tags", "b")
    tags = Column(torch.arange(1000), torch.arange(0, 1001, 10))
    view = View(Batch({"tags": tags, "b": Column(torch.arange(100))}))
    masking = RandomMasking(RandomMaskingConfig(value_dropout=0.3), context=context_of(names))
    for one in masking(view, random_of()):
        if "tags" in one.hidden:
            assert not one.hidden_values
        else:
            assert one.hidden_values["tags"].shape == (1000,)
            assert one.hidden_values["tags"].float().mean() == pytest.approx(0.3, abs=0.06)


def test_named_fields_are_hidden():
    masking = FieldMasking(FieldMaskingConfig(first=["id"], second=["a", "b"]), context=context_of(("id", "a", "b")))
    first, second = masking(view_of(("id", "a", "b")), random_of())
    assert (set(first.hidden), set(second.hidden)) == ({"id"}, {"a", "b"})


def test_value_dropout_leaves_out_its_share_of_a_list_and_nothing_else():
    view = View(Batch({"tags": Column(torch.arange(4000), torch.arange(0, 4001, 40)), "id": Column(torch.arange(100))}))
    dropout = ValueDropout(ValueDropoutConfig(fields=["tags"], share=0.25), context=context_of(("id", "tags"), makes=1))
    (seen,), (again,) = dropout(view, random_of()), dropout(view, random_of(1))
    assert (set(seen.hidden_values), set(seen.hidden), seen.fill) == ({"tags"}, set(), "drop")
    assert abs(seen.hidden_values["tags"].float().mean().item() - 0.25) < 0.03
    assert not torch.equal(seen.hidden_values["tags"], again.hidden_values["tags"])
    single = ValueDropout(ValueDropoutConfig(fields=["id"]), context=context_of(("id", "tags"), makes=1))
    with pytest.raises(UsageError, match="field 'id' holds one value a row"):
        single(view, random_of())


def test_wrong_uses_are_told():
    with pytest.raises(UsageError, match="field 'colour' is not in the batches of table 'items', which hold a, b"):
        FieldMasking(FieldMaskingConfig(first=["colour"]), context=context_of(("a", "b"), makes=1))
    with pytest.raises(UsageError, match="needs at least two"):
        RandomMasking(RandomMaskingConfig(), context=context_of(("a",)))
    with pytest.raises(UsageError, match="makes two views, but 1"):
        RandomMasking(RandomMaskingConfig(), context=context_of(("a", "b"), makes=1))
