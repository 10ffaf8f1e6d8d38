"""The command line: every process and every chore of an installation. Each command's ``--help`` has an example."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from kernel import audit, clock, datadir, db, heap, log
from kernel import settings as settings_module
from kernel.errors import FixwrightError
from kernel.settings import Settings

app = typer.Typer(
    name="fixwright",
    help="Fixwright: from a machine's alarm, or a scanned label, to a rated repair.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
user_commands = typer.Typer(help="Accounts.", no_args_is_help=True)
token_commands = typer.Typer(help="Bearer tokens for programs.", no_args_is_help=True)
audit_commands = typer.Typer(help="The audit trail.", no_args_is_help=True)
app.add_typer(user_commands, name="user")
app.add_typer(token_commands, name="token")
app.add_typer(audit_commands, name="audit")


def main() -> None:
    """Run the command line; what the user can mend is said in one line and exit code 2."""
    heap.bound_arenas()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        app()
    except FixwrightError as error:
        sys.stderr.write(f"fixwright: {error}\n")
        raise SystemExit(2) from None


def _leave(number: int, _frame: FrameType | None) -> None:
    """End a command early but in order: what it has started is stopped, the database too, however often it is asked."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _settings(**overrides: object) -> Settings:
    settings = settings_module.load(**overrides)
    log.configure(form=settings.log_format, level=settings.log_level)
    return settings


def _until_stopped(parts: ExitStack, start: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run something that has its own threads until the process is asked to stop, then stop it in order."""
    stopping = _asked_to_stop()
    parts.callback(stop)
    start()
    while not stopping.wait(3600):
        pass


def _asked_to_stop() -> threading.Event:
    """Return the event that Ctrl-C and SIGTERM set."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option(help="Fill an empty installation with a demo company and simulated machines.")
    ] = False,
) -> None:
    """Run everything in one process: database, telemetry, MQTT broker, pages, worker.

    Example: fixwright up --demo
    """
    from api import compose, health, server
    from ingest import run as ingest_run

    settings = _settings()
    with ExitStack() as parts:
        parts.enter_context(datadir.owned(settings.data_dir))
        listening = parts.enter_context(server.claimed(settings.http_bind, setting="FIXWRIGHT_HTTP_BIND"))
        if settings.mqtt_url is None:
            with server.claimed(settings.mqtt_bind, setting="FIXWRIGHT_MQTT_BIND"):
                pass  # The broker binds it itself, later; this is to say early that it could not.
        runtime = parts.enter_context(compose.everything(settings, is_demo=demo))
        compose.prepare(runtime)
        if demo:
            from api.demo import company

            company.require_loopback(settings)
            company.seed(runtime, say=typer.echo)
            runtime.demo_accounts.extend(company.accounts())
        ingest = ingest_run.Ingest(runtime.settings, runtime.sessions, runtime.store)
        parts.callback(ingest.stop)
        ingest.start()
        runtime.ingest = ingest
        health.watch(ingest)
        runtime.checks["ingest"] = ingest.trouble
        worker = compose.worker_of(runtime.sessions)
        parts.callback(worker.stop)
        worker.start()
        runtime.checks["worker"] = worker.trouble
        if demo:
            from api.demo.machines import Machines

            machines = Machines(runtime)
            parts.callback(machines.stop)
            machines.start()
        typer.echo(f"\n  Fixwright is running: {settings.public_url}   (Ctrl-C stops it)\n")
        server.serve(runtime, listening)


@app.command()
def web() -> None:
    """Serve the pages and the API only; ingest and worker run elsewhere.

    Example: FIXWRIGHT_DATABASE_URL=… FIXWRIGHT_TELEMETRY_URL=… fixwright web
    """
    from api import compose, server

    settings = _settings()
    with (
        server.claimed(settings.http_bind, setting="FIXWRIGHT_HTTP_BIND") as listening,
        compose.one_role(settings, owns_store=False) as runtime,
    ):
        compose.prepare(runtime)
        server.serve(runtime, listening)


@app.command()
def ingest() -> None:
    """Read the broker, store readings, evaluate rules, raise alarms. Start a second one to stand by and take over.

    Example: FIXWRIGHT_MQTT_URL=mqtt://_fixwright:secret@broker:1883 fixwright ingest
    """
    from api import compose, health, intake_server
    from ingest import run as ingest_run
    from telemetry.store import open_store

    settings = _settings()
    with ExitStack() as parts:
        sessions = parts.enter_context(compose.sessions(settings, pool=settings.database_pool))
        # Opened when this process leads: an embedded store belongs to one process at a time.
        edge = ingest_run.Ingest(
            settings,
            sessions,
            lambda: open_store(settings.telemetry_url, settings.data_dir, memory_mb=settings.store_memory_mb),
        )
        stopping = _asked_to_stop()
        parts.callback(edge.stop)
        edge.start()
        health.watch(edge)
        if settings.intake_bind is not None:
            runtime = compose.intake_only(settings, sessions)
            runtime.ingest, runtime.checks["ingest"] = edge, edge.trouble
            parts.enter_context(intake_server.serving(runtime, settings.intake_bind))
        stopping.wait()


@app.command()
def worker() -> None:
    """Deliver events and let time pass: open and assign orders, run plans. Run as many as you like.

    Example: FIXWRIGHT_DATABASE_URL=… fixwright worker
    """
    from api import compose

    settings = _settings()
    with ExitStack() as parts:
        sessions = parts.enter_context(compose.sessions(settings, pool=8))
        working = compose.worker_of(sessions)
        _until_stopped(parts, working.start, working.stop)


