"""The demo's living machines: they publish through the broker, break down now and then, and heal when worked on.

The first fault is an overheating compressor within the first minute, so that a newcomer sees the whole loop; then
one fault at a time begins somewhere every few minutes. A machine cools down once a technician has started to work
on its order.
"""

import threading

import numpy as np
from sqlalchemy import select

from api.demo import company, physics
from api.demo.physics import Machine
from api.runtime import Runtime
from assets.models import Asset, AssetType, Binding, Device
from ingest.simulator import Fleet, Member, Report
from kernel import clock, log
from kernel.settings import host_and_port
from maintenance.orders.models import Order

FIRST_FAULT_S = 15
FAULT_EVERY_S = 300
MOST_BROKEN = 3
LOOK_EVERY_S = 2.0
EVERY_S = {"compressor": 2.0}
USUALLY_EVERY_S = 5.0
WORKED_ON = ("working", "paused", "done", "verified", "closed")
FILTER = Report("E42", "minor", "raised", "Intake filter blocked 进气滤芯堵塞")


class Machines:
    """The demo's fleet and the director that breaks and heals it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._random = np.random.default_rng()
        self._machines: dict[int, Machine] = {}
        self._members: dict[int, Member] = {}
        self._stopping = threading.Event()
        self._director = threading.Thread(target=self._direct, name="demo-director", daemon=True)
        self._build()
        host, port = host_and_port(runtime.settings.mqtt_bind)
        self._fleet = Fleet(host, port, list(self._members.values()))

    def start(self) -> None:
        """Let the machines live."""
        self._fleet.start()
        self._director.start()

    def stop(self) -> None:
        """Switch them all off."""
        self._stopping.set()
        self._fleet.stop()

    def _build(self) -> None:
        with self._runtime.sessions() as session:
            rows = session.execute(
                select(Device.key, Asset.id, AssetType.key, Device.created_at)
                .join_from(Device, Binding, (Binding.device_id == Device.id) & Binding.ends_at.is_(None))
                .join(Asset, Asset.id == Binding.asset_id)
                .join(AssetType, AssetType.id == Asset.type_id)
                .where(Device.revoked_at.is_(None), AssetType.key.in_(physics.SIGNALS))
                .order_by(Device.id)
            ).all()
        for key, asset_id, kind, since in rows:
            machine = self._machines[asset_id] = Machine(key, kind, asset_id, clock.to_ms(since))
            password = company.password_of(self._runtime.secret, key)
            self._members[asset_id] = Member(key, password, machine.read, EVERY_S.get(kind, USUALLY_EVERY_S))

    def _direct(self) -> None:
        """Begin faults and end them, until the machines are switched off."""
        next_fault_ms = clock.now_ms() + FIRST_FAULT_S * 1000
        is_first = True
        while not self._stopping.wait(LOOK_EVERY_S):
            now_ms = clock.now_ms()
            try:
                self._heal(now_ms)
            except Exception as error:  # noqa: BLE001 - the edge of a round: the show goes on when the database is back
                log.of(__name__).debug("the demo's director pauses", error=type(error).__name__)
                continue
            broken = sum(machine.fault is not None for machine in self._machines.values())
            if now_ms >= next_fault_ms and broken < MOST_BROKEN:
                self._break_one(now_ms, is_first=is_first)
                is_first = False
                next_fault_ms = now_ms + FAULT_EVERY_S * 1000

    def _break_one(self, now_ms: int, *, is_first: bool) -> None:
        well = [asset_id for asset_id, machine in self._machines.items() if machine.fault is None]
        if is_first:
            well = [asset_id for asset_id in well if self._machines[asset_id].kind == "compressor"]
        if not well:
            return
        asset_id = well[0] if is_first else int(self._random.choice(well))
        machine = self._machines[asset_id]
        faults = physics.FAULTS[machine.kind]
        fault = faults[0 if is_first else int(self._random.integers(len(faults)))]
        machine.break_down(fault, now_ms)
        if not is_first and machine.kind == "compressor":
            self._members[asset_id].report(FILTER)

    def _heal(self, now_ms: int) -> None:
        """Let the fault of every machine fade whose order is being worked on."""
        broken = [asset_id for asset_id, machine in self._machines.items() if machine.fault is not None]
        if not broken:
            return
        with self._runtime.sessions() as session:
            since = clock.from_ms(min(self._machines[asset_id].fault_from_ms for asset_id in broken))
            worked_on = session.scalars(
                select(Order.asset_id).where(
                    Order.asset_id.in_(broken), Order.phase.in_(WORKED_ON), Order.started_at >= since
                )
            ).all()
        for asset_id in worked_on:
            if asset_id is not None:
                self._machines[asset_id].cure(now_ms)
