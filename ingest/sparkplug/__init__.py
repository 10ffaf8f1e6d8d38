"""Sparkplug B: edge nodes and their devices followed as a primary host application does (ING-9)."""
