"""Tags and their scans."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset
from kernel.db import Id, Row
from people.models import Account, Scoped


class Tag(Scoped, Row):
    """A code on a machine: an unguessable token, a code people can read, bound to an asset or still blank."""

    __tablename__ = "tag"
    __table_args__ = (
        UniqueConstraint("token"),
        UniqueConstraint("code"),
        Index("ix_tag_asset", "asset_id", postgresql_where=text("revoked_at IS NULL")),
    )

    id: Mapped[Id]
    token: Mapped[str] = mapped_column(String(60))
    """At least 128 random bits. Kept in the clear because labels are printed again; it opens only public facts."""
    code: Mapped[str] = mapped_column(String(20))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"))
    made_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(String(80))

    asset: Mapped[Asset | None] = relationship()


class Scan(Row):
    """Somebody opened a tag's page."""

    __tablename__ = "scan"

    id: Mapped[Id]
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), index=True)
    at: Mapped[datetime]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    address: Mapped[str] = mapped_column(String(60))
    agent: Mapped[str] = mapped_column(String(200), default="")

    account: Mapped[Account | None] = relationship()
