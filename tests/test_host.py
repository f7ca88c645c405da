"""The host: plugins load one at a time, every answer has an owner, a broken plugin disturbs nobody else."""

from __future__ import annotations

import warnings
from pathlib import Path

import click
import pytest

from embedkit.component import Config
from embedkit.errors import PluginError, UsageError
from embedkit.hookspecs import REGISTRATION
from embedkit.host import Host, Problem
from embedkit.registry import Owner
from embedkit.testing import fake_plugin, host_with


class Options(Config):
    rate: float = 1.0
    """A rate."""


class Thing:
    def __init__(self, config, *, context):
        self.config, self.context = config, context


def losses(name: str, target: object = Thing):
    return fake_plugin(register_losses=lambda register: register(name, target, config=Options, summary="a thing"))


def one_file(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def test_an_entry_knows_its_owner_and_builds_its_component():
    host = host_with({"acme": losses("fast")})
    entry = host.registry.entry("loss", "fast")
    assert (entry.qualified, entry.owner, entry.summary) == ("acme:fast", Owner("acme"), "a thing")
    component = entry.create(entry.parse({"rate": 2}, where="run.toml"), context="data")
    assert (component.config.rate, component.context) == (2.0, "data")


def test_two_owners_of_a_name_must_be_told_apart():
    host = host_with({"acme": losses("fast"), "bolt": losses("fast")})
    with pytest.raises(UsageError, match="more than one plugin: write one of 'acme:fast' .*'bolt:fast'"):
        host.registry.entry("loss", "fast")
    assert host.registry.entry("loss", "bolt:fast").owner == Owner("bolt")


def test_a_misspelt_name_or_option_gets_a_suggestion():
    host = host_with({"acme": losses("fast")})
    with pytest.raises(UsageError, match=r"no loss called 'fats'; did you mean 'fast'\?"):
        host.registry.entry("loss", "fats")
    with pytest.raises(UsageError, match=r"run.toml: stages.0.rat: unknown key 'rat' of loss 'fast'; did you mean 'rate'\?"):
        host.registry.entry("loss", "fast").parse({"rat": 1}, where="run.toml: stages.0")
    with pytest.raises(UsageError, match="no kind of component called 'los'; did you mean 'loss'"):
        host.registry.entries("los")


def test_a_bundle_that_needs_a_missing_plugin_says_which():
    host = host_with({"acme": losses("fast")})
    with pytest.raises(PluginError, match=r"needs loss bolt:slow from bolt-embeds 0\.3: install it"):
        host.registry.entry("loss", "bolt:slow", distribution="bolt-embeds", version="0.3")


def test_a_plugin_that_fails_in_a_hook_loses_only_that_kind():
    def broken(register):
        raise ValueError("no such table")

    host = host_with(
        {
            "acme": losses("fast"),
            "bad": fake_plugin(register_losses=broken, register_trunks=lambda register: register("t", Thing, config=Options)),
        },
        strict=False,
    )
    with pytest.warns(UserWarning, match="plugin 'bad' failed in register_losses: ValueError: no such table"):
        assert [entry.name for entry in host.registry.entries("loss")] == ["fast"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [entry.name for entry in host.registry.entries("trunk")] == ["t"]
        assert [entry.name for entry in host.registry.entries("loss")] == ["fast"], "the failure is told once"
    with pytest.raises(PluginError, match="'bad' failed in register_losses"):
        host.registry.entry("loss", "bad:slow")


def test_a_broken_loss_is_not_touched_by_another_kind():
    called = []
    host = host_with({"bad": fake_plugin(register_losses=lambda register: called.append(1))})
    host.registry.entries("index")
    assert not called


def test_a_target_that_cannot_be_imported_names_the_plugin():
    host = host_with({"acme": losses("fast", "no_such_module:Thing")})
    with pytest.raises(PluginError, match="plugin 'acme' cannot load loss 'fast' from no_such_module:Thing: ModuleNotFoundError"):
        host.registry.entry("loss", "fast").load()


@pytest.mark.parametrize(
    ("kind", "option"), [("loss", "weight"), ("augmentation", "of"), ("encoder", "fields"), ("sampler", "size"), ("trunk", "use")]
)
def test_an_option_called_as_a_key_beside_it_is_the_plugins_error(kind, option):
    options = type("Options", (Config,), {"__annotations__": {option: float}, option: 1.0})
    host = host_with({"acme": fake_plugin(**{REGISTRATION[kind]: lambda register: register("fast", Thing, config=options)})})
    with pytest.raises(PluginError, match=f"plugin 'acme': an option of {kind} 'fast' is called '{option}', which run files write beside"):
        host.registry.entry(kind, "fast").parse({}, where="run.toml")


def test_a_misspelt_hook_is_an_error(tmp_path):
    path = one_file(tmp_path, "acme", "from embedkit import hookimpl\n@hookimpl\ndef register_loses(register): ...\n")
    with pytest.raises(PluginError, match=r"plugin 'acme': there is no hook called 'register_loses'; did you mean 'register_losses'\?"):
        Host.load(plugins=[path], discover=False)


def test_a_hook_with_an_unknown_argument_is_an_error():
    with pytest.raises(PluginError, match="registre"):
        host_with({"acme": fake_plugin(register_losses=lambda registre: None)})


def test_a_one_file_plugin_is_named_by_its_stem(tmp_path):
    path = one_file(
        tmp_path,
        "acme",
        "from embedkit import hookimpl\nfrom embedkit.component import Config\nclass L: ...\n"
        "@hookimpl\ndef register_losses(register):\n    register('fast', L, config=Config)\n",
    )
    host = Host.load(plugins=[path], discover=False)
    assert host.registry.entry("loss", "acme:fast").owner == Owner("acme", None, None)
    with pytest.raises(UsageError, match="two plugins are called 'acme'"):
        Host.load(plugins=[path, path], discover=False)


@pytest.mark.parametrize(("text", "error"), [("1/0", "ZeroDivisionError"), ("def (", "SyntaxError")])
def test_a_one_file_plugin_that_does_not_load_is_fatal_because_it_was_asked_for(tmp_path, text, error):
    with pytest.raises(PluginError, match=f"plugin 'acme' failed to load: {error}"):
        Host.load(plugins=[one_file(tmp_path, "acme", text)], discover=False)
    with pytest.raises(UsageError, match="there is no such file"):
        Host.load(plugins=["nowhere.py"], discover=False)


def test_first_party_plugins_are_found_and_any_can_be_left_out():
    host = Host.load()
    loaded = {info.owner.plugin for info in host.plugins() if info.state == "loaded"}
    assert {"tabular", "text", "sequence", "itemrec", "unified", "contrastive", "training", "hnsw", "datasets"} <= loaded
    host = Host.load(plugins=["no:hnsw"])
    assert {info.owner.plugin: info.state for info in host.plugins()}["hnsw"] == "blocked"
    with pytest.raises(PluginError, match="plugin 'hnsw' is switched off"):
        host.registry.entry("index", "hnsw:hnsw")
    with pytest.raises(UsageError, match=r"-p no:hsnw: there is no plugin called 'hsnw'; did you mean 'hnsw'\?"):
        Host.load(plugins=["no:hsnw"])


def test_every_first_party_component_loads_and_has_a_summary():
    host = Host.load(strict=True)
    for kind in host.registry.kinds:
        for entry in host.registry.entries(kind):
            entry.load()
            assert entry.summary, f"{kind} {entry.qualified} has no summary"
            undocumented = [name for name, f in entry.config_class().model_fields.items() if not f.description]
            assert not undocumented, f"{kind} {entry.qualified}: options without help: {undocumented}"


def test_the_environment_allows_only_named_third_party_plugins(monkeypatch):
    monkeypatch.setenv("EMBEDKIT_PLUGINS", "")
    assert {info.state for info in Host.load().plugins() if info.owner.distribution == "embedkit"} == {"loaded"}


def test_requirements_are_checked():
    host = host_with({})
    host.require(["pluggy>=1"])
    with pytest.raises(PluginError, match=r"wants pluggy>=99, but pluggy .* is installed"):
        host.require(["pluggy>=99"])
    with pytest.raises(PluginError, match="no-such-thing is not installed"):
        host.require(["no-such-thing"])
    with pytest.raises(UsageError, match="is no requirement"):
        host.require(["what is this"])


def test_problems_of_all_plugins_are_collected_in_the_order_of_names():
    a = fake_plugin(check_config=lambda config: [Problem("x", "first")])
    b = fake_plugin(check_config=lambda registry: [Problem("y", "second")])
    assert [p.message for p in host_with({"b": b, "a": a}).check_config(None)] == ["first", "second"]


def test_an_observer_that_fails_stops_nobody():
    heard = []
    host = host_with(
        {"bad": fake_plugin(step_reported=lambda report: 1 / 0), "good": fake_plugin(step_reported=lambda report: heard.append(report))}
    )
    with pytest.warns(UserWarning, match="plugin 'bad' failed in step_reported: ZeroDivisionError"):
        host.announce("step_reported", report={"step": 1})
    assert heard == [{"step": 1}]


def test_commands_are_added_and_a_taken_name_is_refused():
    cli = click.Group("embedkit", commands={"train": click.Command("train")})
    train = cli.commands["train"]
    host = host_with(
        {
            "good": fake_plugin(register_commands=lambda cli: cli.add_command(click.Command("hello"))),
            "thief": fake_plugin(register_commands=lambda cli: cli.add_command(click.Command("train"))),
        },
        strict=False,
    )
    with pytest.warns(UserWarning, match="plugin 'thief' failed in register_commands: the command 'train' is there already"):
        host.add_commands(cli)
    assert set(cli.commands) == {"train", "hello"}
    assert cli.commands["train"] is train


def test_the_trace_prints_hook_calls(monkeypatch, capsys):
    monkeypatch.setenv("EMBEDKIT_TRACE", "1")
    host = host_with({"acme": losses("fast")})
    host.registry.entries("loss")
    assert "register_losses" in capsys.readouterr().err
