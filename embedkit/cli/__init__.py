"""The command line: a thin skin over ``embedkit.api``. A command's module is imported when the command runs, torch when it is needed."""

from __future__ import annotations

from embedkit.cli.main import main

__all__ = ["main"]
