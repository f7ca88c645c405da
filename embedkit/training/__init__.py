"""One train loop, and what it reads: steps, losses, schedules, checkpoints, reports.

The package is not called ``train``: importing it would put it in the place of the function ``embedkit.train``.
"""
