"""Loader: the batches of one stream, at an exact position."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from embedkit.config.model import StreamConfig
from embedkit.data.batch import Batch
from embedkit.data.sampler import BatchSampler, SamplerContext
from embedkit.data.shuffle import BufferedShuffle
from embedkit.data.table import Rows
from embedkit.data.windows import WINDOWS, Windows
from embedkit.errors import UsageError

if TYPE_CHECKING:
    from embedkit.data.store import Store
    from embedkit.registry import Registry

State = dict[str, int]


class Loader:
    """Batches of one stream for ever; an epoch is ``batches_per_epoch`` of them.

    With ``prefetch`` the next batches are made in a background thread while the caller works. The batches, and the position, are the same
    with and without it: ``state_dict`` is that of the last batch which was handed out.

    Args:
        store: where rows and values come from; it has codecs.
        stream: table, kind of rows and size.
        sampler: which rows make which batch.
        fields: what a batch holds; labels, weights and groups in reach come besides.
        name: of the stream, for messages.
        rank: this process; with ``world`` processes each batch is cut into contiguous shards in sampler order.
        world: number of processes.
        seed: of the order on the stream path.
        prefetch: batches made ahead; 0 makes each one when it is asked for.
        pin: put batches in memory that a GPU reads by itself.
    """

    def __init__(
        self,
        store: Store,
        stream: StreamConfig,
        sampler: BatchSampler,
        fields: Sequence[str],
        *,
        name: str = "main",
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        prefetch: int = 2,
        pin: bool = False,
    ) -> None:
        self.store, self.stream, self.fields, self.name = store, stream, tuple(fields), name
        self._rank, self._world, self._prefetch, self._pin = rank, world, prefetch, pin
        where = f"streams.{name}"
        if stream.rows == "events" and stream.table not in store.events:
            raise UsageError(f"{where}: rows = 'events' needs an event table; set tables.{stream.table}.user, or use rows = 'rows'")
        self._windows = _windows(store, stream, fields, where)
        self._source: BatchSampler | BufferedShuffle = sampler
        if self._windows is None and store.streamed(stream.table):
            own = store.own_fields(stream.table, fields)
            if own:
                self._source = _buffered(store, stream, sampler, own, seed, where)
        self._position: State = dict(self._source.state_dict())

    def remarks(self) -> list[str]:
        """What the sampler wants a person to know."""
        return self._source.remarks() if isinstance(self._source, BatchSampler) else []

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every row that may be drawn was drawn once (as the sampler counts)."""
        return self._source.batches_per_epoch

    def state_dict(self) -> State:
        """The position after the last batch that was handed out."""
        return dict(self._position)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there; iterate anew afterwards."""
        self._position = dict(state)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the current position on. Never ends; one iteration at a time."""
        self._source.load_state_dict(self._position)
        made = self._ahead() if self._prefetch else self._make()
        for batch, position in made:
            self._position = position
            yield batch

    def _make(self) -> Iterator[tuple[Batch, State]]:
        for drawn in self._source:
            position = dict(self._source.state_dict())
            batch = self._batch(drawn)
            yield batch.pin_memory() if self._pin else batch, position

    def _batch(self, drawn: Any) -> Batch:
        if isinstance(self._source, BufferedShuffle):
            rows, columns = drawn
            shard = self._shard(len(rows))
            at = torch.arange(shard.start, shard.stop)
            mine = {name: column.take(at) for name, column in columns.items()} if self._world > 1 else columns
            return self.store.batch({self.stream.table: torch.from_numpy(rows[shard])}, self.fields, given=mine)
        rows = drawn[self._shard(len(drawn))]
        if self._windows is not None:
            return self._windows.batch(rows)
        return self.store.batch({self.stream.table: torch.from_numpy(rows)}, self.fields)

    def _shard(self, rows: int) -> slice:
        share, rest = divmod(rows, self._world)
        start = self._rank * share + min(self._rank, rest)
        return slice(start, start + share + (self._rank < rest))

    def _ahead(self) -> Iterator[tuple[Batch, State]]:
        ready: queue.Queue[tuple[Batch, State] | BaseException] = queue.Queue(self._prefetch)
        stop = threading.Event()

        def put(item: tuple[Batch, State] | BaseException) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def work() -> None:
            try:
                for item in self._make():
                    if not put(item):
                        return
            except BaseException as error:  # handed to the consumer, which raises it
                put(error)

        thread = threading.Thread(target=work, name=f"loader-{self.name}", daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()


def make_loader(
    store: Store,
    name: str,
    stream: StreamConfig,
    registry: Registry,
    seed: int,
    fields: Sequence[str],
    *,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 2,
    pin: bool = False,
    stage: str = "",
    groups: npt.NDArray[np.int64] | None = None,
) -> Loader:
    """The loader of a stream of a stage, with the sampler that the run file names.

    Args:
        store: with codecs.
        name: of the stream; its own seed is made of this and ``seed``.
        stream: the run file's entry.
        registry: where the sampler is registered.
        seed: of the run (and stage).
        fields: what a batch holds.
        rank: this process.
        world: number of processes; ``stream.size`` is the size of all their shards together.
        prefetch: batches made ahead in a thread.
        pin: put batches in memory that a GPU reads by itself.
        stage: the stage's place in the run file, such as ``stages.0``, for messages.
        groups: the group of each row of the stream's table, int64 [M], for samplers that mind groups.

    Raises:
        UsageError: unknown table or sampler, wrong options, or a batch larger than the data.
    """
    where = f"{stage}.streams.{name}" if stage else f"streams.{name}"
    if stream.table not in store.tables:
        raise UsageError(f"{where}: there is no table '{stream.table}'; the run file has {', '.join(store.tables)}")
    windows = _windows(store, stream, fields, where)
    if windows is not None:
        rows: Rows = windows.users()
        what = f"users of '{stream.table}' with two train events"
    else:
        rows = store.train_rows(stream.table)
        what = f"train rows of '{stream.table}'"
    if stream.size > len(rows):
        raise UsageError(
            f"{where}.size: a batch of {stream.size:,} is larger than the data, {len(rows):,} {what}; set size to at most that"
        )
    if stream.size < world:
        raise UsageError(f"{where}.size: a batch of {stream.size} cannot be dealt to {world} processes; set size to at least that")
    own_seed = int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=7).digest(), "little")
    entry = registry.entry("sampler", stream.sampler)
    config = entry.parse(stream.options, where=where)
    columns = {} if groups is None else {"group": groups[rows]}
    looks_at = cast(type[BatchSampler], entry.load()).looks_at
    if "length" in looks_at:
        columns["length"] = windows.lengths(rows) if windows is not None else _history_lengths(store, stream.table, fields, rows, where)
    if "frequency" in looks_at:
        columns["frequency"] = store.frequencies(stream.table).numpy()[rows]
    context = SamplerContext(rows=rows, size=stream.size, seed=own_seed, columns=columns)
    sampler = cast(BatchSampler, entry.create(config, context=context))
    return Loader(store, stream, sampler, fields, name=name, rank=rank, world=world, seed=own_seed, prefetch=prefetch, pin=pin)


