"""Host: finds plugins, loads them one at a time, and calls their hooks so that each answer has an owner. No torch."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from embedkit import hookspecs
from embedkit.errors import EmbedkitError, PluginError, UsageError, suggest
from embedkit.registry import Entry, Owner, Registry

if TYPE_CHECKING:
    import click

    from embedkit.config.model import RunConfig

GROUP = "embedkit"
"""The entry-point group of plugins, and the distribution that holds the first-party ones."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a run file, as a plugin's ``check_config`` says it: key path and one sentence."""

    path: str
    message: str


@dataclass(frozen=True)
class PluginInfo:
    """A plugin that was found. ``state`` is ``loaded``, ``blocked`` or ``failed``; ``error`` says why it failed."""

    owner: Owner
    state: str
    source: str
    error: str | None = None
    hooks: tuple[str, ...] = ()


@dataclass
class Host:
    """The plugins of one process or run. Make it with ``Host.load``; there is no global one."""

    manager: pluggy.PluginManager
    strict: bool = False
    _owners: dict[str, Owner] = field(default_factory=dict)
    _infos: dict[str, PluginInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trace = os.environ.get("EMBEDKIT_TRACE") not in (None, "", "0")
        self.registry = Registry(tuple(hookspecs.REGISTRATION), self._collect, self._why_missing)

    # ------------------------------------------------------------------ loading

    @classmethod
    def load(cls, *, plugins: Sequence[str] = (), strict: bool | None = None, discover: bool = True) -> Host:
        """Find and load plugins.

        Args:
            plugins: as given with ``-p``: a path of a one-file plugin, or ``no:NAME`` to leave one out.
            strict: make any failure to load fatal; by default what ``EMBEDKIT_STRICT_PLUGINS`` says.
            discover: look at the entry points of installed distributions.

        ``EMBEDKIT_PLUGINS=a,b`` allows only these beside the first-party ones; ``EMBEDKIT_TRACE=1`` prints every hook call.

        Raises:
            PluginError: with ``strict``, a plugin failed to load; always, a one-file plugin that was asked for did.
            UsageError: a path does not exist, or two plugins have one name.
        """
        manager = pluggy.PluginManager("embedkit")
        manager.add_hookspecs(hookspecs)
        strict = bool(os.environ.get("EMBEDKIT_STRICT_PLUGINS")) if strict is None else strict
        host = cls(manager, strict)
        blocked = {name[3:] for name in plugins if name.startswith("no:")}
        if discover:
            host._discover(blocked)
        for path in (name for name in plugins if not name.startswith("no:")):
            host._load_file(Path(path))
        unknown = blocked - host._infos.keys()
        if unknown and discover:
            name = sorted(unknown)[0]
            raise UsageError(f"-p no:{name}: there is no plugin called '{name}'{suggest(name, host._infos)}")
        return host

    def _discover(self, blocked: set[str]) -> None:
        allowed = os.environ.get("EMBEDKIT_PLUGINS")
        names = None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}
        for point in _entry_points():
            owner = Owner(point.name, point.dist.name if point.dist else None, point.dist.version if point.dist else None)
            first_party = owner.distribution == GROUP
            if point.name in blocked or not (first_party or names is None or point.name in names):
                self._infos[point.name] = PluginInfo(owner, "blocked", point.value)
                continue
            self._add(owner, point.value, lambda point=point: point.load())

    def _load_file(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"-p {path}: there is no such file; give the path of a one-file plugin, or no:NAME to leave a plugin out")
        owner = Owner(path.stem)
        name = f"embedkit_file_plugin_{path.stem}"

        def load() -> ModuleType:
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise PluginError(f"-p {path}: is not a Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
            return module

        self._add(owner, str(path), load, required=True)

    def _add(self, owner: Owner, source: str, load: Any, *, required: bool = False) -> None:
        """Load one plugin; a failure is kept, and warned about once."""
        if owner.plugin in self._owners:
            raise UsageError(f"two plugins are called '{owner.plugin}': {self._infos[owner.plugin].source} and {source}; leave one out")
        try:
            self.register(load(), owner, source)
        except Exception as error:
            message = str(error) if isinstance(error, PluginError) else f"{owner} failed to load: {type(error).__name__}: {error}"
            if self.strict or required:
                raise PluginError(message) from error
            self._infos[owner.plugin] = PluginInfo(owner, "failed", source, message)
            warnings.warn(message, stacklevel=2)

    def register(self, plugin: object, owner: Owner, source: str = "") -> None:
        """Add a loaded plugin (a module or any object with hook functions).

        Raises:
            PluginError: a hook is misspelt or has arguments that its specification does not know.
        """
        try:
            self.manager.register(plugin, owner.plugin)
            self._check_names(plugin, owner)
        except Exception as error:
            if self.manager.has_plugin(owner.plugin):
                self.manager.unregister(name=owner.plugin)
            if isinstance(error, PluginError):
                raise
            raise PluginError(f"{owner} is wrong: {error}") from error
        self._owners[owner.plugin] = owner
        hooks = tuple(sorted(caller.name for caller in self.manager.get_hookcallers(plugin) or ()))
        self._infos[owner.plugin] = PluginInfo(owner, "loaded", source, hooks=hooks)

    def _check_names(self, plugin: object, owner: Owner) -> None:
        """A marked function whose name is no hook is an error now, not silence for ever (``check_pending`` for one plugin)."""
        known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "embedkit_spec")]
        for name in dir(plugin):
            method = getattr(plugin, name, None)
            marked = inspect.isroutine(method) and getattr(method, "embedkit_impl", None) is not None
            if marked and name not in known:
                raise PluginError(f"{owner}: there is no hook called '{name}'{suggest(name, known)}")

    # ------------------------------------------------------------------ asking

    def plugins(self) -> list[PluginInfo]:
        """Every plugin that was found, by name."""
        return [self._infos[name] for name in sorted(self._infos)]

    def require(self, requirements: Iterable[str]) -> None:
        """Check that distributions are installed, such as ``acme-embeds>=0.3``.

        Raises:
            PluginError: one is missing or of another version.
            UsageError: a requirement cannot be read.
        """
        from packaging.requirements import InvalidRequirement, Requirement

        for text in requirements:
            try:
                wanted = Requirement(text)
            except InvalidRequirement as error:
                raise UsageError(f"plugins.require: '{text}' is no requirement such as 'acme-embeds>=0.3': {error}") from None
            try:
                version = metadata.version(wanted.name)
            except metadata.PackageNotFoundError:
                raise PluginError(f"plugins.require: {text} is not installed") from None
            if not wanted.specifier.contains(version, prereleases=True):
                raise PluginError(f"plugins.require: wants {text}, but {wanted.name} {version} is installed")

    def _collect(self, kind: str) -> list[Entry]:
        """Call the registration hook of a kind, plugin by plugin."""
        entries: list[Entry] = []
        for owner, implementation in self._implementations(hookspecs.REGISTRATION[kind]):
            own: list[Entry] = []

            def register(name: str, target: Any, *, config: Any, summary: str = "", own: list[Entry] = own, owner: Owner = owner) -> None:
                if ":" in name or any(entry.name == name for entry in own):
                    raise PluginError(f"{kind} '{name}' is registered twice, or has a colon in its name")
                own.append(Entry(kind, name, owner, target, config, summary))

            try:
                self._call(hookspecs.REGISTRATION[kind], owner, implementation, {"register": register})
            except Exception as error:
                self._failed(owner, hookspecs.REGISTRATION[kind], error)
                continue
            entries.extend(own)
        return entries

    def _failed(self, owner: Owner, hook: str, error: Exception) -> None:
        text = str(error) if isinstance(error, EmbedkitError) else f"{type(error).__name__}: {error}"
        message = f"{owner} failed in {hook}: {text}"
        if self.strict:
            raise PluginError(message) from error
        self._infos[owner.plugin] = PluginInfo(owner, "failed", self._infos[owner.plugin].source, message)
        warnings.warn(message, stacklevel=2)

    def _why_missing(self, plugin: str, distribution: str | None) -> str | None:
        info = self._infos.get(plugin)
        if info is None:
            return "install it" if distribution else f"there is no plugin called '{plugin}' here; give its file with -p {plugin}.py"
        if info.state == "loaded":
            return None
        return info.error if info.state == "failed" else f"plugin '{plugin}' is switched off"

    def _implementations(self, hook: str) -> list[tuple[Owner, pluggy.HookImpl]]:
        """Implementations in the order of the plugins' names, so that nothing depends on the order of loading."""
        found = getattr(self.manager.hook, hook).get_hookimpls()
        return sorted(((self._owners[impl.plugin_name], impl) for impl in found), key=lambda pair: pair[0].plugin)

    # ------------------------------------------------------------------ calling

    def _call(self, hook: str, owner: Owner, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
        """Call one implementation with the arguments that it asks for."""
        result = implementation.function(*(arguments[name] for name in implementation.argnames))
        if self.trace:
            shown = f" -> {result!r}" if result is not None else ""
            print(f"embedkit: {hook} of {owner}{shown}", file=sys.stderr)
        return result

    def check_config(self, config: RunConfig) -> list[Problem]:
        """Every plugin's problems with a run file.

        Raises:
            PluginError: a plugin's check itself fails.
        """
        found: list[Problem] = []
        for owner, implementation in self._implementations("check_config"):
            arguments = {"config": config, "registry": self.registry}
            try:
                found.extend(self._call("check_config", owner, implementation, arguments) or ())
            except Exception as error:
                raise PluginError(f"{owner} failed in check_config: {type(error).__name__}: {error}") from error
        return found

    def announce(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin of a moment. An observer that fails is warned about and never stops a run."""
        for owner, implementation in self._implementations(hook):
            try:
                self._call(hook, owner, implementation, arguments)
            except Exception as error:
                warnings.warn(f"{owner} failed in {hook}: {type(error).__name__}: {error}", stacklevel=2)

    def add_commands(self, cli: click.Group) -> None:
        """Let plugins add commands; a plugin that fails, or takes a name that is there already, loses its commands with a warning."""
        for owner, implementation in self._implementations("register_commands"):
            before = dict(cli.commands)
            try:
                self._call("register_commands", owner, implementation, {"cli": cli})
                taken = [name for name, command in before.items() if cli.commands.get(name) is not command]
                if taken:
                    raise PluginError(f"the command '{taken[0]}' is there already")
            except Exception as error:
                cli.commands.clear()
                cli.commands.update(before)
                self._failed(owner, "register_commands", error)


def _entry_points() -> list[metadata.EntryPoint]:
    """The group's entry points, first-party ones first, each name of a distribution once (an editable install can be seen twice)."""
    seen: set[tuple[str, str | None]] = set()
    points = []
    for point in metadata.entry_points(group=GROUP):
        key = (point.name, point.dist.name if point.dist else None)
        if key not in seen:
            seen.add(key)
            points.append(point)
    return sorted(points, key=lambda point: ((point.dist.name if point.dist else "") != GROUP, point.name))
