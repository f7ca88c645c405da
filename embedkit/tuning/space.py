"""Space: which options of a run file are tried, and with which values. No torch and no optuna here."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from embedkit.component import Config
from embedkit.config.load import read_toml
from embedkit.config.messages import Problems, problems, short
from embedkit.errors import UsageError

FIXED = {
    "format": "says how the file is read",
    "name": "changes nothing but the folder's name",
    "seed": "is the same in all trials, so that none is chosen for its luck",
    "tables": "decides what is measured, so trials could not be compared",
    "evaluate": "is what trials are judged by",
    "evaluate_on": "says what is measured after training, and trials are not",
    "index": "is built after training, so no trial would differ by it",
    "plugins": "says what must be installed",
}
"""Parts of a run file that no trial may change, and why."""

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_GRID_MOST = 100_000


class Range(Config):
    """Numbers from ``low`` to ``high``, both of them included."""

    low: float = Field(allow_inf_nan=False)
    """Least value."""
    high: float = Field(allow_inf_nan=False)
    """Greatest value."""
    log: bool = False
    """Draw the logarithm evenly: for rates and widths."""
    whole: bool = Field(False, alias="int")
    """Whole numbers only; so it is, too, where low, high and step are written as whole numbers."""
    step: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Take only low, low + step, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, data: Any) -> Any:
        """``{ low = 1, high = 8 }`` are whole numbers, ``{ low = 1.0, high = 8.0 }`` are not."""
        if isinstance(data, Mapping) and not {"int", "whole"} & set(data):
            bounds = [data[key] for key in ("low", "high", "step") if key in data]
            if all(isinstance(one, int) and not isinstance(one, bool) for one in bounds):
                return {**data, "int": True}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} has no logarithm; start above zero, or leave log out")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together; leave one of them out")
        if self.whole and not all(one is None or float(one).is_integer() for one in (self.low, self.high, self.step)):
            raise ValueError("int = true wants whole numbers for low, high and step")
        return self

    def number(self, value: float) -> float | int:
        """A value as it is written: whole where the range is."""
        return round(value) if self.whole else float(value)

    def probes(self) -> list[float | int]:
        """Both ends and something between: where they are valid, so are the others."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.step is not None:
            middle = self.low + self.step * round((middle - self.low) / self.step)
        return list(dict.fromkeys(self.number(one) for one in (self.low, middle, self.high)))

    def steps(self) -> list[float | int] | None:
        """Every value, where there are only so many; None for a continuum."""
        step = self.step if self.step is not None else 1.0 if self.whole and not self.log else None
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return [self.number(self.low + i * step) for i in range(min(count, _GRID_MOST + 1))]


@dataclass(frozen=True)
class Space:
    """Option (key path as in ``--set``) → a range, or the values to try."""

    options: Mapping[str, Range | tuple[Any, ...]]
    where: str = "space"

    def probes(self) -> Iterator[tuple[str, Any]]:
        """(option, value): the values that are checked before anything is trained."""
        for key, option in self.options.items():
            for value in option.probes() if isinstance(option, Range) else option:
                yield key, value

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of values, the last option changing fastest.

        Raises:
            UsageError: a range has no steps, or there are too many combinations.
        """
        values: dict[str, list[Any]] = {}
        for key, option in self.options.items():
            steps = option.steps() if isinstance(option, Range) else list(option)
            if steps is None:
                raise UsageError(f"{self.where}: {key}: a grid wants a list of values or a range with a step; give one, or use tpe")
            values[key] = steps
        if math.prod(len(one) for one in values.values()) > _GRID_MOST:
            raise UsageError(f"{self.where}: the grid has more than {_GRID_MOST:,} combinations; use sampler random or tpe")
        return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict: what a tuning remembers of its space."""
        return {
            key: option.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(option, Range) else list(option)
            for key, option in self.options.items()
        }


def read_space(space: Path | str | Mapping[str, Any]) -> Space:
    """Read a space from a TOML file, or from its contents.

    Raises:
        UsageError: the file cannot be read; a line for everything that is wrong in it.
    """
    where = str(space) if isinstance(space, (str, Path)) else "space"
    data = read_toml(Path(space)) if isinstance(space, (str, Path)) else space
    found = Problems(where)
    options: dict[str, Range | tuple[Any, ...]] = {}
    for key, value in _leaves(data):
        if key.partition(".")[0] in FIXED:
            part = key.partition(".")[0]
            found.add(key, f"'{part}' cannot be tuned: it {FIXED[part]}")
        elif key in options:
            found.add(key, "stands here twice")
        elif isinstance(value, Mapping):
            try:
                options[key] = Range.model_validate(dict(value))
            except ValidationError as error:
                found.lines += problems(error, Range, where=f"{where}: {key}")
        elif not isinstance(value, list):
            found.add(key, f"found {short(value)}, wanted a list of values such as [32, 64], or {{ low = 1e-4, high = 1e-2, log = true }}")
        elif not value:
            found.add(key, "the list is empty; name the values to try")
        else:
            try:
                if len({toml_value(one) for one in value}) < len(value):
                    found.add(key, "the list holds a value twice")
                options[key] = tuple(value)
            except UsageError as error:
                found.add(key, str(error))
    found.raise_any()
    if not options:
        raise UsageError(
            f'{where}: names no option; write lines such as "stages.0.optimizer.lr" = {{ low = 1e-4, high = 1e-2, log = true }}'
        )
    return Space(options, where)


def _leaves(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Key paths and what stands under them. ``a.b = […]`` and ``"a.b" = […]`` are the same at the top."""
    for key, value in data.items():
        here = key if not path or _BARE.match(key) else json.dumps(key, ensure_ascii=False)
        full = f"{path}.{here}" if path else here
        if isinstance(value, Mapping) and value and not {"low", "high"} & set(value):
            yield from _leaves(value, full)
        else:
            yield full, value


def toml_value(value: Any) -> str:
    """A value as it is written in a line of TOML, and as ``--set`` reads it.

    Raises:
        UsageError: it is none that a run file holds (a date, for one).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key if _BARE.match(key) else toml_value(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    raise UsageError(f"{value!r} is no value that can be tried; write numbers, words, true or false, lists or tables")
