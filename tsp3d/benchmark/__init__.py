"""Races of the engine against its peers, and timings of the models: what ``tools/benchmark.py`` calls."""
