"""The models embedkit is compared with, each with the options that are searched for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from problem import Problem, Score

from embedkit.data.queries import Queries
from embedkit_itemrec.baselines import Ease, ItemKnn, Popularity

Options = Mapping[str, Any]
Fit = Callable[[Problem, Options, int], Score]


def popularity(problem: Problem, options: Options, seed: int) -> Score:
    """The most frequent items."""
    return Popularity(problem.data).score


def item_knn(problem: Problem, options: Options, seed: int) -> Score:
    """Item-based nearest neighbours."""
    return ItemKnn(problem.data, options["neighbors"], options["shrink"]).score


def ease(problem: Problem, options: Options, seed: int) -> Score:
    """Ease (Steck 2019): a linear item-to-item model in closed form."""
    return Ease(problem.data, options["l2"]).score


def als(problem: Problem, options: Options, seed: int) -> Score:
    """implicit's weighted matrix factorisation (Hu, Koren and Volinsky 2008); a query's vector is solved for from its history."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(**options, random_state=seed, num_threads=torch.get_num_threads())
    model.fit(problem.data.matrix.astype(np.float32), show_progress=False)
    items = model.item_factors.T

    def score(queries: Queries, lo: int, hi: int) -> torch.Tensor:
        history = problem.data.history_matrix(queries, lo, hi).astype(np.float32)
        history.data[:] = 1.0
        return torch.from_numpy(model.recalculate_user(np.arange(hi - lo), history) @ items)

    return score


def bpr(problem: Problem, options: Options, seed: int) -> Score:
    """implicit's Bayesian personalised ranking (Rendle et al. 2009).

    Its user vectors come from training alone: it has no way to take in the validation events that stand in a test history.
    """
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    # One thread: several race on the factors, and a seed would give another model every time.
    model = BayesianPersonalizedRanking(**options, random_state=seed, num_threads=1)
    model.fit(problem.data.matrix.astype(np.float32), show_progress=False)

    def score(queries: Queries, lo: int, hi: int) -> torch.Tensor:
        return torch.from_numpy(model.user_factors[queries.users[lo:hi]] @ model.item_factors.T)

    return score


RIVALS: Mapping[str, tuple[Fit, Mapping[str, list[Any]], bool]] = {
    "popularity": (popularity, {}, False),
    "item_knn": (item_knn, {"neighbors": [5, 10, 20, 50, 100, 200, 500], "shrink": [0.0, 1.0, 5.0, 20.0, 100.0]}, False),
    "ease": (ease, {"l2": [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]}, False),
    "als": (
        als,
        {
            "factors": [32, 64, 128, 256],
            "regularization": [0.01, 0.1, 1.0, 10.0, 50.0],
            "alpha": [1.0, 2.0, 5.0, 10.0, 40.0],
            "iterations": [10, 20],
        },
        True,
    ),
    "bpr": (
        bpr,
        {
            "factors": [32, 64, 128, 256],
            "learning_rate": [0.01, 0.03, 0.1],
            "regularization": [0.001, 0.01, 0.03, 0.1],
            "iterations": [50, 100, 200, 400],
        },
        True,
    ),
}
"""Name: how it is fitted, what is searched, and whether its result depends on a seed."""
