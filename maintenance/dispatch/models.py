"""The stored reason of every assignment (SEMANTICS D8): readable next year without the live data."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Json, Row


class Decision(Row):
    """One dispatch decision: what was known, who was considered, who was filtered by what, who was chosen."""

    __tablename__ = "decision"

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"), index=True)
    at: Mapped[datetime]
    mode: Mapped[str] = mapped_column(String(12))
    """``automatic``, ``by_hand`` or ``grabbed``."""
    by: Mapped[str] = mapped_column(String(80))
    inputs: Mapped[Json]
    candidates: Mapped[Json]
    """``{"list": [{"account_id", "name", "removed_by", "why", "scores", "total"}, …]}`` in order of rank."""
    chosen_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    reason: Mapped[str] = mapped_column(String(500), default="")
    is_override: Mapped[bool] = mapped_column(default=False)
