"""The work: orders and requests, dispatch, plans, parts."""
