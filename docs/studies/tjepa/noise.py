"""Does T-JEPA give columns of noise less room than masked cells do, and columns that matter more?

    python docs/studies/tjepa/noise.py --out study [--seeds 5]

A drawn table: twelve columns that tell of each other (functions of three hidden numbers, and some noise of their own), six columns of noise
ten times as large, and a label that the hidden numbers decide. Encoders of equal size learn from it in equal steps, without the label. What
is known is kept in ``noise.json``, so an interrupted study goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from models import run_file
from seeds import main, word
from tables import PARTS, Table, deal

import embedkit
from embedkit.host import Host
from embedkit_tabular.feature_bias import variance_share

Floats = npt.NDArray[np.float64]
ARMS = ("untrained", "masked_cells", "t_jepa")
ROWS, SIGNAL, NOISE, HIDDEN, BINS = 6_000, 12, 6, 3, 20
OPTIONS: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 32, "predictor_width": 8, "size": 128, "steps": 800}
LEAST_TAU, LEAST_CUT = 0.2, 0.3
"""The claims: tau of T-JEPA above the first; the share of noise smaller than that of masked cells by at least the second."""
SIGNALS, NOISES = [f"signal_{i}" for i in range(SIGNAL)], [f"noise_{i}" for i in range(NOISE)]


def planted(seed: int, rows: int = ROWS) -> Table:
    """The table of a seed. Columns bend and mix the hidden numbers in ways of their own; codecs standardise all of them alike."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(rows, HIDDEN))
    mixed = hidden @ draw.normal(size=(HIDDEN, SIGNAL)) / np.sqrt(HIDDEN)
    bent = np.where(np.arange(SIGNAL) % 3 == 0, mixed, np.where(np.arange(SIGNAL) % 3 == 1, np.tanh(2 * mixed), np.abs(mixed)))
    signal = bent + 0.3 * draw.normal(size=(rows, SIGNAL))
    noise = 10.0 * draw.normal(size=(rows, NOISE))
    label = np.where(hidden[:, 0] + hidden[:, 1] * hidden[:, 2] + 0.3 * draw.normal(size=rows) > 0, "yes", "no")
    columns = dict(zip([*SIGNALS, *NOISES], np.hstack([signal, noise]).T, strict=True))
    frame = pl.DataFrame({**columns, "label": label, "part": deal(rows, (0.6, 0.2), PARTS, seed)})
    return Table("planted", frame, "label", (*SIGNALS, *NOISES), ())


def measure(arm: str, seed: int, out: Path, host: Host, table: Table, options: dict[str, Any]) -> dict[str, float]:
    """Train an arm, and say how its vectors of the test rows lie."""
    run = run_file(table, table.write(out / "tables", labelled=True), {**options, "objective": arm}, seed)
    run["fields"]["label"] = {"table": "rows", "type": "category", "role": "label"}
    run["evaluate"] = [
        {"use": "feature_relevance", "tower": "row", "label": "label"},
        {"use": "feature_bias", "tower": "row", "attributes": [*SIGNALS, *NOISES, "label"]},
    ]
    result = embedkit.train(run, out / "runs", host=host)
    relevance = pl.read_parquet(result.folder.path / "relevance-test.parquet")
    told = {one.metric: one.value for one in result.estimates if one.model == "model"}
    rows, _ = table.part("test")
    vectors = embedkit.load(result.bundle, host=host).encode(rows).astype(np.float64)
    noise = [rows[name].to_numpy() for name in NOISES]
    return {
        "noise": explained(vectors, noise),
        "noise, mean": explained(vectors.reshape(len(rows), len(table.features), -1).mean(1), noise),
        "tokens of noise": float(relevance.filter(pl.col("field").is_in(NOISES))["variance_share"].sum()),
        "tau": told["relevance_tau"],
        "R² of signal": float(np.mean([told[f"probe:{name}"] for name in SIGNALS])),
        "R² of noise": float(np.mean([told[f"probe:{name}"] for name in NOISES])),
        "label": told["probe:label"],
    }


def explained(vectors: Floats, columns: list[Floats]) -> float:
    """The share of the vectors' variance that independent columns explain: that between twentieths of each column, adjusted, summed."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return sum(variance_share(vectors, np.searchsorted(np.quantile(one, edges), one).astype(np.float64)) for one in columns)


def page(found: dict[str, dict[str, float]], seeds: int) -> str:
    """Means and deviations over seeds, and whether the claims hold."""
    figures = list(found[f"{ARMS[0]}/0"])
    lines = ["| encoder | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    values = {arm: {key: np.array([found[f"{arm}/{seed}"][key] for seed in range(seeds)]) for key in figures} for arm in ARMS}
    for arm, one in values.items():
        lines.append(f"| {arm} | " + " | ".join(f"{one[key].mean():.3f} ± {one[key].std():.3f}" for key in figures) + " |")
    ours, theirs = values["t_jepa"], values["masked_cells"]
    lines += ["", "| claim | wanted | found | holds |", "|---|---|---|---|"]
    for key in ("noise", "noise, mean"):
        cut, low, high = cut_of(ours[key], theirs[key])
        said = f"by {cut:.0%} [{low:.0%}, {high:.0%}]"
        holds = "undecided" if low < LEAST_CUT <= high else word(cut >= LEAST_CUT)
        lines.append(f"| {key}: smaller than with masked_cells | by {LEAST_CUT:.0%} | {said} | {holds} |")
    tau = ours["tau"].mean()
    lines.append(f"| tau of t_jepa | above {LEAST_TAU} | {tau:.2f} | {word(tau > LEAST_TAU)} |")
    return "\n".join([*lines, "", f"{seeds} seeds; mean ± standard deviation; 95% intervals resample seeds."]) + "\n"


def cut_of(ours: Floats, theirs: Floats) -> tuple[float, float, float]:
    """By which part the mean is smaller, and the 95% interval when seeds are drawn anew, the two arms' together."""
    drawn = np.random.default_rng(0).integers(0, len(ours), (2_000, len(ours)))
    low, high = np.percentile(1 - ours[drawn].mean(1) / theirs[drawn].mean(1), (2.5, 97.5))
    return 1 - ours.mean() / theirs.mean(), float(low), float(high)


if __name__ == "__main__":
    host = Host.load()
    main(
        __doc__.splitlines()[0],
        "noise",
        ARMS,
        lambda arm, seed, out: measure(arm, seed, out / f"{arm}/{seed}", host, planted(seed), OPTIONS),
        page,
    )
