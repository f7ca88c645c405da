"""The data sets of S3-Rec (Zhou et al. 2020, section 5.1): who took which item in which order, and the items' attributes, ids only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedkit.errors import DataError
from embedkit_datasets.download import Remote
from embedkit_datasets.plain import FetchedDataset

if TYPE_CHECKING:
    import polars as pl

REVISION = "49a890dcb516c9ed3126564495234ea74d5cd566"
"""The authors' repository as it was on 6 November 2020."""
FOLDER = f"https://raw.githubusercontent.com/aHuiWang/CIKM2020-S3Rec/{REVISION}/data"

_S3REC = (
    "Kun Zhou, Hui Wang, Wayne Xin Zhao, Yutao Zhu, Sirui Wang, Fuzheng Zhang, Zhongyuan Wang and Ji-Rong Wen. 2020. S3-Rec: "
    "Self-Supervised Learning for Sequential Recommendation with Mutual Information Maximization. CIKM. "
    "https://doi.org/10.1145/3340531.3411954"
)
_AMAZON = (
    "Julian McAuley, Christopher Targett, Qinfeng Shi and Anton van den Hengel. 2015. Image-based Recommendations on Styles and "
    "Substitutes. SIGIR. https://doi.org/10.1145/2766462.2767755"
)
_LASTFM = (
    "Iván Cantador, Peter Brusilovsky and Tsvi Kuflik. 2011. Second Workshop on Information Heterogeneity and Fusion in Recommender "
    "Systems (HetRec 2011). RecSys. https://doi.org/10.1145/2043932.2044016"
)
_IDS_ONLY = (
    "Everything is an id: there are no titles, no names of attributes and no times, only each user's order (position, from 0). No user "
    "takes an item twice. Users and items that occur fewer than five times were left out by the authors, over the whole period, so "
    "hardly an item is new and a cold start cannot be measured."
)


class S3RecDataset(FetchedDataset):
    """What the three sets share: two files at the source, two tables, a format."""

    def parse(self, files: Mapping[str, bytes]) -> dict[str, pl.DataFrame]:
        """The users' file, then the items'."""
        (users, lines), (items, attributes) = ((file, data.decode("utf-8")) for file, data in files.items())
        return {"interactions": interactions_of(lines, users), "item_attributes": attributes_of(attributes, items)}


def _remotes(name: str) -> tuple[Remote, Remote]:
    return Remote(f"{FOLDER}/{name}.txt"), Remote(f"{FOLDER}/{name}_item2attributes.json")


