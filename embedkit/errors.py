"""The errors that embedkit raises on purpose.

Each carries one clear sentence: where (file, column, row), what was found, what was wanted, what to do. The command line prints that
sentence and exits with 2; nothing else of the stack is shown unless ``--debug`` asks for it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class EmbedkitError(Exception):
    """Base of every error that a user can cause and mend. ``exit_code`` is what the command line exits with."""

    exit_code = 2


class UsageError(EmbedkitError):
    """A run file, option or argument is wrong."""


class DataError(EmbedkitError):
    """A table holds something that it must not, or lacks something that it must hold."""


class PluginError(EmbedkitError):
    """A plugin is missing, broken, of the wrong version, or two plugins claim one name."""


class BundleError(EmbedkitError):
    """A bundle, embedding folder or index on disk is damaged, incomplete or needs something that is not here."""


class SpaceMismatch(BundleError):  # noqa: N818 - the plan's name; it reads as a noun at every raise
    """Vectors of one space were about to be compared with vectors of another."""


def suggest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing: the end of many a sentence above."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


@contextmanager
def told() -> Iterator[None]:
    """For scripts, around what they do or on it (``@told()``): an error that a user can mend, or a file that is not there, ends the
    process with one sentence and exit code 2, as on the command line.

    Raises:
        SystemExit: in place of such an error.
    """
    try:
        yield
    except (EmbedkitError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(EmbedkitError.exit_code) from None
