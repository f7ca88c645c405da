"""Options of ``spread_out``. No torch here."""

from __future__ import annotations

from typing import Literal

from embedkit.component import Config
from embedkit.config.model import Scheduled
from embedkit.config.references import TowerName, ViewName


class SpreadOutConfig(Config):
    """Options of ``spread_out``."""

    tower: TowerName
    """Tower whose embeddings are spread."""
    view: ViewName
    """Stream or view of its rows, drawn uniformly as a rule."""
    form: Literal["log_sum_exp", "moments"] = "log_sum_exp"
    """``log_sum_exp``: every other row is a negative (Yao et al. 2021); ``moments``: mean and mean square of the similarities (Zhang et al.
    2017)."""
    temperature: Scheduled = 0.1
    """log_sum_exp: what similarities are divided by."""
