"""Searcher: questions by vector, id, text, row or history, answered by an index and the bundle that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedkit.bundle import Bundle, load_bundle
from embedkit.errors import BundleError, UsageError
from embedkit.index.base import Vectors
from embedkit.index.bundle import IndexBundle
from embedkit.index.exact import Exclude
from embedkit.index.publish import current_generation
from embedkit.schema import FieldSpec
from embedkit.serve.frames import Frame, column_name, encode_rows, to_arrow

if TYPE_CHECKING:
    from embedkit.registry import Registry


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Answers to Q questions, best first.

    Attributes:
        ids: [Q, K] in the type of the index's ids (objects for text). None, in an array of objects, where a question
            has fewer answers.
        scores: float32 [Q, K], cosine or inner product; -inf where there is no answer.
        generation: of the index that answered.
    """

    ids: npt.NDArray[Any]
    scores: Vectors
    generation: str


class Searcher:
    """Searches one index.

    Vectors of another space are refused: the bundle's tower that the index stands for must have the index's space id, and questions may
    be encoded by any tower of that bundle.

    Args:
        index: opened index.
        bundle: for questions that must be encoded; None searches by vector and by id only.
        registry: for ``refresh``.
        options: that the index was opened with, for ``refresh``.

    Raises:
        SpaceMismatch: the bundle is not the one that made the vectors.
    """

    def __init__(
        self,
        index: IndexBundle,
        bundle: Bundle | None = None,
        *,
        registry: Registry | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.index = index
        self._options = options
        self._registry = registry
        self._bundle = bundle
        if bundle is not None:
            check_space(index, bundle)

    @classmethod
    def open(
        cls,
        path: str | Path,
        registry: Registry,
        *,
        bundle: str | Path | Bundle | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Searcher:
        """Open the current generation. The bundle it names is loaded when a question first needs it, unless one is given.

        Raises:
            BundleError: there is no index, or it is damaged.
            SpaceMismatch: the given bundle is not the one that made the vectors.
            UsageError: an option is not one that a search may change; see ``IndexBundle.open``.
        """
        index = IndexBundle.open(path, registry, options=options)
        loaded = bundle if isinstance(bundle, Bundle) or bundle is None else load_bundle(bundle, registry)
        return cls(index, loaded, registry=registry, options=options)

    @property
    def bundle(self) -> Bundle:
        """The bundle that encodes questions.

        Raises:
            BundleError: the bundle that the index names is not there.
            SpaceMismatch: it was trained anew since.
        """
        if self._bundle is None:
            if self._registry is None:
                raise UsageError("this searcher was opened without a bundle, so it answers questions by vector and by id only")
            try:
                bundle = load_bundle(self.index.bundle_path, self._registry)
            except BundleError as error:
                raise BundleError(f"{error} (the index {self.index.path} was made with it; name it if it was moved)") from error
            check_space(self.index, bundle)
            self._bundle = bundle
        return self._bundle

    @property
    def registry(self) -> Registry:
        """The registry that the index was opened with.

        Raises:
            UsageError: it was made without one.
        """
        if self._registry is None:
            raise UsageError("this searcher was made without a registry; open it with `embedkit.open_index`")
        return self._registry

    def refresh(self) -> bool:
        """Take a newer generation if there is one: it is loaded aside, then one reference is swapped. Says whether it did."""
        if self._registry is None or current_generation(self.index.path) == self.index.generation:
            return False
        index = IndexBundle.open(self.index.path, self._registry, options=self._options)
        if self._bundle is not None:
            check_space(index, self._bundle)
        self.index = index
        return True

    # ------------------------------------------------------------------ questions

    def search(self, queries: Vectors | Frame, k: int = 10, *, where: str | None = None, tower: str | None = None) -> Neighbours:
        """Neighbours of vectors (a numeric array [Q, E]) or of rows (any frame; columns may be left out).

        Args:
            queries: what to search for.
            k: neighbours a question.
            where: predicate in SQL over the columns that the index keeps.
            tower: that encodes rows; found from their columns when left out.

        Raises:
            UsageError: k is larger than the index, a column or the predicate is unknown, or vectors are of another
                width.
            DataError: a value is not what its field must be.
            SpaceMismatch: the bundle is not the one that made the vectors.
        """
        if isinstance(queries, np.ndarray):
            return self.by_vectors(queries, k, where=where)
        return self.by_rows(queries, k, where=where, tower=tower)

    def by_vectors(self, vectors: npt.ArrayLike, k: int = 10, *, where: str | None = None, exclude: Exclude | None = None) -> Neighbours:
        """Neighbours of vectors [Q, E] (or one vector [E]) of the index's space or family."""
        queries = np.asarray(vectors, dtype=np.float32)
        queries = queries[None] if queries.ndim == 1 else queries
        index = self.index
        rows, scores = index.search(queries, k, allowed=None if where is None else index.attributes.where(where), exclude=exclude)
        return Neighbours(index.ids.take(rows), scores, index.generation)

    def by_ids(self, ids: Sequence[Any], k: int = 10, *, where: str | None = None, include_self: bool = False) -> Neighbours:
        """Neighbours of rows of the index, themselves left out.

        Raises:
            UsageError: an id is unknown (with the nearest ones there are), or k is larger than the rest of the index.
        """
        index = self.index
        rows = index.ids.rows_or_error(ids, where=f"the index {index.path}")
        others = index.rows - (0 if include_self else 1)
        if k > others:
            raise UsageError(f"k = {k} is larger than the rest of the index, which holds {others} other rows; ask for at most {others}")
        exclude = None if include_self else Exclude(rows, np.arange(len(rows) + 1))
        return self.by_vectors(np.asarray(index.vectors[rows]), k, where=where, exclude=exclude)

    def by_text(
        self, texts: str | Sequence[str], k: int = 10, *, where: str | None = None, tower: str | None = None, field: str | None = None
    ) -> Neighbours:
        """Neighbours of texts: rows of which only the tower's text fields (or the one named) are known.

        Raises:
            UsageError: a text is empty, or the tower reads no text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not all(text.strip() for text in texts):
            raise UsageError("the text to search for is empty")
        tower = self.bundle.tower(tower or self.index.space.tower)
        columns = [column_name(spec) for spec in _of_type(self.bundle, tower, "text") if field in (None, spec.name)]
        if not columns:
            what = "reads no text" if field is None else f"has no text field '{field}'"
            raise UsageError(f"tower '{tower}' {what}; search by id or by a row of field values instead")
        return self.by_rows(dict.fromkeys(columns, texts), k, where=where, tower=tower)

    def by_rows(self, rows: Frame, k: int = 10, *, where: str | None = None, tower: str | None = None) -> Neighbours:
        """Neighbours of rows of field values; fields whose columns they lack are unknown, which is not the same as missing.

        Raises:
            UsageError: a column is unknown. DataError: a value is not what its field must be.
        """
        table = to_arrow(rows)
        tower = self.bundle.tower(tower) if tower else self._tower_of(table.column_names)
        return self.by_vectors(encode_rows(self.bundle, tower, table, partial=True), k, where=where)

    def by_history(
        self,
        histories: Sequence[Sequence[Any]],
        k: int = 10,
        *,
        where: str | None = None,
        tower: str | None = None,
        exclude_seen: bool = False,
    ) -> Neighbours:
        """What follows histories of ids, oldest first: the tower with sequences encodes them, its other fields are
        unknown.

        Raises:
            UsageError: an id is unknown, a history is empty, or no tower (or more than one) reads a sequence of the index's ids.
        """
        rows = [self.index.ids.rows_or_error(list(h), where=f"the index {self.index.path}") for h in histories]
        if not all(len(r) for r in rows):
            raise UsageError("a history to search with is empty")
        tower, specs = self._sequences(tower)
        values = pa.array([self.index.ids.take(r).tolist() for r in rows])
        table = pa.table({column_name(spec): values for spec in specs})
        offsets = np.cumsum([0, *(len(r) for r in rows)])
        exclude = Exclude(np.concatenate(rows), offsets) if exclude_seen and rows else None
        return self.by_vectors(encode_rows(self.bundle, tower, table, partial=True), k, where=where, exclude=exclude)

    def attributes(self, ids: Sequence[Any], columns: Sequence[str] | None = None) -> pa.Table:
        """The kept columns of some ids, a row each, in that order.

        Raises:
            UsageError: an id is unknown, or the index keeps no such column.
        """
        rows = self.index.ids.rows_or_error(ids, where=f"the index {self.index.path}")
        return self.index.attributes.take(rows, columns)

    # ------------------------------------------------------------------ towers

    def _tower_of(self, columns: Sequence[str]) -> str:
        """The index's tower, unless the columns are another's alone."""
        towers, own = self.bundle.schema.towers, self.index.space.tower

        def reads(tower: str) -> bool:
            return all(name in {column_name(spec) for spec in self.bundle.schema.tower_fields(tower)} for name in columns)

        fitting = [tower for tower in towers if reads(tower)]
        return fitting[0] if len(fitting) == 1 and own not in fitting else own

    def _sequences(self, tower: str | None) -> tuple[str, list[FieldSpec]]:
        """The tower that reads histories, and its sequence fields: each keeps as much of a history as it can hold."""
        towers = [self.bundle.tower(tower)] if tower else list(self.bundle.schema.towers)
        found = {name: specs for name in towers if (specs := _of_type(self.bundle, name, "sequence"))}
        if len(found) != 1:
            listed = ", ".join(found) or "none"
            raise UsageError(f"{self.bundle.path}: exactly one tower must read a history, there are: {listed}; name the tower")
        return next(iter(found.items()))


def _of_type(bundle: Bundle, tower: str, kind: str) -> list[FieldSpec]:
    """Fields of a tower with a registered type, bare or qualified."""
    return [spec for spec in bundle.schema.tower_fields(tower) if spec.type.rpartition(":")[2] == kind]


def check_space(index: IndexBundle, bundle: Bundle) -> None:
    """Raise ``SpaceMismatch`` unless the bundle's tower gives vectors of the index's space."""
    space = bundle.spaces.get(index.space.tower) or next(iter(bundle.spaces.values()))
    space.require_same(index.space, here=f"bundle {bundle.path}", there=f"index {index.path}")
