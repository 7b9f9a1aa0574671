"""Training: sweeps over seeds, data-parallel networks, and the one loop that runs both."""
