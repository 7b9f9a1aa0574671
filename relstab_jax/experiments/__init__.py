"""Experiments: each file is one kind of run, from a configuration to a dataset of results."""
