"""What happens to mappings, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MappingChanged:
    """A payload mapping was added, changed, switched or rolled back; ingest reads all of them again."""

    mapping_id: int
