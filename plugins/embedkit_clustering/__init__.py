"""Clusters of embeddings, samplers that mind them, and a snapshot of the model between stages."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_stages(register: Callable[..., None]) -> None:
    """Register ``cluster`` and ``snapshot``."""
    register(
        "cluster",
        "embedkit_clustering.cluster:ClusterStage",
        config="embedkit_clustering.configs:ClusterConfig",
        summary="K-means on a tower's embeddings of train rows, for samplers of later stages.",
    )
    register(
        "snapshot",
        "embedkit_clustering.snapshot:SnapshotStage",
        config="embedkit_clustering.configs:SnapshotConfig",
        summary="Keep the model as a bundle of its own, and go on with it or with new weights.",
    )


@hookimpl
def register_samplers(register: Callable[..., None]) -> None:
    """Register ``no_two_of_a_cluster`` and ``within_cluster``."""
    register(
        "no_two_of_a_cluster",
        "embedkit_clustering.samplers:NoTwoOfACluster",
        config="embedkit_clustering.configs:NoTwoConfig",
        summary="Batches whose rows are of different groups (G-SimCLR, Chakraborty et al. 2020).",
    )
    register(
        "within_cluster",
        "embedkit_clustering.samplers:WithinCluster",
        config="embedkit_clustering.configs:WithinConfig",
        summary="Batches whose rows are all of one group (MCL, Zhang et al. 2024).",
    )
