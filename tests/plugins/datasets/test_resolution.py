"""The rules by which a call becomes an item, one by one, on a small fake library."""

from __future__ import annotations

import pytest

TOOLS = "def make(): pass\ndef _secret(): pass\nclass Box:\n    def __init__(self, size, *rest, deep=1): pass\n    def open(self): pass\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import tools\ndef f(): tools.make()", ["tools.make"]),
        ("import tools as t\ndef f(): t.make()", ["tools.make"]),
        ("from tools import make\ndef f(): make()", ["tools.make"]),
        ("from tools import make as m\ndef f(): m()", ["tools.make"]),
        ("from tools import *\ndef f(): make(); _secret()", ["tools.make"]),
        ("def f():\n    from tools import make\n    make()", ["tools.make"]),
        ("def f():\n    import tools as t\n    t.make()", ["tools.make"]),
        ("import pack.inner\ndef f(): pack.inner.deep()", ["pack.inner.deep"]),
        ("import pack\ndef f(): pack.handed_on()", ["pack.inner.deep"]),
        ("import os\ndef f(): os.path.join()", ["posixpath.join"]),
        ("import os.path\ndef f(): os.path.join()", ["posixpath.join"]),
        ("from os.path import join\ndef f(): join()", ["posixpath.join"]),
        ("def g(): pass\ndef f(): g()", ["m.g"]),
        ("def f(): g()\ndef g(): pass", ["m.g"]),
        ("import tools\nalias = tools.make\ndef f(): alias()", ["tools.make"]),
        ("import tools\ndef f(): tools.Box(1)", ["tools.Box"]),
        ("import tools\ndef f(): tools.Box.open(None)", ["tools.Box.open"]),
        ("try:\n    from absent import make\nexcept ImportError:\n    def make(): pass\ndef f(): make()", ["m.make"]),
    ],
)
def test_names_lead_to_items(library, source: str, expected: list[str]) -> None:
    library.write(
        {
            "m.py": source,
            "tools.py": TOOLS,
            "os.py": "import posixpath as path\nfrom posix import *\n",
            "posixpath.py": "def join(): pass\n",
            "pack/__init__.py": "from .inner import deep as handed_on\n",
            "pack/inner.py": "from . import inner\ndef deep(): pass\n",
        }
    )
    assert library.calls("m.f") == expected


@pytest.mark.parametrize(
    ("source", "dropped"),
    [
        ("def f(g): g()", 1),  # a parameter
        ("def f():\n    len = 3\n    len()", 1),  # a local name hides the builtin
        ("def f():\n    x = len\n    x()", 1),  # its value is not followed
        ("def f(): return [len() for len in ()]", 1),  # a comprehension's name
        ("def f():\n    def len(): pass\n    len()", 1),  # a nested function
        ("def f(x): x.join()", 1),  # another value's method
        ("def f(): ''.join()", 1),
        ("def f(): (lambda: 0)()", 1),
        ("def f(): unknown()", 1),
        ("import m\ndef f(): m()", 1),  # a module cannot be called
        ("def f():\n    def g(): len()", 0),  # something else makes it
        ("def f(): return lambda: len()", 0),
        ("def f(x: len() = 1): y: len() = 2", 0),  # annotations and the function's own defaults are not its calls
    ],
)
def test_what_cannot_be_told_is_dropped_and_counted(library, source: str, dropped: int) -> None:
    library.write({"m.py": source})
    calls = library.reader("m.f").calls
    assert calls.items == []
    assert calls.unresolved == dropped


def test_global_names_stay_the_modules(library) -> None:
    library.write({"m.py": "def g(): pass\ndef f():\n    global g\n    g = g()\n"})
    assert library.calls("m.f") == ["m.g"]


def test_calls_stand_in_the_order_of_execution(library) -> None:
    library.write(
        {"m.py": "def a(*x): pass\ndef b(*x): pass\ndef c(*x): pass\ndef f():\n    x = a(b(), c())\n    [a(y) for y in b() if c()]\n"}
    )
    assert library.calls("m.f") == ["m.b", "m.c", "m.a", "m.b", "m.c", "m.a"]


CLASSES = """
import base
class Child(base.Parent, dict):
    def own(this): pass
    alias = own
    def f(this, other):
        this.own(); this.alias(); this.inherited(); this.update(); this.missing(); other.own()
        super().inherited()
    @classmethod
    def g(cls): cls(); cls.own(None)
    @staticmethod
    def h(own): own.own(); Child.own(None)
    class Inner:
        def k(self): self.own()
"""


