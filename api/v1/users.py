"""People over JSON: listed, made, changed, given roles and skills, switched off."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, SignedIn, needs
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import accounts, directory, passwords, roles, scope, skills
from people.models import Account, AccountSkill, Membership, OrgUnit, Role, Skill
from people.scope import Viewer

router = APIRouter(prefix="/users", tags=["users"])
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]


class MembershipOut(BaseModel):
    """A role held at an org unit."""

    id: int
    role: str = Field(description="The role's key, e.g. `technician`.")
    unit_id: int


class SkillOut(BaseModel):
    """A skill that is held, for `[valid_from, valid_until)`."""

    skill: str
    level: int
    valid_from: date | None
    valid_until: date | None


class UserOut(BaseModel):
    """A person, or a program, that can sign in."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    name: str
    email: str | None
    phone: str | None
    language: str
    zone: str
    home_unit_id: int
    is_active: bool
    created_at: datetime
    roles: list[MembershipOut]
    teams: list[int]


class UserDetail(UserOut):
    """A person with what only their own page shows."""

    skills: list[SkillOut]


class Me(BaseModel):
    """Who asks, and what they may do where."""

    id: int
    username: str
    name: str
    language: str
    zone: str
    rights: dict[str, list[str]] = Field(description="Right → paths of the org units under which it is held.")


class UserIn(BaseModel):
    """A person to be made."""

    username: str = Field(max_length=100)
    name: str = Field(max_length=200)
    home_unit_id: int
    email: str | None = Field(None, max_length=200)
    phone: str | None = Field(None, max_length=40)
    language: str = "en"
    zone: str = "UTC"
    password: str | None = Field(None, max_length=500, description="Left out, a first password is made and returned.")


class UserMade(UserDetail):
    """A new person."""

    first_password: str | None = Field(description="Shown once; null when one was sent.")


class UserChange(BaseModel):
    """What to change of a person; fields left out stay."""

    name: str | None = Field(None, max_length=200)
    home_unit_id: int | None = None
    email: str | None = Field(None, max_length=200)
    phone: str | None = Field(None, max_length=40)


class Password(BaseModel):
    """A new password."""

    password: str = Field(max_length=500)


class RoleAt(BaseModel):
    """A role to be given at a unit."""

    role_id: int
    unit_id: int


class Held(BaseModel):
    """How well, and for how long, a skill is held."""

    level: int = 1
    valid_from: date | None = None
    valid_until: date | None = None


class Filter(BaseModel):
    """The parameters of the list of people."""

    q: str = Field("", max_length=100, description="A part of the name or user name.")
    unit_id: int | None = Field(None, description="Whose home is this unit or lies below it.")
    role_id: int | None = None
    team_id: int | None = None
    is_active: bool | None = Field(None, description="Left out, those that are switched off are listed too.")
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def users(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[UserOut]:
    """List people in order of name."""
    asked = directory.Wanted(wanted.q, wanted.unit_id, wanted.role_id, wanted.team_id, wanted.is_active)
    rows = directory.listed(db, viewer, asked, after=paging.read(wanted.cursor, (str, int)), limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.name, row.id))
    return paging.Page(items=[UserOut(**_plain(account)) for account in page], next=following)


@router.post("", status_code=201)
def make_user(db: Db, viewer: Writer, body: UserIn) -> UserMade:
    """Make a person whose home is a unit; roles are given afterwards."""
    password = body.password if body.password is not None else passwords.invented()
    account = accounts.create(
        db,
        _unit(db, viewer, body.home_unit_id, "home_unit_id"),
        **body.model_dump(exclude={"home_unit_id", "password"}),
        password=password,
        by=viewer,
        now=clock.now(),
    )
    db.flush()
    return UserMade(
        **_detailed(directory.found(db, viewer, account.id)),
        first_password=password if body.password is None else None,
    )


@router.get("/me")
def me(viewer: SignedIn) -> Me:
    """Return who asks and what they may do where."""
    return Me(
        id=viewer.account_id,
        username=viewer.username,
        name=viewer.name,
        language=viewer.language,
        zone=viewer.zone,
        rights={right: list(paths) for right, paths in viewer.reach.items()},
    )


@router.get("/{user_id}")
def user(db: Db, viewer: Reader, user_id: int) -> UserDetail:
    """Return one person."""
    return UserDetail(**_detailed(directory.found(db, viewer, user_id)))


