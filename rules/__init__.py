"""Conditions, the columnar engine that evaluates them, and alarms."""
