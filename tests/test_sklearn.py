from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import embedkit
from embedkit.sklearn import TableEmbedder, TableError

EXPECTED_TO_FAIL = {
    "check_methods_sample_order_invariance": "a row's vector differs in the last bit of float32 where it stands elsewhere in a batch",
}
FRAMES = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_n_features_in_after_fitting,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_set_output_transform_polars,
]


def tiny(**options):
    return TableEmbedder(**({"dim": 4, "epochs": 1, "device": "cpu"} | options))


def people(rows=80):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, rows)
    return pl.DataFrame(
        {
            "kind": [f"k{k}" if n % 11 else None for n, k in enumerate(kind)],
            "size": np.where(rng.random(rows) < 0.1, np.nan, kind + rng.normal(size=rows)),
            "count": rng.integers(0, 1000, rows),
            "said": [f"word {k} and {n % 5}" for n, k in enumerate(kind)],
        }
    )


@pytest.mark.slow
def test_the_checks_of_scikit_learn():
    found = estimator_checks.check_estimator(tiny(), expected_failed_checks=EXPECTED_TO_FAIL, on_skip=None, on_fail="raise")
    assert sum(one["status"] == "passed" for one in found) > 40
    failed = {one["check_name"] for one in found if one["status"] == "xfail"}
    assert failed <= set(EXPECTED_TO_FAIL)


@pytest.mark.parametrize("check", FRAMES, ids=lambda check: check.__name__)
def test_the_checks_of_frames(check):
    check("TableEmbedder", tiny())


def test_what_differs_between_orders_of_rows_is_the_last_bit():
    frame = people()
    model = tiny().fit(frame)
    order = np.random.default_rng(1).permutation(len(frame))
    assert np.allclose(model.transform(frame)[order], model.transform(frame[order]), atol=1e-5)


def test_nothing_is_drawn(monkeypatch):
    def draw(*_, **__):
        raise AssertionError("the folder that a curve would lie in is thrown away")

    monkeypatch.setattr("embedkit.training.run.draw_curve", draw)
    tiny().fit(people(20))


def test_pandas_polars_and_saved_bundles_agree(tmp_path):
    frame = people()
    models = {name: tiny().fit(X) for name, X in {"polars": frame, "pandas": frame.to_pandas()}.items()}
    vectors = models["polars"].transform(frame)
    assert vectors.dtype == np.float32
    assert vectors.shape == (80, 4)
    assert np.allclose(vectors, models["pandas"].transform(frame.to_pandas()), atol=1e-6)
    assert list(models["polars"].get_feature_names_out()) == [f"tableembedder{i}" for i in range(4)]
    models["polars"].save(tmp_path / "bundle")
    assert np.array_equal(embedkit.load(tmp_path / "bundle").encode(frame), vectors)


def test_pickling_keeps_the_model_and_cloning_the_options():
    frame = people()
    model = tiny(seed=3).fit(frame)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(frame), model.transform(frame))
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "bundle_")


def test_a_pipeline_learns_through_it():
    frame = people(300)
    y = frame["kind"].fill_null("none").to_numpy()
    pipeline = make_pipeline(TableEmbedder(dim=16, epochs=5, device="cpu"), LogisticRegression(max_iter=500))
    assert pipeline.fit(frame, y).score(frame, y) > 0.7


def test_a_run_file_says_how(tmp_path):
    run = {
        "format": 1,
        "name": "mine",
        "tables": {"people": {"uri": "elsewhere.parquet"}},
        "fields": {"size": {"table": "people", "type": "number"}, "kind": {"table": "people", "type": "category"}},
        "towers": {"row": ["size", "kind"]},
        "model": {"dim": 8, "head": {"use": "linear", "dim": 6}},
        "stages": [
            {
                "use": "train",
                "steps": 3,
                "streams": {"main": {"table": "people", "size": 16}},
                "views": [{"use": "corruption", "of": "main", "makes": ["a"]}],
                "losses": [{"use": "info_nce", "tower": "row", "views": ["main", "a"]}],
            }
        ],
    }
    frame = people()
    given = dict(run)
    vectors = TableEmbedder(run, device="cpu").fit(frame).transform(frame)
    assert vectors.shape == (80, 6)
    assert run == given
    import tomli_w

    (tmp_path / "run.toml").write_text(tomli_w.dumps(run))
    assert np.array_equal(TableEmbedder(tmp_path / "run.toml", device="cpu").fit(frame).transform(frame), vectors)
    other = TableEmbedder(run, device="cpu", dim=5, seed=1, epochs=1).fit(frame)
    assert not np.array_equal(other.transform(frame), vectors)
    with pytest.raises(TableError, match=r"run: X is one table, and the run file has 2 \(people, more\)"):
        TableEmbedder(run | {"tables": run["tables"] | {"more": {"uri": "x"}}}).fit(frame)


def test_fitting_leaves_the_process_as_it_was():
    numbers, threads = (np.random.get_state()[1].copy(), torch.get_rng_state()), torch.get_num_threads()  # noqa: NPY002
    mode = torch.get_deterministic_debug_mode()
    tiny().fit(people())
    assert np.array_equal(np.random.get_state()[1], numbers[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), numbers[1])
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == (threads, mode)


def test_bad_input_is_one_sentence():
    frame = people()
    model = tiny().fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.drop("size"))
    with pytest.raises(TableError, match=r"column 'size'.*found 'big'.*wanted a number"):
        model.transform(frame.with_columns(size=pl.lit("big")))
    with pytest.raises(TableError, match=r"X: found 1 row\(s\), wanted at least 2"):
        tiny().fit(frame.head(1))
    with pytest.raises(TableError, match=r"X: found 0 row\(s\), wanted at least 1"):
        model.transform(frame.head(0))
    with pytest.raises(TableError, match="has no column to learn from"):
        tiny().fit(pl.DataFrame({"same": [1] * 60, "nothing": [None] * 60}))
    mixed = pd.DataFrame({"size": [1.0, 2.0, 3.0] * 20, "mixed": [1, "two", None] * 20})
    with pytest.raises(TableError, match="mixed"):
        tiny().fit(mixed)
    with pytest.raises(TableError, match="column 'x1': its values do not have one type"):
        tiny().fit(mixed.to_numpy(dtype=object))
    unseen = frame.with_columns(kind=pl.lit("never seen"), size=pl.lit(1e300), said=pl.lit(None, pl.String))
    assert np.isfinite(model.transform(unseen)).all()


def test_without_scikit_learn_one_sentence_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None; import embedkit.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].endswith('is not installed: pip install "embedkit[sklearn]"')
