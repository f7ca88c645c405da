from __future__ import annotations

from pathlib import Path

import pytest

from embedkit.cli.docs import page

ROOT = Path(__file__).parents[2]


def test_the_reference_page_says_what_the_commands_say():
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == page(), "run `python -m embedkit.cli.docs > docs/cli.md`"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", ".ci/run"])
def test_what_a_newcomer_looks_for_is_there(name):
    assert (ROOT / name).is_file()


def test_the_run_file_of_the_readme_is_valid():
    import tomllib

    from embedkit.config.load import parse_run
    from embedkit.config.resolve import resolve
    from embedkit.host import Host

    text = (ROOT / "README.md").read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    plan = resolve(parse_run(tomllib.loads(text), where="README.md"), Host.load().registry, base=ROOT, where="README.md")
    assert plan.config.name == "shop"
    assert set(plan.schema.towers) == {"item", "user"}


def test_commands_of_the_readme_exist():
    import re

    from embedkit.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "\n".join(text.split("```")[1::2])
    named = set(re.findall(r"^embedkit ([a-z]+) ", code, re.MULTILINE)) | set(re.findall(r"`embedkit ([a-z]+)[ `]", text))
    assert named
    assert named <= set(COMMANDS)