@pytest.fixture
def classes(library):
    library.write({"m.py": CLASSES, "base.py": "class Root:\n    def inherited(self): pass\nclass Parent(Root):\n    pass\n"})
    return library


def test_self_means_its_class_and_the_bases(classes) -> None:
    own = "m.Child.own"
    root = "base.Root.inherited"
    assert classes.calls("m.Child.f") == [own, own, root, "builtins.dict.update", "builtins.super", root]
    assert classes.reader("m.Child.f").calls.unresolved == 2


def test_class_methods_call_their_class(classes) -> None:
    assert classes.calls("m.Child.g") == ["m.Child", "m.Child.own"]


def test_static_methods_have_no_self(classes) -> None:
    assert classes.calls("m.Child.h") == ["m.Child.own"]


def test_an_inner_class_is_no_subclass_of_the_outer(classes) -> None:
    assert classes.calls("m.Child.Inner.k") == []


def test_a_reassigned_import_inside_a_function_is_not_followed(library) -> None:
    library.write({"tools.py": TOOLS, "m.py": "def f():\n    import tools\n    tools = None\n    tools.make()\n"})
    assert library.calls("m.f") == []


def test_import_circles_end(library) -> None:
    library.write({"a.py": "from b import x\ndef f(): x()\n", "b.py": "from a import x\n"})
    assert library.calls("a.f") == []


def test_compiled_members_stand_under_their_public_name(library) -> None:
    library.write({"fast.py": "from _fast import *\n", "other.py": "from _fast import pack as p\n", "os.py": "from posix import *\n"})
    library.write({"m.py": "import _fast, fast, os\ndef f(): _fast.pack(); fast.pack(); os.mkdir(); fast.Packer.flush(None)"})
    assert library.calls("m.f") == ["fast.pack", "fast.pack", "os.mkdir", "fast.Packer.flush"]
    items = library.resolver()[0].items
    assert items["fast.pack"].kind == "builtin"
    assert items["fast.pack"].doc == "Pack."
    assert items["fast.Packer.flush"].signature.n_args == 0
    assert "other.p" not in items
    assert "_fast.pack" not in items


def test_an_alias_under_a_condition_yields_to_a_star_import(library) -> None:
    library.write({"os.py": "from posix import *\ndef _mkdir(): pass\nif not 'mkdir':\n    mkdir = _mkdir\n    other = _mkdir\n"})
    library.write({"m.py": "import os\ndef f(): os.mkdir(); os.other()"})
    assert library.calls("m.f") == ["os.mkdir", "os._mkdir"]


def test_private_compiled_members_are_no_items(library) -> None:
    library.write({"m.py": "import _fast, math\ndef f(): _fast.hidden(); math.sqrt()"})
    assert library.calls("m.f") == ["math.sqrt"]


def test_a_definition_documents_what_a_compiled_one_replaces(library) -> None:
    library.write({"fast.py": 'def pack():\n    "From source."\nfrom _fast import pack\n'})
    item = library.resolver()[0].items["fast.pack"]
    assert (item.kind, item.doc) == ("function", "From source.")


def test_items_say_what_the_source_says(library) -> None:
    library.write({"tools.py": '"""Tools.\n\nMore."""\n' + TOOLS + "async def go(): pass\n"})
    items = library.resolver()[0].items
    assert items["tools"].doc == "Tools."
    box = items["tools.Box"]
    assert box.signature is not None
    assert box.signature.arg_names == ("size", "deep")
    assert (box.signature.n_args, box.signature.n_defaults, box.signature.n_keyword_only) == (2, 1, 1)
    assert (box.signature.has_varargs, box.signature.has_varkw) == (True, False)
    assert box.n_lines == 3
    assert items["tools.Box.open"].name == "box open"
    assert items["tools.make"].doc is None
    assert items["tools.go"].is_async


def test_the_first_of_two_definitions_counts(library) -> None:
    library.write({"m.py": "class C:\n    @property\n    def x(self): len()\n    @x.setter\n    def x(self, v): print()\n"})
    assert library.calls("m.C.x") == ["builtins.len"]


def test_tests_and_demonstrations_are_left_out(library) -> None:
    left_out = ["test/a.py", "unittest/test/b.py", "idlelib/c.py", "encodings/cp037.py", "_sysconfigdata_x.py", "not-a-name.py"]
    library.write(dict.fromkeys(["m.py", "encodings/aliases.py", *left_out], ""))
    items = library.resolver()[0].items.values()
    assert {i.item_id for i in items if i.kind == "module"} == {"m", "encodings.aliases", "builtins", "math"}
