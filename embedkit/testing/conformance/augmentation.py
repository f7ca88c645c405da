"""What every augmentation must do. A plugin's test module subclasses ``AugmentationConformance`` and says how it is made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedkit.data.batch import Batch
from embedkit.data.columns import Column
from embedkit.schema import FieldSpec, Schema, Tower
from embedkit.views import Augmentation, AugmentationContext, Random, View

ROWS = 7


class AugmentationConformance:
    """Inherit, say how the augmentation is made, and let pytest run it."""

    makes = 2
    """How many views it makes."""

    @abstractmethod
    def augmentation(self, context: AugmentationContext) -> Augmentation:
        """A new augmentation for the fields of ``item_context``."""

    def make(self) -> Augmentation:
        """An augmentation for a table of five fields."""
        return self.augmentation(item_context(self.makes))

    def test_makes_what_it_says(self) -> None:
        """As many views as the run file names."""
        assert len(self.make()(item_view(), random_of(0))) == self.makes

    def test_the_generators_decide(self) -> None:
        """Equal generators give equal views; nothing else is random."""
        first, again = (_tensors(self.make()(item_view(), random_of(3))) for _ in range(2))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[name], again[name]) for name in first)

    def test_leaves_the_view_alone(self) -> None:
        """The view that it is made of is unchanged: other losses look at it."""
        view = item_view()
        before = {name: tensor.clone() for name, tensor in _tensors([view]).items()}
        self.make()(view, random_of(1))
        after = _tensors([view])
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_masks_fit_their_columns(self) -> None:
        """bool, one a row for whole values and one a value for single ones, of fields that the batch has."""
        for seed in range(10):
            for view in self.make()(item_view(), random_of(seed)):
                for name, mask in view.hidden.items():
                    assert mask.dtype == torch.bool
                    assert mask.shape == (len(view.batch.columns[name]),)
                for name, mask in view.hidden_values.items():
                    column = view.batch.columns[name]
                    assert column.ragged
                    assert mask.dtype == torch.bool
                    assert mask.shape == column.values.shape[:1]

    def test_keeps_something_visible(self) -> None:
        """No view hides every field of every row."""
        for seed in range(20):
            for view in self.make()(item_view(), random_of(seed)):
                hidden = [name for name in view.batch.columns if name in view.hidden and view.hidden[name].all()]
                assert len(hidden) < len(view.batch.columns)


def item_context(makes: int) -> AugmentationContext:
    """A table ``items`` with a key, two categories, a number and a list; ``brand`` and ``maker`` tell of each other."""
    types = {"id": "category", "brand": "category", "maker": "category", "price": "number", "tags": "categories"}
    fields = {name: FieldSpec(name, kind, "items", name, name, "key" if name == "id" else "feature") for name, kind in types.items()}
    schema = Schema(fields, {"item": Tower("item", tuple(fields), "items")}, {"items": "id"})

    def information(names: Sequence[str]) -> npt.NDArray[np.float64]:
        found = torch.full((len(names), len(names)), 0.1, dtype=torch.float64)
        for one, other in (("brand", "maker"), ("maker", "brand")):
            if one in names and other in names:
                found[names.index(one), names.index(other)] = 2.0
        return np.asarray(found.numpy(), dtype=np.float64)

    return AugmentationContext(schema, "items", tuple(fields), makes, information)


def item_view() -> View:
    """Seven rows of that table."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([0, 3, 1, 2, 5, 0, 4])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    columns = {
        "id": Column(torch.arange(1, ROWS + 1)),
        "brand": Column(torch.randint(0, 4, (ROWS,), generator=draw)),
        "maker": Column(torch.randint(0, 4, (ROWS,), generator=draw)),
        "price": Column(torch.rand(ROWS, generator=draw), None, torch.arange(ROWS) != 2),
        "tags": Column(torch.randint(0, 9, (int(offsets[-1]),), generator=draw), offsets),
    }
    return View(Batch(columns, {"items": torch.arange(ROWS)}))


def random_of(seed: int) -> Random:
    """The generators of one step."""
    return Random(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1))


def _tensors(views: Sequence[View]) -> dict[str, Tensor]:
    """Every tensor of some views by a name of its own."""
    found: dict[str, Tensor] = {}
    for i, view in enumerate(views):
        for name, column in view.batch.columns.items():
            parts = {"values": column.values, "offsets": column.offsets, "present": column.present}
            found |= {f"{i}.{name}.{part}": tensor for part, tensor in parts.items() if tensor is not None}
        for kind, tensors in (("hidden", view.hidden), ("hidden_values", view.hidden_values), ("params", view.params)):
            found |= {f"{i}.{kind}.{name}": tensor for name, tensor in tensors.items()}
    return found
