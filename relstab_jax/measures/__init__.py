"""Sensitivities and filter spectra of any network, as pure functions."""
