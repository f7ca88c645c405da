"""Dataset: the base of a data set that `embedkit data` can list, describe and prepare. No torch, no polars at import."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.component import Component


@dataclass(frozen=True)
class Card:
    """What a person must know before using a data set.

    Attributes:
        name: registered name.
        title: one line.
        description: a paragraph: what the rows are, how they were made, what to beware of.
        licence: as the source states it.
        citation: how to cite it.
        source: address of the original files, or how they are built.
        checksums: file name or Python version → digest with its algorithm as prefix (``sha256:…``), of what ``prepare`` reads or writes.
        tables: table name → what one row is.
        run_file: file name of the starter run file that ``prepare`` writes beside the tables.
    """

    name: str
    title: str
    description: str
    licence: str
    citation: str
    source: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    run_file: str = "run.toml"


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` wrote: table name → (file, rows), and the starter run file."""

    tables: Mapping[str, tuple[Path, int]]
    run_file: Path


class Dataset(Component):
    """A data set. Registered with ``register_datasets``; ``config`` and ``context`` are empty."""

    @property
    @abstractmethod
    def card(self) -> Card:
        """The data set's card."""

    @abstractmethod
    def prepare(self, out: Path, *, prepared: Path | None = None, log: Callable[[str], Any] = lambda line: None) -> Prepared:
        """Write the tables as Parquet and the starter run file into ``out`` (made if missing; files are written beside and renamed).

        Args:
            out: target folder.
            prepared: folder with already prepared copies (``--from``), used instead of a download where the data set allows it.
            log: called with one line a step.

        Raises:
            DataError: a checksum differs, a file is missing or cannot be had, with what to do.
        """
