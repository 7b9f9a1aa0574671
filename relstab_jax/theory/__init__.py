"""Exact and asymptotic theory of homogeneous networks (Section 4, Proposition A.1)."""
