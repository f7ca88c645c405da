"""Do features that are told equally well take equal room in an embedding (Lampinen, Chan and Hermann 2024)?

    python docs/studies/tjepa/bias.py --out study [--seeds 5]

Eight columns of zeros and ones, drawn apart. Two labels of them: the first column (easy), and whether the second and third differ (hard).
Both are tuned on one trunk that three towers share; the ``feature_bias`` evaluator then says of the trunk's vectors how well each label can
be told from them and how much of their variance it takes. *together*: one stage with both losses. *hard first*: a stage of the hard label
alone before it. What is known is kept in ``bias.json``, so an interrupted study goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from seeds import main, word
from tables import PARTS, deal

import embedkit
from embedkit.files import atomic_file

ARMS = ("together", "hard first")
COLUMNS, ROWS, STEPS = 8, 6_000, 600
LEAST_PROBE, LEAST_RATIO = 0.98, 3.0
"""The claims: both labels told at least so well, and the easy one with more than so many times the variance, which *hard first* narrows."""


def write(path: Path, seed: int, rows: int = ROWS) -> None:
    """The table of a seed."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, (rows, COLUMNS))
    columns = {f"bit_{i}": bits[:, i] for i in range(COLUMNS)}
    labels = {"easy": bits[:, 0], "hard": bits[:, 1] ^ bits[:, 2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as beside:
        pl.DataFrame({**columns, **labels, "part": deal(rows, (0.6, 0.2), PARTS, seed)}).write_parquet(beside)


def run_file(path: Path, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Towers ``row``, ``easy`` and ``hard`` on one perceptron; labels are the latter two's."""
    bits, labels = [f"bit_{i}" for i in range(COLUMNS)], ("easy", "hard")
    fields = {name: {"table": "rows", "type": "category"} for name in bits}
    fields |= {name: {"table": "rows", "type": "category", "role": "label"} for name in labels}
    stages = [("both", labels)] if arm == "together" else [("first", ("hard",)), ("both", labels)]
    return {
        "format": 1,
        "name": arm.replace(" ", "-"),
        "seed": seed,
        "tables": {"rows": {"uri": str(path.resolve()), "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"}}},
        "fields": fields,
        "towers": {"row": bits, **dict.fromkeys(labels, bits)},
        "model": {
            "dim": 32,
            "trunk": {"use": "mlp", "hidden": [64, 64], "residual": False},
            "shared_trunks": dict.fromkeys(labels, "row"),
            "head": {"use": "linear", "identity": True, "normalize": False},
            "heads": {name: {"use": "linear", "dim": 1, "normalize": False} for name in labels},
        },
        "stages": [
            {
                "use": "train",
                "name": name,
                "steps": steps,
                "streams": {"main": {"table": "rows", "size": 128}},
                "losses": [
                    {"use": "binary_cross_entropy", "name": label, "tower": label, "label": label, "positive": 1} for label in learned
                ],
                "optimizer": {"use": "adamw", "lr": 1e-3, "weight_decay": 0.0},
            }
            for name, learned in stages
        ],
        "evaluate": [{"use": "feature_bias", "tower": "row", "attributes": list(labels)}],
        "compute": {"device": "cpu", "threads": 1},
    }


def page(found: dict[str, dict[str, float]], seeds: int) -> str:
    """Means and deviations over seeds, and whether the claims hold."""
    figures = ("probe:easy", "probe:hard", "variance_share:easy", "variance_share:hard")
    lines = ["| learned | easy told | hard told | share of easy | share of hard | easy over hard |", "|---|---|---|---|---|---|"]
    ratios = {}
    for arm in ARMS:
        values = np.array([[found[f"{arm}/{seed}"][key] for key in figures] for seed in range(seeds)])
        ratios[arm] = values[:, 2] / values[:, 3]
        cells = [f"{one.mean():.3f} ± {one.std():.3f}" for one in values.T]
        lines.append(f"| {arm} | {' | '.join(cells)} | {ratios[arm].mean():.2f} ± {ratios[arm].std():.2f} |")
    told = min(found[f"{arm}/{seed}"][key] for arm in ARMS for seed in range(seeds) for key in figures[:2])
    together, later = (ratios[arm].mean() for arm in ARMS)
    lines += ["", "| claim | wanted | found | holds |", "|---|---|---|---|"]
    lines.append(f"| both told, the worst seed | at least {LEAST_PROBE} | {told:.3f} | {word(told >= LEAST_PROBE)} |")
    lines.append(f"| easy over hard, together | above {LEAST_RATIO:.0f} | {together:.2f} | {word(together > LEAST_RATIO)} |")
    lines.append(f"| hard first narrows it | below {together:.2f} | {later:.2f} | {word(later < together)} |")
    return "\n".join([*lines, "", f"{seeds} seeds; mean ± standard deviation."]) + "\n"


def measure(arm: str, seed: int, out: Path) -> dict[str, float]:
    """Figures of ``feature_bias`` for an arm."""
    table = out / "tables" / f"bits-{seed}.parquet"
    write(table, seed)
    return dict(embedkit.train(run_file(table, arm, seed), out / "runs").metrics)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], "bias", ARMS, measure, page)
