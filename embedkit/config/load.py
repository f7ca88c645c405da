"""Read a run file: TOML and overrides in, a validated ``RunConfig`` out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from embedkit.config.messages import problems
from embedkit.config.model import RunConfig
from embedkit.config.overrides import apply_overrides
from embedkit.errors import UsageError


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: the file is not there, is a folder, is not UTF-8, or is not TOML (with line and column).
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; `embedkit init TABLES…` writes a run file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; give the run file in it") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8, so this is no TOML file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        raise UsageError(f"{path}: is no TOML: {message[0].lower()}{message[1:]}") from None


def parse_run(data: Mapping[str, Any], *, where: str = "run file") -> RunConfig:
    """Validate the contents of a run file.

    Raises:
        UsageError: a line for everything that is wrong: ``where``, key path, what was found, what was wanted, a suggestion.
    """
    if "resolved" in data:
        raise UsageError(f"{where}: resolved: this is the resolved file of a run; give the run.toml beside it, or resume the run's folder")
    try:
        return RunConfig.model_validate(dict(data))
    except ValidationError as error:
        raise UsageError("\n".join(problems(error, RunConfig, where=f"{where}: "))) from None


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and validate a run file.

    Args:
        path: the TOML file.
        overrides: ``key.path=value`` each; see ``embedkit.config.overrides``.

    Raises:
        UsageError: as ``read_toml``, ``apply_overrides`` and ``parse_run``.
    """
    data = read_toml(Path(path))
    apply_overrides(data, overrides)
    where = f"{path} with --set {' '.join(overrides)}" if overrides else str(path)
    return parse_run(data, where=where)
