"""Write down what ``infer`` guessed as a run file that a person can read and change."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedkit.config.facts import TableFacts
from embedkit.config.infer import Events, Guess, default_split, fields_by_name, infer, infer_rows
from embedkit.errors import UsageError
from embedkit.files import atomic_write
from embedkit.registry import Registry

_HANDFUL = 50
"""Tables with fewer rows are not split."""
_CELLS = {"category", "number", "timestamp"}
"""Field types whose hidden cells can be told."""
_TOKENS = 64
"""A table of more columns is not put into attention over columns, nor its tokens side by side."""


def write_starter(
    paths: Sequence[Path],
    out: Path,
    registry: Registry,
    *,
    name: str | None = None,
    force: bool = False,
    ssl: bool = False,
    label: str | None = None,
) -> None:
    """Infer a run file from tables and write it.

    Args:
        paths: Parquet or CSV files.
        out: the run file.
        registry: whose field types decide what columns are.
        name: name of the run; that of ``out``'s folder when left out.
        force: overwrite ``out``.
        ssl: learn from the rows of one table without labels, whatever its columns are called.
        label: with ``ssl``, a column that no tower reads and that a probe predicts from the vectors.

    Raises:
        UsageError: ``out`` is there, or nothing can be made of the tables.
        DataError: a table is missing, empty or damaged.
    """
    out = Path(out)
    if out.exists() and not force:
        raise UsageError(f"{out}: is there already; choose another with --out, or overwrite it with --force")
    base = out.resolve().parent
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", base.name).strip("-._") or "run"
    if label is not None and not ssl:
        raise UsageError("init --label: a label is for a run without labels, to see what its vectors are good for; add --ssl")
    if ssl:
        atomic_write(out, ssl_starter(infer_rows(paths, registry, label), name=name, base=base))
    else:
        atomic_write(out, starter(infer(paths, registry), name=name, base=base))


def starter(guess: Guess, *, name: str, base: Path) -> str:
    """The text of a run file; paths of tables are relative to ``base`` where they lie below it.

    Raises:
        UsageError: no column is left that a tower could read.
    """
    named = fields_by_name(guess)
    lines = [*_top(name), *_tables(guess, base)]
    if guess.events is None:
        lines += _alone(guess, named)
    else:
        lines += _with_events(guess, guess.events, named)
    return "\n".join(lines) + "\n"


def ssl_starter(guess: Guess, *, name: str, base: Path) -> str:
    """The text of a run file that learns from the rows of one table without labels."""
    table = guess.items
    named = fields_by_name(guess)
    split = _split_of_rows(guess)
    lines = [*_top(name), "", f"[tables.{table.name}]", f"uri = {_toml(_uri(table, base))}"]
    lines += [f"key = {_toml(guess.item_key)}"] if guess.item_key is not None else []
    lines += [f"split = {_toml(split)}"] if split else [f"# too few rows ({table.rows}) to hold some back for validation"]
    lines += _field_lines(guess, named)
    if guess.label is not None:
        label = _label_name(guess, named)
        written = {"table": table.name, "type": guess.label.type, "column": guess.label.column, "role": "label"}
        lines += [f"{_key(label)} = {_toml(written)}  # what the probe predicts; no tower may read it"]
    validate = {"metric": "loss", "patience": 3} if split.get("valid") else None
    told = 2 <= len(named) <= _TOKENS and _CELLS.issuperset(found["type"] for found in named.values())
    lines += (_masked_cells if told else _corrupted)(table, list(named), validate)
    if guess.label is not None and split.get("test"):
        lines += [
            "",
            '[[evaluate]]  # needs scikit-learn: pip install "embedkit[sklearn]"',
            'use = "linear_probe"',
            'tower = "row"',
            f"label = {_toml(label)}",
            f"task = {_toml(guess.label.task)}",
        ]
    return "\n".join([*lines, *_index()]) + "\n"


def _masked_cells(table: TableFacts, fields: Sequence[str], validate: Mapping[str, Any] | None) -> list[str]:
    """Tell hidden cells from the others, with a token a column; the vectors are all tokens, side by side."""
    stream = {"table": table.name, "sampler": "shuffle", "size": min(_batch(table.rows, 256), table.rows)}
    view = {"use": "cell_masking", "of": "main", "makes": ["masked"], "share": 0.3}
    loss = {"use": "masked_cells", "tower": "row", "view": "masked"}
    trunk = {"use": "feature_transformer", "layers": 2, "heads": 4, "hidden": 64, "pooling": "flatten"}
    head = {"use": "linear", "identity": True, "normalize": False}
    return [
        *_towers({"row": fields}, 32),
        f"trunk = {_toml(trunk)}",
        f"head = {_toml(head)}  # so a vector has 32 numbers for each of the {len(fields)} columns",
        *_stage({"main": stream}, [view], [loss], validate, lr=0.001),
    ]


def _corrupted(table: TableFacts, fields: Sequence[str], validate: Mapping[str, Any] | None) -> list[str]:
    """Know a row again of which cells were replaced by other rows': for texts and lists, and for many columns."""
    stream = {"table": table.name, "sampler": "uniform", "size": min(_batch(table.rows), table.rows)}
    view = {"use": "corruption", "of": "main", "makes": ["a", "b"], "share": 0.3}
    loss = {"use": "info_nce", "tower": "row", "views": ["a", "b"], "temperature": 0.1, "projector": [128, 64]}
    return [*_towers({"row": fields}), *_stage({"main": stream}, [view], [loss], validate)]


