"""docs/benchmarks.md, from what the benchmarks found."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import Section

_INTRO = """# Benchmarks

`make bench` wrote this page; edit `tests/benchmarks/`, not this. Ratios are medians of paired ratios: the sides take turns within one
run on one machine, and only times of the same round are divided (in brackets: the smallest and the largest pair). Times are medians.
Absolute times depend on the machine and on what else it does; ratios far less."""

_LIBRARIES = ("torch", "numpy", "polars", "pyarrow", "hnswlib")


def facts() -> dict[str, Any]:
    """When and where a benchmark ran."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "commit": _commit(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    here = Path(__file__).parent
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page.

    Args:
        results: benchmark → its ``facts``, ``seconds``, ``command`` and ``sections`` (as JSON).
    """
    sections = {name: [Section.from_json(one) for one in result["sections"]] for name, result in results.items()}
    words = {True: "yes", False: "**no**", None: "-"}
    goals = [[g.what, g.wanted, g.found, words[g.met]] for found in sections.values() for s in found for g in s.goals]
    parts = [_INTRO, "## Goals", table(["what", "wanted", "found", "met"], goals)]
    for name, found in sections.items():
        for section in found:
            parts += [f"## {section.title}", section.text]
            if section.rows:
                parts.append(table(section.header, section.rows))
        result = results[name]
        parts.append(f"`{result['command']}`, {result['seconds']:.0f} s; {_where(result['facts'])}.")
    parts += ["## Machine", _machine(results)]
    return "\n\n".join(parts) + "\n"


def _where(facts: Mapping[str, Any]) -> str:
    return f"{facts['date']}, commit {facts['commit']}, load average at the start {facts['load']}"


def _machine(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Facts of the machines, each once."""
    keys = ("processor", "cores", "memory", "system", "python", "libraries")
    machines = list(dict.fromkeys(tuple(str(result["facts"][key]) for key in keys) for result in results.values()))
    return table(
        ["", *(f"machine {i + 1}" if len(machines) > 1 else "" for i in range(len(machines)))], list(zip(keys, *machines, strict=True))
    )
