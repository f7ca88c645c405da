"""Third-party plugins: one file, installed, broken, taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedkit.testing.command import call, untouched

FILES = Path(__file__).parent / "plugins"
CENTRED, RANK = FILES / "centred.py", FILES / "rank.py"
WITH_LOSS = {"losses = [": 'losses = [{ use = "centred", tower = "item", weight = 0.5 }, '}
WITH_ENCODER = {"[model]\n": '[model]\nencoders = [{ use = "rank", fields = ["brand"] }]\n'}


@pytest.fixture
def bundle_of(shop):
    """Train with a one-file plugin and embed and index the items; the folder of the run."""

    def train(plugin: Path, edits: dict[str, str]) -> str:
        shop.write(edits=edits)
        folder = str(call("-p", plugin, "train", "run.toml", "--set", "model.dim=8", "--threads", "1", "--json").json[0]["run"])
        call("-p", plugin, "embed", folder, "--out", "vectors").ok()
        call("-p", plugin, "index", "vectors", "--out", "index").ok()
        return folder

    return train


def test_a_loss_of_a_short_file_trains(shop, bundle_of):
    assert len(CENTRED.read_text().splitlines()) < 40
    assert "centred" in call("-p", CENTRED, "components", "loss").ok().out
    assert "Tower whose embeddings are centred." in call("-p", CENTRED, "components", "loss", "centred").ok().out
    folder = bundle_of(CENTRED, WITH_LOSS)
    assert '"centred"' in (Path(folder) / "metrics.jsonl").read_text()
    assert 'use = "centred:centred"' in (Path(folder) / "run.resolved.toml").read_text()


def test_without_the_file_its_bundle_still_answers(shop, bundle_of):
    """A loss is for training only; a bundle without it embeds and searches (decision 24)."""
    folder = bundle_of(CENTRED, WITH_LOSS)
    assert len(call("search", "index", "--text", "hat", "-k", 2, "--json").json[0]["neighbours"]) == 2
    call("embed", folder, "--out", "again").ok()
    with untouched(shop.folder):
        call("train", "run.toml").refused("run.toml: stages.0.losses.0.use: there is no loss called 'centred'")
        said = call("train", "--resume", folder).refused("needs loss centred:centred", "no plugin called 'centred'", "-p centred.py")
        assert "run.resolved.toml" in said


def test_without_the_file_a_bundle_with_its_encoder_says_what_it_needs(shop, bundle_of):
    folder = bundle_of(RANK, WITH_ENCODER)
    with untouched(shop.folder):
        for command in (("search", "index", "--text", "hat"), ("embed", folder, "--out", "again")):
            call(*command).refused("bundle.json: needs encoder rank:rank", "no plugin called 'rank'", "-p rank.py")
    assert "a one-file plugin" in call("bundle", "inspect", folder).ok().out
    assert len(call("search", "index", "--id", "i003", "-k", 2, "--json").json[0]["neighbours"]) == 2, "an id needs no encoder"
    assert len(call("-p", RANK, "search", "index", "--text", "hat", "-k", 2, "--json").json[0]["neighbours"]) == 2


# ---------------------------------------------------------------------- broken ones

BROKEN = {
    "syntax": "def register_losses(register:\n",
    "import": "import a_module_that_is_not_there\n",
    "misspelt": "from embedkit import hookimpl\n\n@hookimpl\ndef register_loses(register):\n    pass\n",
    "raises": "from embedkit import hookimpl\n\n@hookimpl\ndef register_losses(register):\n    raise RuntimeError('no luck')\n",
}
REASONS = {
    "syntax": "SyntaxError",
    "import": "a_module_that_is_not_there",
    "misspelt": "did you mean 'register_losses'?",
    "raises": "no luck",
}


def install(folder: Path, name: str, code: str) -> None:
    """What ``pip install acme-embeds`` leaves behind: a module, and metadata with an entry point."""
    folder.mkdir()
    (folder / f"acme_{name}.py").write_text(code)
    info = folder / "acme_embeds-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-embeds\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[embedkit]\nacme = acme_{name}\n")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_installed_plugin_does_not_disturb_search(way, tmp_path, monkeypatch, name):
    install(tmp_path / "site", name, BROKEN[name])
    monkeypatch.syspath_prepend(tmp_path / "site")
    answer = call("search", way.index, "--text", "red gloves", "-k", 3, "--json")
    assert len(answer.json[0]["neighbours"]) == 3
    warnings = answer.err.splitlines()
    if name == "raises":
        assert warnings == [], "a loss is not looked at by a search"
    else:
        assert len(warnings) == 1
        assert warnings[0].startswith("embedkit: warning: plugin 'acme' (acme-embeds 0.3)")
        assert REASONS[name] in warnings[0]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_installed_plugin_is_told_where_it_matters(way, tmp_path, monkeypatch, name):
    install(tmp_path / "site", name, BROKEN[name])
    monkeypatch.syspath_prepend(tmp_path / "site")
    listed = {one["name"]: one for one in call("plugins", "--json").json}
    assert listed["acme"]["state"] == "failed"
    assert REASONS[name] in listed["acme"]["error"]
    examined = call("doctor")
    assert examined.code == 1
    assert REASONS[name] in examined.out
    assert "sampled_softmax" in call("components", "loss").ok().out
    call("--strict-plugins", "components", "loss").refused("plugin 'acme' (acme-embeds 0.3)", REASONS[name])
    assert "acme" not in call("-p", "no:acme", "components", "loss").ok().err


@pytest.mark.parametrize("name", ["syntax", "import", "misspelt"])
def test_a_broken_file_that_was_asked_for_is_fatal(way, tmp_path, name):
    (tmp_path / "acme.py").write_text(BROKEN[name])
    with untouched(way.folder):
        call("-p", tmp_path / "acme.py", "search", way.index, "--text", "hat").refused("plugin 'acme'", REASONS[name])
    call("-p", tmp_path / "acne.py", "plugins").refused("acne.py: there is no such file", "no:NAME")


def test_a_file_whose_losses_fail_still_searches(way, tmp_path):
    (tmp_path / "acme.py").write_text(BROKEN["raises"])
    call("-p", tmp_path / "acme.py", "search", way.index, "--text", "hat", "-k", 2).ok()
    said = call("-p", tmp_path / "acme.py", "components", "loss")
    assert "plugin 'acme' failed in register_losses: RuntimeError: no luck" in said.err
    assert "sampled_softmax" in said.ok().out


def test_an_installed_plugin_in_a_process_of_its_own(shop, tmp_path):
    """As after ``pip install``: found through its metadata on the path, used by name, written with its version."""
    install(tmp_path / "site", "good", CENTRED.read_text())
    shop.write(edits=WITH_LOSS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}
    program = [sys.executable, "-c", "import sys; from embedkit.cli import main; sys.exit(main())"]
    command = [*program, "train", "run.toml", "--set", "model.dim=8", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "acme:centred" in (shop.folder / "runs" / "shop-s0-001" / "run.resolved.toml").read_text()
    call("train", "--resume", "runs/shop-s0-001").refused("acme:centred")
