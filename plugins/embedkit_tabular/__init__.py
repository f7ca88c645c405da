"""Rows of numbers, categories and times: field types, encoders, trunks that read a row, and losses that need no label."""

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
        summary="A number, linearly, piecewise-linearly between train quantiles, or by learned frequencies.",
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
    register(
        "resnet",
        "embedkit_tabular.resnet:ResNet",
        config="embedkit_tabular.configs:ResNetConfig",
        summary="A residual perceptron over the fields, side by side.",
    )
    register(
        "feature_transformer",
        "embedkit_tabular.feature_transformer:FeatureTransformer",
        config="embedkit_tabular.configs:FeatureTransformerConfig",
        summary="A pre-norm transformer over a token a feature, with registers.",
    )


@hookimpl
def register_heads(register: Callable[..., None]) -> None:
    """Row vector → predictions."""
    register(
        "resnet",
        "embedkit_tabular.resnet:ResNetHead",
        config="embedkit_tabular.configs:ResNetHeadConfig",
        summary="A residual perceptron, for a tower that predicts a label.",
    )


@hookimpl
def register_augmentations(register: Callable[..., None]) -> None:
    """Views that hide cells of rows."""
    register(
        "jepa_masks",
        "embedkit_tabular.masks:JepaMasks",
        config="embedkit_tabular.configs_ssl:JepaMasksConfig",
        summary="A view of some fields of each row, and which of the others are to be predicted.",
    )
    register(
        "cell_masking",
        "embedkit_tabular.masks:CellMasking",
        config="embedkit_tabular.configs_ssl:CellMaskingConfig",
        summary="A view with a random share of its cells hidden.",
    )


@hookimpl
def register_losses(register: Callable[..., None]) -> None:
    """Losses that learn from rows without labels."""
    register(
        "t_jepa",
        "embedkit_tabular.t_jepa:TJepa",
        config="embedkit_tabular.configs_ssl:TJepaConfig",
        summary="Predict from some features of a row how a slow copy of the model encodes others.",
    )
    register(
        "masked_cells",
        "embedkit_tabular.masked_cells:MaskedCells",
        config="embedkit_tabular.configs_ssl:MaskedCellsConfig",
        summary="Tell the hidden cells of a row from the visible ones.",
    )


@hookimpl
def register_evaluators(register: Callable[..., None]) -> None:
    """What a tower makes of the features of its rows."""
    register(
        "feature_relevance",
        "embedkit_tabular.feature_relevance:FeatureRelevance",
        config="embedkit_tabular.configs_evaluate:FeatureRelevanceConfig",
        summary="Whether features that matter for a label take more of the tokens' variance.",
    )
    register(
        "feature_bias",
        "embedkit_tabular.feature_bias:FeatureBias",
        config="embedkit_tabular.configs_evaluate:FeatureBiasConfig",
        summary="How well attributes can be told from embeddings, beside their share of the variance.",
    )
