"""Options of the evaluators of rows. No torch here."""

from __future__ import annotations

from pydantic import Field

from embedkit.component import Config
from embedkit.config.references import FieldName, TowerName


class RowsConfig(Config):
    """Options that evaluators of a tower's rows share."""

    tower: TowerName
    """Tower whose vectors are looked at."""
    max_rows: int = Field(20_000, ge=10)
    """At most so many train rows are fitted on, and as many of the split measured; the same ones every time."""


class FeatureRelevanceConfig(RowsConfig):
    """Options of ``feature_relevance``."""

    label: FieldName
    """Category or number that importance is about; a field of the tower's table, most often with role ``label``."""
    repeats: int = Field(5, ge=1)
    """Permutations a feature."""


class FeatureBiasConfig(RowsConfig):
    """Options of ``feature_bias``."""

    attributes: list[FieldName] = Field(min_length=1)
    """Categories and numbers of the tower's table, features or labels. Shares can be compared where attributes are independent of each
    other and their values about equally frequent."""
