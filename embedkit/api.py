"""The Python interface. Every command of the command line is a thin skin over these functions.

::

    import embedkit

    result = embedkit.train("run.toml")                              # a run folder with a bundle
    model = embedkit.load(result.bundle)
    vectors = model.encode(frame)                                    # float32 [rows, width]
    embedkit.api.embed(result.bundle, "embeddings")                  # the whole catalogue, into Parquet parts
    embedkit.api.build_index("embeddings", "index")
    found = embedkit.open_index("index").search([{"title": "red shirt"}], k=5, where="price < 30")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedkit.bundle import Bundle, find_bundle, load_bundle
from embedkit.config.model import RunConfig, TableConfig, Use
from embedkit.errors import UsageError
from embedkit.host import Host
from embedkit.serve.concat import Concatenated
from embedkit.serve.encode import Embedder
from embedkit.serve.query import Neighbours, Searcher

if TYPE_CHECKING:
    from embedkit.config.plan import Part
    from embedkit.data.store import Store
    from embedkit.embed.manifest import Manifest
    from embedkit.evaluate.base import Estimate
    from embedkit.evaluate.compare import Comparison
    from embedkit.index.bundle import IndexBundle
    from embedkit.registry import Registry
    from embedkit.serve.tables import Recommended
    from embedkit.training.run import RunResult
    from embedkit.tuning.run import TuneResult

__all__ = [
    "Concatenated",
    "Embedder",
    "Neighbours",
    "Searcher",
    "build_index",
    "compare",
    "concatenate",
    "embed",
    "evaluate",
    "load",
    "neighbours",
    "open_index",
    "recommend",
    "report",
    "train",
    "tune",
]

Log = Callable[[str], Any]


def _quiet(line: str) -> None:
    """The default log: says nothing."""


def _host(host: Host | None, plugins: Sequence[str]) -> Host:
    return host if host is not None else Host.load(plugins=plugins)


# ---------------------------------------------------------------------- using what was trained


def load(bundle: str | Path, *, plugins: Sequence[str] = (), host: Host | None = None) -> Embedder:
    """Load a trained bundle to turn rows into vectors.

    Args:
        bundle: folder of a bundle, or of a run that holds one.
        plugins: one-file plugins (paths) beside the installed ones; ``no:NAME`` leaves one out.
        host: an already loaded host, used instead.

    Raises:
        BundleError: there is no bundle, or a file of it is missing or damaged.
        PluginError: a component's plugin is not here: ``needs encoder acme:bert from acme-embeds 0.3``.
    """
    return Embedder(load_bundle(bundle, _host(host, plugins).registry))


def concatenate(bundles: Sequence[str | Path], *, plugins: Sequence[str] = (), host: Host | None = None) -> Concatenated:
    """Load several bundles to read their vectors side by side, such as the snapshots of one run.

    Args:
        bundles: folders of bundles, or of runs, in the order of the blocks.
        plugins: as in ``load``.
        host: as in ``load``.

    Raises:
        BundleError, PluginError: as in ``load``.
    """
    host = _host(host, plugins)
    return Concatenated([load(bundle, host=host) for bundle in bundles])


def open_index(
    path: str | Path,
    bundle: str | Path | Bundle | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
) -> Searcher:
    """Open an index to search it by vectors, ids, texts, rows or histories.

    Args:
        path: folder of the index; its current generation is opened.
        bundle: encodes questions; the bundle that the index names when left out, loaded when it is first needed.
        options: of the backend, for searching, in place of those that the index was built with: ``{"ef": 200}``.
        plugins: as in ``load``.
        host: as in ``load``.

    Raises:
        BundleError: there is no index, or a file of it is damaged.
        SpaceMismatch: the bundle is not the one that made the vectors.
        PluginError: the backend's plugin is not here.
        UsageError: an option was fixed when the index was built, or does not fit.
    """
    return Searcher.open(path, _host(host, plugins).registry, bundle=bundle, options=options)


def embed(
    bundle: str | Path | Bundle,
    out: str | Path,
    *,
    table: str | Sequence[str] | TableConfig | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    **options: Any,
) -> Manifest:
    """Embed a whole catalogue into ``out``; an interrupted run goes on where it stopped. See
    ``embedkit.embed.stream.embed``.

    Args:
        bundle: loaded, or its folder.
        out: folder of the embeddings.
        table: files of the catalogue; the bundle's own table when left out.
        plugins: as in ``load``.
        host: as in ``load``.
        options: ``tower``, ``workers``, ``worker``, ``batch_size``, ``precision``, ``device``, ``threads``, ``force``,
            ``base``, ``log``.

    Raises:
        UsageError, DataError, BundleError, SpaceMismatch: as ``embedkit.embed.stream.embed``.
    """
    from embedkit.embed.stream import embed as stream

    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle, _host(host, plugins).registry)
    return stream(loaded, out, table=table, **options)


def build_index(
    embeddings: str | Path,
    out: str | Path,
    *,
    backend: Use | Mapping[str, Any] | str | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    **options: Any,
) -> IndexBundle:
    """Build an index from embeddings, test it and make it the current generation of ``out``.

    Args:
        embeddings: folder that ``embed`` finished.
        out: folder of the index.
        backend: name of a backend, or ``{"use": name, …options}``; what the bundle's run file says when left out.
        plugins: as in ``load``.
        host: as in ``load``.
        options: ``keep``, ``threads``, ``min_recall``, ``log`` of ``embedkit.index.build.build_index``.

    Raises:
        UsageError, DataError, BundleError: as ``embedkit.index.build.build_index``.
    """
    from embedkit.embed.manifest import read_manifest
    from embedkit.index.build import build_index as build

    registry = _host(host, plugins).registry
    if backend is None:
        backend = _run_config(Path(read_manifest(Path(embeddings)).bundle)).index
    return build(embeddings, out, _index_part(backend, registry), **options)


def _index_part(backend: Use | Mapping[str, Any] | str, registry: Registry) -> Part:
    from embedkit.config.plan import Part

    if not isinstance(backend, Use):
        backend = Use.model_validate({"use": backend} if isinstance(backend, str) else dict(backend))
    entry = registry.entry("index", backend.use)
    return Part(entry, entry.parse(backend.options, where="index"))


def _run_config(bundle: Path) -> RunConfig:
    """The run file that a bundle carries."""
    from embedkit.config.load import parse_run, read_toml

    path = find_bundle(bundle) / "run.toml"
    data = read_toml(path)
    data.pop("resolved", None)
    return parse_run(data, where=str(path))


def neighbours(index: str | Path | Searcher, out: str | Path, *, k: int = 10, **options: Any) -> int:
    """Write the nearest ``k`` of every row of an index to a Parquet file; see ``embedkit.serve.tables.neighbours_all``.

    Returns:
        Rows written.
    """
    from embedkit.serve.tables import neighbours_all

    searcher = index if isinstance(index, Searcher) else open_index(index)
    return neighbours_all(searcher, out, k=k, **options)


def recommend(index: str | Path | Searcher, out: str | Path, *, k: int = 10, exclude_seen: bool = True, **options: Any) -> Recommended:
    """Write the best ``k`` items of every user to a Parquet file; see ``embedkit.serve.tables.recommend``.

    The users and what they did are read from the tables of the bundle's run file.

    Returns:
        Rows written, and what was recommended is like: coverage, novelty, popularity bias.
    """
    from embedkit.serve.tables import recommend as write

    searcher = index if isinstance(index, Searcher) else open_index(index)
    store = open_store(searcher.bundle, searcher.registry)
    return write(searcher, store, out, k=k, exclude_seen=exclude_seen, **options)


def open_store(bundle: Bundle, registry: Registry, *, log: Log = _quiet) -> Store:
    """Open the tables that a bundle was trained on, encoded with its codecs. Needs no component that only training
    uses.

    Raises:
        DataError: a table is missing or damaged.
    """
    from embedkit.config.plan import Plan
    from embedkit.data.store import Store

    config = _run_config(bundle.path)
    index = _index_part(config.index, registry)
    plan = Plan(config, Path(bundle.meta.base), bundle.model.spec, (), (), index, registry)
    store = Store.open(plan, log=log)
    store.use(bundle.codecs)
    return store


# ---------------------------------------------------------------------- training and measuring


def train(
    run: str | Path | Mapping[str, Any] | RunConfig,
    out: str | Path = "runs",
    *,
    resume: bool = False,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    base: str | Path | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    log: Log = _quiet,
) -> RunResult:
    """Train what a run file says: fit, run the stages, write the bundle, evaluate.

    Args:
        run: path of a run file, its contents, or, with ``resume``, the folder of an interrupted run.
        out: folder in which the run's own folder is made.
        resume: go on with an interrupted run; on the same machine, threads, torch and data path the weights are equal,
            bit for bit, to those of a run that was not interrupted.
        overrides: ``key.path=value`` each, as ``--set``.
        seed: in place of the run's.
        base: folder that relative paths start from; the run file's folder, or the current one, when left out.
        plugins: as in ``load``.
        host: as in ``load``.
        log: called with one line for people.

    Returns:
        The run's folder, its bundle, and its figures.

    Raises:
        UsageError: the run file or an option is wrong; every problem with its key path.
        DataError: a table holds what it must not, or lacks what it must hold.
        PluginError: a plugin is missing or broken.
    """
    from embedkit.launch import prepare, reopen, together
    from embedkit.training.run import train_run

    with together():
        host = _host(host, plugins)
        if resume:
            if not isinstance(run, (str, Path)):
                raise UsageError("resume wants the folder of the run that is to go on")
            plan, folder = reopen(run, host)
        else:
            launch = prepare(run, host, overrides=overrides, seed=seed, base=None if base is None else Path(base))
            plan, folder = launch.plan, launch.create_folder(out)
        return train_run(plan, folder, host, resume=resume, log=log)


def tune(
    run: str | Path | Mapping[str, Any] | RunConfig,
    space: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    trials: int | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    seed: int = 0,
    prune: bool = False,
    keep: Literal["best", "all"] = "best",
    overrides: Sequence[str] = (),
    base: str | Path | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    log: Log = _quiet,
) -> TuneResult:
    """Train a run with options from a space and keep the best by its ``validate.metric``; the test split is never measured.

    Args:
        run: as in ``train``.
        space: TOML file, or its contents: option (key path as in ``--set``) = list of values, or a table of ``low``, ``high`` and perhaps
            ``log``, ``int`` or ``step``.
        out: folder of the tuning. The same call goes on with an interrupted one, and adds to a finished one when ``trials`` has grown.
        trials: how many in all, pruned and failed ones counted; a grid has all of its combinations when left out.
        sampler: ``tpe`` (optuna's tree-structured Parzen estimator), ``random`` or ``grid``.
        seed: of the sampler; all trials share the run's own seed.
        prune: end trials whose validation is worse than the median of earlier ones at the same step.
        keep: whose weights are kept: the ``best`` trial's or ``all``.
        overrides: as in ``train``.
        base: as in ``train``.
        plugins: as in ``load``.
        host: as in ``load``.
        log: called with one line for people.

    Raises:
        UsageError: the run file, the space or an option is wrong (before anything is trained), the folder holds another tuning, no trial
            came to its end, or optuna is not installed.
        DataError, PluginError: as ``train``.
    """
    from embedkit.tuning.run import tune_run

    start = None if base is None else Path(base)
    return tune_run(
        run,
        space,
        out,
        _host(host, plugins),
        trials=trials,
        sampler=sampler,
        seed=seed,
        prune=prune,
        keep=keep,
        overrides=overrides,
        base=start,
        log=log,
    )


def evaluate(
    run: str | Path,
    *,
    split: Literal["valid", "test"] = "test",
    compute: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    log: Log = _quiet,
) -> list[Estimate]:
    """Measure a finished run's bundle again and write the figures into its folder.

    Args:
        run: the run's folder.
        split: ``valid`` or ``test``.
        compute: options of ``[compute]`` to change, such as the device.
        plugins: as in ``load``.
        host: as in ``load``.
        log: called with one line for people.

    Raises:
        UsageError: there is no such run, or its run file names no evaluator.
        BundleError: the run has no bundle yet, or it is damaged.
    """
    import torch

    from embedkit.data.store import Store
    from embedkit.evaluate.run import evaluate_run, write_evaluation
    from embedkit.launch import reopen
    from embedkit.training.compute import autocast_type, set_up

    host = _host(host, plugins)
    plan, folder = reopen(run, host, compute=compute)
    if not plan.evaluators:
        raise UsageError(f"{folder.resolved}: names no [[evaluate]], so there is nothing to measure")
    bundle = load_bundle(folder.bundle, host.registry)
    store = Store.open(plan, log=log)
    store.use(bundle.codecs)
    device = set_up(plan.config.compute)
    precision = autocast_type(plan.config.compute) or torch.float32
    model = bundle.model.to(device)
    estimates = evaluate_run(plan, model, store, split=split, folder=folder, device=device, precision=precision)
    write_evaluation(folder, estimates, plan=plan, split=split)
    return estimates


def compare(runs: Sequence[str | Path], *, split: str = "test", model: str = "model", seed: int = 0) -> list[Comparison]:
    """Compare runs by a paired bootstrap of the difference of their figures, query by query.

    Args:
        runs: folders of at least two runs; runs that differ in their seed alone are put together.
        split: whose figures.
        model: ``model``, or a baseline that all runs have.
        seed: of the resampling.

    Raises:
        UsageError: a run has no evaluation of the split, or they were asked different things.
    """
    from embedkit.evaluate.compare import compare as paired

    return paired(runs, split=split, model=model, seed=seed)


def report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    plugins: Sequence[str] = (),
    host: Host | None = None,
    **options: Any,
) -> Path:
    """Write one HTML page about a run that needs nothing else: curves, figures beside baselines, a map of the items, users by confidence.

    Args:
        runs: folder of a run, or of several: the page is about the first, and each is a point of quality against table bytes.
        out: file to write; ``report.html`` in the first run's folder when left out.
        plugins: as in ``load``.
        host: as in ``load``.
        options: ``split``, ``items``, ``users``, ``seed``, ``log`` of ``embedkit.reporting.build.write_report``.

    Returns:
        The file.

    Raises:
        UsageError, BundleError, PluginError: as ``embedkit.reporting.build.write_report``.
    """
    from embedkit.reporting.build import write_report

    folders = [runs] if isinstance(runs, (str, Path)) else list(runs)
    return write_report(folders, None if out is None else Path(out), _host(host, plugins).registry, **options)
