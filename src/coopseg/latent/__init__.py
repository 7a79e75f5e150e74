"""Masks of latent codes: drawn once, then applied as pure functions."""
