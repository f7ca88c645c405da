"""kill -9 at random moments of training, embedding and indexing, then on again: what is there in the end must be what was to be there."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from harness import Goal, Section
from safetensors.torch import load_file

from embedkit.api import build_index
from embedkit.host import Host
from embedkit.index.bundle import IndexBundle
from embedkit.launch import prepare
from embedkit.testing.conformance.index import unit_vectors
from embedkit.testing.embeddings import write_embeddings
from embedkit.testing.kills import kill, start
from embedkit.testing.shop import make_bundle, run_config, write_tables

KILLS = 20
SEED = 0

TEXT = """Each process is killed after a time drawn uniformly from 0 to what a whole uninterrupted one takes, started again, and so on until
it ends; then a new one begins, until there were {kills} kills. *train*: {steps} steps of two losses over two streams with masking and
dropout, a checkpoint every 3 steps, validation every 20; equal means every tensor of the bundle, bit for bit. *embed*: 16 units; equal
means every file byte for byte, but for the order in which the units were noted. *index*: after each kill the folder must open, every
checksum must hold and a search must find what the first generation found; the process builds one generation after the other, and the
time is drawn up to that of three."""

TRAIN = """
from embedkit.host import Host
from embedkit.launch import reopen
from embedkit.training.run import train_run
host = Host.load()
train_run(*reopen(folder, host), host, resume=True)
"""
EMBED = """
import torch
from embedkit.bundle import load_bundle
from embedkit.embed.stream import embed
from embedkit.host import Host
torch.set_num_threads(1)
embed(load_bundle(bundle, Host.load().registry), out, table="*.parquet", base=base)
"""
INDEX = """
from embedkit.api import build_index
for _ in range(builds):
    build_index(embeddings, out, backend={"use": "hnsw", "deterministic": True}, keep=[], threads=1)
"""


@dataclass
class Tally:
    """What happened: kills, where they fell, and how many whole results were compared."""

    kills: int = 0
    moments: list[str] = field(default_factory=list)
    compared: int = 0
    equal: int = 0

    def add(self, same: bool) -> None:
        self.compared += 1
        self.equal += same


def run(quick: bool) -> list[Section]:
    """All three."""
    wanted = 4 if quick else KILLS
    draw = random.Random(SEED)
    rows, goals = [], []
    for name, trial in {"train": train, "embed": embed, "index": index}.items():
        with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as root:
            tally = trial(Path(root), wanted, draw)
        rows.append([name, str(tally.kills), f"{tally.equal} of {tally.compared}", ", ".join(tally.moments)])
        goals.append(
            Goal(f"`{name}` after {tally.kills} kills", "all equal", f"{tally.equal} of {tally.compared}", tally.equal == tally.compared)
        )
    header = ["what", "kills", "equal to the uninterrupted", "where the kills fell"]
    return [Section("Kills and resumes", TEXT.format(kills=wanted, steps=STEPS), header, rows, goals)]


# ---------------------------------------------------------------------- train

STEPS = 90


def train(root: Path, wanted: int, draw: random.Random) -> Tally:
    """Runs that are killed and resumed until they end; the moments are the steps of the newest checkpoints."""
    write_tables(root, users=120)
    run_file = run_config(
        tables={
            "items": {"uri": "items-*.parquet", "key": "item_id"},
            "events": {
                "uri": "events.parquet",
                "join": {"item_id": "items"},
                "user": "customer",
                "position": "day",
                "split": {"by": "position", "valid": 1, "test": 1},
            },
        },
        model={"dim": 16, "trunks": {"user": {"use": "transformer", "dropout": 0.2}}, "head": {"use": "matryoshka", "dims": [4, 8, 16]}},
        stages=[
            {
                "use": "train",
                "steps": STEPS,
                "streams": {
                    "main": {"table": "events", "rows": "events", "sampler": "shuffle", "size": 128},
                    "ssl": {"table": "items", "sampler": "uniform", "size": 64},
                },
                "views": [{"use": "random_masking", "of": "ssl", "makes": ["a", "b"]}],
                "losses": [
                    {"use": "sampled_softmax", "query": "user", "target": "item"},
                    {"use": "info_nce", "tower": "item", "views": ["a", "b"], "weight": 0.2},
                ],
                "optimizer": {"use": "adamw", "lr": {"from": 0.01, "to": 0.001, "shape": "cosine", "warmup": 4}},
                "checkpoint_every": 3,
                "validate": {"every": 20, "metric": "loss"},
            }
        ],
        compute={"device": "cpu", "threads": 1},
    )
    launch = prepare(run_file, Host.load(), base=root)

    def folder() -> Path:
        made = launch.create_folder(root / "runs")
        made.set_status("interrupted")
        return made.path

    def weights(path: Path) -> dict[str, torch.Tensor]:
        return load_file(path / "bundle" / "model.safetensors")

    def equal(a: Path, b: Path) -> bool:
        one, two = weights(a), weights(b)
        return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)

    def moment(path: Path) -> str:
        steps = [int(one.name[5:]) for one in (path / "checkpoints" / "stage-0").glob("step-*")]
        return f"step {max(steps, default=0)}"

    return resumed(folder, lambda path: start(TRAIN, folder=str(path)), equal, moment, wanted, draw)


# ---------------------------------------------------------------------- embed


def embed(root: Path, wanted: int, draw: random.Random) -> Tally:
    """Embeddings folders; the moments are the parts that were there."""
    write_tables(root / "shop")
    bundle = make_bundle(root / "shop", Host.load().registry, root / "bundle").path
    write_tables(root / "catalogue", items=80_000, users=1, item_files=16)
    (root / "catalogue" / "events.parquet").unlink()
    numbers = iter(range(1_000))

    def begin(out: Path) -> BaseProcess:
        return start(EMBED, bundle=str(bundle), base=str(root / "catalogue"), out=str(out))

    def moment(out: Path) -> str:
        return f"{len(list(out.glob('part-*.parquet')))} parts"

    return resumed(lambda: root / f"out-{next(numbers)}", begin, lambda a, b: contents(a) == contents(b), moment, wanted, draw)


def contents(folder: Path) -> dict[str, list[bytes]]:
    """Files with their lines; the list of finished units in any order, since units are noted as they end."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
    return {name: sorted(content.splitlines()) if name.startswith("units-") else [content] for name, content in files.items()}


