"""Readings: their columns, the stores that keep them, ranges and downsampling."""
