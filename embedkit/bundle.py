"""Bundle: a trained model as a folder that can be loaded anywhere its plugins are.

Files (format 1)::

    bundle.json        name, spaces, model (components by name, distribution and version), tables, training, digests of the files below
    codecs/            fitted codecs and vocabularies
    model.safetensors  weights
    run.toml           the resolved run file
    metrics.json       what was measured
    README.md          a model card

Loading verifies digests, asks the registry for names, builds the model from configuration and stored statistics, and
copies the tensors. Nothing is unpickled and nothing is imported by path. What only training needs (losses, samplers, stages) is recorded
but not asked for (decision 24).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit._version import __version__
from embedkit.config.model import TableConfig
from embedkit.config.plan import ModelSpec
from embedkit.errors import BundleError, UsageError
from embedkit.files import atomic_folder, check_digests, remove_leftovers, sealed, tree_digests, unsealed
from embedkit.modelcard import model_card
from embedkit.schema import Schema
from embedkit.space import Space, canonical_json, digest

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.config.plan import Part, Plan
    from embedkit.data.codecs import Codecs
    from embedkit.nn.model import Model
    from embedkit.registry import Registry

FORMAT = 1
META, CODECS, WEIGHTS, RUN, METRICS, CARD = "bundle.json", "codecs", "model.safetensors", "run.toml", "metrics.json", "README.md"


@dataclass(frozen=True)
class BundleMeta:
    """What ``bundle.json`` says. Readable without torch and without the plugins.

    Attributes:
        name: of the run.
        version: of the embedkit that wrote it.
        spaces: tower → the space of its vectors.
        model: ``ModelSpec.to_json``.
        tables: table → how the run file describes it.
        base: folder that relative paths of the tables start from.
        training: what only training needs, for the record.
        files: file → digest.
    """

    name: str
    version: str
    spaces: Mapping[str, Space]
    model: Mapping[str, Any]
    tables: Mapping[str, TableConfig]
    base: str
    training: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` turns it back."""
        return {
            "format": FORMAT,
            "kind": "bundle",
            **self.__dict__,
            "spaces": {tower: space.to_json() for tower, space in self.spaces.items()},
            "tables": {name: table.model_dump(mode="json", by_alias=True) for name, table in self.tables.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BundleMeta:
        """Read what ``to_json`` wrote."""
        rest = {key: value for key, value in data.items() if key not in ("format", "kind")}
        spaces = {tower: Space.from_json(space) for tower, space in data["spaces"].items()}
        tables = {name: TableConfig.model_validate(table) for name, table in data["tables"].items()}
        return cls(**{**rest, "spaces": spaces, "tables": tables})


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: the model in eval mode on the CPU, its codecs, and the spaces of its towers."""

    path: Path
    model: Model
    codecs: Codecs
    meta: BundleMeta

    @property
    def schema(self) -> Schema:
        """Fields and towers."""
        return self.model.spec.schema

    @property
    def spaces(self) -> Mapping[str, Space]:
        """Tower → the space of its vectors."""
        return self.meta.spaces

    def tower(self, name: str | None = None) -> str:
        """The named tower; without a name the only one, or the only one over a table with a key.

        Raises:
            UsageError: there is no such tower, or a name is needed.
        """
        towers = self.schema.towers
        if name is not None:
            if name not in towers:
                raise UsageError(f"{self.path}: has no tower '{name}'; it has {', '.join(towers)}")
            return name
        found = [t for t, tower in towers.items() if tower.table in self.schema.keys] if len(towers) > 1 else list(towers)
        if len(found) != 1:
            raise UsageError(f"{self.path}: has the towers {', '.join(towers)}; say which one is meant")
        return found[0]


# ---------------------------------------------------------------------- identity


def spaces_of(model: Model, codecs: Codecs) -> dict[str, Space]:
    """Tower → Space (decision 23).

    The id is a hash of what produces the tower's vectors: its fields, their codecs, the options and weights of the
    encoders that serve them, of its trunk and of its head. Versions of plugins stay out, so that an upgrade does not orphan an index. An
    encoder that serves two towers belongs to both.
    """
    ids = {tower: _tower_id(model, codecs, tower) for tower in model.spec.schema.towers}
    family = digest(ids[tower].encode() for tower in sorted(ids))
    return {
        tower: Space(
            id=found,
            family=family,
            tower=tower,
            dim=model.dims[tower],
            prefixes=model.prefixes[tower],
            metric=model.heads[tower].metric,
            normalized=model.heads[tower].normalized,
        )
        for tower, found in ids.items()
    }


def _tower_id(model: Model, codecs: Codecs, tower: str) -> str:
    spec = model.spec
    names = spec.schema.towers[tower].fields
    specs = [field.to_json() for field in spec.schema.tower_fields(tower)]
    parts = [canonical_json({"fields": specs, "dim": spec.dim, "seed": spec.seed}), codecs.fingerprint(names).encode()]
    for part, module in zip(spec.encoders, model.encoders.values(), strict=True):
        if set(part.fields) & set(names):
            parts += [_identity(part, part.fields), *_weights(module.state_dict())]
    parts += [_identity(spec.trunks[tower]), *_weights(model.trunks[spec.shared_trunks.get(tower, tower)].state_dict())]
    parts += [_identity(spec.heads[tower]), *_weights(model.heads[tower].state_dict())]
    return digest(parts)


def _identity(part: Part, fields: tuple[str, ...] = ()) -> bytes:
    said = part.to_json()
    return canonical_json({"use": said["use"], "options": said["options"], "fields": list(fields)})


def _weights(state: Mapping[str, Tensor]) -> Iterator[bytes]:
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        yield canonical_json([name, str(tensor.dtype), list(tensor.shape)])
        yield _bytes(tensor)


def _bytes(tensor: Tensor) -> bytes:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


# ---------------------------------------------------------------------- saving


def save_bundle(
    path: Path | str,
    *,
    model: Model,
    codecs: Codecs,
    plan: Plan,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    resolved: str | None = None,
) -> BundleMeta:
    """Write a bundle; an older one at ``path`` is replaced once the new one is whole.

    Args:
        path: folder of the bundle.
        model: trained model, on any device.
        codecs: fitted codecs.
        plan: what was run.
        metrics: name → figure, JSON-ready.
        training: more facts about the training, JSON-ready (steps, seconds, torch's version).
        resolved: the resolved run file as it stands in the run folder; made from the plan when left out.

    Raises:
        UsageError: the place cannot be written.
        DataError: the disk is full.
    """
    path = Path(path)
    remove_leftovers(path)
    if resolved is None:
        from embedkit.config.resolve import dump_resolved

        resolved = dump_resolved(plan)
    schema = plan.model.schema
    stages = {"stages": [s.to_json() for s in plan.stages], "evaluators": [e.to_json() for e in plan.evaluators]}
    meta = BundleMeta(
        name=plan.config.name,
        version=__version__,
        spaces=spaces_of(model, codecs),
        model=plan.model.to_json(),
        tables=plan.config.tables,
        base=str(Path(plan.base).resolve()),
        training={**stages, **(training or {})},
    )
    with atomic_folder(path, replace=True) as aside:
        codecs.save(aside / CODECS)
        _save_weights(model, aside / WEIGHTS)
        (aside / RUN).write_text(resolved)
        (aside / METRICS).write_text(json.dumps(dict(metrics), indent=1, ensure_ascii=False) + "\n")
        (aside / CARD).write_text(model_card(meta.name, meta.version, schema, meta.spaces, metrics))
        content = meta.to_json() | {"files": tree_digests(aside)}
        (aside / META).write_text(sealed(content))
    return read_meta(path)


def _save_weights(model: Model, path: Path) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        tensors[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    save_file(tensors, str(path))


# ---------------------------------------------------------------------- loading


def find_bundle(path: Path | str) -> Path:
    """The bundle's folder: ``path`` itself, or ``path/bundle`` for a run folder.

    Raises:
        BundleError: neither is one.
    """
    path = Path(path)
    for folder in (path, path / "bundle"):
        if (folder / META).is_file():
            return folder
    raise BundleError(f"{path}: holds no bundle (no {META}); train one with `embedkit train`, or name another folder")


def read_meta(path: Path | str) -> BundleMeta:
    """What a bundle says about itself; needs neither torch nor its plugins.

    Raises:
        BundleError: there is no bundle, or its ``bundle.json`` is damaged or of another format.
    """
    file = find_bundle(path) / META
    try:
        data = json.loads(file.read_text())
        if data["kind"] != "bundle":
            raise BundleError(f"{file}: describes {data['kind']}, not a bundle")
        if data["format"] != FORMAT:
            raise BundleError(f"{file}: is of format {data['format']}, this embedkit reads {FORMAT}; use the version that wrote it")
        return BundleMeta.from_json(unsealed(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file}: is damaged ({error}); copy or train the bundle again") from error


def check_files(path: Path, meta: BundleMeta) -> None:
    """Compare every file with its digest.

    Raises:
        BundleError: one is missing or damaged; it is named.
    """
    if problem := check_digests(path, dict(meta.files)):
        raise BundleError(f"{problem}; copy or train the bundle again")


def load_bundle(path: Path | str, registry: Registry) -> Bundle:
    """Load a bundle for inference.

    Raises:
        BundleError: there is none, or a file is missing or damaged.
        PluginError: a component's plugin is not here: ``needs encoder acme:bert from acme-embeds 0.3``.
    """
    from embedkit.data.codecs import Codecs

    folder = find_bundle(path)
    meta = read_meta(folder)
    check_files(folder, meta)
    spec = ModelSpec.from_json(meta.model, registry, where=str(folder / META))
    codecs = Codecs.load(folder / CODECS, spec)
    model = _build(spec, codecs)
    _copy_weights(model, folder / WEIGHTS)
    return Bundle(folder, model.eval(), codecs, meta)


def _build(spec: ModelSpec, codecs: Codecs) -> Model:
    from embedkit.nn.model import Model

    with _own_generator():
        return Model(spec, codecs.stats)


@contextmanager
def _own_generator() -> Iterator[None]:
    """Building draws weights that are then overwritten; the caller's random numbers must not depend on that."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def _copy_weights(model: Model, path: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(str(path))
    state = model.state_dict()
    for name in sorted(state.keys() ^ tensors.keys()):
        whose = "the model of this installation lacks" if name in tensors else "the file lacks"
        raise BundleError(f"{path}: {whose} tensor '{name}'; load the bundle with the plugin versions that {META} names")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise BundleError(
                f"{path}: tensor '{name}' has shape {list(tensor.shape)}, the model wants {list(state[name].shape)}; "
                f"load the bundle with the plugin versions that {META} names"
            )
    model.load_state_dict(tensors, strict=True)
