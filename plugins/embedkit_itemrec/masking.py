"""Views that hide fields: complementary halves, random or by mutual information (Yao et al. 2021, section 3.3), or as named."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from embedkit.errors import UsageError
from embedkit.views import Augmentation, AugmentationContext, Random, View
from embedkit_itemrec.configs import FieldMaskingConfig, MaskingConfig, ValueDropoutConfig


def hide(view: View, fields: Iterable[str]) -> View:
    """The view with every value of ``fields`` hidden."""
    hidden = dict(view.hidden)
    for name in fields:
        column = view.batch.columns[name]
        hidden[name] = torch.ones(len(column), dtype=torch.bool, device=column.values.device)
    return replace(view, hidden=hidden)


class ComplementaryMasking(Augmentation):
    """Deals the fields into two sets, one pattern a batch; the first view hides one of them, the second view the other.

    The table's key stays in the first view (decision 15), and no view is left without a visible field. Then single values of list
    fields are left out at random, in each view on its own.
    """

    config: MaskingConfig

    def __init__(self, config: MaskingConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        name = type(self).__name__
        if context.makes != 2:
            raise UsageError(f"{name} makes two views, but {context.makes} are named in 'makes'")
        fields = self._chosen()
        named = set(config.fields or ())
        specs = context.schema.fields
        self.keys = [f for f in fields if specs[f].role == "key" and f not in named]
        self.free = [f for f in fields if specs[f].type == "text" and f not in named and f not in self.keys]
        self.dealt = [f for f in fields if f not in self.keys and f not in self.free]
        if len(fields) < 2:
            raise UsageError(
                f"{name} deals fields into two halves and needs at least two; the batches of table '{context.table}' hold "
                f"{', '.join(fields) or 'none'}: add fields to a tower, or use another augmentation"
            )

    def _chosen(self) -> list[str]:
        context = self.context
        if self.config.fields is not None:
            wanted = list(self.config.fields)
        elif self.config.tower is not None:
            if self.config.tower not in context.schema.towers:
                raise UsageError(f"'{self.config.tower}' is no tower; the towers are {', '.join(context.schema.towers)}")
            wanted = list(context.schema.towers[self.config.tower].fields)
        else:
            wanted = [f for f in context.fields if context.schema.fields[f].table == context.table]
        require_fields(wanted, context)
        return wanted

    @abstractmethod
    def draw(self, shared: Generator) -> set[str]:
        """The dealt fields that the first view hides."""

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """Two views."""
        first, second = self._sides(random.shared)
        return [self._dropped(hide(view, fields), random.local) for fields in (first, second)]

    def _sides(self, shared: Generator) -> tuple[list[str], list[str]]:
        """What the first and the second view hide: every field is in one of the two."""
        masked = self.draw(shared) if self.dealt else set()
        coins = torch.rand(len(self.free), generator=shared).tolist()
        masked |= {name for name, coin in zip(self.free, coins, strict=True) if coin < 0.5}
        order = self.free + self.dealt
        first = [name for name in order if name in masked]
        second = self.keys + [name for name in order if name not in masked]
        if not second:
            second.append(first.pop())
        if not first:
            first.append(second.pop())
        return first, second

    def _dropped(self, view: View, local: Generator) -> View:
        """The view with a random share of the single values of its visible list fields hidden too."""
        share = self.config.value_dropout
        if share == 0.0:
            return view
        values = dict(view.hidden_values)
        for name in (*self.keys, *self.free, *self.dealt):
            column = view.batch.columns[name]
            if column.ragged and name not in view.hidden:
                coins = _coins(column.values, share, local)
                values[name] = coins if name not in values else values[name] | coins
        return replace(view, hidden_values=values)


class RandomMasking(ComplementaryMasking):
    """RFM: a random half of the fields, drawn anew for each batch."""

    def draw(self, shared: Generator) -> set[str]:
        """floor(k/2) of the k dealt fields, at least one."""
        order = torch.randperm(len(self.dealt), generator=shared).tolist()
        return {self.dealt[i] for i in order[: max(1, len(order) // 2)]}


class CorrelatedMasking(ComplementaryMasking):
    """CFM: a seed field drawn for each batch, with the floor(k/2) fields of greatest mutual information with it."""

    def __init__(self, config: MaskingConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        k = len(self.dealt)
        self.partners: list[list[int]] = [[] for _ in range(k)]
        if k > 1:
            information = context.mutual_information(self.dealt)
            for seed in range(k):
                order = sorted((i for i in range(k) if i != seed), key=lambda i: (-float(information[seed, i]), i))
                self.partners[seed] = order[: k // 2]

    def draw(self, shared: Generator) -> set[str]:
        """The seed and its partners: floor(k/2) + 1 of the k dealt fields."""
        seed = int(torch.randint(len(self.dealt), (), generator=shared))
        return {self.dealt[i] for i in (seed, *self.partners[seed])}


class FieldMasking(Augmentation):
    """Hides the same fields in every batch: for towers that must also work from part of their fields, such as a search by text."""

    config: FieldMaskingConfig

    def __init__(self, config: FieldMaskingConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        self.patterns = [config.first] if config.second is None else [config.first, config.second]
        if context.makes != len(self.patterns):
            raise UsageError(f"field_masking makes {len(self.patterns)} views as its options say, but {context.makes} are named in 'makes'")
        for pattern in self.patterns:
            require_fields(pattern, context)

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """One view a pattern."""
        return [hide(view, pattern) for pattern in self.patterns]


class ValueDropout(Augmentation):
    """Leaves out single values of ragged fields at random: a history seen in part, as denoising autoencoders of user histories see it
    (Liang et al. 2018, Mult-DAE, section 2.3; from memory).
    """

    config: ValueDropoutConfig

    def __init__(self, config: ValueDropoutConfig, *, context: AugmentationContext) -> None:
        super().__init__(config, context=context)
        if context.makes != 1:
            raise UsageError(f"value_dropout makes one view, but {context.makes} are named in 'makes'")
        require_fields(config.fields, context)

    def __call__(self, view: View, random: Random) -> Sequence[View]:
        """The view with the drawn values dropped, not replaced.

        Raises:
            UsageError: a field holds one value a row.
        """
        values = dict(view.hidden_values)
        for name in self.config.fields:
            column = view.batch.columns[name]
            if not column.ragged:
                raise UsageError(f"value_dropout: field '{name}' holds one value a row; name list fields or histories")
            coins = _coins(column.values, self.config.share, random.local)
            values[name] = coins if name not in values else values[name] | coins
        return [replace(view, hidden_values=values, fill="drop")]


def require_fields(names: Iterable[str], context: AugmentationContext) -> None:
    """Raise ``UsageError`` unless the stream's batches hold all of these fields."""
    for name in names:
        if name not in context.fields:
            raise UsageError(
                f"field '{name}' is not in the batches of table '{context.table}', which hold {', '.join(context.fields)}: "
                "no tower that a loss asks of this stream reads it"
            )


def _coins(like: Tensor, share: float, local: Generator) -> Tensor:
    """bool [T], True with probability ``share``. Drawn on the CPU, so that every device sees one sequence."""
    return (torch.rand(like.shape[0], generator=local) < share).to(like.device)
