"""Serve the gallery until Ctrl-C."""

import signal
import sys

from tests.web.gallery import serving

with serving() as address:
    sys.stdout.write(f"{address}/desk?lang=zh&theme=dark  (desk, phone, public)\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
