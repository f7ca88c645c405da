"""Tuning: the same number of trials for everybody, judged on the validation rows alone. ``embedkit.tune`` is the way in."""
