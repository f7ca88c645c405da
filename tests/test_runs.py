from __future__ import annotations

import json
import subprocess
import sys

import pytest

from embedkit.errors import DataError, UsageError
from embedkit.runs import RunFolder, list_runs


def test_folders_are_numbered_and_keep_their_layout(tmp_path):
    first = RunFolder.create(tmp_path, "shop", 7)
    second = RunFolder.create(tmp_path, "shop", 7)
    other = RunFolder.create(tmp_path, "shop", 8)
    assert [f.path.name for f in (first, second, other)] == ["shop-s7-001", "shop-s7-002", "shop-s8-001"]
    assert first.resolved == first.path / "run.resolved.toml"
    assert first.queries("test") == first.path / "queries-test.parquet"


def test_status_follows_the_run(tmp_path):
    folder = RunFolder.create(tmp_path, "shop", 0)
    with folder.running():
        assert folder.state == "running"
    assert folder.state == "finished"
    with pytest.raises(DataError), folder.running():
        raise DataError("column 'x' is missing")
    assert folder.read_status()["state"] == "failed"
    assert folder.read_status()["error"] == "column 'x' is missing"
    with pytest.raises(KeyboardInterrupt), folder.running():
        raise KeyboardInterrupt
    assert folder.state == "interrupted"
    assert "error" not in folder.read_status()


def test_a_killed_run_counts_as_interrupted(tmp_path):
    folder = RunFolder.create(tmp_path, "shop", 0)
    code = f"from embedkit.runs import RunFolder, Path; RunFolder(Path({str(folder.path)!r})).set_status('running')"
    subprocess.run([sys.executable, "-c", f"import os; {code}; os._exit(9)"], check=False)
    assert json.loads(folder.status.read_text())["state"] == "running"
    assert folder.state == "interrupted"


def test_a_run_of_another_living_process_is_not_entered(tmp_path):
    folder = RunFolder.create(tmp_path, "shop", 0)
    folder.set_status("running")
    status = json.loads(folder.status.read_text())
    folder.status.write_text(json.dumps(status | {"pid": 1}))
    with pytest.raises(UsageError, match="process 1 is running this run"), folder.running():
        raise AssertionError("entered")


def test_runs_are_listed_by_start_and_other_folders_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    folders = [RunFolder.create(tmp_path, name, 0) for name in ("b", "a")]
    for day, folder in enumerate(folders):
        folder.set_status("finished", started=f"2024-01-0{day + 1}")
    assert [f.path.name for f in list_runs(tmp_path)] == ["b-s0-001", "a-s0-001"]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_what_is_no_run_folder_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="run folder"):
        RunFolder.open(tmp_path / name)


def test_a_folder_may_be_discarded_with_the_root_that_was_made_for_it(tmp_path):
    first = RunFolder.create(tmp_path / "runs", "shop", 0)
    second = RunFolder.create(tmp_path / "runs", "shop", 0)
    first.discard()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["shop-s0-002"]
    second.discard()
    assert (tmp_path / "runs").is_dir(), "it was there when this run began"
    RunFolder.create(tmp_path / "others", "shop", 0).discard()
    assert not (tmp_path / "others").exists()
