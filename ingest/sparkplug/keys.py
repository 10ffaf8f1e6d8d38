"""Which device of ours a Sparkplug node or device is: an edge node by its name, a device behind it by both names.

The node's name is its MQTT user name, and so its key. Names of devices are unique behind their node only, and may be
words that no key can hold; the gateway that a device is registered with decides whose it is (docs/adr, Sparkplug).
"""

import hashlib
import re
from functools import lru_cache
from typing import Final

from ingest import topics
from ingest.decoded import Source

_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_NODE, _DEVICE = 40, 14


@lru_cache(maxsize=262_144)
def source(node: str, device: str) -> Source:
    """Return whose readings a node sends, its own where ``device`` is empty.

    A device is ``{node}.{device}``. Where that cannot be a key, what can stand in one is kept and eight digits of a
    digest tell it from others.
    """
    if not device:
        return Source(node)
    joined = f"{node}.{device}"
    if topics.is_device_key(joined):
        return Source(joined, node)
    digest = hashlib.blake2b(f"{node}/{device}".encode(), digest_size=4).hexdigest()
    readable = _FOREIGN.sub("-", device).strip("-.")[:_DEVICE]
    return Source(f"{node[:_NODE]}.{readable}-{digest}", node)
