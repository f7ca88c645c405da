"""The reference pages: of the command line, made from the commands' own help, of hooks and of components.

``python -m embedkit.cli.docs > docs/cli.md``, and the same with ``hooks`` or ``components`` behind it for these pages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import click

from embedkit.cli.main import COMMANDS, cli
from embedkit.cli.state import State

WIDTH = 110


def page() -> str:
    """The page in Markdown."""
    lines = [
        "# The command line",
        "",
        "<!-- Made by `python -m embedkit.cli.docs > docs/cli.md`; a test compares it with the commands. -->",
        "",
        "Exit codes: 0 done; 1 an error of embedkit's own (run again with `--debug`); 2 something that you can mend, told in a sentence;",
        "130 interrupted. Results go to standard output, progress to standard error; `--json` prints JSON. Tables are drawn on a terminal",
        "and plain elsewhere.",
        "",
    ]
    for name, text in _helps():
        lines += [f"## {name}", "", "```", text.rstrip(), "```", ""]
    return "\n".join(lines)


def _helps() -> Iterator[tuple[str, str]]:
    """Every command with its help; commands of plugins are left to their plugins."""
    root = _context(cli, "embedkit", None)
    root.obj = State(commands={})
    yield "embedkit", cli.get_help(root)
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        context = _context(command, name, root)
        yield f"embedkit {name}", command.get_help(context)
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield f"embedkit {name} {inner}", found.get_help(_context(found, inner, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    # The group's own settings: click keeps a command's help option once it is made, so without them the page would depend on whether a
    # command ran before in this process.
    names = cli.context_settings["help_option_names"]
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=names)


def main(name: str) -> str:
    """A page by its name: ``cli``, ``hooks`` or ``components``."""
    from embedkit.cli.reference import components_page, hooks_page
    from embedkit.host import Host

    made: dict[str, Callable[[], str]] = {"cli": page, "hooks": hooks_page, "components": lambda: components_page(Host.load().registry)}
    if name not in made:
        raise SystemExit(f"there is no page '{name}'; there are {', '.join(made)}")
    return made[name]()


if __name__ == "__main__":
    click.echo(main(*sys.argv[1:2] or ["cli"]), nl=False)
