"""What a probe is asked: train rows, rows to choose a strength on, rows that are asked, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from embedkit.data.splits import NAMES
from embedkit.errors import DataError, UsageError
from embedkit.evaluate.base import EvaluateContext
from embedkit.evaluate.metrics import Bools, Floats, Ints
from embedkit.training.compute import derive_seed
from embedkit_probes.configs import ProbeConfig

if TYPE_CHECKING:
    from embedkit.data.store import Store
    from embedkit.schema import FieldSpec

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float64]
_AT_ONCE = 65_536
_HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Task:
    """Rows with a label of the tower's table.

    Attributes:
        table: the tower's table.
        train: rows to fit on, with ``y_train``.
        tune: valid rows to choose a strength on, with ``y_tune``.
        asked: rows that are reported, with ``y_asked``.
        held_out: bool [train rows], True for a fifth of them that the strength is chosen on in place of ``tune``, which is empty then:
            when the split that is asked is the valid one, or when there are no valid rows.
        classes: number of classes; 0 for a regression. Labels are 0 to classes - 1; -1 is a class without a train row, which counts as a
            miss for every model.
    """

    table: str
    train: Ints
    tune: Ints
    asked: Ints
    y_train: Labels
    y_tune: Labels
    y_asked: Labels
    held_out: Bools
    classes: int

    @classmethod
    def of(cls, config: ProbeConfig, context: EvaluateContext) -> Task:
        """Read rows and labels.

        Raises:
            UsageError: the label is none, or not of the task's type.
            DataError: a split has no labelled rows, or the label is the same everywhere.
        """
        store = context.store
        table = store.schema.towers[config.tower].table
        spec = _label(config, store, table)
        split = np.asarray(store.tables[table].split)
        rows: dict[str, Ints] = {}
        y: dict[str, Labels] = {}
        for name, code in NAMES.items():
            found = np.flatnonzero(split == code).astype(np.int64)
            kept, labels = _read(store, table, spec, found, config.task)
            rows[name], y[name] = found[kept], labels[kept]
        for name in ("train", context.split):
            if not len(rows[name]):
                what = f"has no {name} row with a label '{spec.name}'"
                raise DataError(f"evaluate: table '{table}' {what}; give [tables.{table}] a split with {name} rows")
        chosen = {"train": _some(len(rows["train"]), config.max_train, context, "train")}
        chosen[context.split] = _some(len(rows[context.split]), context.max_queries, context, "asked")
        for name, at in chosen.items():
            rows[name], y[name] = rows[name][at], y[name][at]
        classes = 0
        if config.task == "classification":
            classes, y = _classes(y, spec, table)
        held_out = np.zeros(len(rows["train"]), dtype=bool)
        if context.split == "valid" or not len(rows["valid"]):
            held_out[_some(len(held_out), max(1, len(held_out) // _HELD_OUT), context, "held out")] = True
            rows["tune"], y["tune"] = rows["valid"][:0], y["valid"][:0]
        else:
            rows["tune"], y["tune"] = rows["valid"], y["valid"]
        train, tune, asked = (rows[name] for name in ("train", "tune", context.split))
        return cls(table, train, tune, asked, y["train"], y["tune"], y[context.split], held_out, classes)


def _label(config: ProbeConfig, store: Store, table: str) -> FieldSpec:
    spec = store.schema.fields[config.label]
    if spec.role != "label":
        raise UsageError(f"evaluate: label = '{spec.name}' has role {spec.role}; set fields.{spec.name}.role = 'label'")
    reach = {table, *store.joins.get(table, {})}
    if spec.table not in reach:
        raise UsageError(
            f"evaluate: label = '{spec.name}' stands in table '{spec.table}', which rows of tower '{config.tower}' ('{table}') do not reach"
        )
    wanted = "category" if config.task == "classification" else "number"
    if spec.type != wanted:
        other = "regression" if spec.type == "number" else "classification"
        hint = f"set task = '{other}'" if spec.type in ("number", "category") else "labels are categories or numbers"
        raise UsageError(f"evaluate: label = '{spec.name}' is of type {spec.type}, and task = '{config.task}' wants a {wanted}: {hint}")
    return spec


def _read(store: Store, table: str, spec: FieldSpec, rows: Ints, task: str) -> tuple[Bools, Labels]:
    """Which rows have a label, and the labels: codes of a category, or numbers in their own unit."""
    there: list[Bools] = [np.zeros(0, bool)]
    found: list[Labels] = [np.zeros(0, np.int64) if task == "classification" else np.zeros(0, np.float64)]
    numbers = None if task == "classification" else _numbers(store, spec)
    for at in range(0, len(rows), _AT_ONCE):
        batch = store.batch({table: torch.from_numpy(rows[at : at + _AT_ONCE])}, ())
        if numbers is not None:
            number = batch.rows[spec.table].numpy()
            values = np.where(number >= 0, numbers[number], np.nan)
            there.append(~np.isnan(values))
            found.append(values)
        else:
            codes = batch.labels[spec.name]
            present = batch.extras.get(f"{spec.name}.present", torch.ones(len(codes), dtype=torch.bool))
            there.append(present.numpy())
            found.append(codes.numpy())
    labels: Labels = np.concatenate(found)
    return np.concatenate(there), labels


def _numbers(store: Store, spec: FieldSpec) -> Floats:
    """The column as it stands in the table: its codec standardises and cuts, which would hide large errors."""
    column = store.tables[spec.table].column(spec.column or spec.name)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _some(count: int, limit: int | None, context: EvaluateContext, what: str) -> Ints:
    """At most ``limit`` positions, the same ones every time, ascending."""
    if limit is None or count <= limit:
        return np.arange(count, dtype=np.int64)
    chosen = np.random.default_rng(derive_seed(context.seed, "probe", what)).choice(count, limit, replace=False)
    return np.sort(chosen).astype(np.int64)


def _classes(y: dict[str, Labels], spec: FieldSpec, table: str) -> tuple[int, dict[str, Labels]]:
    """Codes to classes: those of the train rows, in the order of their codes."""
    known = np.unique(y["train"])
    if len(known) < 2:
        raise DataError(
            f"evaluate: label '{spec.name}' has one value only among the train rows of table '{table}', so nothing can be learned"
        )
    found: dict[str, Labels] = {}
    for name, codes in y.items():
        at = np.searchsorted(known, codes).clip(max=len(known) - 1)
        found[name] = np.where(known[at] == codes, at, -1).astype(np.int64)
    return len(known), found