@router.patch("/{user_id}")
def change_user(db: Db, viewer: Writer, user_id: int, body: UserChange) -> UserDetail:
    """Change who a person is and where they belong."""
    account = accounts.find(db, user_id, viewer)
    sent = body.model_dump(exclude_unset=True)
    home = _unit(db, viewer, sent.get("home_unit_id") or account.home_unit_id, "home_unit_id")
    accounts.change(
        db,
        account,
        name=sent.get("name") or account.name,
        email=sent.get("email", account.email),
        phone=sent.get("phone", account.phone),
        home=home,
        by=viewer,
        now=clock.now(),
    )
    db.flush()
    return UserDetail(**_detailed(directory.found(db, viewer, user_id)))


@router.post("/{user_id}/deactivate")
def deactivate(db: Db, viewer: Writer, user_id: int) -> UserDetail:
    """Switch an account off: its sign-ins end, its tokens become void."""
    accounts.deactivate(db, accounts.find(db, user_id, viewer), by=viewer, now=clock.now())
    db.flush()
    return UserDetail(**_detailed(directory.found(db, viewer, user_id)))


@router.post("/{user_id}/reactivate")
def reactivate(db: Db, viewer: Writer, user_id: int) -> UserDetail:
    """Switch an account on again; its tokens stay void."""
    accounts.reactivate(db, accounts.find(db, user_id, viewer), by=viewer, now=clock.now())
    db.flush()
    return UserDetail(**_detailed(directory.found(db, viewer, user_id)))


@router.post("/{user_id}/password", status_code=204)
def set_password(db: Db, viewer: Writer, user_id: int, body: Password) -> None:
    """Give an account a new password; all of its sign-ins end."""
    accounts.set_password(db, accounts.find(db, user_id, viewer), body.password, by=viewer, now=clock.now())


@router.post("/{user_id}/roles", status_code=201)
def grant(db: Db, viewer: Writer, user_id: int, body: RoleAt) -> MembershipOut:
    """Give a person a role at a unit: its rights over the unit and everything below."""
    account = accounts.find(db, user_id, viewer)
    role = db.get(Role, body.role_id)
    if role is None or role.company_id not in (None, viewer.company_id):
        raise Invalid("There is no such role.", field="role_id")
    held = roles.grant(db, account, role, _unit(db, viewer, body.unit_id, "unit_id"), by=viewer, now=clock.now())
    return MembershipOut(id=held.id, role=role.key, unit_id=held.unit_id)


@router.delete("/{user_id}/roles/{membership_id}", status_code=204)
def withdraw(db: Db, viewer: Writer, user_id: int, membership_id: int) -> None:
    """Take a role at a unit from a person."""
    account = accounts.find(db, user_id, viewer)
    held = db.get(Membership, membership_id)
    if held is None or held.account_id != account.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    roles.withdraw(db, held, by=viewer, now=clock.now())


@router.put("/{user_id}/skills/{skill}")
def hold_skill(db: Db, viewer: Writer, user_id: int, skill: str, body: Held) -> SkillOut:
    """Write that a person holds a skill; a second time replaces the first."""
    account = accounts.find(db, user_id, viewer)
    scope.require(db, viewer, "people.write", account.home_unit_id)
    held = skills.hold(db, account, _skill(db, viewer, skill), **body.model_dump(), actor=viewer.actor, now=clock.now())
    return _skill_out(held, skill)


@router.delete("/{user_id}/skills/{skill}", status_code=204)
def drop_skill(db: Db, viewer: Writer, user_id: int, skill: str) -> None:
    """Write that a person no longer holds a skill."""
    account = accounts.find(db, user_id, viewer)
    scope.require(db, viewer, "people.write", account.home_unit_id)
    skills.drop(db, account, _skill(db, viewer, skill).id, actor=viewer.actor, now=clock.now())


def _unit(db: Session, viewer: Viewer, unit_id: int, field: str) -> OrgUnit:
    unit = db.get(OrgUnit, unit_id)
    if unit is None or not viewer.may_at("people.read", unit.path):
        raise Invalid("There is no such org unit.", field=field)
    return unit


def _skill(db: Session, viewer: Viewer, key: str) -> Skill:
    found = next((skill for skill in skills.of_company(db, viewer.company_id) if skill.key == key), None)
    if found is None:
        raise NotFound("There is no such skill.")
    return found


def _plain(account: Account) -> dict[str, object]:
    columns = UserOut.model_fields.keys() - {"roles", "teams"}
    held = [MembershipOut(id=one.id, role=one.role.key, unit_id=one.unit_id) for one in account.memberships]
    return {
        **{name: getattr(account, name) for name in columns},
        "roles": held,
        "teams": sorted(team.id for team in account.teams),
    }


def _detailed(account: Account) -> dict[str, object]:
    return {**_plain(account), "skills": [_skill_out(held, held.skill.key) for held in account.skills]}


def _skill_out(held: AccountSkill, key: str) -> SkillOut:
    return SkillOut(skill=key, level=held.level, valid_from=held.valid_from, valid_until=held.valid_until)
