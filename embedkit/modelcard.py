"""The model card that a bundle carries: what a person should know before using it, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedkit.schema import Schema
from embedkit.space import Space

_USE = """
## Use

```python
import embedkit

model = embedkit.load("path/to/this/folder")
vectors = model.encode(frame)  # float32 [rows, width]
```

`run.toml` holds the whole recipe; `bundle.json` what is needed to load it.
"""


def model_card(name: str, version: str, schema: Schema, spaces: Mapping[str, Space], metrics: Mapping[str, Any]) -> str:
    """The card of a model: its towers with their fields and widths, what was measured, and how to use it."""
    lines = [f"# {name}", "", f"A model trained with embedkit {version}.", "", "## Towers", ""]
    for tower, space in spaces.items():
        widths, table = ", ".join(str(p) for p in space.prefixes), schema.towers[tower].table
        lines.append(f"- **{tower}** over table `{table}`: {space.dim} dimensions (prefixes {widths}), {space.metric}")
        lines += [f"  - `{field.name}` ({field.type})" for field in schema.tower_fields(tower)]
    numbers = {metric: value for metric, value in metrics.items() if isinstance(value, (int, float))}
    if numbers:
        lines += ["", "## Measured", "", "| metric | value |", "|---|---|"]
        lines += [f"| {metric} | {value:.4f} |" for metric, value in numbers.items()]
    return "\n".join(lines) + "\n" + _USE