def resumed(
    new: Callable[[], Path],
    begin: Callable[[Path], BaseProcess],
    equal: Callable[[Path, Path], bool],
    moment: Callable[[Path], str],
    wanted: int,
    draw: random.Random,
) -> Tally:
    """Kill and resume until ``wanted`` kills; every result that came to its end is compared with an uninterrupted one."""
    whole, tally = new(), Tally()
    finish(begin(whole))  # the first start also warms the server that the processes are forked from
    timed = new()
    took = finish(begin(timed))
    tally.add(equal(whole, timed))
    while tally.kills < wanted:
        folder = new()
        while kill(begin(folder), after=draw.random() * took):
            tally.kills += 1
            tally.moments.append(moment(folder))
            if tally.kills == wanted:
                finish(begin(folder))
                break
        tally.add(equal(whole, folder))
    return tally


def finish(process: BaseProcess) -> float:
    """Seconds until the process ends, which it must do well."""
    begin = time.monotonic()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the work failed with exit status {process.exitcode}")
    return time.monotonic() - begin


# ---------------------------------------------------------------------- index


def index(root: Path, wanted: int, draw: random.Random) -> Tally:
    """One index folder, built over and over; the moments are the generation that readers found afterwards."""
    folder, out = write_embeddings(root / "embeddings", unit_vectors(10_000, 32, 0), unit=2_000), root / "index"
    queries, registry = unit_vectors(50, 32, 1), Host.load().registry

    def begin(builds: int) -> BaseProcess:
        return start(INDEX, embeddings=str(folder), out=str(out), builds=builds)

    finish(begin(1))
    took = finish(begin(1))
    expected = IndexBundle.open(out, registry).search(queries, 10)
    tally = Tally()
    while tally.kills < wanted:
        kill(begin(1_000), after=draw.random() * 3 * took)
        opened = IndexBundle.open(out, registry)
        found = opened.search(queries, 10)
        tally.kills += 1
        tally.moments.append(f"generation {int(opened.generation)}")
        tally.add(all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)))
    build_index(folder, out, backend={"use": "hnsw", "deterministic": True}, keep=[])
    tally.add(not list(out.glob(".*.tmp-*")) and np.array_equal(IndexBundle.open(out, registry).search(queries, 10)[0], expected[0]))
    return tally
