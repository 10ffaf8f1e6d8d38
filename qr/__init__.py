"""QR tags: unguessable tokens on machines, their labels, the scans of them and the public reports behind them."""
