"""Bad input: one clear sentence, exit code 2, and nothing half-written.

A sentence names where (file, column, row, key path), what was found, and what was wanted or what to do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.testing.command import call, untouched
from embedkit.testing.disk import tiny_disk


def refused(shop, *arguments, parts):
    """A command is refused with these parts in its sentence, and writes nothing."""
    with untouched(shop.folder):
        return call(*arguments).refused(*parts)


# ---------------------------------------------------------------------- tables

TABLES = {
    "missing file": (lambda path, items: path.unlink(), ("table 'items'", "there is no file 'items.parquet'")),
    "empty table": (
        lambda path, items: items.head(0).write_parquet(path),
        ("table 'items'", "items.parquet holds no rows", "give files with rows"),
    ),
    "truncated": (
        lambda path, items: path.write_bytes(path.read_bytes()[:-20]),
        ("table 'items'", "items.parquet cannot be read as Parquet", "truncated", "write it anew"),
    ),
    "damaged inside": (
        lambda path, items: path.write_bytes(path.read_bytes()[:4] + bytes(400) + path.read_bytes()[404:]),
        ("table 'items'", "items.parquet cannot be read as Parquet", "damaged"),
    ),
    "no column": (
        lambda path, items: items.rename({"title": "titel"}).write_parquet(path),
        ("table 'items'", "items.parquet has no column 'title' for field 'title'", "did you mean 'titel'?", "item_id, titel, brand"),
    ),
    "no key column": (
        lambda path, items: items.rename({"item_id": "id"}).write_parquet(path),
        ("table 'items'", "items.parquet has no column 'item_id'", "It has: id"),
    ),
    "duplicate keys": (
        lambda path, items: pl.concat([items, items[3:4]]).write_parquet(path),
        (
            "table 'items'",
            "key column 'item_id' holds 'i003' twice",
            "row 3 of items.parquet and row 60 of items.parquet",
            "unique",
            "'dedupe'",
        ),
    ),
    "null key": (
        lambda path, items: items.with_columns(item_id=pl.col("item_id").replace("i007", None)).write_parquet(path),
        ("table 'items'", "key column 'item_id' has no value in row 7 of items.parquet", "every row needs one"),
    ),
    "infinity": (
        lambda path, items: items.with_columns(
            price=pl.when(pl.col("item_id") == "i009").then(float("inf")).otherwise(pl.col("price"))
        ).write_parquet(path),
        ("table 'items'", "column 'price' holds inf in row 9 of items.parquet", "must be finite", 'nonfinite = "missing"'),
    ),
    "text that is a list": (
        lambda path, items: items.with_columns(title=pl.concat_list("title")).write_parquet(path),
        ("table 'items'", "column 'title' holds", "in row 0 of items.parquet", "wanted text", "cast the column"),
    ),
    "text that is numbers": (
        lambda path, items: items.with_columns(title=pl.lit(2.5)).write_parquet(path),
        ("table 'items'", "column 'title' holds 2.5 (double) in row 0 of items.parquet", "wanted text"),
    ),
    "text that is no UTF-8": (
        lambda path, items: pq.write_table(
            items.to_arrow().set_column(1, "title", pa.array([b"\xff\xfe"] * items.height, pa.binary())), path
        ),
        ("table 'items'", "column 'title' holds b'\\xff\\xfe' (binary) in row 0 of items.parquet", "wanted text"),
    ),
    "number that is text": (
        lambda path, items: items.with_columns(price=pl.lit("dear")).write_parquet(path),
        ("table 'items'", "column 'price' holds 'dear'", "in row 0 of items.parquet", "wanted a number"),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_to_train_on(shop, name):
    damage, parts = TABLES[name]
    damage(shop.write() / "items.parquet", shop.items)
    refused(shop, "train", "run.toml", "--threads", 1, parts=parts)


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("missing file", "no column")])
def test_tables_to_embed(shop, way, name):
    damage, parts = TABLES[name]
    damage(shop.write() / "items.parquet", shop.items)
    alike = [part for part in parts if part.startswith(("wanted", "key column", "every row", "must be", "items.parquet has no"))]
    refused(shop, "embed", way.run, "items.parquet", "--out", "vectors", parts=["items.parquet", *alike])


def test_a_bad_value_in_a_later_train_row_is_named_by_its_row_in_the_file(shop):
    """Fitting reads train rows only; the sentence counts the rows of the file."""
    events = shop.events.with_columns(note=pl.lit(None, pl.List(pl.String)))
    shop.write(
        events=events,
        edits={"[towers]": 'note = { table = "events", type = "text" }\n[towers]', 'user = ["history"]': 'user = ["history", "note"]'},
    )
    first = pl.when(pl.int_range(pl.len()) == 245).then(pl.concat_list(pl.lit("late"))).otherwise(pl.col("note"))
    events.with_columns(note=first).write_parquet("events.parquet")
    refused(
        shop, "train", "run.toml", "--threads", 1, parts=["table 'events'", "column 'note' holds ['late']", "in row 245 of events.parquet"]
    )


def test_events_that_name_no_item(shop):
    shop.write(events=shop.events.with_columns(item_id=pl.lit(7)))
    parts = ["table 'events'", "column 'item_id' of events.parquet", "such as 7", "none of its 480 rows", "'items'", "such as 'i000'"]
    refused(shop, "train", "run.toml", parts=parts)


@pytest.mark.parametrize("content", ["rows", "cut"])
def test_tables_to_start_from(shop, content):
    if content == "rows":
        shop.items.head(0).write_parquet("items.parquet")
    else:
        Path("items.parquet").write_bytes(b"PAR1 and then nothing")
    refused(shop, "init", "items.parquet", parts=["table 'items'", "items.parquet"])
    refused(shop, "init", "itmes.parquet", parts=["there is no file 'itmes.parquet'"])


# ---------------------------------------------------------------------- run files

RUN_FILES = {
    "misspelt key": (
        {"steps = 2": "steps = 2\nlog_evry = 3"},
        ("run.toml: stages.0.log_evry", "unknown key 'log_evry'", "did you mean 'log_every'?"),
    ),
    "misspelt top key": ({"seed = 0": "sed = 0"}, ("run.toml: sed: unknown key 'sed'", "did you mean 'seed'?")),
    "misspelt option": (
        {"temperature": "temprature"},
        ("stages.0.losses.0.temprature", "of loss 'sampled_softmax'", "did you mean 'temperature'?"),
    ),
    "wrong type": ({"dim = 64": 'dim = "many"'}, ("run.toml: model.dim: found 'many', wanted a whole number",)),
    "unknown loss": (
        {"sampled_softmax": "sampled_sofmax"},
        ("stages.0.losses.0.use", "no loss called 'sampled_sofmax'", "did you mean 'sampled_softmax'?"),
    ),
    "unknown type": ({'type = "number"': 'type = "numbr"'}, ("fields.price.type", "'numbr'", "did you mean 'number'?")),
    "unknown evaluator": ({'use = "retrieval"': 'use = "retreival"'}, ("evaluate.0", "'retreival'", "did you mean 'retrieval'?")),
    "unknown index": ({'use = "hnsw"': 'use = "hsnw"'}, ("index", "'hsnw'", "did you mean 'hnsw'?")),
    "no TOML": ({"dim = 64": "dim = "}, ("run.toml: is no TOML", "line")),
    "unknown metric": ({'metric = "ndcg@10"': 'metric = "ndgc@10"'}, ("stages.0.validate.metric", "'ndgc@10'", "did you mean 'ndcg@10'?")),
    "batch larger than the data": (
        {"size = 16": "size = 361"},
        ("stages.0.streams.main.size: a batch of 361 is larger than the data", "360 train rows of 'events'", "set size to at most that"),
    ),
    "where": (
        {'key = "item_id"': 'key = "item_id"\nwhere = "prise > 3"'},
        ("tables.items.where", "'prise > 3' cannot be evaluated", '"price"'),
    ),
}


@pytest.mark.parametrize("name", RUN_FILES)
def test_run_files(shop, name):
    edits, parts = RUN_FILES[name]
    shop.write(edits=edits)
    said = refused(shop, "train", "run.toml", "--threads", 1, parts=parts)
    assert "__row__" not in said


def test_all_problems_of_a_run_file_are_told_at_once(shop):
    shop.write(edits={"dim = 64": 'dim = "many"', "steps = 2": "steps = 2\nlog_evry = 3", 'type = "number"': 'type = "numbr"'})
    with untouched(shop.folder):
        answer = call("config", "check", "run.toml")
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert len(lines) >= 1
    assert all(line.startswith("embedkit: run.toml: ") for line in lines)


def test_options(shop, way):
    shop.write()
    for arguments, parts in {
        ("train", "nope.toml"): ("nope.toml: there is no such file", "embedkit init"),
        ("train", "run.toml", "--set", "model.dims=3"): ("model.dims", "did you mean 'dim'?"),
        ("train", "run.toml", "--set", "model"): ("--set model", "KEY=VALUE"),
        ("train", "run.toml", "--device", "gpu"): ("'gpu'", "auto, cpu, cuda"),
        ("train", "run.toml", "--resume"): ("no run of 'shop'", "embedkit runs"),
        ("trian", "run.toml"): ("no command 'trian'", "did you mean 'train'?", "embedkit --help"),
        ("train", "run.toml", "--sead", "3"): ("--sead", "embedkit train --help"),
        ("search", way.index, "--id", "i003", "-k", "0"): ("'-k'", "0", "embedkit search --help"),
        ("evaluate", "runs/x"): ("runs/x: there is no such run folder",),
        ("compare", way.run, "runs/y"): ("runs/y: there is no such run folder",),
        ("embed", "runs/x", "--out", "v"): ("runs/x: holds no bundle", "embedkit train"),
        ("index", "nope", "--out", "i"): ("nope: holds no embeddings", "embedkit embed"),
        ("index", way.vectors, "--out", "i", "--use", "hsnw"): ("no index called 'hsnw'", "did you mean 'hnsw'?"),
        ("index", way.vectors, "--out", "i", "--option", "mm=3"): ("index.mm", "did you mean 'm'?"),
        ("index", way.vectors, "--out", "i", "--prefix", "7"): ("index.prefix = 7", "16"),
        ("index", way.vectors, "--out", "i", "--keep", "prise"): ("no column 'prise'", "did you mean 'price'?"),
        ("embed", way.run, "--out", "v", "--tower", "itme"): ("no tower 'itme'", "item, user"),
        ("embed", way.run, "--out", "v", "--workers", "2", "--worker", "2"): ("worker 2 of 2", "from 0 to 1"),
    }.items():
        refused(shop, *arguments, parts=parts)


# ---------------------------------------------------------------------- searches


def test_questions(shop, way):
    for arguments, parts in {
        ("--id", "i0033"): ("id 'i0033' is not in the index", "did you mean", "'i033'"),
        ("--id", "walrus"): ("id 'walrus' is not in the index", "60 ids such as 'i000'"),
        ("--history", "i001,walrus"): ("id 'walrus' is not in the index",),
        ("--id", "i003", "-k", "60"): ("k = 60 is larger than the rest of the index", "59 other rows", "ask for at most 59"),
        ("--text", "hat", "-k", "61"): ("k = 61 is larger than the index", "60 rows", "ask for at most 60"),
        (): ("ask by one of --id, --text, --row and --history",),
        ("--row", "{"): ("--row: is no JSON",),
        ("--row", '{"prise": 3}'): ("no column 'prise'", "did you mean 'price'?"),
        ("--row", '{"price": "dear"}'): ("column 'price'", "'dear'", "wanted a number"),
        ("--row", '{"price": 1e999}'): ("column 'price'", "inf", "wanted a finite number"),
        ("--text", "hat", "--where", "prise < 3"): ("where 'prise < 3'", "item_id, title, brand, price"),
        ("--text", "hat", "--show", "prise"): ("no column 'prise'", "item_id, title, brand, price"),
        ("--text", "hat", "--tower", "itme"): ("no tower 'itme'", "item, user"),
    }.items():
        refused(shop, "search", way.index, *arguments, parts=parts)
    refused(shop, "search", "nope", "--id", "i003", parts=("nope: holds no index", "embedkit index"))
    refused(shop, "neighbours", way.index, "--all", "-k", 60, "--out", "n.parquet", parts=("k = 60", "ask for at most 59"))
    refused(shop, "recommend", way.index, "-k", 61, "--out", "r.parquet", parts=("k = 61", "ask for at most 60"))


# ---------------------------------------------------------------------- bundles and indexes


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "bundle.json", "codecs/codecs.json", "codecs/vocabulary-0.parquet", "run.toml"])
def test_a_bundle_with_a_flipped_byte(shop, way, name):
    shutil.copytree(way.bundle, shop.folder / "bundle")
    flip(shop.folder / "bundle" / name)
    for command in (
        ("embed", "bundle", way.folder / "items.parquet", "--out", "v"),
        ("search", way.index, "--text", "hat", "--bundle", "bundle"),
    ):
        refused(shop, *command, parts=(f"bundle/{name}", "damaged", "copy or train the bundle again"))


def test_an_index_with_a_flipped_byte(shop, way):
    shutil.copytree(way.index, shop.folder / "index")
    for path in [path for path in (shop.folder / "index").rglob("*") if path.is_file() and path.stat().st_size]:
        whole = path.read_bytes()
        flip(path)
        said = refused(shop, "search", "index", "--id", "i003", "-k", 1, parts=(str(path.relative_to(shop.folder)),))
        assert "build the index again" in said
        path.write_bytes(whole)


def test_vectors_with_a_flipped_byte(shop, way):
    shutil.copytree(way.vectors, shop.folder / "vectors")
    flip(shop.folder / "vectors" / "part-00000.parquet")
    refused(shop, "index", "vectors", "--out", "index", parts=("vectors/part-00000.parquet", "damaged", "embed again"))


def test_a_bundle_of_another_space(shop, way):
    other = Path(way.trained[1]["run"])
    refused(shop, "search", way.index, "--text", "hat", "--bundle", other, parts=("space",))
    shutil.copytree(way.vectors, shop.folder / "vectors")
    refused(shop, "embed", other, "--out", "vectors", parts=("vectors: holds vectors of space", "name another folder", "--force"))


# ---------------------------------------------------------------------- full disks


def fill(disk: Path, leave: int) -> None:
    """Leave so many bytes of a disk."""
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - leave))


def test_a_disk_that_is_full_when_a_run_starts_or_checkpoints(shop):
    shop.write()
    for leave in (0, 16_384, 200_000):
        with tiny_disk(shop.folder / f"disk-{leave}", "1m") as disk:
            fill(disk, leave)
            with untouched(disk):
                shop.train("--runs-dir", disk / "runs").refused(str(disk / "runs"), "no space left on the disk", "free some space")


def test_a_disk_that_is_full_when_embedding(shop, way):
    for leave in (0, 8_192):
        with tiny_disk(shop.folder / f"disk-{leave}", "1m") as disk:
            fill(disk, leave)
            with untouched(disk):
                call("embed", way.run, "--out", disk / "vectors").refused(str(disk / "vectors"), "no space left on the disk")


def test_a_disk_that_is_full_when_indexing(shop, way):
    with tiny_disk(shop.folder / "disk", "1m") as disk:
        call("index", way.vectors, "--out", disk / "index").ok()
        before = call("search", disk / "index", "--id", "i003", "-k", 5, "--json").json
        fill(disk, 8_192)
        with untouched(disk):
            call("index", way.vectors, "--out", disk / "index").refused(str(disk / "index"), "no space left on the disk")
            call("index", way.vectors, "--out", disk / "new").refused(str(disk / "new"), "no space left on the disk")
            call("neighbours", disk / "index", "--all", "-k", 50, "--out", disk / "n.parquet").refused(
                "n.parquet", "no space left on the disk"
            )
        assert call("search", disk / "index", "--id", "i003", "-k", 5, "--json").json == before
