"""Runs as folders: which configuration one belongs to, its state, and a listing of many.

A run writes into its folder, the workdir:

- `config.json`, its configuration, before anything else (`folder`);
- `state.json`, whether it is running or how it ended (`state`);
- `metrics.jsonl`, a line per look at the training (`relstab_jax.training.metrics`), and with the
  extra `tensorboard` event files;
- `checkpoints/` and, of the epochs in `measure_at`, the networks in `snapshots/`
  (`relstab_jax.training.checkpoints`);
- `results.json`, once, at the end (`relstab_jax.results`).
"""
