"""Codecs: the fitted codecs of all fields and the vocabularies of all domains, as one value that a bundle carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from embedkit.config.fields import VocabularyOptions
from embedkit.config.plan import ModelSpec, Part
from embedkit.data.batch import Batch
from embedkit.data.codec import BadValue, Codec, CodecContext, FieldStats
from embedkit.data.vocabulary import Vocabulary, VocabularyBuilder
from embedkit.errors import BundleError, DataError, UsageError
from embedkit.schema import FieldSpec
from embedkit.space import canonical_json, digest

Source = Callable[[FieldSpec], Iterable[pa.Array]]
TrainPlace = Callable[[FieldSpec, int], str]
"""Where the n-th train value of a field stands, in words."""

"""Yields the train values of a field, array by array in the order of the table's units; may be called once a field."""

_FILE = "codecs.json"
_FORMAT = 1


@dataclass(frozen=True)
class Missing:
    """What was not there: in the ``rows`` that fitting saw, and (``unknown``, ``dropped``) in everything encoded since.

    ``missing`` rows had no value; ``dropped`` members of lists were null; ``unknown`` values have no code of their own.
    """

    rows: int
    missing: int
    dropped: int
    unknown: int

    def __str__(self) -> str:
        share = f" ({self.missing / self.rows:.1%})" if self.rows else ""
        words = [f"{self.missing:,} of {self.rows:,} missing{share}"] if self.missing else []
        words += [f"{self.dropped:,} empty members of lists left out"] if self.dropped else []
        words += [f"{self.unknown:,} unknown values"] if self.unknown else []
        return ", ".join(words) or "complete"


