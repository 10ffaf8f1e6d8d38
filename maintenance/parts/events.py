"""What happens to stock, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StockMoved:
    """A movement was written to the ledger."""

    movement_id: int
    part_id: int
    place_id: int


@dataclass(frozen=True, slots=True)
class StockRanLow:
    """What is available of a part fell to its reorder level or below."""

    part_id: int
    place_id: int
