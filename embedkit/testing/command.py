"""The command line in a test: what a command answered, and what it must not have written."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def ok(self) -> Answer:
        """The answer, when the command went well."""
        assert self.code == 0, self.err
        return self

    @property
    def json(self) -> Any:
        """Standard output of a command that went well, parsed."""
        return json.loads(self.ok().out)

    def refused(self, *parts: str) -> str:
        """The one sentence of a refusal: exit code 2, the last line said, no stack, and every one of ``parts`` in it."""
        errors = [line for line in self.err.splitlines() if line.startswith("embedkit:")]
        assert self.code == 2, f"exit code {self.code}: {self.err or self.out}"
        assert "Traceback" not in self.err
        assert len(errors) == 1, errors
        assert self.err.splitlines()[-1] == errors[0], "the sentence is the last thing said"
        for part in parts:
            assert part in errors[0], f"{part!r} is not in: {errors[0]}"
        return errors[0]


def call(*arguments: object) -> Answer:
    """Run ``embedkit ARGUMENTS…`` in this process."""
    from embedkit.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size; -1 for a folder."""
    return {str(path.relative_to(folder)): path.stat().st_size if path.is_file() else -1 for path in folder.rglob("*")}


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Fail when what happens inside makes, removes or resizes anything below ``folder``."""
    before = contents(folder)
    yield
    assert contents(folder) == before
