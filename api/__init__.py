"""The HTTP edge and the composition root: JSON under ``/api/v1``, pages, worker, command line."""
