from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import polars as pl
import pytest

from embedkit.errors import DataError, UsageError
from embedkit_datasets import python_api
from embedkit_datasets.configs import NoOptions
from embedkit_datasets.python_api import PythonApi, build
from embedkit_datasets.stdlib.compiled import probe_compiled

STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture
def dataset() -> PythonApi:
    return PythonApi(NoOptions(), context=None)


@pytest.fixture(scope="module")
def compiled():
    return probe_compiled()


@pytest.fixture(scope="module")
def subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the real library that stands on its own."""
    root = tmp_path_factory.mktemp("lib")
    for name in ("json", "os.py", "posixpath.py", "genericpath.py", "stat.py", "shutil.py", "re", "textwrap.py", "struct.py"):
        source = STDLIB / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    return root


def test_a_part_of_the_real_library(subset: Path, compiled) -> None:
    tables = build(subset, compiled)
    items = {row["item_id"]: row for row in tables.items}
    assert {
        "json.loads",
        "json.decoder.JSONDecoder.decode",
        "posixpath.join",
        "os.mkdir",
        "struct.pack",
        "math.sqrt",
        "builtins.str.join",
    } <= set(items)
    assert len(items) == len(tables.items)
    assert items["json.loads"]["kind"] == "function"
    assert items["json.loads"]["doc"].startswith("Deserialize")
    assert items["math.sqrt"]["doc"] == "Return the square root of x."
    calls: dict[str, list[str]] = {}
    for event in tables.events:
        assert event["position"] == len(calls.setdefault(event["caller"], []))  # strict, from 0, in order
        assert event["item_id"] in items
        calls[event["caller"]].append(event["item_id"])
    assert calls["json.load"] == ["json.loads"]
    assert "json.encoder.JSONEncoder.iterencode" in calls["json.encoder.JSONEncoder.encode"]
    assert "os.fspath" in calls["posixpath.join"]
    assert "posixpath.join" in calls["shutil.copy"]  # through `os.path`
    assert [(c["caller"], c["n_calls"]) for c in tables.callers] == [(caller, len(items)) for caller, items in calls.items()]
    assert tables.unresolved > 0


def test_the_same_source_gives_the_same_tables(subset: Path, compiled) -> None:
    first = build(subset, compiled)
    assert build(subset, compiled).digest() == first.digest()
    (subset / "added.py").write_text("def f(): pass\n")
    assert build(subset, compiled).digest() != first.digest()
    (subset / "added.py").unlink()


def test_prepare_writes_tables_and_run_file(
    subset: Path, dataset: PythonApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_of_run_file
) -> None:
    monkeypatch.setattr(python_api.sysconfig, "get_path", lambda _: str(subset))
    lines: list[str] = []
    made = dataset.prepare(tmp_path / "new" / "folder", log=lines.append)
    assert set(made.tables) == set(dataset.card.tables)
    for path, rows in made.tables.values():
        assert pl.read_parquet(path).height == rows > 0
    items = pl.read_parquet(made.tables["items"][0])
    assert items["item_id"].is_unique().all()
    assert items.schema["arg_names"] == pl.List(pl.String)
    assert items.schema["n_args"] == pl.Int32
    assert items.filter(pl.col.kind == "module")["n_args"].null_count() == (items["kind"] == "module").sum()
    assert made.run_file.name == dataset.card.run_file
    assert sorted(p.name for p in made.run_file.parent.iterdir()) == ["callers.parquet", "events.parquet", "items.parquet", "run.toml"]
    assert any("dropped" in line for line in lines)
    rows = rows_of_run_file(made.run_file)
    assert (rows["items"], rows["callers"]) == (made.tables["items"][1], made.tables["callers"][1])
    assert rows["events"] == made.tables["events"][1]


def test_another_content_is_said_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_api, "CHECKSUMS", {"CPython 3.99.0 here": "sha256:aa"})
    assert "as recorded" in python_api._verdict("CPython 3.99.0 here", "sha256:aa")
    assert "warning" in python_api._verdict("CPython 3.99.0 here", "sha256:bb")
    unknown = python_api._verdict("CPython 4.0.0 there", "sha256:bb")
    assert "no checksum is recorded" in unknown
    assert "warning" not in unknown


def test_there_is_no_prepared_copy(dataset: PythonApi, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --from"):
        dataset.prepare(tmp_path, prepared=tmp_path)


def test_a_missing_or_broken_library_is_one_sentence(tmp_path: Path, compiled) -> None:
    with pytest.raises(DataError, match="no Python source files"):
        build(tmp_path, compiled)
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(DataError, match=r"broken\.py: cannot be parsed"):
        build(tmp_path, compiled)


def test_the_whole_library_has_the_size_that_the_card_promises(compiled) -> None:
    tables = build(STDLIB, compiled)
    assert len(tables.items) > 14_000
    assert len(tables.events) > 25_000
    long_enough = sum(1 for e in tables.events if e["n_calls"] >= 3)  # what the starter run file asks for
    assert 18_000 < long_enough < 27_000
