"""Options of the data sets: none."""

from __future__ import annotations

from embedkit.component import Config


class NoOptions(Config):
    """A data set takes no options; where it comes from and goes to is said by the command."""
