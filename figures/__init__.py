"""Figures of the paper, one module each, drawn from results files alone."""
