"""All tables of the product, imported so that the metadata is complete."""

import assets.command_tables
import assets.derived_tables
import assets.keeping_tables
import assets.models
import ingest.models
import kernel.models
import maintenance.dispatch.models
import maintenance.orders.code_tables
import maintenance.orders.models
import maintenance.orders.policy_tables
import maintenance.parts.models
import maintenance.plans.models
import people.models
import qr.models
import rules.action_tables
import rules.hold_tables
import rules.models
import rules.trend_tables
import rules.week_tables
import telemetry.models
from kernel.db import Row

PACKAGES = (
    kernel.models,
    people.models,
    telemetry.models,
    assets.models,
    assets.command_tables,
    assets.derived_tables,
    assets.keeping_tables,
    rules.models,
    rules.action_tables,
    rules.hold_tables,
    rules.trend_tables,
    rules.week_tables,
    ingest.models,
    maintenance.orders.models,
    maintenance.orders.code_tables,
    maintenance.orders.policy_tables,
    maintenance.dispatch.models,
    maintenance.plans.models,
    maintenance.parts.models,
    qr.models,
)
METADATA = Row.metadata
