"""One's own bearer tokens over JSON."""

from datetime import datetime, timedelta

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.access import Db, SignedIn
from api.instants import Instant
from kernel import clock
from people import tokens
from people.models import Account

router = APIRouter(prefix="/tokens", tags=["tokens"])


class TokenOut(BaseModel):
    """A token, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    rights: list[str] | None = Field(description="Null: all of the owner's rights.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class TokenMade(TokenOut):
    """A new token with its secret."""

    secret: str = Field(description="Shown once. Send it as `Authorization: Bearer …`.")


class TokenIn(BaseModel):
    """A token to be made."""

    name: str = Field(max_length=200)
    rights: list[str] | None = Field(None, max_length=200, description="Left out: all of one's own.")
    expires_at: Instant | None = Field(None, description="Within two years; in 90 days when left out.")


@router.get("")
def own_tokens(db: Db, viewer: SignedIn) -> paging.Page[TokenOut]:
    """List one's own tokens that are not revoked, newest first."""
    rows = tokens.of_account(db, db.get_one(Account, viewer.account_id))
    return paging.Page(items=[TokenOut.model_validate(token) for token in rows])


@router.post("", status_code=201)
def make_token(db: Db, viewer: SignedIn, body: TokenIn) -> TokenMade:
    """Make a token for oneself; its secret is in this answer only."""
    now = clock.now()
    token, secret = tokens.create(
        db,
        db.get_one(Account, viewer.account_id),
        name=body.name,
        rights=body.rights,
        expires_at=body.expires_at or now + timedelta(days=90),
        by=viewer,
        now=now,
    )
    return TokenMade(**TokenOut.model_validate(token).model_dump(), secret=secret)


@router.delete("/{token_id}", status_code=204)
def revoke_token(db: Db, viewer: SignedIn, token_id: int) -> None:
    """Make one of one's own tokens void."""
    tokens.revoke(db, db.get_one(Account, viewer.account_id), token_id, actor=viewer.actor, now=clock.now())
