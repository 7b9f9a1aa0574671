"""Sensitivities, filter spectra and exact theory, as pure functions of any network."""
