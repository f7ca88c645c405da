"""Labels, losses and the evaluator in whole runs."""

from __future__ import annotations

import polars as pl
import pytest

from embedkit.errors import DataError, UsageError
from embedkit.evaluate.compare import compare


@pytest.mark.parametrize(
    ("label", "metric", "better"),
    [("clicked", "log_loss", -1), ("liked", "auc", 1), ("shade", "accuracy", 1), ("price", "r2", 1)],
)
def test_a_model_beats_the_constant(rows, label, metric, better):
    result = rows.train(rows.run_file(label))
    by = {one.model: one for one in result.estimates if one.metric == metric}
    assert better * (by["model"].value - by["constant"].value) > 0
    assert by["model"].low < by["model"].value < by["model"].high
    frame = pl.read_parquet(result.folder.queries("test")).filter(pl.col("model") == "model")
    assert frame[metric].mean() == pytest.approx(by["model"].value)
    assert len(frame) == by["model"].n


def test_missing_labels_are_left_out_and_told(rows):
    result = rows.train(rows.run_file())
    table = pl.read_parquet(rows.folder / "rows.parquet").filter(pl.col("part") == "test")
    share = next(one for one in result.estimates if one.metric == "left_out")
    assert share.n == len(table)
    assert share.value == pytest.approx(table["clicked"].is_null().mean())


def test_both_label_types_say_the_same(rows):
    """A number 0 or 1 and a category of two values are one label."""
    frame = pl.read_parquet(rows.folder / "rows.parquet")
    frame.with_columns(clicked=(pl.col("liked") == "yes").cast(pl.Int64)).write_parquet(rows.folder / "rows.parquet")
    one, other = rows.train(rows.run_file("clicked")), rows.train(rows.run_file("liked"))
    assert one.metrics == other.metrics


def test_validation_by_a_figure(rows):
    run = rows.run_file()
    run["stages"][0]["validate"] = {"metric": "auc", "patience": 3}
    result = rows.train(run)
    assert result.metrics["auc"] > 0.6


def test_a_label_that_is_reversed_turns_the_model(rows):
    run = rows.run_file("liked")
    run["stages"][0]["losses"][0]["positive"] = "no"
    assert rows.train(run).metrics["auc"] < 0.4


def test_runs_are_compared_row_by_row(rows):
    weak, strong = rows.run_file(), rows.run_file()
    weak["stages"][0]["optimizer"]["lr"] = 1e-7
    folders = [rows.train(run).folder.path for run in (weak, strong)]
    found = {one.metric: one for one in compare(folders)}
    assert set(found) == {"auc", "log_loss", "average_precision", "calibration", "calibration_error"}
    assert found["auc"].difference > 0
    assert found["auc"].low > 0


def test_groups_are_resampled_together(rows):
    run = rows.run_file()
    run["evaluate"][0] |= {"group": "user", "baselines": []}
    result = rows.train(run)
    frame = pl.read_parquet(result.folder.queries("test"))
    assert frame["user"].n_unique() < 61
    assert {one.model for one in result.estimates} == {"model"}