@app.command()
def migrate() -> None:
    """Bring the database to this version; `up` does it by itself.

    Example: FIXWRIGHT_DATABASE_URL=… fixwright migrate
    """
    from api import compose
    from migrations import run

    with compose.database(_settings()) as url:
        engine = db.connect(url, pool=2)
        run.upgrade(engine)
        engine.dispose()
    typer.echo(f"The database is at revision {run.head()}.")


@app.command()
def simulate(
    devices: Annotated[int, typer.Option(min=1, max=20_000, help="How many devices.")] = 100,
    rate: Annotated[float, typer.Option(min=0.01, help="Messages a second, all devices together.")] = 50.0,
) -> None:
    """Publish readings of simulated devices to the broker until stopped; the devices are registered as sim-….

    Example: fixwright simulate --devices 1000 --rate 200
    """
    from api import compose
    from api.demo import load
    from ingest import simulator

    current = _settings()
    with ExitStack() as parts:
        with compose.sessions(current) as factory, db.transaction(factory) as session:
            secret = settings_module.secret_key(current)
            members = load.members(session, secret, devices=devices, rate=rate, now=clock.now())
        host, port = simulator.broker_of(current)
        fleet = simulator.Fleet(host, port, members)
        typer.echo(f"{devices} devices publish {rate:g} messages/s to {host}:{port} (Ctrl-C stops them)")
        _until_stopped(parts, fleet.start, fleet.stop)
        typer.echo(f"{fleet.published} messages were published.")


@app.command()
def doctor() -> None:
    """Look the installation over and say what is well and what is not; exit code 1 if something is not.

    Example: fixwright doctor
    """
    from api import doctor as examination

    is_well = True
    for finding in examination.examine(_settings()):
        typer.echo(f"{'ok ' if finding.is_well else '!! '} {finding.part}: {finding.words}")
        is_well = is_well and finding.is_well
    raise typer.Exit(0 if is_well else 1)


@app.command()
def settings() -> None:
    """Print every setting: its variable, what is in force, and what it decides.

    Example: fixwright settings
    """
    current = _settings()
    for name, field in Settings.model_fields.items():
        typer.echo(f"FIXWRIGHT_{name.upper()} = {getattr(current, name)}\n    {field.description}")


@user_commands.command("create")
def create_user(
    username: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[str, typer.Option(help="A role's key, e.g. technician.")],
    name: Annotated[str | None, typer.Option(help="The person's name.")] = None,
    unit: Annotated[
        int | None, typer.Option(help="Org unit at which the role is held; the company when left out.")
    ] = None,
) -> None:
    """Create an account and print its first password once.

    Example: fixwright user create anna --role dispatcher --name "Anna Li"
    """
    from api import compose
    from people import chores

    with compose.sessions(_settings()) as factory, db.transaction(factory) as session:
        password = chores.create_account(
            session, username=username, name=name or username, role=role, unit_id=unit, now=clock.now()
        )
    typer.echo(password)


@token_commands.command("create")
def create_token(
    user: Annotated[str, typer.Option(help="Whose rights the token carries.")],
    name: Annotated[str, typer.Option(help="What the token is for.")] = "command line",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it expires.")] = 90,
    right: Annotated[list[str] | None, typer.Option(help="Limit it to these rights; repeat the option.")] = None,
) -> None:
    """Create a bearer token and print it once.

    Example: fixwright token create --user admin --days 30
    """
    from api import compose
    from people import chores

    now = clock.now()
    with compose.sessions(_settings()) as factory, db.transaction(factory) as session:
        secret = chores.create_token(
            session, username=user, name=name, rights=right, expires_at=now + timedelta(days=days), now=now
        )
    typer.echo(secret)


@audit_commands.command("verify")
def verify_audit() -> None:
    """Walk the audit chain and name every place at which it was altered; exit code 1 when there is one.

    Example: fixwright audit verify
    """
    from api import compose

    with compose.sessions(_settings()) as factory, factory() as session:
        breaks = list(audit.verify(session))
    for place in breaks:
        typer.echo(f"entry {place.seq}: {place.reason}")
    typer.echo(f"{len(breaks)} places altered" if breaks else "The audit trail is whole.")
    raise typer.Exit(1 if breaks else 0)


@app.command("broker-files")
def broker_files(
    folder: Annotated[Path, typer.Argument(help="Where to write passwd and acl.")],
    watch: Annotated[bool, typer.Option(help="Keep the files in step until stopped.")] = False,
    pid_file: Annotated[Path | None, typer.Option(help="Mosquitto's pid file, to tell it to read them again.")] = None,
) -> None:
    """Write the password and topic-rights files of a Mosquitto broker from the registered devices.

    Example: fixwright broker-files /etc/mosquitto/fixwright --watch --pid-file /run/mosquitto/mosquitto.pid
    """
    from api import compose
    from ingest import brokerfiles

    current = _settings()
    stopping = _asked_to_stop()
    keeper = brokerfiles.Keeper(current, folder, pid_file)
    with compose.sessions(current) as factory:
        while True:
            with factory() as session:
                if keeper.look(session, clock.now()):
                    typer.echo(f"written to {folder}")
            if not watch or stopping.wait(0.5):
                return


if __name__ == "__main__":
    main()