def _top(name: str) -> list[str]:
    return [
        "# Inferred by `embedkit init` from the tables named below: read it through, change what was guessed wrong,",
        "# check it with `embedkit config check`, and train with `embedkit train`.",
        "format = 1",
        f"name = {_toml(name)}",
        "seed = 0",
    ]


def _split_of_rows(guess: Guess) -> dict[str, Any]:
    """As a column ``split`` says, else a hash; equal rows stay together. Nothing for a handful of rows."""
    table = guess.items
    column = next((name for name in table.columns if name.lower() == "split"), None)
    if column is not None and table.columns[column].dtype == "string":
        there = {value for value in table.values(column).unique().to_pylist() if value is not None}
        found = {
            which: next((word for word in words if word in there), None)
            for which, words in (("valid", ("valid", "validation", "val", "dev")), ("test", ("test",)))
        }
        if any(found.values()) and there - set(found.values()):
            return {"by": "column", "column": column, **{which: word for which, word in found.items() if word}}
    if table.rows < _HANDFUL:
        return {}
    lists = [name for name in guess.fields[table.name] if table.columns[name].dtype.startswith("list")]
    plain = [name for name in guess.fields[table.name] if name not in lists]
    key = [guess.item_key] if guess.item_key is not None else plain or lists
    return {"by": "hash", "key": key, "valid": 0.1, **({"test": 0.2} if guess.label is not None else {})}


def _label_name(guess: Guess, named: Mapping[str, Mapping[str, Any]]) -> str:
    """The label's field: its column's name, or one that no feature has."""
    assert guess.label is not None
    clean = re.sub(r"\W+", "_", guess.label.column).strip("_") or "label"
    return clean if clean not in named else f"{clean}_label"


def _tables(guess: Guess, base: Path) -> list[str]:
    lines: list[str] = []
    events = guess.events
    items = "items" if guess.grouped is not None else guess.items.name
    lines += ["", f"[tables.{items}]", f"uri = {_toml(_uri(guess.items, base))}"]
    if guess.grouped is not None and events is not None:
        group = {"by": guess.item_key, **guess.grouped}
        lines[-2] += "  # derived from the events: one row an item"
        lines += [f"where = {_toml(events.where)}"] if events.where else []
        lines += [f"group = {_toml(group)}"]
    elif guess.item_key is not None:
        lines += [f"key = {_toml(guess.item_key)}"]
        if events is None:
            lines += [f"split = {_toml({'by': 'hash', 'key': [guess.item_key], 'valid': 0.1})}"]
    else:
        lines += ['# key = "…"  # no column is unique and complete; embedding and searching need one']
    if guess.users is not None:
        lines += ["", f"[tables.{guess.users.name}]", f"uri = {_toml(_uri(guess.users, base))}", f"key = {_toml(guess.user_key)}"]
    if events is not None:
        lines += _event_table(events, base)
    return lines


def _event_table(events: Events, base: Path) -> list[str]:
    lines = ["", f"[tables.{events.table.name}]  # one row an event", f"uri = {_toml(_uri(events.table, base))}"]
    if events.where:
        lines += [f"where = {_toml(events.where)}"]
    lines += [f"join = {_toml(events.joins)}", f"user = {_toml(events.user)}"]
    if events.time:
        lines += [f"time = {_toml(events.time)}"]
    elif events.position:
        lines += [f"position = {_toml(events.position)}"]
    else:
        lines += ["# no column orders the events, so a history is the set of a user's training items"]
    return [*lines, f"split = {_toml(default_split(events))}"]


