"""Rows of numbers, categories and times: field types, encoders, and trunks that read a row."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_encoders(register: Callable[..., None]) -> None:
    """Encoders of dense columns."""
    register(
        "number",
        "embedkit_tabular.encoders:NumberEncoder",
        config="embedkit_tabular.configs:NumberEncoderConfig",
        summary="A number, linearly or piecewise-linearly between train quantiles.",
    )
    register(
        "timestamp",
        "embedkit_tabular.encoders:TimestampEncoder",
        config="embedkit_tabular.configs:TimestampEncoderConfig",
        summary="The numbers that describe a moment, linearly.",
    )


@hookimpl
def register_trunks(register: Callable[..., None]) -> None:
    """Trunks that read a row."""
    register(
        "mlp",
        "embedkit_tabular.trunks:Mlp",
        config="embedkit_tabular.configs:MlpConfig",
        summary="A perceptron over the fields, side by side.",
    )
    register(
        "mean",
        "embedkit_tabular.trunks:Mean",
        config="embedkit_tabular.configs:MeanConfig",
        summary="The mean of all tokens.",
    )
    register(
        "attention",
        "embedkit_tabular.trunks:Attention",
        config="embedkit_tabular.configs:AttentionConfig",
        summary="A mean weighted by learned queries.",
    )
