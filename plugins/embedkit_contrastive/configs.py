"""Options of the contrastive losses. No torch here."""

from __future__ import annotations

from embedkit.component import Config
from embedkit.config.model import Scheduled


class InfoNCEConfig(Config):
    """Options of ``info_nce``."""

    tower: str
    """Tower of both views."""
    views: tuple[str, str]
    """The two views."""
    temperature: Scheduled = 0.1
    """What similarities are divided by."""
    symmetric: bool = True
    """Take the mean of both directions; False: the first view asks, the second answers (Yao et al. 2021)."""
