"""Sensitivity of deep networks to small diffeomorphisms and to noise, layer by layer.

A JAX/Flax implementation of the measures, networks, tasks and theory of Tomasini, Petrini,
Cagnetta and Wyart, *How deep convolutional neural networks lose spatial information with
training* (ICLR 2023). The README maps the packages.
"""
