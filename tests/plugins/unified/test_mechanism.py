"""Why a shared table may be smaller (Coleman et al. 2023, section 4.2): weights of a field turn away from each other's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from embedkit.data.codec import FieldStats
from embedkit.nn.encoder import EncoderContext
from embedkit.testing.conformance.values import field
from embedkit_unified.configs import UnifiedEmbeddingConfig
from embedkit_unified.unified import UnifiedEmbedding

FIELDS = tuple(field(name, "category") for name in "abc")
VALUES, ROWS, WIDTH = 1500, 450, 8


def angles(kind: str, *, steps: int = 400) -> list[float]:
    """Train a logistic model on three fields whose weights start in one direction; the angles between these in the end, in degrees."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(3, VALUES))
    x = rng.integers(0, VALUES, size=(20_000, 3))
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-effect[np.arange(3), x].sum(1)))).astype(np.float32)
    codes, label = torch.from_numpy(x), torch.from_numpy(y)
    torch.manual_seed(0)
    stats = {spec.name: FieldStats(9, 0, size=VALUES) for spec in FIELDS}
    config = UnifiedEmbeddingConfig(kind=kind, rows=ROWS, lookups=1, project=False)
    encoder = UnifiedEmbedding(config, context=EncoderContext(FIELDS, stats, dim=WIDTH))
    theta = torch.randn(WIDTH)
    thetas = torch.nn.Parameter((theta / theta.norm()).repeat(3, 1) + 0.01 * torch.randn(3, WIDTH))
    optimizer = torch.optim.Adam([encoder.weight, thetas], lr=0.02)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (1024,), generator=draw)
        read = torch.stack([encoder.lookup(spec, codes[rows, t]) for t, spec in enumerate(FIELDS)], 1)
        loss = F.binary_cross_entropy_with_logits((read * thetas).sum((1, 2)), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unit = F.normalize(thetas.detach(), dim=1)
    return [float(torch.rad2deg(torch.acos((unit[i] @ unit[j]).clamp(-1, 1)))) for i, j in ((0, 1), (0, 2), (1, 2))]


def test_weights_turn_apart_where_the_table_is_shared():
    shared, separate = angles("unified"), angles("per_field")
    assert min(shared) > 80, shared
    assert max(separate) < 50, separate
