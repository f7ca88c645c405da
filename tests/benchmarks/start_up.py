"""What `embedkit --help` costs, and which modules it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import Goal, Section, interleave, milliseconds

HEAVY = ("torch", "polars", "pyarrow", "numpy", "pandas", "scipy", "matplotlib", "hnswlib", "sentence_transformers")
NEVER = ("torch", "polars", "sentence_transformers")
LIMIT = 0.3
_IMPORTED = f"""
import sys
from embedkit.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print("imported:", *(name for name in {HEAVY!r} if name in sys.modules))
"""


def run(quick: bool) -> list[Section]:
    """Median of 20 starts beside a bare interpreter."""
    rounds = 5 if quick else 20
    script = Path(sys.executable).with_name("embedkit")
    commands = {"embedkit --help": [str(script), "--help"], "python -c pass": [sys.executable, "-c", "pass"]}
    sides = {name: lambda command=command: subprocess.run(command, check=True, capture_output=True) for name, command in commands.items()}
    times = interleave(sides, rounds)
    took = times.median("embedkit --help")
    printed = subprocess.run([sys.executable, "-c", _IMPORTED], check=True, capture_output=True, text=True).stdout
    loaded = set(printed.splitlines()[-1].split()[1:])
    rows = [
        [f"`{name}`", milliseconds(times.median(name)), milliseconds(min(times.seconds[name])), milliseconds(max(times.seconds[name]))]
        for name in sides
    ]
    left = ", ".join(name for name in HEAVY if name not in loaded)
    goals = [
        Goal("`embedkit --help`", f"at most {LIMIT} s", f"{took:.3f} s", took <= LIMIT),
        Goal(
            "imported by it",
            f"never {', '.join(NEVER)}",
            f"of the heavy modules: {', '.join(sorted(loaded)) or 'none'}",
            not loaded & set(NEVER),
        ),
    ]
    text = f"Wall time of a whole process, median of {rounds}, interleaved. Not imported by `embedkit --help`: {left}."
    return [Section("Start-up", text, ["command", "median", "smallest", "largest"], rows, goals)]