class Codecs(Mapping[str, Codec]):
    """Field → codec. Made by ``create`` and ``fit``, or by ``load``.

    Attributes:
        vocabularies: domain → vocabulary, for domains that have one.
    """

    def __init__(self, model: ModelSpec, codecs: Mapping[str, Codec], vocabularies: Mapping[str, Vocabulary]) -> None:
        self._model = model
        self._codecs = dict(codecs)
        self.vocabularies = dict(vocabularies)
        self._train_place: TrainPlace | None = None

    @classmethod
    def create(cls, model: ModelSpec) -> Codecs:
        """Unfitted codecs for every field of a model."""
        codecs = {name: _create(part, model.schema.fields[name]) for name, part in model.field_types.items()}
        return cls(model, codecs, {})

    def __getitem__(self, name: str) -> Codec:
        return self._codecs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._codecs)

    def __len__(self) -> int:
        return len(self._codecs)

    # ------------------------------------------------------------------ fitting

    def fit(self, source: Source, *, start: Codecs | None = None, place: TrainPlace | None = None) -> None:
        """Fit every codec on train values, streaming; one pass a field.

        Args:
            source: the values of a field; nothing for a field that the table's relations make (a history).
            start: warm start. Codecs of fields that it has too, with the same type and options, keep their state, and vocabularies
                keep their codes and grow by the values that are new; other fields are fitted.
            place: says where the n-th train value of a field stands, ``"row 17 of items.parquet"``; without it messages count the values
                that ``source`` gave.

        Raises:
            DataError: a value is not of its field's type; table, column and row are named.
            UsageError: fields of one domain ask for different ``min_count`` or ``max_size``.
        """
        self._train_place = place
        domains: dict[str, list[str]] = {}
        for name, codec in self._codecs.items():
            if codec.uses_vocabulary:
                domains.setdefault(codec.context.spec.domain, []).append(name)
            else:
                self._fit_alone(name, source, start)
        for domain, names in domains.items():
            self._fit_domain(domain, names, source, start)

    def _fit_alone(self, name: str, source: Source, start: Codecs | None) -> None:
        codec = self._codecs[name]
        if start is not None and start.same_type(name, self):
            codec.load_state(start[name].state())
            return
        self._observe(codec, source)
        codec.finish()

    def _fit_domain(self, domain: str, names: Sequence[str], source: Source, start: Codecs | None) -> None:
        options = self._vocabulary_options(domain, names)
        builder = VocabularyBuilder(domain)
        for name in names:
            self._observe(self._codecs[name], source, builder)
        vocabulary = builder.build(**options)
        if start is not None and domain in start.vocabularies:
            try:
                vocabulary = start.vocabularies[domain].grow(vocabulary)
            except DataError as error:
                raise DataError(f"domain '{domain}' cannot grow: {error}") from error
        self.vocabularies[domain] = vocabulary
        for name in names:
            self._codecs[name].use_vocabulary(vocabulary)
            self._codecs[name].finish()

    def _observe(self, codec: Codec, source: Source, builder: VocabularyBuilder | None = None) -> None:
        row, spec = 0, codec.context.spec
        for array in source(spec):
            with _located(spec, codec.context.path, row, self._train_place):
                codec.observe(array)
                if builder is not None:
                    builder.observe(codec.vocabulary_values(array))
            row += len(array)

    def _vocabulary_options(self, domain: str, names: Sequence[str]) -> dict[str, Any]:
        """The one ``min_count`` and ``max_size`` of a domain: what its fields say where they do not keep the default."""
        chosen: dict[str, Any] = {}
        for key in ("min_count", "max_size"):
            default = VocabularyOptions.model_fields[key].default
            said = {name: getattr(self._codecs[name].config, key, default) for name in names}
            other = {name: value for name, value in said.items() if value != default}
            if len(set(other.values())) > 1:
                listed = ", ".join(f"{name} {value}" for name, value in other.items())
                raise UsageError(f"fields of domain '{domain}' share one vocabulary but ask for different {key}: {listed}")
            chosen[key] = next(iter(other.values()), default)
        return chosen

    def same_type(self, name: str, other: Codecs) -> bool:
        """Whether a field stands in both with the same type and options."""
        mine, theirs = self._model.field_types.get(name), other._model.field_types.get(name)
        return mine is not None and theirs is not None and _identity(mine) == _identity(theirs)

    # ------------------------------------------------------------------ use

    @property
    def stats(self) -> dict[str, FieldStats]:
        """Field → statistics for encoders."""
        return {name: codec.stats for name, codec in self._codecs.items()}

    def encode(self, frame: pa.Table, fields: Sequence[str], *, path: str, first_row: int = 0) -> Batch:
        """Encode the rows of a table.

        Args:
            frame: a column a field, called like ``FieldSpec.column`` (or the field); more columns do no harm. A sequence is a list of ids.
            fields: which fields to encode.
            path: what the rows are called in messages (a file).
            first_row: number of the frame's first row there.

        Raises:
            DataError: a column is missing, or a value is not of its field's type.
        """
        columns = {}
        for name in fields:
            spec = self._codecs[name].context.spec
            values = column_of(frame, spec, path=path)
            with _located(spec, path, first_row):
                columns[name] = self._codecs[name].encode(values)
        return Batch(columns)

    def missing_report(self) -> dict[str, Missing]:
        """Field → how much of it is missing or unknown, for the log."""
        report = {}
        for name, codec in self._codecs.items():
            stats = codec.stats
            report[name] = Missing(stats.rows, stats.missing, codec.dropped, codec.unknown)
        return report

    # ------------------------------------------------------------------ files

    def save(self, folder: Path) -> None:
        """Write ``codecs.json`` and a Parquet file a vocabulary into a folder, made if missing; the caller renames the whole bundle."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {domain: f"vocabulary-{i}.parquet" for i, domain in enumerate(sorted(self.vocabularies))}
        for domain, vocabulary in self.vocabularies.items():
            vocabulary.save(folder / files[domain])
        fields = {name: {"type": self._use(name), "state": codec.state()} for name, codec in self._codecs.items()}
        content = {"format": _FORMAT, "vocabularies": files, "fields": fields}
        (folder / _FILE).write_bytes(canonical_json(content))

    @classmethod
    def load(cls, folder: Path, model: ModelSpec) -> Codecs:
        """Read what ``save`` wrote.

        Raises:
            BundleError: a file is missing or damaged, or a field of the model is not in it.
        """
        path = folder / _FILE
        try:
            content = json.loads(path.read_bytes())
            found, files, fields = content["format"], dict(content["vocabularies"]), dict(content["fields"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} cannot be read ({error}): copy or train the bundle again") from error
        if found != _FORMAT:
            raise BundleError(f"{path} has format {found}, this embedkit reads {_FORMAT}: use the version that wrote it")
        vocabularies = {domain: Vocabulary.load(folder / Path(file).name) for domain, file in files.items()}
        codecs = {}
        for name, part in model.field_types.items():
            spec = model.schema.fields[name]
            if name not in fields:
                raise BundleError(f"{path} lacks field '{name}' of the bundle's schema: copy or train the bundle again")
            codec = _create(part, spec, vocabularies.get(spec.domain))
            if codec.uses_vocabulary and spec.domain not in vocabularies:
                raise BundleError(f"{path} lacks the vocabulary of domain '{spec.domain}': copy or train the bundle again")
            try:
                codec.load_state(fields[name]["state"])
            except (KeyError, TypeError, ValueError) as error:
                raise BundleError(f"{path}: the state of field '{name}' is damaged ({error!r})") from error
            codecs[name] = codec
        return cls(model, codecs, vocabularies)

    def fingerprint(self, fields: Iterable[str]) -> str:
        """Hash of everything that decides how these fields are encoded: types, options, states, vocabularies. Goes into ``Space.id``."""
        parts = []
        for name in fields:
            codec = self._codecs[name]
            parts += [canonical_json([name, _identity(self._model.field_types[name])]), canonical_json(codec.state())]
            parts.append(codec.vocabulary.fingerprint.encode() if codec.uses_vocabulary else b"")
        return digest(parts)

    def _use(self, name: str) -> str:
        return self._model.field_types[name].entry.qualified


def column_of(frame: pa.Table, spec: FieldSpec, *, path: str) -> pa.Array:
    """The column of a field, as one array.

    Raises:
        DataError: the frame has no such column; the message lists those it has.
    """
    wanted = spec.column or spec.name
    if wanted not in frame.column_names:
        listed = ", ".join(frame.column_names) or "none"
        raise DataError(f"{path}: column '{wanted}' of field '{spec.name}' is missing; there are: {listed}")
    column = frame.column(wanted)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _create(part: Part, spec: FieldSpec, vocabulary: Vocabulary | None = None) -> Codec:
    return cast(Codec, part.create(CodecContext(spec, vocabulary, path=spec.table)))


def _identity(part: Part) -> list[Any]:
    return [part.entry.qualified, part.config.model_dump(mode="json", by_alias=True)]


@contextmanager
def _located(spec: FieldSpec, path: str, first_row: int, place: TrainPlace | None = None) -> Iterator[None]:
    """Adds file, column and row to what a codec or a vocabulary says about a bad value."""
    try:
        yield
    except BadValue as error:
        if place is not None:
            raise error.placed(lambda row: place(spec, first_row + row)) from error
        raise error.at(path, first_row) from error
    except DataError as error:
        raise DataError(f"{path}: column '{spec.column or spec.name}': {error}") from error
