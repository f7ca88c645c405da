"""Named: modules by a name that users chose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def attribute(name: str) -> str:
    """A name as an attribute of a module: dots, which separate the parts of a state dict's keys, are escaped; injective."""
    if not name:
        return "%"
    return name.replace("%", "%25").replace(".", "%2E")


class Named(nn.Module, Generic[M]):
    """A mapping of names to modules, in order.

    ``nn.ModuleDict`` refuses names such as ``items``, ``keys`` or ``user.v2``, and a tower may well be called that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, str] = {}

    def __setitem__(self, name: str, module: M) -> None:
        key = attribute(name)
        while hasattr(self, key):
            key += "_"
        self.add_module(key, module)
        self._keys[name] = key

    def __getitem__(self, name: str) -> M:
        return cast(M, self._modules[self._keys[name]])

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def keys(self) -> list[str]:
        """Names, in the order they were set."""
        return list(self._keys)

    def values(self) -> list[M]:
        """Modules, in the order of their names."""
        return [self[name] for name in self._keys]

    def items(self) -> list[tuple[str, M]]:
        """Names with their modules."""
        return [(name, self[name]) for name in self._keys]

    def key(self, name: str) -> str:
        """What stands for the name in the keys of a state dict."""
        return self._keys[name]
