"""RunConfig: what a run file may say. Frozen, unknown keys refused.

Component options (`use = "name"`, and whatever else stands beside it) are kept as they were written; ``embedkit.config.resolve``
validates them against the configuration class that the component was registered with.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedkit.component import Config

Steps = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")]
"""A number of optimiser steps, or a share of the stage such as ``"10%"``."""


class Schedule(Config):
    """A number that changes over a stage (decision 11)."""

    from_: float = Field(alias="from")
    """Value at the start (after the warm-up)."""
    to: float
    """Value at the end of ``over``."""
    shape: Literal["linear", "cosine", "exponential"] = "linear"
    """How it goes from one to the other."""
    over: Steps = "100%"
    """Steps until ``to`` is reached; it stays there."""
    warmup: Steps = 0
    """Steps of linear growth from zero to ``from`` before that."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


Scheduled = float | Schedule
"""The type of an option that may be a number or a schedule."""


class Use(BaseModel):
    """A component by registered name; every other key is an option of that component."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    use: str
    """Registered name, or ``plugin:name`` where two plugins register the same."""

    @property
    def options(self) -> dict[str, Any]:
        """The component's options as written."""
        return dict(self.model_extra or {})


class GroupConfig(BaseModel):
    """Derive one row per key from many: column → how its values become one."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    by: str
    """The column whose values become the rows (and the table's key)."""

    @property
    def columns(self) -> dict[str, str]:
        """Column → ``first``, ``last``, ``mode``, ``median``, ``mean``, ``min``, ``max``, ``sum``, ``count`` or ``n_unique``."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _known(self) -> GroupConfig:
        known = {"first", "last", "mode", "median", "mean", "min", "max", "sum", "count", "n_unique"}
        for column, how in self.columns.items():
            if how not in known:
                raise ValueError(f"column '{column}': '{how}' is not one of {', '.join(sorted(known))}")
        return self


class SplitConfig(Config):
    """How rows are dealt into train, valid and test."""

    by: Literal["time", "position", "hash", "column"]
    """``time``: the last periods; ``position``: each user's last events; ``hash``: a stable hash of ``key``; ``column``: as it says."""
    valid: float | str = 0.0
    """time: a duration such as ``"7d"`` or ``"12h"``; position: events a user; hash: a share of the rows; column: the value
    that means valid."""
    test: float | str = 0.0
    """As ``valid``; the test rows are the last ones."""
    key: list[str] = []
    """hash: the columns that are hashed."""
    column: str | None = None
    """column: the column that names the split (its other values mean train)."""


class TableConfig(Config):
    """A table: where its rows come from and how it relates to the others."""

    uri: str | list[str]
    """Parquet or CSV files: a path or a glob, relative to the run file."""
    key: str | None = None
    """Column with a unique, non-null id a row. Needed for tables that are joined, embedded or searched."""
    where: str | None = None
    """A predicate in SQL; rows for which it is not true are left out."""
    select: list[str] | None = None
    """Columns to read; all when left out."""
    rename: dict[str, str] = {}
    """Column in the file → name used from here on (in ``where`` too)."""
    dedupe: list[str] | None = None
    """Keep the first row (by ``time`` or ``position`` when given) of rows equal in these columns."""
    group: GroupConfig | None = None
    """Derive one row per key."""
    join: dict[str, str] = {}
    """Column → table whose key it holds."""
    user: str | None = None
    """Events: the column that says whose event it is; makes the table an event table."""
    time: str | None = None
    """Events: the column that orders a user's events; equal times are one moment."""
    position: str | None = None
    """Events: an integer column that orders a user's events strictly."""
    split: SplitConfig | None = None
    """How rows are dealt into train, valid and test; without it every row is a train row."""
    nonfinite: Literal["error", "missing"] = "error"
    """What an infinite number is."""


class FieldConfig(BaseModel):
    """A field: a column read as a type. Keys not listed here are options of the type."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    type: str
    """Registered field type."""
    table: str
    """Table it is read from."""
    column: str | None = None
    """Column; the field's name when left out. A ``sequence`` on an event table without a column is the user's earlier events."""
    domain: str | None = None
    """Fields of one domain share a vocabulary and table rows; the field's own name when left out."""
    role: Literal["feature", "label", "group", "weight"] = "feature"
    """What it is for; keys and times are told from the table."""

    @property
    def options(self) -> dict[str, Any]:
        """The type's options as written."""
        return dict(self.model_extra or {})


class EncoderUse(Use):
    """An encoder and the fields it serves."""

    fields: list[str]
    """Fields; each field is served by one encoder."""


class ModelConfig(Config):
    """Encoders, trunks and heads."""

    dim: int = Field(64, ge=1)
    """Width D of tokens, and of embeddings unless the trunk or the head says otherwise."""
    encoders: list[EncoderUse] = []
    """Fields not named here get the default encoder of their type."""
    trunk: Use = Use(use="mlp")
    """Trunk of every tower that has no own entry in ``trunks``."""
    trunks: dict[str, Use] = {}
    """Tower → trunk."""
    shared_trunks: dict[str, str] = {}
    """Tower → another tower whose trunk it uses, weights and all, under a head of its own: so a tower that predicts a label is tuned on
    top of what another one learned without labels. Its fields must be among the other's."""
    head: Use = Use(use="linear")
    """Head of every tower that has no own entry in ``heads``."""
    heads: dict[str, Use] = {}
    """Tower → head."""


class GroupsConfig(Config):
    """What tells the groups of a stream's rows: an earlier stage, or a field."""

    stage: str | None = None
    """Name of an earlier ``cluster`` stage."""
    field: str | None = None
    """A category of the stream's table, or of a table that it joins."""

    @model_validator(mode="after")
    def _one(self) -> GroupsConfig:
        if (self.stage is None) == (self.field is None):
            raise ValueError("name either a 'stage' or a 'field'")
        return self


class StreamConfig(BaseModel):
    """A named source of batches in a stage. Keys not listed here are options of the sampler."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    table: str
    """Table whose rows are drawn."""
    rows: Literal["rows", "events", "windows", "sequences", "users"] = "rows"
    """``rows``: the table's train rows; ``events``: the same of an event table, each with its user's history;
    ``windows``: users, every position of their history having the next event as its target; ``sequences``: users, every position having
    its own item as the target, for losses that hide some of them; ``users``: users, asked once for all the items of their history, of which
    an augmentation hides some: those are the targets."""
    sampler: str = "shuffle"
    """Registered sampler."""
    size: int = Field(1024, ge=1)
    """Rows a batch (for ``windows``, ``sequences`` and ``users``: users a batch)."""
    groups: GroupsConfig | None = None
    """What tells the groups of rows, for samplers that mind them: ``{ stage = "…" }`` or ``{ field = "…" }``."""

    @property
    def options(self) -> dict[str, Any]:
        """The sampler's options as written."""
        return dict(self.model_extra or {})


class ViewUse(Use):
    """An augmentation: which stream or view it is made of and what the views it makes are called."""

    of: str
    """Stream or earlier view."""
    makes: list[str] = Field(min_length=1)
    """Names of the views, in the augmentation's order; unique in the stage."""


class LossUse(Use):
    """A loss with its weight."""

    name: str | None = None
    """Name in the log; the loss's registered name when left out."""
    weight: Scheduled = 1.0
    """Factor in the sum of losses."""
    prefix_weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Where its towers nest widths: what each width counts in the loss's mean over them, ascending (c_m of Kusupati et al. 2022); all
    alike when left out. More for the whole width costs the narrow ones, and the other way round."""


class ValidateConfig(Config):
    """When to measure during training, and when to stop. The weights that measured best are the stage's result."""

    every: Annotated[int, Field(ge=1)] | Literal["epoch"] = "epoch"
    """Steps between validations, or once an epoch."""
    metric: str = "loss"
    """``loss``, or a metric that an ``[[evaluate]]`` entry reports, such as ``ndcg@10``."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Which way is better; auto: ``min`` for losses and errors, ``max`` otherwise."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many validations without a better value; all steps are taken when left out."""
    max_queries: int | None = Field(None, ge=1)
    """Measure on at most so many queries (the same ones every time)."""


class NetworkConfig(Config):
    """A second copy of the student: a moving average of it, or a frozen bundle."""

    kind: Literal["ema", "frozen"]
    """``ema``: exponential moving average; ``frozen``: the weights of ``bundle``."""
    momentum: Scheduled = 0.996
    """ema: share of the old weights kept at each step."""
    keep: bool = False
    """ema: the stage leaves the average's weights in the model, not the student's; validation by a metric looks at them too."""
    bundle: str | None = None
    """frozen: folder of a bundle with the same towers."""

    @model_validator(mode="after")
    def _kept(self) -> NetworkConfig:
        if self.keep and self.kind != "ema":
            raise ValueError("keep = true is for kind = 'ema': the weights of a frozen bundle are kept in that bundle")
        return self


class AverageConfig(Config):
    """A moving average of the trained weights, which takes their place when they are measured or kept."""

    momentum: Scheduled = 0.999
    """Share of the old average kept at each step. A schedule with a ``warmup`` forgets the untrained weights sooner."""


class TrainConfig(Config):
    """The ``train`` stage."""

    use: Literal["train"] = "train"
    """Name of this stage's kind."""
    name: str | None = None
    """Name of the stage; its number when left out."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the first stream. Give ``epochs`` or ``steps``."""
    steps: int | None = Field(None, ge=1)
    """Optimiser steps."""
    streams: dict[str, StreamConfig] = Field(min_length=1)
    """Named streams; the first one is what an epoch counts, the others go round."""
    views: list[ViewUse] = []
    """Augmentations, in order."""
    losses: list[LossUse] = Field(min_length=1)
    """Losses; the sum of their weighted values is minimised."""
    optimizer: Use = Use(use="adamw")
    """Optimiser of all parameters."""
    table_optimizer: Use | None = None
    """Optimiser of embedding tables alone, such as ``rowwise_adagrad`` (sparse gradients)."""
    forward_rows: int | None = Field(None, ge=1)
    """Rows (of windows: users) that a forward takes at a time; the whole batch when left out. Only one piece's activations are held, the
    others are computed again for the gradients, which stay those of the whole batch: large batches in little memory, a third slower."""
    networks: dict[str, NetworkConfig] = {}
    """Teacher networks, by the name losses use."""
    average: AverageConfig | None = None
    """Validate, evaluate and keep a moving average of the weights; training goes on with the weights themselves."""
    freeze: list[str] = []
    """Glob patterns of parameter names that are not trained."""
    clip: float | None = Field(1.0, gt=0)
    """Bound of the gradient's norm (sparse tables apart)."""
    validate_: ValidateConfig | None = Field(None, alias="validate")
    """When to measure and stop."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; about once a minute when left out, and at every validation."""
    log_every: int = Field(50, ge=1)
    """Steps between lines of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    @model_validator(mode="after")
    def _length(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either 'epochs' or 'steps'")
        return self

    @model_validator(mode="after")
    def _one_kept(self) -> TrainConfig:
        kept = [name for name, network in self.networks.items() if network.keep]
        if len(kept) > 1:
            raise ValueError(f"networks {' and '.join(kept)} both say keep = true, and a stage can leave the weights of one")
        return self


class ComputeConfig(Config):
    """Where and how it is computed."""

    device: str = "auto"
    """``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; all cores when left out. Bit-equality of a resumed run holds for an equal number."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """``bfloat16`` runs forwards under autocast; weights stay float32. auto: bfloat16 on a GPU that has it, and on a CPU where its products
    are found to be faster by half; what was chosen is kept with the run."""
    compile: bool = False
    """Compile the layers of transformers, residual networks and crosses (torch.compile): up to a minute at the start of a stage, and a few
    percent faster on a GPU where batches are large; on a CPU slower."""
    data_path: Literal["auto", "memory", "stream"] = "auto"
    """``memory`` encodes tables once; ``stream`` reads them at every epoch; auto: memory when they fit half of what is free."""


class PluginsConfig(Config):
    """What must be installed."""

    require: list[str] = []
    """Distributions with versions, such as ``acme-embeds>=0.3``."""


class RunConfig(Config):
    """A run file."""

    format: Literal[1]
    """Version of the file's format."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; part of its folder's name."""
    seed: int = Field(0, ge=0)
    """Seed of everything random."""
    init_from: str | None = None
    """Folder of a bundle whose weights the model starts from; its vocabulary may have grown."""
    tables: dict[str, TableConfig] = Field(min_length=1)
    fields: dict[str, FieldConfig] = Field(min_length=1)
    towers: dict[str, list[str]] = Field(min_length=1)
    """Tower → its fields."""
    model: ModelConfig = ModelConfig()
    stages: list[Use] = []
    """Stages, in order; each by its registered name (``train`` is one)."""
    evaluate: list[Use] = []
    """Evaluators."""
    evaluate_on: Literal["test", "valid", "none"] = "test"
    """Rows that ``train`` measures on at its end. ``valid`` or ``none`` while options are still being chosen, so that the test rows play no
    part in the choice; ``embedkit evaluate`` measures a finished run on either split."""
    index: Use = Use(use="hnsw")
    """Index backend and its options."""
    compute: ComputeConfig = ComputeConfig()
    plugins: PluginsConfig = PluginsConfig()


_BESIDE: dict[str, type[BaseModel]] = {
    "augmentation": ViewUse,
    "encoder": EncoderUse,
    "field_type": FieldConfig,
    "loss": LossUse,
    "sampler": StreamConfig,
}


def keys_beside(kind: str) -> frozenset[str]:
    """The keys that a run file writes beside a component's options, so that no option may have their names.

    A stage's options may name the stage itself, as ``TrainConfig`` does.
    """
    return frozenset(_BESIDE.get(kind, Use).model_fields) - ({"use"} if kind == "stage" else set())
