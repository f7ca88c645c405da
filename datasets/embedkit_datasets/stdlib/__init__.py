"""Reading the standard library of the running interpreter as data: find, define, resolve, list calls."""
