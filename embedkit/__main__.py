"""``python -m embedkit``, which is also how ``torchrun -m embedkit train run.toml`` starts its processes."""

from __future__ import annotations

import sys

from embedkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
