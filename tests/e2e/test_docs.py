"""The guides and reference pages: everything they show is tried."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from embedkit.testing.command import call

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a guide in a language."""
    fenced = re.split(r"^```", (GUIDES / name).read_text(), flags=re.MULTILINE)[1::2]
    return [text.partition("\n")[2] for text in fenced if text.partition("\n")[0] == language]


def merged(base, change):
    if isinstance(base, dict) and isinstance(change, dict):
        return base | {key: merged(base.get(key), value) for key, value in change.items()}
    return change


def resolved(data, *plugins):
    from embedkit.config.load import parse_run
    from embedkit.config.resolve import resolve
    from embedkit.host import Host

    host = Host.load(plugins=[str(path) for path in plugins])
    return resolve(parse_run(data, where="guide"), host.registry, base=ROOT, where="guide")


@pytest.mark.parametrize("page", ["hooks", "components"])
def test_reference_pages_say_what_the_code_says(page):
    from embedkit.cli.docs import main

    assert (ROOT / "docs" / f"{page}.md").read_text() == main(page), f"run `python -m embedkit.cli.docs {page} > docs/{page}.md`"


def test_every_hook_is_documented_and_tested():
    from embedkit.cli.reference import hooks

    page = (ROOT / "docs" / "hooks.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert len(hooks()) >= 17
    for name, spec in hooks().items():
        assert f"def {name}(" in page
        assert spec.__doc__
        assert re.search(rf"\b{name}\b", tests), f"no test names {name}"


def test_links_between_pages_lead_somewhere():
    for page in [*GUIDES.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_guide_to_plugins_shows_the_plugin_that_is_tested():
    plugin = Path(__file__).parent / "plugins" / "centred.py"
    assert blocks("plugin.md", "python")[0] == plugin.read_text()
    stage, package = (tomllib.loads(text) for text in blocks("plugin.md", "toml"))
    assert package["project"]["entry-points"]["embedkit"]
    base = tomllib.loads(blocks("run-file.md", "toml")[0])
    base["stages"][0] |= stage["stages"][0]
    assert [part["use"] for part in resolved(base, plugin).stages[0].to_json()["options"]["losses"]] == [
        "itemrec:sampled_softmax",
        "centred:centred",
    ]
    suites = re.findall(r"`embedkit\.testing\.conformance\.(\w+)`", (GUIDES / "plugin.md").read_text())
    assert {f"{suite}.py" for suite in suites} | {"__init__.py", "values.py"} == {
        path.name for path in (ROOT / "embedkit" / "testing" / "conformance").glob("*.py")
    }
    for module, name in re.findall(r"`(embedkit(?:\.[a-z]+)+)\.([A-Z]\w+)`", (GUIDES / "plugin.md").read_text()):
        assert hasattr(import_module(module), name), f"{module}.{name}"
    compile(blocks("plugin.md", "python")[2], "plugin.md", "exec")


def test_every_piece_of_the_guide_to_run_files_is_valid():
    base, *pieces = (tomllib.loads(text) for text in blocks("run-file.md", "toml"))
    assert resolved(base).config.name == "shop"
    assert len(pieces) >= 8
    split = {"tables": {"events": {"split": {"by": "time", "valid": "7d", "test": "7d"}}}}
    for piece in pieces:
        resolved(merged(merged(base, split), piece))


def test_the_nightly_commands_work(shop):
    """Every command of the guide, in its order, on the shop."""
    head = tomllib.loads(blocks("nightly.md", "toml")[0])["model"]["head"]
    shop.write(edits={"[model]\n": f'[model]\nhead = {{ use = "{head["use"]}", dims = {head["dims"]} }}\n', "dim = 64": "dim = 16"})
    call("train", "run.toml", "--threads", "1").ok()
    lines = "".join(blocks("nightly.md", "")).splitlines()
    assert len(lines) >= 8
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "embedkit"
        call(*arguments).ok()
    assert (shop.folder / "index" / "CURRENT").read_text().strip() == "000003"  # the guide indexes three times
    assert call("index", "shared", "--out", "other", "--json").json["rows"] == 60
    exec(compile(blocks("nightly.md", "python")[0], "nightly.md", "exec"), found := {})
    assert found["found"].ids.shape == (1, 5)
    shutil.rmtree(shop.folder / "shared")
