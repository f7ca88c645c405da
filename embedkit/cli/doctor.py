"""``embedkit doctor``: say whether this installation is well, and what to do where it is not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from importlib import metadata

import click

from embedkit._version import __version__
from embedkit.cli.render import json_option, show_json, show_table, size_of
from embedkit.cli.state import State, pass_state

Check = tuple[str, bool, str]
"""What was looked at, whether it is well, what was found."""


@click.command("doctor")
@json_option
@pass_state
def command(state: State, as_json: bool) -> None:
    """Look at Python, libraries, plugins, devices, memory and disk. Exits with 1 when something is wrong."""
    checks = [_python(), *_libraries(), *_plugins(state), *_machine()]
    if as_json:
        show_json([{"what": what, "well": well, "found": found} for what, well, found in checks])
    else:
        show_table(("what", "well", "found"), checks)
    if not all(well for _, well, _ in checks):
        raise click.exceptions.Exit(1)


def _python() -> Check:
    return (
        "python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.system()} {platform.machine()}; embedkit {__version__}",
    )


def _libraries() -> list[Check]:
    """Import what embedkit stands on: a library that is there may still be broken."""
    checks: list[Check] = []
    for name in ("numpy", "pyarrow", "polars", "torch", "safetensors", "hnswlib"):
        try:
            importlib.import_module(name)
            checks.append((name, True, metadata.version(name)))
        except Exception as error:
            checks.append((name, False, f"{type(error).__name__}: {error}; install it again"))
    return checks


def _plugins(state: State) -> list[Check]:
    """Load every component's class, so that a broken one is found before a run needs it."""
    for kind in state.registry.kinds:
        state.registry.entries(kind)
    checks: list[Check] = [(f"plugin {p.owner.plugin}", p.state != "failed", p.error or p.state) for p in state.host.plugins()]
    if not checks:
        checks.append(("plugins", False, "none found; install embedkit (pip install -e .), so that its entry points are there"))
    for kind in state.registry.kinds:
        for entry in state.registry.entries(kind):
            try:
                entry.load()
                entry.config_class()
            except Exception as error:
                checks.append((f"{kind} {entry.qualified}", False, str(error)))
    return checks


def _machine() -> list[Check]:
    import psutil

    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(".").free
    checks: list[Check] = [
        ("cores", True, str(os.cpu_count())),
        ("free memory", memory > 1e9, size_of(memory)),
        ("free disk here", disk > 1e9, size_of(disk)),
    ]
    try:
        import torch

        from embedkit.training.compute import bfloat16_speed

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        checks.append(("GPU", True, ", ".join(gpus) or "none; training runs on the CPU"))
        checks.append(("bfloat16 on the CPU", True, f"products {bfloat16_speed():.1f} times as fast as in float32"))
    except Exception as error:
        checks.append(("GPU", False, f"{type(error).__name__}: {error}"))
    return checks
