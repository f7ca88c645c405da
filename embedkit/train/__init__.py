"""One train loop, and what it reads: steps, losses, schedules, checkpoints, reports."""
