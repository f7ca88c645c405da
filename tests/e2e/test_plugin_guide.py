"""The test that the guide to plugins shows, of the loss that it shows."""

from __future__ import annotations

import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "plugin.md"
SHOWN = next(text for text in GUIDE.read_text(encoding="utf-8").split("```python\n")[1:] if "LossConformance" in text).partition("```")[0]
sys.path.insert(0, str(Path(__file__).parent / "plugins"))

exec(compile(SHOWN, "plugin.md", "exec"))  # defines TestCentred, which pytest then collects
