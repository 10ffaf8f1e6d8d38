"""A worker of a group, driven without waiting: a pipeline with a life among the others."""

from sqlalchemy.orm import Session, sessionmaker

from ingest.pipeline import Pipeline
from ingest.workers import Member
from telemetry.duckdb import DuckDbStore


class Worker:
    """A pipeline with a life of its own among the workers of a group."""

    def __init__(self, database: sessionmaker[Session], store: DuckDbStore, share: str = "g") -> None:
        self.member = Member(database, share)
        self.member.join()
        self.pipeline = Pipeline(database, store)
        self.pipeline.bind(self.member.licence)
        if share:
            self.pipeline.share()
        self.pipeline.prepare()
        assert not self.member.rivals()
        assert self.member.lead()
        self.pipeline.resume()

    def look_around(self) -> None:
        if self.member.sweep():
            while self.pipeline.ground.adopt_orphans():
                pass

    def die(self) -> None:
        """Lose the connection, as a killed process does; nothing is said."""
        self.member._hang_up()
