"""Who works here and for whom: companies and their org tree, accounts, roles, teams, skills, shifts, customers.

The company is the root of its tree and the wall between tenants. ``path`` is materialised, e.g. ``/1/4/9/``,
so that "this unit and everything below" is one prefix.
"""

from datetime import date, datetime, time

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, INTEGER
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from kernel.db import Id, Json, Name, Named, Row


class OrgUnit(Named, Row):
    """A company, a region or a site of the org tree."""

    __tablename__ = "org_unit"
    __table_args__ = (
        Index("ix_org_unit_path", "path", postgresql_ops={"path": "text_pattern_ops"}),
        CheckConstraint("kind IN ('company', 'region', 'site')", name="kind"),
    )

    id: Mapped[Id]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("org_unit.id"), index=True)
    company_id: Mapped[int | None] = mapped_column(ForeignKey("org_unit.id"), index=True)
    """The root of this tree; for the company itself its own id once flushed."""
    kind: Mapped[str] = mapped_column(String(10))
    path: Mapped[str] = mapped_column(String(300), default="")


class Scoped:
    """A row that belongs to an org unit, and is seen by those whose rights reach it."""

    id: Mapped[Id]

    @declared_attr
    def company_id(cls) -> Mapped[int]:  # noqa: N805 - declared_attr receives the class
        """The company: the wall between tenants."""
        return mapped_column(ForeignKey("org_unit.id"))

    @declared_attr
    def unit_id(cls) -> Mapped[int]:  # noqa: N805 - declared_attr receives the class
        """The org unit whose members see the row."""
        return mapped_column(ForeignKey("org_unit.id"), index=True)


class Account(Row):
    """A person, or a program, that can sign in."""

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("username"),)

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"), index=True)
    home_unit_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"), index=True)
    username: Mapped[str] = mapped_column(String(60))
    name: Mapped[Name]
    email: Mapped[str | None] = mapped_column(String(200))
    phone: Mapped[str | None] = mapped_column(String(40))
    password_hash: Mapped[str | None]
    language: Mapped[str] = mapped_column(String(5), default="en")
    zone: Mapped[str] = mapped_column(String(60), default="UTC")
    is_active: Mapped[bool] = mapped_column(default=True)
    failed_sign_ins: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    last_assigned_at: Mapped[datetime | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    position_at: Mapped[datetime | None]

    memberships: Mapped[list["Membership"]] = relationship(back_populates="account", cascade="all, delete-orphan")
    skills: Mapped[list["AccountSkill"]] = relationship(cascade="all, delete-orphan")
    teams: Mapped[list["Team"]] = relationship(secondary="team_member", back_populates="members")


class Role(Row):
    """A named set of rights; those the product comes with are the same in every company."""

    __tablename__ = "role"
    __table_args__ = (Index("uq_role_key", "key", "company_id", unique=True, postgresql_nulls_not_distinct=True),)

    id: Mapped[Id]
    company_id: Mapped[int | None] = mapped_column(ForeignKey("org_unit.id"))
    key: Mapped[str] = mapped_column(String(40))
    name: Mapped[Name]
    rights: Mapped[list[str]] = mapped_column(ARRAY(String(40)))


class Membership(Row):
    """A role held at an org unit: its rights reach the unit and everything below."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("account_id", "role_id", "unit_id"),)

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    role_id: Mapped[int] = mapped_column(ForeignKey("role.id"))
    unit_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))

    account: Mapped[Account] = relationship(back_populates="memberships")
    role: Mapped[Role] = relationship()
    unit: Mapped[OrgUnit] = relationship()


class SignIn(Row):
    """A browser that is signed in; the cookie's secret is kept as its hash only."""

    __tablename__ = "sign_in"

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(String(60))
    agent: Mapped[str] = mapped_column(String(300))

    account: Mapped[Account] = relationship()


class Token(Row):
    """A bearer token of a program; shown once, kept as its hash, scoped to some of its owner's rights."""

    __tablename__ = "token"

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    name: Mapped[Name]
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    rights: Mapped[list[str] | None] = mapped_column(ARRAY(String(40)))
    """None: all of the owner's rights."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship()


class SavedView(Row):
    """A list as one person filtered it, under a name; ``query`` is the part of its address that says how."""

    __tablename__ = "saved_view"
    __table_args__ = (UniqueConstraint("account_id", "place", "name"),)

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    place: Mapped[str] = mapped_column(String(20))
    """Which list: ``alarms``."""
    name: Mapped[str] = mapped_column(String(60))
    query: Mapped[str] = mapped_column(String(1000))
    at: Mapped[datetime]


class Team(Scoped, Named, Row):
    """A group of people that gets work together."""

    __tablename__ = "team"

    id: Mapped[Id]
    members: Mapped[list[Account]] = relationship(secondary="team_member", back_populates="teams")


class TeamMember(Row):
    """An account in a team."""

    __tablename__ = "team_member"

    team_id: Mapped[int] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True, index=True)


class Skill(Named, Row):
    """Something one must be able, or certified, to do."""

    __tablename__ = "skill"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    key: Mapped[str] = mapped_column(String(40))


class AccountSkill(Row):
    """A skill a person holds, at a level, valid for a period (``[valid_from, valid_until)``)."""

    __tablename__ = "account_skill"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    skill_id: Mapped[int] = mapped_column(ForeignKey("skill.id"), primary_key=True)
    level: Mapped[int] = mapped_column(default=1)
    valid_from: Mapped[date | None]
    valid_until: Mapped[date | None]

    skill: Mapped[Skill] = relationship()


class Shift(Row):
    """Working hours of one person: weekdays (0 = Monday) and local times in a zone, valid for a period.

    An end at or before the start runs into the next day and belongs to the day on which it starts.
    """

    __tablename__ = "shift"
    __table_args__ = (Index("ix_shift_account", "account_id", "valid_from"),)

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    weekdays: Mapped[list[int]] = mapped_column(ARRAY(INTEGER))
    starts: Mapped[time]
    ends: Mapped[time]
    zone: Mapped[str] = mapped_column(String(60))
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]


class Absence(Row):
    """A time in which a person does not work, ``[starts_at, ends_at)``."""

    __tablename__ = "absence"

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(String(200), default="")


class Notice(Row):
    """Something one person is told on their own page: a sentence with its values, and where it leads."""

    __tablename__ = "notice"
    __table_args__ = (
        Index("ix_notice_account", "account_id", "id"),
        Index("ix_notice_unread", "account_id", postgresql_where=text("read_at IS NULL")),
    )

    id: Mapped[Id]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(60))
    """What it is about, e.g. ``alarm:12``."""
    text: Mapped[str] = mapped_column(String(300))
    """English with placeholders; shown in the reader's language."""
    values: Mapped[Json]
    href: Mapped[str] = mapped_column(String(200))
    read_at: Mapped[datetime | None]


class Customer(Scoped, Named, Row):
    """A company or a person whose machines we look after."""

    __tablename__ = "customer"

    id: Mapped[Id]
    tier: Mapped[str] = mapped_column(String(20), default="standard")
    contact_name: Mapped[str | None] = mapped_column(String(100))
    contact_phone: Mapped[str | None] = mapped_column(String(40))
    contact_email: Mapped[str | None] = mapped_column(String(200))
