"""Why does a stage of single clusters remember the factor that its clusters hold still? The synthetic study in plain torch.

    python docs/studies/mcl/remnant.py

Batches hold one value of the strong factor each (the truth, so no clustering can be at fault); the network starts from new weights.
Each line is a setting: what a linear probe reads of the factors on rows as they are, and on rows with the noise of a view; chance is 0.1
and 0.5.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from run import STRONG, probe, table
from torch import Tensor, nn

from embedkit.errors import told


@dataclass(frozen=True)
class Setting:
    """What is varied: noise of a view, of a row, columns of the weak factor, steps, weight decay, width of the output."""

    noise: float = 1.0
    spread: float = 0.3
    weak_columns: int = 1
    steps: int = 1000
    decay: float = 0.01
    width: int = 8

    def __str__(self) -> str:
        given = {"noise": self.noise, "spread": self.spread, "weak columns": self.weak_columns, "steps": self.steps}
        return " | ".join(f"{value:g}" for value in [*given.values(), self.decay, self.width])


BASE = Setting()
SETTINGS = (
    BASE,
    replace(BASE, steps=4000),
    replace(BASE, decay=0.3),
    replace(BASE, weak_columns=4),
    replace(BASE, width=2),
    replace(BASE, spread=0.0),
    replace(BASE, noise=0.7),
    replace(BASE, noise=0.6),
    replace(BASE, noise=0.5),
    replace(BASE, noise=0.5, spread=0.0),
)


def fit(x: Tensor, groups: npt.NDArray[np.int64], setting: Setting, seed: int) -> nn.Module:
    """Train on batches of 256 rows of one group."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, setting.width))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.003, weight_decay=setting.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    members = [np.flatnonzero(groups == g) for g in range(STRONG)]
    for _ in range(setting.steps):
        rows = members[rng.integers(STRONG)]
        batch = x.index_select(0, torch.from_numpy(rng.choice(rows, min(256, len(rows)), replace=False)))
        a, b = (F.normalize(net(batch + setting.noise * torch.randn_like(batch)), dim=1) for _ in range(2))
        logits, labels = a @ b.T / 0.5, torch.arange(len(batch))
        loss = 0.5 * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


@told()
def main() -> None:
    """Print a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| noise of a view | of a row | weak columns | steps | weight decay | width | strong | weak | strong, in noise | weak, in noise |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        frame = table(4000, 24, setting.weak_columns, setting.spread, options.seed)
        strong, weak = frame["strong"].to_numpy(), frame["weak"].to_numpy()
        x = torch.from_numpy(frame.drop("strong", "weak").to_numpy()).float()
        x = (x - x.mean(0)) / x.std(0)
        net = fit(x, strong, setting, options.seed)
        noisy = x + setting.noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(options.seed))
        with torch.no_grad():
            vectors = [F.normalize(net(rows), dim=1).numpy() for rows in (x, noisy)]
        print(f"| {setting} | {' | '.join(f'{probe(v, y):.3f}' for v in vectors for y in (strong, weak))} |", flush=True)


if __name__ == "__main__":
    main()
