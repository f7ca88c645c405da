"""Probes: how much of a label a simple model reads out of embeddings, beside raw columns and an untrained encoder."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_evaluators(register: Callable[..., None]) -> None:
    """Register ``linear_probe``, ``knn_probe`` and ``gbdt_probe``."""
    register(
        "linear_probe",
        "embedkit_probes.probe:LinearProbe",
        config="embedkit_probes.configs:LinearProbeConfig",
        summary="Logistic or ridge regression of a label on embeddings, beside raw columns, an untrained encoder and boosted trees.",
    )
    register(
        "knn_probe",
        "embedkit_probes.probe:KnnProbe",
        config="embedkit_probes.configs:KnnProbeConfig",
        summary="A label by the vote of the nearest embeddings, beside raw columns, an untrained encoder and boosted trees.",
    )
    register(
        "gbdt_probe",
        "embedkit_probes.probe:GbdtProbe",
        config="embedkit_probes.configs:GbdtProbeConfig",
        summary="Boosted trees of a label on embeddings, beside the same trees on raw columns and on an untrained encoder.",
    )
