"""The walls: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "embedkit").rglob("*.py"))
PLUGINS = sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "datasets").rglob("*.py")])
HEAVY = {"torch", "polars", "pyarrow", "numpy", "scipy", "matplotlib", "hnswlib", "safetensors", "pandas", "optuna"}
LIGHT = [
    ROOT / "embedkit" / name
    for name in (
        "__init__.py",
        "hookspecs.py",
        "host.py",
        "registry.py",
        "schema.py",
        "space.py",
        "component.py",
        "errors.py",
        "runs.py",
        "launch.py",
    )
] + [*sorted((ROOT / "embedkit" / "config").glob("*.py")), *sorted((ROOT / "embedkit" / "cli").glob("*.py"))]


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Dotted names that a file imports; with ``at_import`` only those that run when the module is imported."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if at_import and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if at_import and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and child.level == 0:
                found.update({child.module, *(f"{child.module}.{alias.name}" for alias in child.names)})
            walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_imports_no_plugin(path):
    assert not [module for module in imports(path) if module.startswith("embedkit_")]


@pytest.mark.parametrize("path", PLUGINS, ids=name)
def test_plugins_use_public_names_only(path):
    private = [m for m in imports(path) if m.startswith("embedkit.") and any(part.startswith("_") for part in m.split("."))]
    assert not private


@pytest.mark.parametrize("path", LIGHT, ids=name)
def test_light_modules_import_nothing_heavy(path):
    heavy = {module for module in imports(path, at_import=True) if module.split(".")[0] in HEAVY}
    assert not heavy


@pytest.mark.parametrize("path", [p for p in PLUGINS if p.name == "__init__.py" and p.parent.name.startswith("embedkit_")], ids=name)
def test_a_plugins_module_holds_hooks_only(path):
    allowed = {"__future__", "typing", "embedkit", "click", "collections"}
    assert {module.split(".")[0] for module in imports(path, at_import=True)} <= allowed


@pytest.mark.parametrize("path", [p for p in PLUGINS if p.stem in ("fields", "configs") or p.stem.startswith("configs_")], ids=name)
def test_option_classes_live_without_torch(path):
    heavy = {module for module in imports(path, at_import=True) if module.split(".")[0] in HEAVY}
    assert not heavy


def modules_after(code: str) -> list[str]:
    """Heavy modules that are there after running code in a fresh interpreter."""
    tail = f"import sys, json; print(json.dumps([m for m in {sorted(HEAVY | {'pydantic', 'rich'})!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_embedkit_imports_nothing_heavy():
    assert modules_after("import embedkit") == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["plugins"], ["train", "--help"], ["tune", "--help"], ["search", "--help"]], ids=" ".join
)
def test_help_imports_neither_torch_nor_polars_nor_numpy(arguments):
    found = modules_after(f"from embedkit.cli import main; main({arguments!r})")
    assert not set(found) & HEAVY


def test_help_needs_no_pydantic():
    assert "pydantic" not in modules_after("from embedkit.cli import main; main(['--help'])")


def test_config_check_needs_no_torch(tmp_path):
    run = next((ROOT / "datasets").rglob("*.toml"))
    code = f"from embedkit.cli import main; assert main(['config', 'check', {str(run)!r}]) == 0"
    assert not set(modules_after(code)) & {"torch", "polars", "numpy"}
