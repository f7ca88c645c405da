"""Contrastive losses over two views."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_losses(register: Any) -> None:
    """Register ``info_nce``."""
    register(
        "info_nce",
        "embedkit_contrastive.info_nce:InfoNCE",
        config="embedkit_contrastive.configs:InfoNCEConfig",
        summary="Tell a row's other view from the other rows of the batch.",
    )
