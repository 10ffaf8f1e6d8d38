"""How a Mosquitto must be set up for our promises: its settings file, for the compose file, docs and tests.

The password and access files that go with it are written by ``ingest.credentials``.
"""

from typing import Final

SETTINGS: Final = """\
# A batch is acknowledged as a whole. Mosquitto's default of 20 messages in flight would wait for ever.
max_inflight_messages 0
# The default throws away, silently, whatever queues beyond 1000 messages while the intake is away.
max_queued_messages 5000000
# What was acknowledged to devices reaches the disk within this many seconds. Devices repeat alarms on their
# own, so only telemetry of these seconds is at stake when the broker itself is killed.
persistence true
autosave_interval 5
# The contract keeps larger payloads as rejected up to here; beyond, the connection ends.
message_size_limit 8388608
allow_anonymous false
# A client id is a name within a device: without this, any device could take over the session of another.
use_username_as_clientid true
# How often it tells, in $SYS, how many messages it threw away.
sys_interval 10
"""
"""Everything but listeners, folders and the two files of credentials."""


def tls_listener(bind: str, certificate: str, key: str, client_ca: str) -> str:
    """Return a listener for devices with client certificates: the common name is the user name, and the client id."""
    return f"""\
listener {bind}
certfile {certificate}
keyfile {key}
cafile {client_ca}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""
