"""Indexes: the backends' protocol, the generations on disk, and how one is built, tested and published."""
