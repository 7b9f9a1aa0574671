"""Exact and asymptotic theory of homogeneous networks (Section 4, Proposition A.1)."""

from relstab_jax.theory import diffusion, homogeneous, rectified_gaussian

__all__ = ["diffusion", "homogeneous", "rectified_gaussian"]
