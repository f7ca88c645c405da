"""What the processes of ``test_distributed`` do, started by torchrun: several runs, one after the other, in one start."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from conftest import first_party

import embedkit
from embedkit.errors import EmbedkitError

RANK = int(os.environ["RANK"])


def run(name, file, plugin, **options):
    """One run in a folder of its own, and how it ended."""
    host = first_party(plugin)
    lines = []
    ended = "finished"
    try:
        embedkit.train(file, Path(file).parent / name, host=host, base=Path(file).parent, log=lines.append, **options)
    except KeyboardInterrupt:
        ended = "KeyboardInterrupt"
    except SystemExit as error:
        ended = f"SystemExit {error.code}"
    except (EmbedkitError, ValueError) as error:
        ended = f"{type(error).__name__}: {error}"
    return {"ended": ended, "lines": len(lines), "continued": any("continuing from step" in line for line in lines)}


def interrupted(name, file, plugin):
    """A run that the first process alone is asked to stop at its second line of metrics."""
    seen = []

    def stop(host, hook, **_):
        seen.append(hook)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    announce, embedkit.host.Host.announce = embedkit.host.Host.announce, stop
    try:
        return run(name, file, plugin)
    finally:
        embedkit.host.Host.announce = announce


def main(folder):
    plugin = str(folder / "acme.py")
    found = {}
    for name in ("events", "windows", "catalogue", "users", "staged"):
        found[name] = run(name, folder / f"{name}.toml", plugin)
    found["whole"] = run("whole", folder / "dropout.toml", plugin)
    found["stopped"] = interrupted("stopped", folder / "dropout.toml", plugin)
    found["left"] = interrupted("left", folder / "dropout.toml", plugin)
    (stopped,) = (folder / "stopped").iterdir()
    found["resumed"] = run("stopped", stopped, plugin, resume=True)
    found["wrong"] = run("wrong", folder / "wrong.toml", plugin)
    found["bug"] = run("bug", folder / "bug.toml", plugin)
    found["absent"] = run("absent", folder / "absent.toml", plugin)
    (folder / f"rank-{RANK}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
