"""Help for tests of plugins: a fake plugin, and one conformance suite a kind in ``embedkit.testing.conformance``."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl
from embedkit.host import Host
from embedkit.registry import Owner

__all__ = ["fake_plugin", "host_with"]


def fake_plugin(**hooks: Any) -> object:
    """An object whose attributes are hook functions: ``fake_plugin(register_losses=lambda register: …)``."""
    return type("FakePlugin", (), {name: staticmethod(hookimpl(function)) for name, function in hooks.items()})()


def host_with(plugins: dict[str, object], *, discover: bool = False, strict: bool = True) -> Host:
    """A host with these plugins by name, and, with ``discover``, the installed ones."""
    host = Host.load(discover=discover, strict=strict)
    for name, plugin in plugins.items():
        host.register(plugin, Owner(name))
    return host
