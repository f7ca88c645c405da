"""Predicting a label of a row: losses against labels, and the evaluator of predictions."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl


@hookimpl
def register_losses(register: Any) -> None:
    """Register ``binary_cross_entropy``, ``cross_entropy`` and ``squared_error``."""
    register(
        "binary_cross_entropy",
        "embedkit_prediction.losses:BinaryCrossEntropy",
        config="embedkit_prediction.configs:BinaryCrossEntropyConfig",
        summary="Log loss of a yes-or-no label; the tower gives one logit.",
    )
    register(
        "cross_entropy",
        "embedkit_prediction.losses:CrossEntropy",
        config="embedkit_prediction.configs:CrossEntropyConfig",
        summary="Log loss of a label with several classes; the tower gives one logit each.",
    )
    register(
        "squared_error",
        "embedkit_prediction.losses:SquaredError",
        config="embedkit_prediction.configs:SquaredErrorConfig",
        summary="Squared error of a number, in standard deviations.",
    )


@hookimpl
def register_evaluators(register: Any) -> None:
    """Register ``prediction``."""
    register(
        "prediction",
        "embedkit_prediction.prediction:Prediction",
        config="embedkit_prediction.configs:PredictionConfig",
        summary="How well a tower predicts a label: AUC, log loss, calibration, accuracy or error, beside simple baselines.",
    )