def interactions_of(text: str, file: str) -> pl.DataFrame:
    """Lines ``user item item …``, a user's items in the order of time, as one row an item with its position from 0.

    Raises:
        DataError: a line holds something else.
    """
    import polars as pl

    rows: list[tuple[int, int, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            user, *items = map(int, line.split())
        except ValueError:
            raise DataError(f"{file}, line {number}: wanted a user's id and item ids, separated by spaces, found {line[:40]!r}") from None
        rows.extend((user, position, item) for position, item in enumerate(items))
    return pl.DataFrame(rows, schema={"user_id": pl.Int32, "position": pl.Int32, "item_id": pl.Int32}, orient="row")


def attributes_of(text: str, file: str) -> pl.DataFrame:
    """``{"item": [attribute, …], …}`` as one row an item, by ascending id; lists as they stand there.

    Raises:
        DataError: it is no such JSON.
    """
    import polars as pl

    try:
        found: dict[str, list[int]] = json.loads(text)
        rows = sorted((int(item), [int(one) for one in attributes]) for item, attributes in found.items())
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: wanted a JSON object of item id to a list of attribute ids ({error})") from None
    return pl.DataFrame(rows, schema={"item_id": pl.Int32, "attribute_ids": pl.List(pl.Int32)}, orient="row")


_AMAZON_LICENCE = "not stated by the source; the underlying Amazon review data (McAuley lab) is for research use and names no licence"
_AMAZON_TABLES = {
    "interactions": "a product that a user reviewed: user_id, position (from 0, by time), item_id",
    "item_attributes": "a product: item_id and attribute_ids (categories and brand, by id)",
}


class AmazonBeauty(S3RecDataset):
    """198,502 reviews of 12,101 beauty products by 22,363 users, in order."""

    name = "amazon_beauty"
    title = "Amazon Beauty, 5-core: who reviewed which product, in order"
    description = (
        "198,502 reviews of 12,101 beauty products at Amazon by 22,363 users, as prepared by the authors of S3-Rec; a review counts as one "
        "step of the user, whatever its rating. Half of the users have six steps or fewer. The file has 637 distinct attributes where the "
        "paper's table says 1,221."
        f" {_IDS_ONLY}"
    )
    licence = _AMAZON_LICENCE
    citation = f"{_S3REC} The reviews: {_AMAZON}"
    source = f"{FOLDER}/Beauty.txt and Beauty_item2attributes.json"
    remotes = _remotes("Beauty")
    originals = {
        "Beauty.txt": "sha256:226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
        "Beauty_item2attributes.json": "sha256:129e40f67486f6877eff0f5318cfa8530ee8ac23d8b0d1de04e1bb7a2ba0b2d4",
    }
    prepared_checksums = {
        "interactions.parquet": "sha256:e00eb468b60de691522a2e82f6dd874fc3a13613706c9efd12c14a7035440ba1",
        "item_attributes.parquet": "sha256:d22cff0710c52b23c6d8bf7b1dd554f50f91609304631c9f7598ba63b38d80f4",
    }
    tables = _AMAZON_TABLES


class AmazonSports(S3RecDataset):
    """296,337 reviews of 18,357 sports products by 35,598 users, in order."""

    name = "amazon_sports"
    title = "Amazon Sports and Outdoors, 5-core: who reviewed which product, in order"
    description = (
        "296,337 reviews of 18,357 sports and outdoor products at Amazon by 35,598 users, as prepared by the authors of S3-Rec; a review "
        "counts as one step of the user, whatever its rating. Half of the users have six steps or fewer. 2,277 distinct attributes."
        f" {_IDS_ONLY}"
    )
    licence = _AMAZON_LICENCE
    citation = f"{_S3REC} The reviews: {_AMAZON}"
    source = f"{FOLDER}/Sports_and_Outdoors.txt and Sports_and_Outdoors_item2attributes.json"
    remotes = _remotes("Sports_and_Outdoors")
    originals = {
        "Sports_and_Outdoors.txt": "sha256:2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
        "Sports_and_Outdoors_item2attributes.json": "sha256:7fb10733ac4f1811384a52144cdefa7fcc7536fa80a7232c5da9bd789155c34b",
    }
    prepared_checksums = {
        "interactions.parquet": "sha256:93b4fbc63ea0d4b75b011f3c16047f6d4462586e78e4dd5374a35ae0dcf0cbf7",
        "item_attributes.parquet": "sha256:d0c4459b286ea1df0ff9262b6e84e85f8f5896590e8c48746a293b84458f4a10",
    }
    tables = _AMAZON_TABLES


class LastFM(S3RecDataset):
    """52,551 artists that 1,090 users tagged, in order."""

    name = "lastfm"
    title = "LastFM (HetRec 2011): which artists a user tagged, in order"
    description = (
        "52,551 artists that 1,090 users of Last.fm tagged, by the time of the first tag, 3,646 artists in all, as prepared by the authors "
        "of S3-Rec from the HetRec 2011 release. Tagging is not listening: many artists were tagged in one sitting. The attributes are "
        "tags, 388 distinct ones; a tag stands in an artist's list as often as it was given, so a list carries frequencies. Users differ "
        "much: half have 19 steps or fewer, the longest has 899. Small: differences between models are noisy."
        f" {_IDS_ONLY}"
    )
    licence = "not stated by the source; HetRec 2011 / Last.fm: non-commercial use"
    citation = f"{_S3REC} The release: {_LASTFM}"
    source = f"{FOLDER}/LastFM.txt and LastFM_item2attributes.json"
    remotes = _remotes("LastFM")
    originals = {
        "LastFM.txt": "sha256:9ded486adb5b0fe9dc761950afa0a9a05e93ff018992e0c52bf11afec529f802",
        "LastFM_item2attributes.json": "sha256:a4ccd678dc9ff6d43fe5073f491db5c9b02eb98dfa4f8c0382913a784be217ef",
    }
    prepared_checksums = {
        "interactions.parquet": "sha256:6c98f6e4b5a23fb47e731866f013982ab58b23ceaa06c7db395a1ca5fa2f9314",
        "item_attributes.parquet": "sha256:2f70f6b1af04f4c1726fa9c53eb80e82845be1be98dd4299e47985d3f6bc87e4",
    }
    tables = {
        "interactions": "an artist that a user tagged: user_id, position (from 0, by time), item_id",
        "item_attributes": "an artist: item_id and attribute_ids (tags by id, as often as given)",
    }
