"""What the reasons for setting a message aside mean to people, and what to do about them."""

from typing import Final

from ingest.decoded import Reason
from kernel.i18n import noop

WORDS: Final[dict[Reason, tuple[str, str]]] = {
    Reason.UNKNOWN_TOPIC: (
        noop("Unknown topic"),
        noop("Publish to a topic of the contract, e.g. fw/v1/{device}/telemetry."),
    ),
    Reason.BAD_DEVICE_KEY: (
        noop("Impossible device key"),
        noop("Keys have 1 to 64 letters, digits, dots, hyphens and underscores."),
    ),
    Reason.OVERSIZE: (noop("Too large"), noop("Send less at once: a message holds at most 256 KiB.")),
    Reason.NOT_UTF8: (noop("Not UTF-8"), noop("Encode the payload as UTF-8.")),
    Reason.NOT_JSON: (noop("Not JSON"), noop("Mend the payload's syntax in the device.")),
    Reason.NOT_FINITE: (noop("Not a finite number"), noop("Leave a value out instead of sending NaN or infinity.")),
    Reason.TOO_DEEP: (noop("Nested too deeply"), noop("Send a flat object of values.")),
    Reason.DUPLICATE_KEY: (noop("A name is given twice"), noop("Send each metric once a message.")),
    Reason.BAD_FORM: (noop("Unexpected form"), noop("Use one of the four forms of telemetry in the documentation.")),
    Reason.EMPTY: (noop("Nothing in it"), noop("Send at least one value.")),
    Reason.NESTED_VALUE: (noop("A value is an object or array"), noop("Send numbers, booleans or texts.")),
    Reason.NULL_VALUE: (noop("A value is null"), noop("Leave out what was not measured.")),
    Reason.BAD_TS: (noop("Unusable time"), noop("Send ts as whole milliseconds since 1970 in UTC.")),
    Reason.BAD_METRIC: (noop("Unusable metric name"), noop("Name metrics with 1 to 80 printable characters.")),
    Reason.BAD_TEXT: (noop("Unusable text"), noop("Texts have at most 4,096 characters and no NUL.")),
    Reason.UNKNOWN_FIELD: (noop("Unknown field"), noop("Beside ts and values nothing else may stand.")),
    Reason.FOREIGN_DEVICE: (
        noop("Speaks for another device"),
        noop("A device speaks for itself only; a gateway uses gateway/telemetry."),
    ),
    Reason.REPLAYED: (noop("Kept by the broker, without a time"), noop("Do not retain telemetry, or send a time.")),
    Reason.BAD_ALARM: (noop("Unusable alarm"), noop("Send code, state, severity and seq as in the documentation.")),
    Reason.BAD_STATUS: (noop("Unusable status"), noop("Send online or offline.")),
    Reason.UNKNOWN_DEVICE: (noop("Unknown device"), noop("Register the device, then replay the message.")),
    Reason.REVOKED_DEVICE: (noop("Revoked device"), noop("Give the machine a newly registered device.")),
    Reason.UNKNOWN_CHILD: (
        noop("Not behind this gateway"),
        noop("Register the device with this gateway, then replay the message."),
    ),
    Reason.UNKNOWN_COMMAND: (noop("Answer to no command"), noop("Nothing was asked of the device.")),
    Reason.WRONG_TYPE: (noop("Text where a number belongs"), noop("Send the value as a number, or change the metric.")),
    Reason.NOT_DECODED: (
        noop("No reading can hold this"),
        noop("Send it as single values: bytes, files, and large tables or arrays are no measurements."),
    ),
    Reason.NOT_BORN: (
        noop("No birth known"),
        noop("The Sparkplug node was asked to publish its births anew; replay the message after them."),
    ),
    Reason.OUT_OF_SEQUENCE: (
        noop("A message before this is missing"),
        noop("The Sparkplug node was asked to publish its births anew; replay the message after them."),
    ),
    Reason.UNKNOWN_ALIAS: (
        noop("Unknown Sparkplug metric"),
        noop("The Sparkplug node was asked to publish its births anew; replay the message after them."),
    ),
    Reason.HISTORICAL: (
        noop("History newer than the live value"),
        noop("Replay it when the live value is newer, or let the machine send it as live."),
    ),
    Reason.WORKED_OUT: (
        noop("Metric that is worked out here"),
        noop("Let the device call it otherwise, or remove the derived metric from its type; then replay the message."),
    ),
    Reason.PATH_MISSING: (
        noop("Nothing found by the mapping"),
        noop("Compare the message with the mapping: try it there as the sample."),
    ),
    Reason.BAD_VALUE: (
        noop("A value is not as the mapping expects"),
        noop("Mend the mapping or the device; then replay the message."),
    ),
    Reason.BAD_FRAME: (
        noop("The bytes do not fit the frame"),
        noop("Compare length, encoding and fields of the frame with the message."),
    ),
    Reason.UNKNOWN_UNIT: (noop("Unknown unit"), noop("Name a unit that the mapping can convert, or none.")),
    Reason.BUDGET_SPENT: (
        noop("The mapping took too long"),
        noop("Make its paths simpler; then replay the message."),
    ),
    Reason.NO_DECODER: (
        noop("No decoder for raw bytes"),
        noop("Give the type of the device's asset a decoder; then replay the message."),
    ),
    Reason.OVER_LIMIT: (
        noop("Over the limit"),
        noop(
            "Let the device send less, or raise the limit; of a flood a few bodies a minute are kept, all are counted."
        ),
    ),
    Reason.FOREIGN_MAPPING: (
        noop("Not a device of this mapping"),
        noop("A mapping speaks for devices of its own org unit and those below."),
    ),
    Reason.FAILED: (noop("Could not be processed"), noop("This is our fault: replay it after the next update.")),
}


def words(reason: str) -> tuple[str, str]:
    """Return the name of a stored reason and what to do about it, in English, to be translated when shown."""
    try:
        return WORDS[Reason(reason)]
    except ValueError:  # of a later version than this one
        return reason, ""
