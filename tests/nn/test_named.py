from __future__ import annotations

from torch import nn

from embedkit.nn.named import Named, attribute


def test_any_name_will_do():
    named: Named[nn.Linear] = Named()
    names = ["items_", "items", "keys", "a.b", "a%2Eb", "training", "weight", ""]
    modules = {name: nn.Linear(1, 1) for name in names}
    for name, module in modules.items():
        named[name] = module
    assert list(named) == names
    assert len(named) == len(names)
    assert all(named[name] is module for name, module in modules.items())
    assert len(named.state_dict()) == 2 * len(names)
    assert "items" in named
    assert "other" not in named
    for name in names:
        assert named.get_submodule(named.key(name)) is modules[name]


def test_attributes_tell_names_apart():
    names = ["a.b", "a%2Eb", "a%b", "a"]
    assert len({attribute(name) for name in names}) == len(names)
    assert all("." not in attribute(name) for name in names)
