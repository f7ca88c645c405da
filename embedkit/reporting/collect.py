"""What a run's folder says of it: curves, figures with intervals, and what its bundle holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from embedkit.bundle import Bundle, load_bundle
from embedkit.errors import BundleError
from embedkit.evaluate.base import Estimate
from embedkit.evaluate.run import read_evaluation
from embedkit.reporting.svg import Mark
from embedkit.runs import RunFolder
from embedkit.training.memory import parameter_bytes
from embedkit.training.report import MetricsFile

if TYPE_CHECKING:
    from embedkit.registry import Registry


@dataclass(frozen=True, eq=False)
class Told:
    """One run as the report sees it.

    Attributes:
        folder: the run's folder.
        split: whose figures are shown.
        estimates: of that split; those over nothing are left out.
        options: the options of its first evaluator.
        bundle: what it trained; None where there is none.
        lacking: why there is no bundle.
    """

    folder: RunFolder
    split: str
    estimates: tuple[Estimate, ...]
    options: Mapping[str, Any]
    bundle: Bundle | None
    lacking: str = ""

    @classmethod
    def of(cls, folder: RunFolder, split: str, registry: Registry) -> Told:
        """Read a run's folder.

        Raises:
            BundleError: its evaluation is damaged.
            PluginError: a component of its bundle is not here.
        """
        estimates: tuple[Estimate, ...] = ()
        options: Mapping[str, Any] = {}
        if folder.evaluation.is_file():
            found = read_evaluation(folder)
            estimates = tuple(_estimate(one) for one in found["estimates"] if one["split"] == split and _finite(one["value"]))
            asked = found["splits"].get(split, {}).get("evaluators", {})
            options = next((one.get("options", {}) for one in asked.values()), {})
        try:
            return cls(folder, split, estimates, options, load_bundle(folder.bundle, registry))
        except BundleError as error:
            return cls(folder, split, estimates, options, None, str(error))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.name

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl``."""
        return MetricsFile(self.folder.metrics).records()

    @property
    def leading(self) -> str | None:
        """The first figure that has an interval: what charts of one metric show."""
        return next((one.metric for one in self.estimates if one.low is not None), None)

    @property
    def models(self) -> list[str]:
        """``model`` and its baselines, in their order."""
        return list(dict.fromkeys(one.model for one in self.estimates))

    @property
    def table_bytes(self) -> int | None:
        """Bytes of the embedding tables; None without a bundle."""
        return None if self.bundle is None else parameter_bytes(self.bundle.model.table_parameters())

    def mark(self, metric: str, *, model: str = "model", slice_: str | None = None, prefix: int | None = None) -> Mark | None:
        """One figure of the first evaluator that reports it."""
        for one in self.estimates:
            if (one.metric, one.model, one.slice, one.prefix) == (metric, model, slice_, prefix):
                return Mark(one.value, one.low, one.high)
        return None


def _estimate(one: Mapping[str, Any]) -> Estimate:
    return Estimate(**{key: value for key, value in one.items() if key != "split"})


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
