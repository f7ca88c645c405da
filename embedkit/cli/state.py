"""What the global options said, and the host they make. Passed to commands as click's ``obj``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from embedkit.host import Host
    from embedkit.registry import Registry


@dataclass
class State:
    """The global options of one call."""

    plugins: tuple[str, ...] = ()
    strict: bool = False
    debug: bool = False
    commands: dict[str, click.Command] | None = None
    """Commands of plugins, once they were asked for."""

    @cached_property
    def host(self) -> Host:
        """The host with its plugins, loaded on first use."""
        from embedkit.host import Host

        return Host.load(plugins=self.plugins, strict=self.strict or None)

    @property
    def registry(self) -> Registry:
        """The host's registry."""
        return self.host.registry


def state_of(ctx: click.Context) -> State:
    """The state of a context; made when click was called without one."""
    return ctx.ensure_object(State)


pass_state = click.make_pass_decorator(State, ensure=True)
"""Decorates a command whose first argument is the ``State``."""
