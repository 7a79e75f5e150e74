"""Metrics, corruptions, tables and pictures."""
