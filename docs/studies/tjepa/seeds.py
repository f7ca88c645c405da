"""Arms with several seeds each, kept as they are measured, and whether claims hold: what ``noise.py`` and ``bias.py`` share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from embedkit.files import atomic_write

Found = dict[str, dict[str, float]]
"""``arm/seed`` → its figures."""


def word(holds: bool) -> str:
    """Of a claim."""
    return "yes" if holds else "no"


def main(
    said: str, name: str, arms: Sequence[str], measure: Callable[[str, int, Path], dict[str, float]], page: Callable[[Found, int], str]
) -> None:
    """Run what is not known yet, and write the report.

    Args:
        said: what the study asks, for ``--help``.
        name: of its files, ``NAME.json`` and ``NAME.md``.
        arms: what is compared.
        measure: (arm, seed, folder of results) → figures.
        page: (figures, seeds) → the report.
    """
    parser = argparse.ArgumentParser(description=said)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and runs")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.json"
    found: Found = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(options.seeds):
        for arm in arms:
            if (key := f"{arm}/{seed}") not in found:
                found[key] = measure(arm, seed, options.out)
                atomic_write(path, json.dumps(found, indent=1) + "\n")
                print(key, {figure: round(value, 3) for figure, value in found[key].items()}, flush=True)
    text = page(found, options.seeds)
    atomic_write(options.out / f"{name}.md", text)
    print(text)
