"""The guide to tuning: what it shows is tried."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from embedkit.cli import main
from embedkit.host import Host
from embedkit.launch import prepare
from embedkit.tuning.space import read_space, toml_value

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "tuning.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = re.split(r"^```", GUIDE, flags=re.MULTILINE)[1::2]
    return [text.partition("\n")[2] for text in fenced if text.partition("\n")[0] == language]


def test_every_option_of_the_space_is_one_of_a_run_file(shop: Path, run: dict) -> None:
    run["model"]["trunk"] = {"use": "mlp"}
    path = shop / "guide.toml"
    path.write_text(blocks("toml")[1])
    probes = list(read_space(path).probes())
    assert len(probes) >= 12
    for key, value in probes:
        prepare(run, Host.load(), overrides=[f"{key}={toml_value(value)}"], base=shop)


@pytest.mark.slow
def test_the_commands_and_the_python_work(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    for line in "".join(blocks("")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "embedkit"
        assert main(arguments) == 0
    assert len(list((shop / "runs").iterdir())) == 1 + 3  # one tried by hand, then the best with three seeds
    for arm in ("ours", "theirs"):
        shutil.copy(shop / "run.toml", shop / f"{arm}.toml")
        shutil.copy(shop / "space.toml", shop / f"{arm}-space.toml")
    shutil.rmtree(shop / "tuned")
    exec(compile(blocks("python")[0], "tuning.md", "exec"), {})
    assert {path.name for path in (shop / "tuned").iterdir()} == {"ours", "theirs"}
