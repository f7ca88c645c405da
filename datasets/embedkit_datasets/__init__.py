"""First-party plugin: data sets to learn and measure with. Hook functions only; each data set lives in a module of its own."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl

_NO_OPTIONS = "embedkit_datasets.configs:NoOptions"


@hookimpl
def register_datasets(register: Any) -> None:
    """Register the three data sets."""
    register(
        "python_api", "embedkit_datasets.python_api:PythonApi", config=_NO_OPTIONS,
        summary="Python's standard library: its classes and functions, and which calls which (built on the spot)",
    )  # fmt: skip
    register(
        "movielens_1m", "embedkit_datasets.movielens_1m:Movielens1M", config=_NO_OPTIONS,
        summary="MovieLens 1M: who rated which film, as implicit feedback (download)",
    )  # fmt: skip
    register(
        "online_retail", "embedkit_datasets.online_retail:OnlineRetail", config=_NO_OPTIONS,
        summary="A year of a gift shop's invoices with product descriptions and prices (download)",
    )  # fmt: skip
