"""The train stage, the plain samplers and the optimisers."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_stages(register: Any) -> None:
    """Register ``train``."""
    register(
        "train",
        "embedkit_training.stage:TrainStage",
        config="embedkit.config.model:TrainConfig",
        summary="Minimise weighted losses over named streams of batches.",
    )


@hookimpl
def register_samplers(register: Any) -> None:
    """Register ``shuffle`` and ``uniform``."""
    register(
        "shuffle",
        "embedkit_training.samplers:Shuffle",
        config="embedkit_training.configs:ShuffleConfig",
        summary="Every row once an epoch, in a new random order.",
    )
    register(
        "bucketed",
        "embedkit_training.samplers:Bucketed",
        config="embedkit_training.configs:BucketedConfig",
        summary="As shuffle, with rows of about one length in a batch.",
    )
    register(
        "uniform",
        "embedkit_training.samplers:Uniform",
        config="embedkit_training.configs:UniformConfig",
        summary="Each batch drawn afresh from all rows, none twice in a batch.",
    )
    register(
        "popularity",
        "embedkit_training.samplers:Popularity",
        config="embedkit_training.configs:PopularityConfig",
        summary="Each row drawn by how many train events point at it.",
    )


@hookimpl
def register_optimizers(register: Any) -> None:
    """Register ``adamw``, ``sgd`` and ``rowwise_adagrad``."""
    register(
        "adamw",
        "embedkit_training.optimizers:AdamW",
        config="embedkit_training.configs:AdamWConfig",
        summary="Adam with decoupled weight decay (Loshchilov and Hutter 2019).",
    )
    register(
        "sgd",
        "embedkit_training.optimizers:SGD",
        config="embedkit_training.configs:SGDConfig",
        summary="Stochastic gradient descent with momentum; takes sparse gradients when momentum and decay are zero.",
    )
    register(
        "rowwise_adagrad",
        "embedkit_training.optimizers:RowwiseAdagrad",
        config="embedkit_training.configs:RowwiseAdagradConfig",
        summary="Adagrad with one accumulator a row, for large embedding tables; takes sparse gradients.",
    )