def _windows(store: Store, stream: StreamConfig, fields: Sequence[str], where: str) -> Windows | None:
    return Windows(store, stream.table, fields, rows=stream.rows, where=where) if stream.rows in WINDOWS else None


def _history_lengths(store: Store, table: str, fields: Sequence[str], rows: Rows, where: str) -> Rows:
    """Events in the history of each row that the first history among the fields holds."""
    histories = [name for name in fields if store.is_history(name) and store.schema.fields[name].table == table]
    if not histories:
        raise UsageError(
            f"{where}: its sampler sorts rows by the length of their history, and no tower that a loss reads has one; "
            "use sampler = 'shuffle', or give a tower a sequence field"
        )
    start, stop = store.events[table].history(rows)
    longest = store.history(histories[0]).max_length
    return stop - start if longest is None else np.minimum(stop - start, longest)


def _buffered(store: Store, stream: StreamConfig, sampler: BatchSampler, own: Sequence[str], seed: int, where: str) -> BufferedShuffle:
    if stream.sampler.rpartition(":")[2] != "shuffle":
        raise UsageError(
            f"{where}: sampler '{stream.sampler}' draws rows from anywhere, but table '{stream.table}' is streamed; "
            "use sampler = 'shuffle', or set compute.data_path = 'memory'"
        )
    rows = np.sort(sampler.context.rows)
    drop_last = bool(getattr(sampler.config, "drop_last", False))
    return BufferedShuffle(store.encoded(stream.table), rows, own, size=stream.size, seed=seed, drop_last=drop_last)
