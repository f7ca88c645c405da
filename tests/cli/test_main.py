from __future__ import annotations

import json
import subprocess
import sys

import pytest

from embedkit.cli.main import COMMANDS


def test_help_lists_every_command(embedkit):
    answer = embedkit("--help")
    assert answer.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, embedkit):
    answer = embedkit(name, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: embedkit {name}")


def test_misspelt_command_gets_a_suggestion(embedkit):
    answer = embedkit("trian")
    assert answer.code == 2
    assert "there is no command 'trian'; did you mean 'train'?" in answer.err


def test_bad_input_is_one_sentence_and_exit_code_2(embedkit, tmp_path):
    answer = embedkit("train", tmp_path / "nothing.toml")
    assert answer.code == 2
    assert answer.err == f"embedkit: {tmp_path}/nothing.toml: there is no such file; `embedkit init TABLES…` writes a run file\n"
    assert answer.out == ""


def test_an_error_of_ours_is_one_sentence_and_exit_code_1(embedkit, monkeypatch, tmp_path):
    def broken(root):
        raise ValueError("boom\nmore")

    monkeypatch.setattr("embedkit.cli.runs.list_runs", broken)
    answer = embedkit("runs", "--runs-dir", tmp_path)
    assert answer.code == 1
    assert answer.err == "embedkit: unexpected ValueError: boom; run again with --debug for the whole story\n"
    assert "Traceback" in embedkit("--debug", "runs").err


def test_interruption_exits_with_130(embedkit, monkeypatch):
    def interrupted(root):
        raise KeyboardInterrupt

    monkeypatch.setattr("embedkit.cli.runs.list_runs", interrupted)
    assert embedkit("runs").code == 130


def test_a_reader_that_leaves_is_no_error(tmp_path):
    code = "import sys; from embedkit.cli import main; sys.exit(main(['config', 'schema']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""


PLUGIN = """
import click
import embedkit

@embedkit.hookimpl
def register_commands(cli):
    @cli.command()
    def greet():
        "Say hello."
        click.echo("hello")
"""


def test_a_one_file_plugin_adds_a_command(embedkit, tmp_path):
    plugin = tmp_path / "greeter.py"
    plugin.write_text(PLUGIN)
    assert "Say hello." in embedkit("-p", plugin, "--help").out
    assert embedkit("-p", plugin, "greet").out == "hello\n"
    assert embedkit("greet").code == 2


def test_a_plugin_cannot_take_a_command_of_ours(embedkit, tmp_path):
    plugin = tmp_path / "thief.py"
    plugin.write_text(PLUGIN.replace("def greet", "def train"))
    answer = embedkit("-p", plugin, "--help")
    assert answer.code == 0
    assert "the command 'train' is there already" in answer.err
    assert "Train a model as a run file says." in answer.out


def test_plugins_can_be_left_out(embedkit):
    answer = embedkit("-p", "no:hnsw", "plugins", "--json")
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(answer.out)}
    assert states["hnsw"] == "blocked"
    assert states["tabular"] == "loaded"


def test_a_plugin_that_fails_is_told_and_does_not_stop_the_others(embedkit, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise RuntimeError('out of order')")
    answer = embedkit("-p", plugin, "plugins")
    assert answer.code == 2
    assert "plugin 'broken' failed to load: RuntimeError: out of order" in answer.err


def test_components_show_options_with_types_defaults_and_help(embedkit):
    answer = embedkit("components", "loss", "sampled_softmax", "--json")
    options = {option["name"]: option for option in json.loads(answer.out)["options"]}
    assert options["query"]["required"]
    assert options["temperature"]["type"] == "number or schedule"
    assert all(option["help"] for option in options.values())
    assert "did you mean 'sampled_softmax'" in embedkit("components", "loss", "sampled_softmx").err
    assert "there is no kind of component called 'lose'" in embedkit("components", "lose").err


def test_every_registered_component_describes_itself(embedkit):
    for one in json.loads(embedkit("components", "--json").out):
        assert one["summary"], one
        described = json.loads(embedkit("components", one["kind"], one["qualified"], "--json").out)
        assert all(option["help"] for option in described["options"]), one


def test_doctor_finds_this_installation_well(embedkit):
    answer = embedkit("doctor", "--json")
    assert answer.code == 0, answer.out
    assert all(check["well"] for check in json.loads(answer.out))
