"""Who gets the order: filters, scores, the grab pool, and the stored reason."""
