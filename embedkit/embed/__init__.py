"""Offline embedding: a bundle and a catalogue in, Parquet parts of ids and vectors out, in bounded memory and with
exact resume.
"""
