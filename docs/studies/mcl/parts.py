"""What the studies of this folder share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from embedkit.files import atomic_write


def within_clusters(stage: Callable[..., dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """The stages of MCL behind the first: clusters of its vectors, new weights, and batches of one cluster each.

    Args:
        stage: makes a train stage of a name, with options of its stream.
        k: clusters.
    """
    return [
        {"use": "cluster", "name": "clusters", "tower": "row", "k": k, "method": "full"},
        {"use": "snapshot", "name": "first", "restart": True},
        stage("second", sampler="within_cluster", groups={"stage": "clusters"}),
    ]


def only_with(parser: argparse.ArgumentParser, options: argparse.Namespace, names: Sequence[str]) -> None:
    """Note in the folder of results what it was made with; end with one sentence where that was something else."""
    options.out.mkdir(parents=True, exist_ok=True)
    said = json.dumps({name: getattr(options, name) for name in names})
    note = options.out / "options.json"
    if note.exists() and note.read_text() != said:
        parser.error(f"{options.out} holds results of other options ({note.read_text()}): name another folder")
    atomic_write(note, said)
