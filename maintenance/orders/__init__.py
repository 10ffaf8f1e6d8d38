"""Requests and work orders: their life, their one timeline, and the loop with alarms."""
