"""Run benchmarks and write docs/benchmarks.md: ``python tests/benchmarks/run.py [NAME…] [--quick]``.

Each benchmark runs in a process of its own. What it found is kept in ``.bench/NAME.json``; the page is made of these once all are there, so
that single benchmarks can be run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import report
from harness import Section

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".bench"
PAGE = ROOT / "docs" / "benchmarks.md"
NAMES = (
    "train_step",
    "next_item",
    "next_item_gpu",
    "tjepa_step",
    "tjepa_floor",
    "tjepa_columns",
    "step_memory",
    "graph",
    "search",
    "ranking",
    "embed_memory",
    "start_up",
    "kills",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which benchmarks: {', '.join(NAMES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, to see that everything runs; writes no page")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    RESULTS.mkdir(exist_ok=True)
    if options.one:
        run_one(options.names[0], options.quick)
        return 0
    failed = [name for name in options.names or NAMES if not run_apart(name, options.quick)]
    if not options.quick:
        write_page()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def run_apart(name: str, quick: bool) -> bool:
    """Run one benchmark in a process of its own; says whether it ended well."""
    print(f"== {name}", flush=True)
    command = [sys.executable, str(Path(__file__)), "--one", name, *(["--quick"] if quick else [])]
    return subprocess.run(command, check=False).returncode == 0


def run_one(name: str, quick: bool) -> None:
    """Run one benchmark here, show and keep what it found."""
    found = report.facts()
    start = time.perf_counter()
    run: Callable[[bool], list[Section]] = import_module(name).run
    sections = run(quick)
    took = time.perf_counter() - start
    for section in sections:
        print(f"{section.title}\n{report.table(section.header, section.rows) if section.rows else section.text}", flush=True)
        for goal in section.goals:
            print(f"  {goal.what}: wanted {goal.wanted}, found {goal.found}")
    result = {
        "facts": found,
        "seconds": took,
        "command": f"python tests/benchmarks/run.py {name}",
        "sections": [section.to_json() for section in sections],
    }
    kept = RESULTS / ("quick" if quick else "") / f"{name}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")


def write_page() -> None:
    """Write the page when every benchmark was run here: what another checkout measured is not to be lost for want of one of them."""
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in NAMES if (RESULTS / f"{name}.json").is_file()}
    where = PAGE.relative_to(ROOT)
    if missing := [name for name in NAMES if name not in results]:
        print(f"{where} is left as it is: not run here yet: {', '.join(missing)}")
        return
    PAGE.write_text(report.render(results))
    print(f"wrote {where}")


if __name__ == "__main__":
    sys.exit(main())
