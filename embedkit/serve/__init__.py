"""Answering: frames of rows into vectors, and questions into neighbours."""
