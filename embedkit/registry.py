"""Registry: kind → name → Entry. Knows who registered what, resolves names, and says what is near a misspelt one. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedkit.errors import EmbedkitError, PluginError, UsageError, suggest

if TYPE_CHECKING:
    from embedkit.component import Component, Config


@dataclass(frozen=True)
class Owner:
    """Who registered an entry: the plugin's name, and the distribution it came in (None for a one-file plugin)."""

    plugin: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        if self.distribution is None:
            return f"plugin '{self.plugin}'"
        return f"plugin '{self.plugin}' ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Entry:
    """One registered component.

    Attributes:
        kind: such as ``loss``.
        name: as registered.
        owner: who registered it.
        target: the class, or ``"module:Class"``.
        config: its options class, or ``"module:Class"``.
        summary: one line.
    """

    kind: str
    name: str
    owner: Owner
    target: Any = field(repr=False)
    config: Any = field(repr=False)
    summary: str = ""

    @property
    def qualified(self) -> str:
        """``plugin:name``."""
        return f"{self.owner.plugin}:{self.name}"

    def load(self) -> Any:
        """The registered class; imports it now.

        Raises:
            PluginError: the import fails, naming plugin, distribution and version.
        """
        return self._import(self.target)

    def config_class(self) -> type[Config]:
        """The options class.

        Raises:
            PluginError: as ``load``, or the class is not a ``Config``, or an option has the name of a key that is not the component's own.
        """
        from embedkit.component import Config
        from embedkit.config.model import keys_beside

        found = self._import(self.config)
        if not (isinstance(found, type) and issubclass(found, Config)):
            raise PluginError(
                f"{self.owner} registered {self.kind} '{self.name}' with options {found!r}, which is no embedkit.component.Config"
            )
        taken = keys_beside(self.kind) & {info.alias or name for name, info in found.model_fields.items()}
        if taken:
            raise PluginError(
                f"{self.owner}: an option of {self.kind} '{self.name}' is called '{min(taken)}', which run files write beside the options "
                f"of every {self.kind}; call it something else"
            )
        return found

    def parse(self, options: Mapping[str, Any], *, where: str) -> Config:
        """Validate options.

        Raises:
            UsageError: every problem with its key path under ``where``, and a suggestion for misspelt keys.
        """
        from pydantic import ValidationError

        from embedkit.config.messages import problems

        cls = self.config_class()
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            raise UsageError("\n".join(problems(error, cls, where=where, owner=f"{self.kind} '{self.name}'"))) from None

    def create(self, config: Config, *, context: Any) -> Component:
        """Build the component.

        Raises:
            PluginError: its constructor fails with anything but an embedkit error.
        """
        cls = self.load()
        try:
            component: Component = cls(config, context=context)
        except EmbedkitError:
            raise
        except Exception as error:
            raise PluginError(f"{self.owner} failed to build {self.kind} '{self.name}': {type(error).__name__}: {error}") from error
        return component

    def _import(self, target: Any) -> Any:
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:
            raise PluginError(
                f"{self.owner} cannot load {self.kind} '{self.name}' from {target}: {type(error).__name__}: {error}"
            ) from error


class Registry:
    """Entries by kind and name.

    Args:
        kinds: the kinds there are.
        fill: called once with a kind when it is first needed; returns the entries of all plugins.
        missing: called with a plugin's name, and the distribution that a file recorded for it, if any; says why that plugin is not here
            and what to do, or None when it is.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        fill: Callable[[str], Iterable[Entry]],
        missing: Callable[[str, str | None], str | None] = lambda plugin, distribution: None,
    ) -> None:
        self.kinds = tuple(kinds)
        self._fill = fill
        self._missing = missing
        self._entries: dict[str, list[Entry]] = {}

    def entries(self, kind: str) -> list[Entry]:
        """All entries of a kind, by name.

        Raises:
            UsageError: there is no such kind.
        """
        if kind not in self.kinds:
            raise UsageError(f"there is no kind of component called '{kind}'{suggest(kind, self.kinds)}")
        if kind not in self._entries:
            self._entries[kind] = sorted(self._fill(kind), key=lambda entry: (entry.name, entry.owner.plugin))
        return list(self._entries[kind])

    def entry(self, kind: str, name: str, *, distribution: str | None = None, version: str | None = None) -> Entry:
        """The entry of a bare or qualified name.

        Args:
            kind: kind of component.
            name: ``name`` or ``plugin:name``.
            distribution: the distribution that a bundle recorded for it, for the message when it is not here.
            version: its version.

        Raises:
            UsageError: no such name (with what is near), or a bare name with two owners (with the candidates).
            PluginError: the plugin failed to load, or a bundle's plugin is not installed.
        """
        entries = self.entries(kind)
        if ":" in name:
            found = [entry for entry in entries if entry.qualified == name]
        else:
            found = [entry for entry in entries if entry.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            candidates = ", ".join(f"'{entry.qualified}' ({entry.owner.distribution or 'one file'})" for entry in found)
            raise UsageError(f"{kind} '{name}' is registered by more than one plugin: write one of {candidates}")
        plugin = name.partition(":")[0] if ":" in name else ""
        reason = self._missing(plugin, distribution) if plugin else None
        names = [entry.name for entry in entries] + [entry.qualified for entry in entries]
        if distribution is not None:
            raise PluginError(f"needs {kind} {name} from {distribution} {version or ''}".rstrip() + f": {reason or 'install it'}")
        if reason:
            raise PluginError(f"needs {kind} {name}: {reason}{suggest(name, names)}")
        raise UsageError(f"there is no {kind} called '{name}'{suggest(name, names)}; `embedkit components {kind}` lists them")
