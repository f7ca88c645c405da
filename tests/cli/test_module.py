"""``python -m embedkit`` is the command."""

from __future__ import annotations

import subprocess
import sys

from embedkit._version import __version__


def test_the_package_can_be_run():
    done = subprocess.run([sys.executable, "-m", "embedkit", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert __version__ in done.stdout


def test_its_errors_have_the_commands_code():
    done = subprocess.run([sys.executable, "-m", "embedkit", "train", "absent.toml"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("embedkit: ")
