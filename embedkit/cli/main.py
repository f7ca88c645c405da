"""The ``embedkit`` command: a lazy group, the global options, and what becomes of errors."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from embedkit._version import __version__
from embedkit.cli.state import State, state_of
from embedkit.errors import EmbedkitError

COMMANDS = {
    "init": "Write a run file inferred from tables.",
    "data": "List, describe and prepare data sets.",
    "train": "Train a model as a run file says.",
    "tune": "Try options of a run file on the validation rows.",
    "evaluate": "Measure a trained run.",
    "compare": "Compare runs, query by query.",
    "report": "Write a page about a run.",
    "embed": "Turn the rows of a table into vectors.",
    "index": "Build a nearest-neighbour index from vectors.",
    "search": "Find the nearest items of an id, a text, a row or a history.",
    "neighbours": "Write the nearest items of every item.",
    "recommend": "Write the best items of every user.",
    "runs": "List runs.",
    "config": "Check run files; print their schema.",
    "bundle": "Look into a trained bundle.",
    "components": "List components and their options.",
    "plugins": "List plugins.",
    "doctor": "Say whether this installation is well.",
    "demo": "The whole way on real data in a few minutes.",
}
"""Command → its line in ``--help``. The command is ``command`` in ``embedkit.cli.<name>``; nothing is imported to list them."""


class Group(click.Group):
    """Imports a command when it is asked for; plugins' commands are added when the list or an unknown name wants them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands in their order, then those of plugins."""
        return [*COMMANDS, *sorted(self._of_plugins(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"embedkit.cli.{cmd_name}").command
            return command
        return self._of_plugins(ctx).get(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a suggestion for a misspelt command."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from embedkit.errors import suggest

            ctx.fail(f"there is no command '{args[0]}'{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Our commands from the table above, so that none is imported."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS.get(name) or self._of_plugins(ctx)[name].get_short_help_str()) for name in names])

    def _of_plugins(self, ctx: click.Context) -> dict[str, click.Command]:
        """Commands that plugins add. They belong to the call's host, so they are kept with it and not in this group."""
        state = state_of(ctx)
        if state.commands is None:
            group = click.Group(commands={name: click.Command(name) for name in COMMANDS})
            state.host.add_commands(group)
            state.commands = {name: command for name, command in group.commands.items() if name not in COMMANDS}
        return state.commands


def _keep(name: str) -> Any:
    """An eager option's callback: the host may be needed before the group itself runs, to list plugins' commands."""

    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        setattr(state_of(ctx), name, value)
        return value

    return callback


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, no_args_is_help=True)
@click.version_option(__version__, prog_name="embedkit", message="%(prog)s %(version)s")
@click.option(
    "-p", "plugins", multiple=True, metavar="FILE|no:NAME", is_eager=True, expose_value=False, callback=_keep("plugins"),
    help="Load a one-file plugin, or leave a plugin out. Repeatable.",
)  # fmt: skip
@click.option(
    "--strict-plugins",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_keep("strict"),
    help="A plugin that fails to load ends the command.",
)
@click.option("--debug", is_flag=True, is_eager=True, expose_value=False, callback=_keep("debug"), help="Show the whole stack of an error.")
def cli() -> None:
    """Tables of things in, trained vectors and a nearest-neighbour index out; every part is a plugin."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done; 1 an error that is ours; 2 one that you can mend, told in a sentence; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    state = State()
    showwarning = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        code = cli.main(args=arguments, prog_name="embedkit", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0  # click gives the code of a command that ended itself with Exit
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return 130
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click >= 8.2: the message is the help
            error.show()
            return error.exit_code
        context = getattr(error, "ctx", None)
        command = "embedkit" if context is None else context.command_path
        _say(f"{error.format_message().rstrip('.')}; see `{command} --help`")
        return error.exit_code
    except EmbedkitError as error:
        if state.debug:
            traceback.print_exc()
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe has left (`| head`): no error. The stream must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if state.debug:
            traceback.print_exc()
            return 1
        text = str(error).strip().split("\n")[0]
        _say(f"unexpected {type(error).__name__}{': ' + text if text else ''}; run again with --debug for the whole story")
        return 1
    finally:
        warnings.showwarning = showwarning


def _say(text: str) -> None:
    """Sentences for people go to standard error."""
    for line in text.split("\n"):
        click.echo(f"embedkit: {line}", err=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
        return
    _say(f"warning: {message}")
