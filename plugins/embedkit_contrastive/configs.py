"""Options of the contrastive losses. No torch here."""

from __future__ import annotations

from embedkit.component import Config
from embedkit.config.model import Scheduled
from embedkit.config.references import TowerName, ViewName


class InfoNCEConfig(Config):
    """Options of ``info_nce``."""

    tower: TowerName
    """Tower of both views."""
    views: tuple[ViewName, ViewName]
    """The two views."""
    temperature: Scheduled = 0.1
    """What similarities are divided by."""
    symmetric: bool = True
    """Take the mean of both directions; False: the first view asks, the second answers (Yao et al. 2021)."""
