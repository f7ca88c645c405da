"""Self-supervised losses over two views, and the views: corrupted cells and mixed rows."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_augmentations(register: Any) -> None:
    """Register ``corruption`` and ``mixup``."""
    register(
        "corruption",
        "embedkit_contrastive.corruption:Corruption",
        config="embedkit_contrastive.configs:CorruptionConfig",
        summary="Cells replaced by those of other rows of the batch (SCARF, Bahri et al. 2022).",
    )
    register(
        "mixup",
        "embedkit_contrastive.mixup:Mixup",
        config="embedkit_contrastive.configs:MixupConfig",
        summary="One view's tokens mixed with another's, rows permuted (Bandara et al. 2023).",
    )


@hookimpl
def register_losses(register: Any) -> None:
    """Register ``info_nce``, ``barlow_twins``, ``mixed_barlow_twins`` and ``spread_out``."""
    register(
        "info_nce",
        "embedkit_contrastive.info_nce:InfoNCE",
        config="embedkit_contrastive.configs:InfoNCEConfig",
        summary="Tell a row's other view from the other rows of the batch.",
    )
    register(
        "barlow_twins",
        "embedkit_contrastive.barlow:BarlowTwins",
        config="embedkit_contrastive.configs:BarlowTwinsConfig",
        summary="Two views agree in each number, and numbers do not repeat each other (Zbontar et al. 2021).",
    )
    register(
        "mixed_barlow_twins",
        "embedkit_contrastive.barlow:MixedBarlowTwins",
        config="embedkit_contrastive.configs:MixedBarlowTwinsConfig",
        summary="Barlow Twins, and mixed rows correlate as mixtures (Bandara et al. 2023).",
    )
    register(
        "spread_out",
        "embedkit_contrastive.spread_out:SpreadOut",
        config="embedkit_contrastive.configs_spread_out:SpreadOutConfig",
        summary="Push the rows of a batch apart, without a second view.",
    )
