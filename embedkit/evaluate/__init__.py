"""Metrics as functions of ranks, intervals, slices, and the evaluators' base."""
