"""IndexConfig: the options that every index has, whatever its backend. No torch, no numpy."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from embedkit.component import Config


class IndexConfig(Config):
    """Base of a backend's options (the ``[index]`` section of a run file).

    With ``prefix`` the backend searches the first numbers of each vector only, and the best ``rescore`` candidates are ordered by the
    full vectors (Matryoshka representation learning, Kusupati et al. 2022, section 4.3.1: adaptive retrieval).

    Attributes:
        searching: options that only a search reads; an index is opened with others of them as it stands. A backend adds its own.
    """

    searching: ClassVar[frozenset[str]] = frozenset({"rescore"})

    prefix: int | None = Field(None, ge=1)
    """Search the first so many numbers of each vector (one of the head's prefixes); all of them when left out."""
    rescore: int | None = Field(None, ge=1)
    """Candidates that are ordered again by full vectors; with a prefix and no value: 200."""
