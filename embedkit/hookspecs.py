"""Every hook that a plugin may implement.

Hooks register and announce; they never compute, and none stops at the first result. Order, weights and wiring stand in the
run file, so the order in which plugins load never changes what a run means.

A *registration hook* is called with one argument, ``register``::

    @embedkit.hookimpl
    def register_losses(register):
        register("my_loss", "my_package.losses:MyLoss", config="my_package.configs:MyLossConfig", summary="One line.")

``register(name, target, *, config, summary="")``: ``target`` is a class, ``config`` its options (a subclass of
``embedkit.component.Config``); either may be a ``"module:Class"`` string that is imported on first use. Give strings, and keep option
classes in a module without torch, so that listing components and checking a run file stay quick. A bare name must have one owner among
the installed plugins; ``plugin:name`` always works. A registration hook is called when its kind is first needed, so a plugin whose
losses are broken cannot stop a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from embedkit.config.model import RunConfig
    from embedkit.host import Problem
    from embedkit.registry import Registry
    from embedkit.runs import RunFolder
    from embedkit.training.stages import StageResult

    Register = Callable[..., None]

hookspec = pluggy.HookspecMarker("embedkit")


# --------------------------------------------------------------------- registration


@hookspec
def register_field_types(register: Register) -> None:
    """Register field types: subclasses of ``embedkit.data.codec.Codec`` with options derived from ``embedkit.config.fields.FieldOptions``.

    Named in ``[fields]`` as ``type``. Called when a run file is resolved or inferred and when a bundle is loaded.
    """


@hookspec
def register_encoders(register: Register) -> None:
    """Register encoders: subclasses of ``embedkit.nn.encoder.Encoder``, Columns → Tokens.

    Named in ``[model] encoders``. Called when a run file is resolved and when a bundle is loaded.
    """


@hookspec
def register_trunks(register: Register) -> None:
    """Register trunks: subclasses of ``embedkit.nn.trunk.Trunk``, Tokens → Tokens and one pooled vector.

    Named in ``[model] trunk`` and ``trunks``. Called when a run file is resolved and when a bundle is loaded.
    """


@hookspec
def register_heads(register: Register) -> None:
    """Register heads: subclasses of ``embedkit.nn.head.Head``, pooled vectors → embeddings with nested prefixes.

    Named in ``[model] head`` and ``heads``. Called when a run file is resolved and when a bundle is loaded.
    """


@hookspec
def register_augmentations(register: Register) -> None:
    """Register augmentations: subclasses of ``embedkit.views.Augmentation``, one View → linked Views.

    Named in ``[[stages]] views``. Called when a run file is resolved; never when a bundle is loaded for inference.
    """


@hookspec
def register_losses(register: Register) -> None:
    """Register losses: subclasses of ``embedkit.training.loss.Loss``.

    Named in ``[[stages]] losses``. Called when a run file is resolved; never when a bundle is loaded for inference.
    """


@hookspec
def register_samplers(register: Register) -> None:
    """Register batch samplers: subclasses of ``embedkit.data.sampler.BatchSampler``.

    Named in ``[[stages]] streams``. Called when a run file is resolved.
    """


@hookspec
def register_optimizers(register: Register) -> None:
    """Register optimisers: classes called as ``target(parameter_groups, config)`` that return a ``torch.optim.Optimizer``.

    Named in ``[[stages]] optimizer`` and ``table_optimizer``. A target whose ``sparse`` attribute is true gets sparse gradients of tables.
    """


@hookspec
def register_stages(register: Register) -> None:
    """Register stages: subclasses of ``embedkit.training.stages.Stage`` with a method ``run(context) -> StageResult``.

    Named in ``[[stages]] use``. A stage may own its own loop; stages meet on disk only.
    """


@hookspec
def register_evaluators(register: Register) -> None:
    """Register evaluators: subclasses of ``embedkit.evaluate.base.Evaluator``.

    Named in ``[[evaluate]]``. Called when a run file is resolved.
    """


@hookspec
def register_indexes(register: Register) -> None:
    """Register index backends: subclasses of ``embedkit.index.base.Index``.

    Named in ``[index]``. Called when an index is built or opened.
    """


@hookspec
def register_datasets(register: Register) -> None:
    """Register data sets: subclasses of ``embedkit.data.dataset.Dataset``.

    Named on the command line: ``embedkit data get NAME``.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the ``embedkit`` command: ``cli.add_command(…)`` or ``@cli.command()``.

    Called whenever the command line starts, so import nothing heavy here. A name that is taken already is an error of the plugin.
    """


# --------------------------------------------------------------------- moments


@hookspec
def check_config(config: RunConfig, registry: Registry) -> Iterable[Problem]:
    """Say what is wrong with a run file beyond what its types say.

    Called after a run file was resolved; the problems of all plugins are shown together and stop the run.
    """
    return ()


@hookspec
def step_reported(report: dict[str, Any]) -> None:
    """A line of metrics was written: ``stage``, ``step``, ``epoch``, ``losses``, ``rows_per_second``, …

    Called on rank 0 while training. What it returns is ignored; what it raises is a warning, never the end of a run.
    """


@hookspec
def stage_finished(stage: str, result: StageResult) -> None:
    """A stage has ended and its results are on disk. Called on rank 0; returns and errors as ``step_reported``."""


@hookspec
def run_finished(run: RunFolder, error: BaseException | None) -> None:
    """A run has ended, well (``error`` is None) or not. Called on rank 0; returns and errors as ``step_reported``."""


REGISTRATION = {
    "field_type": "register_field_types",
    "encoder": "register_encoders",
    "trunk": "register_trunks",
    "head": "register_heads",
    "augmentation": "register_augmentations",
    "loss": "register_losses",
    "sampler": "register_samplers",
    "optimizer": "register_optimizers",
    "stage": "register_stages",
    "evaluator": "register_evaluators",
    "index": "register_indexes",
    "dataset": "register_datasets",
}
"""Kind of component → the hook that registers it."""
