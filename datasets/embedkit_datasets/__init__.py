"""First-party plugin: data sets to learn and measure with. Hook functions only; each data set lives in a module of its own."""

from __future__ import annotations

from typing import Any

from embedkit import hookimpl

_NO_OPTIONS = "embedkit_datasets.configs:NoOptions"


@hookimpl
def register_datasets(register: Any) -> None:
    """Register the data sets."""
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
    register(
        "movielens_100k", "embedkit_datasets.movielens_100k:Movielens100K", config=_NO_OPTIONS,
        summary="MovieLens 100K: ratings with times, films with genres, users with demographics (download)",
    )  # fmt: skip
    register(
        "amazon_beauty", "embedkit_datasets.s3rec:AmazonBeauty", config=_NO_OPTIONS,
        summary="Amazon Beauty, 5-core: who reviewed which product, in order; ids and attributes (download)",
    )  # fmt: skip
    register(
        "amazon_sports", "embedkit_datasets.s3rec:AmazonSports", config=_NO_OPTIONS,
        summary="Amazon Sports and Outdoors, 5-core: who reviewed which product, in order; ids and attributes (download)",
    )  # fmt: skip
    register(
        "lastfm", "embedkit_datasets.s3rec:LastFM", config=_NO_OPTIONS,
        summary="LastFM (HetRec 2011): which artists a user tagged, in order; ids and tags (download)",
    )  # fmt: skip
    register(
        "frappe", "embedkit_datasets.frappe:Frappe", config=_NO_OPTIONS,
        summary="Frappe: apps used in context, with sampled negatives; clicks to predict (bring the files)",
    )  # fmt: skip
    register(
        "criteo_sample", "embedkit_datasets.criteo_sample:CriteoSample", config=_NO_OPTIONS,
        summary="Criteo display ads, 8,000 impressions: counts and hashed categories; clicks to predict (bring the files)",
    )  # fmt: skip
    register(
        "adult", "embedkit_datasets.adult:Adult", config=_NO_OPTIONS,
        summary="Adult (census income): 14 attributes of people, and who earns more than 50,000 dollars (download)",
    )  # fmt: skip
    register(
        "california_housing", "embedkit_datasets.california_housing:CaliforniaHousing", config=_NO_OPTIONS,
        summary="California housing: block groups, and what a house is worth there (download)",
    )  # fmt: skip
    register(
        "higgs_sample", "embedkit_datasets.higgs_sample:HiggsSample", config=_NO_OPTIONS,
        summary="HIGGS, 7,500 simulated collisions in 28 numbers, signal or background (download)",
    )  # fmt: skip
    register(
        "mnist", "embedkit_datasets.mnist:Mnist", config=_NO_OPTIONS,
        summary="MNIST as a table: handwritten digits in 196 numbers (download)",
    )  # fmt: skip
