"""Accounts, roles and rights, the org tree and who sees what of it, teams, skills and shifts."""
