"""What every component of a kind must do: one suite a kind, to inherit from in a plugin's tests."""