def test_weights_decide_which_rows_count(rows):
    """Rows of weight zero teach nothing: their labels may be anything."""
    frame = pl.read_parquet(rows.folder / "rows.parquet")
    heavy = pl.col("row_id").str.slice(1).cast(pl.Int64) % 2
    frame = frame.with_columns(importance=heavy.cast(pl.Float64))
    turned = pl.when(heavy == 0).then(1 - pl.col("clicked")).otherwise(pl.col("clicked"))
    found = []
    for table in (frame, frame.with_columns(clicked=pl.when(pl.col("part") == "train").then(turned).otherwise(pl.col("clicked")))):
        table.write_parquet(rows.folder / "rows.parquet")
        run = rows.run_file(weight_by="importance")
        run["fields"]["clicked"]["type"] = "category"
        found.append(rows.train(run).metrics)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_joined_table_may_hold_the_label(rows):
    """Events of a user are predicted by the label of the joined row."""
    frame = pl.read_parquet(rows.folder / "rows.parquet")
    visits = frame.select("row_id", "user", "part", pl.int_range(pl.len()).alias("at"))
    visits.write_parquet(rows.folder / "visits.parquet")
    run = rows.run_file("price")
    run["tables"]["rows"].pop("split")
    run["tables"]["visits"] = {
        "uri": "visits.parquet",
        "user": "user",
        "position": "at",
        "join": {"row_id": "rows"},
        "split": {"by": "column", "column": "part", "valid": "valid", "test": "test"},
    }
    run["fields"]["row_id"] = {"table": "rows", "type": "category"}
    run["fields"]["past"] = {"table": "visits", "type": "sequence", "domain": "row_id", "max_length": 4}
    run["fields"].pop("user")
    run["towers"]["row"].append("past")
    run["model"]["encoders"] = [{"use": "embedding", "fields": ["row_id", "past"], "pool_sequences": True}]
    run["stages"][0]["streams"]["main"] = {"table": "visits", "rows": "events", "size": 60}
    assert rows.train(run).metrics["r2"] > 0.5


@pytest.mark.parametrize(
    ("label", "change", "error", "message"),
    [
        ("clicked", {"model.head.normalize": True}, UsageError, "brings vectors to unit length.*normalize = false"),
        ("clicked", {"model.head.dim": 4}, UsageError, "gives 4 numbers a row and label 'clicked' wants 1: set dim = 1"),
        ("shade", {"model.head.dim": 2}, UsageError, "label 'shade' wants 3: set dim = 3"),
        (
            "liked",
            {"stages.0.losses.0.positive": None},
            UsageError,
            "set positive to the value of 'liked' that counts as 1: 'yes', 'no'|'no', 'yes'",
        ),
        ("liked", {"stages.0.losses.0.positive": "maybe"}, UsageError, "positive = 'maybe' is no value of 'liked'"),
        ("clicked", {"stages.0.losses.0.positive": 1}, UsageError, "positive is for category labels"),
        ("clicked", {"stages.0.losses.0.label": "size"}, UsageError, "role 'feature'; set role = \"label\""),
        ("clicked", {"stages.0.losses.0.label": "price"}, DataError, "label 'price' goes from .* wanted 0 and 1"),
        ("liked", {"stages.0.losses.0.label": "shade"}, DataError, "label 'shade' has 3 values.*wanted two.*multiclass"),
        ("price", {"stages.0.losses.0.label": "shade"}, UsageError, "field 'shade' is of type category, wanted a number"),
        ("shade", {"stages.0.losses.0.label": "price"}, UsageError, "field 'price' is of type number, wanted a category"),
        ("clicked", {"stages.0.losses.0.weight_by": "price"}, UsageError, "weight_by = 'price' is no weight; set role = 'weight'"),
    ],
)
def test_what_does_not_suit_is_told_before_training(rows, label, change, error, message):
    run = rows.run_file(label)
    for path, value in change.items():
        *parts, last = path.split(".")
        at = run
        for part in parts:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if value is None:
            at.pop(last)
        else:
            at[last] = value
    with pytest.raises(error, match=message):
        rows.train(run)


def test_negative_weights_are_refused(rows):
    frame = pl.read_parquet(rows.folder / "rows.parquet")
    frame.with_columns(importance=pl.col("importance") - 0.5).write_parquet(rows.folder / "rows.parquet")
    with pytest.raises(DataError, match="column 'importance' holds -0.*wanted a weight of at least 0"):
        rows.train(rows.run_file(weight_by="importance"))


def test_a_third_value_outside_training_is_told(rows):
    frame = pl.read_parquet(rows.folder / "rows.parquet")
    odd = pl.when(pl.col("part") == "test").then(7).otherwise(pl.col("clicked"))
    frame.with_columns(clicked=odd).write_parquet(rows.folder / "rows.parquet")
    with pytest.raises(DataError, match="label 'clicked': a row holds neither of the two values"):
        rows.train(rows.run_file())
