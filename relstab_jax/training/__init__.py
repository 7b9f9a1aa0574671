"""Losses, sweeps over seeds, checkpoints."""
