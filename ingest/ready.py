"""Mappings that come with the product: for systems whose messages are known, each with a message as they send it.

A company adopts one by a click and owns its copy from then on, to change as it likes.
"""

from dataclasses import dataclass
from typing import Any, Final

from kernel.i18n import noop


@dataclass(frozen=True, slots=True)
class Ready:
    """A mapping to adopt. ``topic`` and ``payload`` are a sample of what the system sends."""

    key: str
    system: str
    name: str
    name_zh: str
    what: str
    definition: dict[str, Any]
    topic: str
    payload: str


_ZIGBEE_SKIP: Final = ["last_seen", "update", "update_available", "device", "elapsed"]
_SHELLY_SKIP: Final = ["ts", "*.id", "*.source", "*.minute_ts", "*.tF", "*.timer_*", "*.transition*"]
_ON_OFF: Final = {"ON": True, "OFF": False}

READY: Final[tuple[Ready, ...]] = (
    Ready(
        "zigbee2mqtt",
        "Zigbee2MQTT",
        "Zigbee2MQTT: devices",
        "Zigbee2MQTT：设备",
        noop("Every value of every Zigbee device, under its friendly name; a leak, smoke or tamper is an alarm."),
        {
            "topic": "zigbee2mqtt/{device}",
            "device": "{device}",
            "tidy": True,
            "metrics": [{"path": "@", "spread": True, "skip": _ZIGBEE_SKIP, "values": _ON_OFF}],
            "alarms": [
                {"path": "water_leak", "code": "water_leak", "severity": "critical", "message": "Water leak"},
                {"path": "smoke", "code": "smoke", "severity": "critical", "message": "Smoke"},
                {"path": "gas", "code": "gas", "severity": "critical", "message": "Gas"},
                {
                    "path": "carbon_monoxide",
                    "code": "carbon_monoxide",
                    "severity": "critical",
                    "message": "Carbon monoxide",
                },
                {"path": "tamper", "code": "tamper", "severity": "warning", "message": "Tampered with"},
                {"path": "battery_low", "code": "battery_low", "severity": "minor", "message": "Battery low"},
            ],
        },
        "zigbee2mqtt/cold-room-1",
        '{"battery":97,"battery_low":false,"humidity":44.72,"last_seen":"2026-11-20T09:30:12+00:00","linkquality":80,'
        '"power_outage_count":3,"pressure":1013.2,"temperature":4.34,"update":{"installed_version":4105,'
        '"latest_version":4105,"state":"idle"},"voltage":3005,"water_leak":false}',
    ),
    Ready(
        "zigbee2mqtt-availability",
        "Zigbee2MQTT",
        "Zigbee2MQTT: availability",
        "Zigbee2MQTT：在线状态",
        noop("Whether a Zigbee device can be reached."),
        {
            "topic": "zigbee2mqtt/{device}/availability",
            "format": "text",
            "device": "{device}",
            "tidy": True,
            "status": {"path": "state || @"},
        },
        "zigbee2mqtt/cold-room-1/availability",
        '{"state":"online"}',
    ),
    Ready(
        "tasmota-sensor",
        "Tasmota",
        "Tasmota: sensors",
        "Tasmota：传感器",
        noop("Sensors and energy meters, at the time of receipt, because Tasmota's own time names no zone."),
        {
            "topic": "tele/{device}/SENSOR",
            "device": "{device}",
            "tidy": True,
            "metrics": [
                {
                    "path": "@",
                    "spread": True,
                    "skip": ["Time", "TempUnit", "PressureUnit", "SpeedUnit", "*.Id", "*.TotalStartTime"],
                },
            ],
        },
        "tele/pump-plug/SENSOR",
        '{"Time":"2026-11-20T09:30:05","DS18B20":{"Id":"01131B123456","Temperature":20.7},"ENERGY":{'
        '"TotalStartTime":"2026-01-04T10:12:33","Total":312.431,"Yesterday":2.114,"Today":0.921,"Period":4,"Power":741,'
        '"ApparentPower":802,"ReactivePower":306,"Factor":0.92,"Voltage":229,"Current":3.502},"TempUnit":"C"}',
    ),
    Ready(
        "tasmota-state",
        "Tasmota",
        "Tasmota: state",
        "Tasmota：运行状态",
        noop("Relays, uptime and the radio link."),
        {
            "topic": "tele/{device}/STATE",
            "device": "{device}",
            "tidy": True,
            "metrics": [
                {
                    "path": "@",
                    "spread": True,
                    "values": _ON_OFF,
                    "skip": [
                        "Time",
                        "Uptime",
                        "SleepMode",
                        "Wifi.SSId",
                        "Wifi.BSSId",
                        "Wifi.Downtime",
                        "Wifi.Mode",
                        "Berry",
                        "Hostname",
                        "IPAddress",
                    ],
                },
            ],
        },
        "tele/pump-plug/STATE",
        '{"Time":"2026-11-20T09:30:05","Uptime":"11T02:14:07","UptimeSec":958447,"Heap":25,"SleepMode":"Dynamic",'
        '"Sleep":50,"LoadAvg":19,"MqttCount":2,"POWER":"ON","Wifi":{"AP":1,"SSId":"works","BSSId":"A0:40:A0:11:22:33",'
        '"Channel":6,"Mode":"11n","RSSI":78,"Signal":-61,"LinkCount":1,"Downtime":"0T00:00:04"}}',
    ),
    Ready(
        "tasmota-lwt",
        "Tasmota",
        "Tasmota: online or not",
        "Tasmota：在线状态",
        noop("The last will of a Tasmota device."),
        {
            "topic": "tele/{device}/LWT",
            "format": "text",
            "device": "{device}",
            "tidy": True,
            "status": {"online": ["Online"], "offline": ["Offline"]},
        },
        "tele/pump-plug/LWT",
        "Online",
    ),
    Ready(
        "shelly",
        "Shelly",
        "Shelly Gen2 and later",
        "Shelly 第二代及以后",
        noop("What Shelly Plus, Pro and Gen3 devices notify over MQTT; button events are left alone."),
        {
            "topic": "{device}/events/rpc",
            "when": "method == 'NotifyStatus' || method == 'NotifyFullStatus'",
            "otherwise": "ignore",
            "device": "{device}",
            "time": {"path": "params.ts", "form": "s"},
            "metrics": [
                {
                    "path": "params",
                    "spread": True,
                    "skip": [*_SHELLY_SKIP, "sys*", "wifi*", "cloud*", "mqtt*", "ble*", "ws*"],
                },
                {"name": "wifi.rssi", "path": "params.wifi.rssi"},
            ],
            "alarms": [
                {"path": 'params."flood:0".alarm', "code": "flood", "severity": "critical", "message": "Flood"},
                {"path": 'params."smoke:0".alarm', "code": "smoke", "severity": "critical", "message": "Smoke"},
            ],
        },
        "shellyplus1pm-a8032abe54dc/events/rpc",
        '{"src":"shellyplus1pm-a8032abe54dc","dst":"shellyplus1pm-a8032abe54dc/events","method":"NotifyStatus",'
        '"params":{"ts":1795167005.43,"switch:0":{"id":0,"aenergy":{"by_minute":[45.199,47.141,88.397],'
        '"minute_ts":1795166999,"total":1532.061},"apower":8.9,"current":0.087,"voltage":229.4,'
        '"temperature":{"tC":41.2,"tF":106.2}}}}',
    ),
    Ready(
        "shelly-online",
        "Shelly",
        "Shelly: online or not",
        "Shelly：在线状态",
        noop("The last will of a Shelly device."),
        {
            "topic": "{device}/online",
            "format": "text",
            "device": "{device}",
            "status": {"online": [True], "offline": [False]},
        },
        "shellyplus1pm-a8032abe54dc/online",
        "true",
    ),
    Ready(
        "shelly-gen1-energy",
        "Shelly",
        "Shelly Gen1: energy",
        "Shelly 第一代：电能",
        noop("Energy of relays and dimmers; it comes in watt-minutes and is kept in kWh."),
        {
            "topic": "shellies/{device}/{part}/{channel}/energy",
            "format": "text",
            "device": "{device}",
            "metrics": [{"name": "{part}.{channel}.energy", "path": "@", "unit": "Wmin", "to": "kWh"}],
        },
        "shellies/shelly1pm-84CCA8AD1234/relay/0/energy",
        "90141",
    ),
    Ready(
        "shelly-gen1-power",
        "Shelly",
        "Shelly Gen1: power",
        "Shelly 第一代：功率",
        noop("Power of relays, dimmers and meters in watts."),
        {
            "topic": "shellies/{device}/{part}/{channel}/power",
            "format": "text",
            "device": "{device}",
            "metrics": [{"name": "{part}.{channel}.power", "path": "@", "kind": "number"}],
        },
        "shellies/shelly1pm-84CCA8AD1234/relay/0/power",
        "62.15",
    ),
    Ready(
        "shelly-gen1-sensor",
        "Shelly",
        "Shelly Gen1: sensors",
        "Shelly 第一代：传感器",
        noop("Sensors of H&T, Flood, Door and others, one value a topic."),
        {
            "topic": "shellies/{device}/sensor/{metric}",
            "format": "text",
            "device": "{device}",
            "metrics": [{"name": "{metric}", "path": "@"}],
        },
        "shellies/shellyht-7A2C54/sensor/temperature",
        "21.25",
    ),
    Ready(
        "shelly-gen1-online",
        "Shelly",
        "Shelly Gen1: online or not",
        "Shelly 第一代：在线状态",
        noop("The last will of a Shelly device of the first generation."),
        {
            "topic": "shellies/{device}/online",
            "format": "text",
            "device": "{device}",
            "status": {"online": [True], "offline": [False]},
        },
        "shellies/shelly1pm-84CCA8AD1234/online",
        "false",
    ),
    Ready(
        "chirpstack",
        "ChirpStack",
        "ChirpStack v4: uplinks",
        "ChirpStack v4：上行数据",
        noop("What the device profile's codec decoded, with the link's quality, under the DevEUI."),
        {
            "topic": "application/{application}/device/{deveui}/event/up",
            "device": "{=deviceInfo.devEui}",
            "time": {"path": "time", "form": "iso"},
            "metrics": [
                {"path": "object || `{}`", "spread": True},
                {"name": "lora.rssi", "path": "max_by(rxInfo || `[]`, &rssi).rssi", "kind": "number"},
                {"name": "lora.snr", "path": "max_by(rxInfo || `[]`, &rssi).snr", "kind": "number"},
                {"name": "lora.frames", "path": "fCnt", "kind": "number"},
            ],
        },
        "application/17c82e96-be03-4f38-aef3-f83d48582d97/device/0101010101010101/event/up",
        '{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d","time":"2026-11-20T09:29:58.775023242+00:00",'
        '"deviceInfo":{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242","tenantName":"Acme","applicationId":'
        '"17c82e96-be03-4f38-aef3-f83d48582d97","applicationName":"tanks","deviceProfileId":'
        '"14855bf7-d10d-4aee-b618-ebfcb64dc7ad","deviceProfileName":"level","deviceName":"tank-4",'
        '"devEui":"0101010101010101","tags":{"hall":"2"}},"devAddr":"00189440","adr":true,"dr":1,"fCnt":4,"fPort":1,'
        '"confirmed":false,"data":"AQEB","object":{"temperature":22.5,"level":{"cm":143,"percent":71}},'
        '"rxInfo":[{"gatewayId":"0016c001f153a14c","uplinkId":4217106255,"rssi":-86,"snr":10.5},'
        '{"gatewayId":"0016c001f153a14d","uplinkId":4217106256,"rssi":-101,"snr":2.25}],'
        '"txInfo":{"frequency":867100000,"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":11}}}}',
    ),
    Ready(
        "ttn",
        "The Things Stack",
        "The Things Stack v3: uplinks",
        "The Things Stack v3：上行数据",
        noop("What the payload formatter decoded, with the link's quality, under the device id."),
        {
            "topic": "v3/{application}@{tenant}/devices/{device}/up",
            "device": "{=end_device_ids.device_id}",
            "time": {"path": "uplink_message.received_at", "form": "iso"},
            "metrics": [
                {"path": "uplink_message.decoded_payload || `{}`", "spread": True},
                {
                    "name": "lora.rssi",
                    "path": "max_by(uplink_message.rx_metadata || `[]`, &rssi).rssi",
                    "kind": "number",
                },
                {"name": "lora.snr", "path": "max_by(uplink_message.rx_metadata || `[]`, &rssi).snr", "kind": "number"},
                {"name": "lora.frames", "path": "uplink_message.f_cnt", "kind": "number"},
            ],
        },
        "v3/tanks@acme/devices/tank-4/up",
        '{"end_device_ids":{"device_id":"tank-4","application_ids":{"application_id":"tanks"},'
        '"dev_eui":"0004A30B001C0530","join_eui":"800000000000000C","dev_addr":"00BCB929"},'
        '"correlation_ids":["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"],"received_at":"2026-11-20T09:29:59.787Z",'
        '"uplink_message":{"session_key_id":"AXBSH1Pk6Z0G166J6CwLtA==","f_port":1,"f_cnt":527,"frm_payload":"gkHe",'
        '"decoded_payload":{"temperature":21.5,"level":143},"rx_metadata":[{"gateway_ids":{"gateway_id":"hall-2",'
        '"eui":"0242020000247803"},"timestamp":2463457000,"rssi":-35,"channel_rssi":-35,"snr":5.2}],'
        '"settings":{"data_rate":{"lora":{"bandwidth":125000,"spreading_factor":7}},"frequency":"868300000"},'
        '"received_at":"2026-11-20T09:29:59.569Z","consumed_airtime":"0.056576s"}}',
    ),
    Ready(
        "thingsboard-gateway",
        "ThingsBoard",
        "ThingsBoard gateway: telemetry",
        "ThingsBoard 网关：遥测",
        noop("Devices behind a ThingsBoard IoT gateway, by their names, each reading at its own time."),
        {
            "topic": "v1/gateway/telemetry",
            "device": "{name}",
            "tidy": True,
            "each": [{"path": "@", "name": "name"}, {"path": "@", "name": "place"}],
            "time": {"path": "ts"},
            "metrics": [{"path": "values || @", "spread": True, "skip": ["ts"]}],
        },
        "v1/gateway/telemetry",
        '{"Press 7":[{"ts":1795166990000,"values":{"temperature":42,"humidity":80}},{"ts":1795166991000,'
        '"values":{"temperature":43,"humidity":82}}],"Pump B":[{"ts":1795166990000,"values":{"running":true}}]}',
    ),
    Ready(
        "senml",
        "SenML",
        "SenML packs",
        "SenML 数据包",
        noop("Packs of RFC 8428 from one device a topic; base names, relative times and sums are understood."),
        {
            "topic": "senml/{device}",
            "format": "senml",
            "device": "{device}",
            "each": [{"path": "@", "name": "place"}],
            "time": {"path": "time", "form": "s"},
            "metrics": [{"name": "{=not_null(n && n || null, name)}", "path": "not_null(value, sum)"}],
        },
        "senml/boiler-2",
        '[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1795166990,"bu":"A","n":"voltage","u":"V","v":229.1},'
        '{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","v":1.7},'
        '{"n":"door","vb":false,"u":""}]',
    ),
)
"""In the order shown."""


def find(key: str) -> Ready | None:
    """Return a ready mapping by its key."""
    return next((one for one in READY if one.key == key), None)
