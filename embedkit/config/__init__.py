"""The run file: its model, its errors, and how it is inferred from tables. No torch, no polars at import."""
