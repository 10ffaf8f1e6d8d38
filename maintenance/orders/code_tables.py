"""The dictionary of codes that devices report: a table of its own, because a code asks for a checklist."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import AssetType
from kernel.db import Id, Named, Row
from maintenance.plans.models import Checklist
from people.models import Scoped


class AlarmCode(Scoped, Named, Row):
    """What a code means, for one type of asset (and those that inherit from it) or, without one, for all.

    ``name`` is the meaning; the texts of causes and remedy are in English and Chinese, empty where nobody wrote any.
    """

    __tablename__ = "alarm_code"
    __table_args__ = (
        Index("uq_alarm_code", "company_id", "code", text("coalesce(asset_type_id, 0)"), unique=True),
        CheckConstraint("severity IN ('critical', 'major', 'minor', 'warning', 'info')", name="severity"),
    )

    id: Mapped[Id]
    code: Mapped[str] = mapped_column(String(80))
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id"))
    severity: Mapped[str | None] = mapped_column(String(10))
    """How urgent its order is; None: as severe as the device says."""
    causes: Mapped[str] = mapped_column(String(2000), default="")
    causes_zh: Mapped[str] = mapped_column(String(2000), default="")
    remedy: Mapped[str] = mapped_column(String(2000), default="")
    remedy_zh: Mapped[str] = mapped_column(String(2000), default="")
    checklist_id: Mapped[int | None] = mapped_column(ForeignKey("checklist.id"))
    """What its order is worked through with."""

    asset_type: Mapped[AssetType | None] = relationship()
    checklist: Mapped[Checklist | None] = relationship()

    def likely(self, language: str) -> str:
        """Return the likely causes in a language, or in the other where that is all there is."""
        return (self.causes_zh or self.causes) if language == "zh" else (self.causes or self.causes_zh)

    def mended(self, language: str) -> str:
        """Return the remedy in a language, or in the other where that is all there is."""
        return (self.remedy_zh or self.remedy) if language == "zh" else (self.remedy or self.remedy_zh)
