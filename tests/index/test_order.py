from __future__ import annotations

import numpy as np
import pytest

from embedkit.index import order as module
from embedkit.index.order import near_together

ROWS, DIM, CENTRES = 4_000, 8, 12


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST", 200)
    monkeypatch.setattr(module, "_CLUSTER", 100)
    monkeypatch.setattr(module, "_BLOCK", 700)
    random = np.random.default_rng(0)
    centres = random.normal(size=(CENTRES, DIM))
    return (centres[random.integers(0, CENTRES, ROWS)] + 0.1 * random.normal(size=(ROWS, DIM))).astype(np.float32)


def apart(vectors, rows):
    """Mean distance of each vector to the next."""
    return float(np.linalg.norm(np.diff(vectors[rows], axis=0), axis=1).mean())


def test_every_row_comes_once_and_near_ones_together(vectors):
    order = near_together(lambda rows: vectors[rows], ROWS)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(ROWS))
    # 160 at random, to 800, then the other 3,200 by cluster.
    anyhow = apart(vectors, np.arange(ROWS))
    assert apart(vectors, order[800:]) < 0.35 * anyhow
    assert apart(vectors, order[160:800]) < 0.5 * anyhow
    assert apart(vectors, order[:160]) > 0.8 * anyhow


def test_the_order_hangs_on_seed_and_vectors_alone(vectors):
    def ordered(seed):
        return near_together(lambda rows: vectors[rows], ROWS, seed)

    assert np.array_equal(ordered(3), ordered(3))
    assert not np.array_equal(ordered(3), ordered(4))


def test_few_vectors_keep_their_order(vectors):
    assert near_together(lambda rows: vectors[rows], 199) is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_vectors_are_ordered_too(vectors, value):
    vectors[:] = value
    assert np.array_equal(np.sort(near_together(lambda rows: vectors[rows], ROWS)), np.arange(ROWS))


def test_no_more_than_a_block_is_asked_for(vectors):
    sizes = []

    def take(rows):
        sizes.append(len(rows))
        return vectors[rows]

    near_together(take, ROWS)
    assert max(sizes) <= 700
