"""Two-tower item recommendation (Yao et al. 2021): the loss, the maskings, the ranking evaluator."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_losses(register: Any) -> None:
    """Register ``softmax``, ``sampled_softmax``, ``mined_softmax``, ``gbce`` and ``bpr``."""
    register(
        "mined_softmax",
        "embedkit_itemrec.mined:MinedSoftmax",
        config="embedkit_itemrec.configs:MinedSoftmaxConfig",
        summary="Softmax against hard negatives that an index of the model's own vectors finds.",
    )
    register(
        "gbce",
        "embedkit_itemrec.negatives:Gbce",
        config="embedkit_itemrec.configs:GbceConfig",
        summary="Binary cross-entropy against sampled negatives, made less sure of itself (gSASRec).",
    )
    register(
        "bpr",
        "embedkit_itemrec.negatives:Bpr",
        config="embedkit_itemrec.configs:BprConfig",
        summary="Rank each target above sampled negatives.",
    )
    register(
        "softmax",
        "embedkit_itemrec.softmax:Softmax",
        config="embedkit_itemrec.configs:SoftmaxConfig",
        summary="Softmax over all rows of the target's table, a piece at a time.",
    )
    register(
        "sampled_softmax",
        "embedkit_itemrec.sampled_softmax:SampledSoftmax",
        config="embedkit_itemrec.configs:SampledSoftmaxConfig",
        summary="Softmax over the batch's targets, corrected for how often each is drawn.",
    )


@hookimpl
def register_encoders(register: Any) -> None:
    """Register ``tower``."""
    register(
        "tower",
        "embedkit_itemrec.tower:TowerEncoder",
        config="embedkit_itemrec.configs:TowerEncoderConfig",
        summary="Ids as the vectors of another tower, so that histories and targets share one.",
    )


@hookimpl
def register_augmentations(register: Any) -> None:
    """Register ``random_masking``, ``correlated_masking``, ``field_masking`` and ``value_dropout``."""
    register(
        "random_masking",
        "embedkit_itemrec.masking:RandomMasking",
        config="embedkit_itemrec.configs:RandomMaskingConfig",
        summary="Two views that hide complementary random halves of the fields.",
    )
    register(
        "correlated_masking",
        "embedkit_itemrec.masking:CorrelatedMasking",
        config="embedkit_itemrec.configs:CorrelatedMaskingConfig",
        summary="Two views that hide complementary halves; fields that tell of each other are hidden together.",
    )
    register(
        "field_masking",
        "embedkit_itemrec.masking:FieldMasking",
        config="embedkit_itemrec.configs:FieldMaskingConfig",
        summary="Views that hide the fields named for them.",
    )
    register(
        "value_dropout",
        "embedkit_itemrec.masking:ValueDropout",
        config="embedkit_itemrec.configs:ValueDropoutConfig",
        summary="A view without a random share of the values of lists and histories.",
    )


@hookimpl
def register_evaluators(register: Any) -> None:
    """Register ``retrieval``."""
    register(
        "retrieval",
        "embedkit_itemrec.retrieval:Retrieval",
        config="embedkit_itemrec.configs_retrieval:RetrievalConfig",
        summary="Full ranking of one tower's rows for the queries of another, beside counting baselines.",
    )
