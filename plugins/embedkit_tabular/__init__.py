"""Rows of numbers, categories and times: field types, encoders, and trunks that read a row."""

from __future__ import annotations

from collections.abc import Callable

from embedkit import hookimpl


@hookimpl
def register_field_types(register: Callable[..., None]) -> None:
    """What the columns of a table are."""
    register(
        "number",
        "embedkit_tabular.number:Number",
        config="embedkit_tabular.fields:NumberOptions",
        summary="A number, standardised on a linear or a logarithmic scale.",
    )
    register(
        "category",
        "embedkit_tabular.category:Category",
        config="embedkit_tabular.fields:CategoryOptions",
        summary="One of a set of integers, texts, booleans or dates.",
    )
    register(
        "categories",
        "embedkit_tabular.categories:Categories",
        config="embedkit_tabular.fields:CategoriesOptions",
        summary="A list of categories in no order that matters.",
    )
    register(
        "timestamp",
        "embedkit_tabular.timestamp:Timestamp",
        config="embedkit_tabular.fields:TimestampOptions",
        summary="A date or moment: hour, weekday and day of the year as angles, and the trend.",
    )


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
        "cross",
        "embedkit_tabular.cross:Cross",
        config="embedkit_tabular.configs:CrossConfig",
        summary="Explicit feature crosses beside or below a perceptron (DCN-V2, Wang et al. 2021).",
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
