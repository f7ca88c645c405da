"""``embedkit plugins``: what was found, where it came from, what failed."""

from __future__ import annotations

import click

from embedkit.cli.render import json_option, show_json, show_table
from embedkit.cli.state import State, pass_state


@click.command("plugins")
@json_option
@pass_state
def command(state: State, as_json: bool) -> None:
    """List plugins: name, state, distribution, hooks; and why one failed."""
    for kind in state.registry.kinds:
        state.registry.entries(kind)  # so that a plugin that fails to register is told, too
    found = state.host.plugins()
    if as_json:
        show_json(
            [
                {
                    "name": info.owner.plugin,
                    "state": info.state,
                    "distribution": info.owner.distribution,
                    "version": info.owner.version,
                    "source": info.source,
                    "hooks": list(info.hooks),
                    "error": info.error,
                }
                for info in found
            ]
        )
        return
    rows = []
    for info in found:
        came = f"{info.owner.distribution} {info.owner.version}" if info.owner.distribution else info.source
        registers = ", ".join(hook.removeprefix("register_") for hook in info.hooks)
        rows.append((info.owner.plugin, info.state, came, info.error or registers))
    show_table(("plugin", "state", "from", "registers"), rows, empty="no plugins; is embedkit installed (pip install -e .)?")