def _field_lines(guess: Guess, named: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["", "[fields]"]
    for name, found in named.items():
        written = {"table": found["table"], "type": found["type"]}
        if found["column"] != name:
            written["column"] = found["column"]
        if found["column"] == guess.item_key and found["table"] != getattr(guess.users, "name", None) and guess.events is not None:
            written["domain"] = "item"
        lines.append(f"{_key(name)} = {_toml(written)}")
    if guess.events is not None:
        history = {"table": guess.events.table.name, "type": "sequence", "domain": "item", "max_length": 50}
        lines.append(f"history = {_toml(history)}  # the user's earlier items; they share table rows with the item's own id")
    for table, columns in guess.left.items():
        lines += [f"# left out: {table}.{column} ({why})" for column, why in columns.items()]
    return lines


def _with_events(guess: Guess, events: Events, named: Mapping[str, Mapping[str, Any]]) -> list[str]:
    items = "items" if guess.grouped is not None else guess.items.name
    item = [name for name, found in named.items() if found["table"] == items]
    user = ["history", *(name for name, found in named.items() if found["table"] != items)]
    size = _batch(events.table.rows)
    count = events.table.columns[events.item].unique if guess.grouped is not None else guess.items.rows
    cutoffs = [10, 50] if count >= 100 else [max(1, min(10, count // 5))]
    stream = {"table": events.table.name, "rows": "events", "sampler": "shuffle", "size": size}
    streams = {"main": stream, "catalogue": {"table": items, "sampler": "uniform", "size": _batch(count)}}
    loss = {
        "use": "sampled_softmax",
        "query": "user",
        "target": "item",
        "correct_popularity": True,
        "temperature": 0.07,
        "negatives": "catalogue",  # else nothing would rank items without events below the others
    }
    repeats = events.repeats > 0.05
    why = f"{events.repeats:.0%} of the events repeat an earlier one of the same user and item"
    return [
        *_field_lines(guess, named),
        *_towers({"item": item, "user": user}),
        *_stage(streams, [], [loss], {"metric": f"ndcg@{cutoffs[0]}", "patience": 3}),
        "",
        "[[evaluate]]",
        'use = "retrieval"',
        'query = "user"',
        'target = "item"',
        f"k = {_toml(cutoffs)}",
        f"exclude_seen = {_toml(not repeats)}  # {why}",
        *_index(),
    ]


def _alone(guess: Guess, named: Mapping[str, Mapping[str, Any]]) -> list[str]:
    table = guess.items.name
    features = [name for name, found in named.items() if found["column"] != guess.item_key]
    if len(features) < 2:  # one column has no other half to be told from, so the id takes part
        features = list(named)
    if len(features) < 2:
        raise UsageError(
            f"init: {guess.items.path} has fewer than two columns to learn from ({', '.join(guess.items.columns)}); add columns or events"
        )
    shown = {name: found for name, found in named.items() if name in features}
    view = {"use": "random_masking", "of": "main", "makes": ["a", "b"], "fields": features}
    loss = {"use": "info_nce", "tower": "item", "views": ["a", "b"], "temperature": 0.1}
    stream = {"table": table, "sampler": "uniform", "size": _batch(guess.items.rows)}
    validate = {"metric": "loss", "patience": 3} if guess.item_key else None
    return [
        *_field_lines(guess, shown),
        "# Leave out what must not shape the vectors, such as the label of a later task.",
        *_towers({"item": features}),
        *_stage({"main": stream}, [view], [loss], validate),
        *_index(),
    ]


def _towers(towers: Mapping[str, Sequence[str]], dim: int = 64) -> list[str]:
    return ["", "[towers]", *(f"{name} = {_toml(list(fields))}" for name, fields in towers.items()), "", "[model]", f"dim = {dim}"]


def _stage(
    streams: Mapping[str, Mapping[str, Any]],
    views: Sequence[Any],
    losses: Sequence[Any],
    validate: Mapping[str, Any] | None,
    lr: float = 0.002,
) -> list[str]:
    lines = ["", "[[stages]]", 'use = "train"', "epochs = 10"]
    lines += [f"streams.{name} = {_toml(stream)}" for name, stream in streams.items()]
    if views:
        lines.append(f"views = [{', '.join(_toml(view) for view in views)}]")
    lines.append(f"losses = [{', '.join(_toml(loss) for loss in losses)}]")
    lines.append(f"optimizer = {_toml({'use': 'adamw', 'lr': lr})}")
    if validate is not None:
        lines.append(f"validate = {_toml(validate)}")
    return lines


def _index() -> list[str]:
    return ["", "[index]", 'use = "hnsw"']


def _batch(rows: int, size: int = 1024) -> int:
    """A power of two, at most ``size``, that gives an epoch some steps."""
    while size > 8 and size * 16 > rows:
        size //= 2
    return size


def _uri(table: TableFacts, base: Path) -> str:
    path = table.path.resolve()
    return path.relative_to(base.resolve()).as_posix() if path.is_relative_to(base.resolve()) else path.as_posix()


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)
