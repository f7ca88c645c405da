"""Contrastive losses over two views."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_losses(register: Any) -> None:
    """Register ``info_nce`` and ``spread_out``."""
    register(
        "info_nce",
        "embedkit_contrastive.info_nce:InfoNCE",
        config="embedkit_contrastive.configs:InfoNCEConfig",
        summary="Tell a row's other view from the other rows of the batch.",
    )
    register(
        "spread_out",
        "embedkit_contrastive.spread_out:SpreadOut",
        config="embedkit_contrastive.configs_spread_out:SpreadOutConfig",
        summary="Push the rows of a batch apart, without a second view.",
    )
