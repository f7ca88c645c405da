"""TableEmbedder: embedkit as a scikit-learn transformer. Needs scikit-learn (``pip install "embedkit[sklearn]"``).

::

    from embedkit.sklearn import TableEmbedder

    vectors = TableEmbedder(dim=32).fit_transform(frame)                  # float32 [rows, 32]
    make_pipeline(TableEmbedder(), LogisticRegression()).fit(frame, y)    # vectors know nothing of y
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedkit.errors import DataError, EmbedkitError, UsageError

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise UsageError('embedkit.sklearn needs scikit-learn, which is not installed: pip install "embedkit[sklearn]"') from None

_ROWS = "rows"
"""Name of the table in the file that is trained on."""


class TableError(DataError, ValueError):
    """What is wrong with a table or an option, as a ``ValueError``, which scikit-learn's tools look for."""


class TableEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learn vectors of the rows of a table without labels.

    X is a pandas or polars frame, or a numpy array, whose columns are then called ``x0``, ``x1``, …. Numbers, categories, texts, dates and
    lists are told apart as ``embedkit init --ssl`` does; values may be missing, and categories that fitting never saw are unknown.

    Args:
        run: what is trained: a run file or its contents, with one table, whose file is X whatever it says. None: what ``embedkit init
            --ssl`` would write for X.
        dim: width of tokens, and of the vectors unless the run file's trunk or head says otherwise; None: as the run says (64).
        epochs: passes over X of the first stage; None: as the run says (10).
        seed: of everything random; None: as the run says (0).
        tower: whose vectors; the only tower when None.
        device: ``cpu``, ``cuda`` or ``auto``; None: as the run says (auto).

    Attributes:
        bundle_: file name → contents of the trained bundle. It is what pickling keeps, and what ``save`` writes.
        n_features_in_: columns of X.
        feature_names_in_: their names, for frames.
    """

    def __init__(
        self,
        run: str | Path | Mapping[str, Any] | None = None,
        *,
        dim: int | None = None,
        epochs: float | None = None,
        seed: int | None = None,
        tower: str | None = None,
        device: str | None = None,
    ) -> None:
        self.run = run
        self.dim = dim
        self.epochs = epochs
        self.seed = seed
        self.tower = tower
        self.device = device

    def fit(self, X: Any, y: Any = None) -> TableEmbedder:
        """Train on the rows of X; ``y`` is not looked at.

        Raises:
            ValueError: X cannot be read or learned from, or the run file does not fit it; in one sentence.
        """
        table = self._table(X, fitting=True)
        self._columns = list(table.column_names)
        with _plainly(), _undisturbed(), tempfile.TemporaryDirectory(prefix="embedkit-fit-") as folder:
            self.bundle_ = self._train(table, Path(folder))
        self._embedder: Any = None
        self._n_features_out = self._loaded().bundle.spaces[self._tower()].dim
        return self

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Vectors of rows, float32 [rows, width].

        Raises:
            ValueError: X lacks a column, or one is of another type than when fitting.
        """
        check_is_fitted(self)
        table = self._table(X, fitting=False).rename_columns(self._columns)  # arrays and frames agree by position
        with _plainly():
            vectors: npt.NDArray[np.float32] = self._loaded().encode(table, self._tower())
        return vectors

    def save(self, folder: str | Path) -> Path:
        """Write the trained bundle, which ``embedkit.load`` and every command read; an older one there is replaced."""
        from embedkit.files import atomic_folder

        check_is_fitted(self)
        with _plainly(), atomic_folder(Path(folder), replace=True) as beside:
            _unpack(self.bundle_, beside)
        return Path(folder)

    # ------------------------------------------------------------------ within

    def _table(self, X: Any, *, fitting: bool) -> Any:
        """X as an Arrow table with the columns that fitting saw."""
        import pyarrow as pa

        from embedkit.serve.frames import to_arrow

        if hasattr(X, "columns") and hasattr(X, "__len__"):
            validate_data(self, X, reset=fitting, skip_check_array=True)
            least = 2 if fitting else 1
            if len(X) < least:
                raise TableError(f"X: found {len(X)} row(s), wanted at least {least}")
            with _plainly():
                found = to_arrow(X)
            return found.rename_columns([str(name) for name in found.column_names])
        X = validate_data(self, X, reset=fitting, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if fitting else 1)
        columns = {}
        for i in range(X.shape[1]):
            try:
                columns[f"x{i}"] = pa.array(X[:, i], from_pandas=True)
            except (pa.ArrowException, TypeError) as error:
                said = str(error).splitlines()[0]
                raise TableError(f"column 'x{i}': its values do not have one type ({said}); cast it to one, such as text") from None
        return pa.table(columns)

    def _train(self, table: Any, folder: Path) -> dict[str, bytes]:
        """Train in a folder that is thrown away; the bundle's files."""
        import pyarrow.parquet as pq

        from embedkit.host import Host
        from embedkit.launch import prepare, together
        from embedkit.training.run import train_run

        host = Host.load()
        path = folder / f"{_ROWS}.parquet"
        pq.write_table(table, path)
        run, base = self._run(path, host)
        with together():
            launch = prepare(run, host, base=base)
            bundle = train_run(launch.plan, launch.create_folder(folder / "runs"), host, curve=False).bundle
        return {file.relative_to(bundle).as_posix(): file.read_bytes() for file in sorted(bundle.rglob("*")) if file.is_file()}

    def _run(self, path: Path, host: Any) -> tuple[dict[str, Any], Path]:
        """The run's contents with X as its table, and the folder that its other paths start from."""
        import torch

        from embedkit.config.load import read_toml
        from embedkit.config.starter import write_starter

        base = path.parent
        if self.run is None:
            write_starter([path], base / "run.toml", host.registry, name=_ROWS, ssl=True)
            run = read_toml(base / "run.toml")
        elif isinstance(self.run, Mapping):
            run, base = copy.deepcopy(dict(self.run)), Path.cwd()
        else:
            run, base = read_toml(Path(self.run)), Path(self.run).resolve().parent
        tables = run.get("tables", {})
        if len(tables) != 1:
            raise UsageError(f"run: X is one table, and the run file has {len(tables)} ({', '.join(tables) or 'none'})")
        next(iter(tables.values()))["uri"] = str(path)
        if self.dim is not None:
            run.setdefault("model", {})["dim"] = self.dim
        if self.epochs is not None:
            for stage in run.get("stages", [])[:1]:
                stage.pop("steps", None)
                stage["epochs"] = self.epochs
        if self.seed is not None:
            run["seed"] = self.seed
        compute = run.setdefault("compute", {})
        if self.device is not None:
            compute["device"] = self.device
        compute.setdefault("threads", torch.get_num_threads())
        return run, base

    def _loaded(self) -> Any:
        """The embedder; unpacked when it is first needed, and after unpickling."""
        if getattr(self, "_embedder", None) is None:
            from embedkit.api import load

            with tempfile.TemporaryDirectory(prefix="embedkit-load-") as folder:
                _unpack(self.bundle_, Path(folder))
                self._embedder = load(folder)
        return self._embedder

    def _tower(self) -> str:
        name: str = self._loaded().bundle.tower(self.tower)
        return name

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_embedder"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # vectors are float32 whatever X is
        return tags


def _unpack(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@contextmanager
def _plainly() -> Iterator[None]:
    """Errors of embedkit as ``TableError``."""
    try:
        yield
    except EmbedkitError as error:
        raise TableError(str(error)) from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Training seeds and switches what belongs to the whole process; put all of it back."""
    import torch

    from embedkit.training.compute import global_state, load_global_state

    state, threads, mode = global_state(), torch.get_num_threads(), torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        load_global_state(state)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)


__all__: Sequence[str] = ["TableEmbedder", "TableError"]
