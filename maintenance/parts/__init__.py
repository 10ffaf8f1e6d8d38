"""Spare parts: the ledger of movements, reservations, stock by place."""
