"""The demo company as tables: places, kinds of machine, machines, people, parts. Every name in both languages."""

from dataclasses import dataclass
from datetime import time
from typing import Any, Final, NamedTuple

from assets.derivations import DerivedDraft

COMPANY: Final = ("Hengfeng Precision", "恒丰精密制造")


class Place(NamedTuple):
    """A region with its sites."""

    key: str
    name: str
    name_zh: str
    sites: tuple["PlantSite", ...]


class PlantSite(NamedTuple):
    """A site: zone, address, WGS-84 coordinates, and its halls."""

    key: str
    name: str
    name_zh: str
    zone: str
    address: str
    latitude: float
    longitude: float
    halls: tuple[tuple[str, str], ...]


REGIONS: Final = (
    Place(
        "east",
        "East China",
        "华东大区",
        (
            PlantSite("suzhou", "Suzhou Plant", "苏州工厂", "Asia/Shanghai", "No. 218 Xinghu Road, Suzhou 苏州工业园区星湖街218号",
                      31.2744, 120.7301, (("Compressor hall", "空压站"), ("Moulding hall", "注塑车间"), ("Utilities", "动力中心"))),
            PlantSite("ningbo", "Ningbo Plant", "宁波工厂", "Asia/Shanghai", "No. 66 Gangdong Road, Ningbo 宁波北仑区港东路66号",
                      29.9015, 121.8444, (("Assembly hall", "装配车间"), ("Pump station", "泵房"), ("Utilities", "动力中心"))),
        ),
    ),
    Place(
        "europe",
        "Europe",
        "欧洲大区",
        (
            PlantSite("hamburg", "Hamburg Works", "汉堡工厂", "Europe/Berlin", "Billstraße 84, Hamburg",
                      53.5446, 10.0453, (("Hall 1", "一号厂房"), ("Hall 2", "二号厂房"), ("Power house", "动力站"))),
        ),
    ),
)  # fmt: skip


class Kind(NamedTuple):
    """A kind of machine: names, icon, the skill it needs, its metrics."""

    key: str
    name: str
    name_zh: str
    icon: str
    skill: str
    metrics: tuple["Measure", ...]


class Measure(NamedTuple):
    """A metric: key, names, unit, kind, physical range, decimals."""

    key: str
    name: str
    name_zh: str
    unit: str
    kind: str = "gauge"
    low: float = 0.0
    high: float = 1000.0
    decimals: int = 1


KINDS: Final = (
    Kind("compressor", "Air compressor", "空压机", "wind", "mechanical", (
        Measure("temperature", "Outlet temperature", "排气温度", "°C", low=-20, high=160),
        Measure("pressure", "Outlet pressure", "排气压力", "bar", high=16, decimals=2),
        Measure("vibration", "Vibration", "振动", "mm/s", high=50, decimals=2),
        Measure("current", "Motor current", "电机电流", "A", high=200),
        Measure("running_hours", "Running hours", "运行小时", "h", "counter", high=1e6, decimals=0))),
    Kind("chiller", "Chiller", "冷水机组", "snowflake", "refrigeration", (
        Measure("supply_temperature", "Supply temperature", "供水温度", "°C", low=-10, high=60),
        Measure("condenser_pressure", "Condenser pressure", "冷凝压力", "bar", high=40, decimals=2),
        Measure("power", "Power", "功率", "kW", high=500))),
    Kind("moulding", "Injection moulding machine", "注塑机", "building-factory", "hydraulics", (
        Measure("oil_temperature", "Oil temperature", "油温", "°C", high=120),
        Measure("clamp_pressure", "Clamp pressure", "锁模压力", "bar", high=250),
        Measure("cycle_time", "Cycle time", "成型周期", "s", high=120, decimals=2),
        Measure("shots", "Shots", "模次", "", "counter", high=1e9, decimals=0))),
    Kind("pump", "Process pump", "工艺水泵", "droplet", "mechanical", (
        Measure("flow", "Flow", "流量", "m³/h", high=400),
        Measure("pressure", "Discharge pressure", "出口压力", "bar", high=16, decimals=2),
        Measure("vibration", "Vibration", "振动", "mm/s", high=50, decimals=2),
        Measure("bearing_temperature", "Bearing temperature", "轴承温度", "°C", high=150))),
    Kind("conveyor", "Conveyor", "输送线", "arrows-right", "electrical", (
        Measure("speed", "Belt speed", "带速", "m/s", high=5, decimals=2),
        Measure("motor_temperature", "Motor temperature", "电机温度", "°C", high=180),
        Measure("current", "Motor current", "电机电流", "A", high=80))),
    Kind("transformer", "Transformer", "变压器", "bolt", "electrical", (
        Measure("oil_temperature", "Oil temperature", "油温", "°C", high=140),
        Measure("winding_temperature", "Winding temperature", "绕组温度", "°C", high=180),
        Measure("load", "Load", "负载率", "%", high=150))),
)  # fmt: skip

DERIVED: Final = (
    ("compressor", DerivedDraft(
        "loaded_hours", "Hours under load", "current", "run_hours", name_zh="加载小时", above=55, hold_s=600)),
    ("chiller", DerivedDraft("energy", "Energy", "power", "energy", name_zh="用电量", hold_s=600)),
    ("moulding", DerivedDraft("shots_made", "Shots made", "shots", "counter", name_zh="产出模次", decimals=0)),
)  # fmt: skip
"""What is worked out of it, by kind. Past readings lie five minutes apart, so each speaks for ten."""

SKILLS: Final = (
    ("mechanical", "Mechanical", "机械"),
    ("electrical", "Electrical", "电气"),
    ("hydraulics", "Hydraulics", "液压"),
    ("refrigeration", "Refrigeration", "制冷"),
)

FLEET: Final = (
    # site, hall, kind, how many, how many of them with a device
    ("suzhou", 0, "compressor", 4, 4),
    ("suzhou", 1, "moulding", 6, 4),
    ("suzhou", 2, "chiller", 2, 2),
    ("suzhou", 2, "transformer", 2, 1),
    ("ningbo", 0, "conveyor", 5, 2),
    ("ningbo", 1, "pump", 5, 4),
    ("ningbo", 2, "compressor", 2, 2),
    ("ningbo", 2, "transformer", 1, 0),
    ("hamburg", 0, "moulding", 4, 2),
    ("hamburg", 1, "conveyor", 3, 1),
    ("hamburg", 2, "compressor", 2, 1),
    ("hamburg", 2, "chiller", 2, 1),
    ("hamburg", 2, "pump", 2, 1),
)

MAKERS: Final = {
    "compressor": ("Atlas", "GA-75"),
    "chiller": ("Polar", "CW-420"),
    "moulding": ("Haiqiang", "HQ-260"),
    "pump": ("Flowtec", "NP-150"),
    "conveyor": ("Linetech", "BC-800"),
    "transformer": ("Eltrafo", "SCB-1250"),
}


WATCHED = (("pump", "vibration", 4.5), ("compressor", "vibration", 4.5))
"""Kind of machine, metric and limit: what wears, and is foretold."""


class Rule(NamedTuple):
    """An alarm type of a kind of machine, with its definition."""

    key: str
    kind: str
    name: str
    name_zh: str
    definition: dict[str, Any]


def _above(metric: str, levels: dict[str, float], *, seconds: float, deadband: float, message: str) -> dict[str, Any]:
    return _threshold(metric, ">=", levels, seconds=seconds, deadband=deadband, message=message)


def _below(metric: str, levels: dict[str, float], *, seconds: float, deadband: float, message: str) -> dict[str, Any]:
    return _threshold(metric, "<=", levels, seconds=seconds, deadband=deadband, message=message)


def _threshold(
    metric: str, operator: str, levels: dict[str, float], *, seconds: float, deadband: float, message: str
) -> dict[str, Any]:
    def rule(limit: float) -> dict[str, Any]:
        compare = {"type": "compare", "metric": metric, "operator": operator, "limit": limit, "deadband": deadband}
        return {"condition": compare, "kind": {"type": "duration", "seconds": seconds}}

    return {
        "schema": 1,
        "create": {severity: rule(limit) for severity, limit in levels.items()},
        "clear": {"type": "automatic", "off_delay_s": 10},
        "message": message,
    }


RULES: Final = (
    Rule("compressor-overheat", "compressor", "Outlet too hot", "排气温度过高", _above(
        "temperature", {"warning": 88, "major": 95, "critical": 102}, seconds=6, deadband=3,
        message="Outlet ${temperature} °C 排气温度过高")),
    Rule("compressor-vibration", "compressor", "Strong vibration", "振动过大", _above(
        "vibration", {"minor": 4.5, "major": 7.1}, seconds=10, deadband=0.5, message="Vibration ${vibration} mm/s 振动过大")),
    Rule("chiller-pressure", "chiller", "Condenser pressure high", "冷凝压力过高", _above(
        "condenser_pressure", {"minor": 15.0, "major": 16.5}, seconds=10, deadband=0.6,
        message="Condenser ${condenser_pressure} bar 冷凝压力过高")),
    Rule("moulding-oil", "moulding", "Hydraulic oil too hot", "液压油温过高", _above(
        "oil_temperature", {"minor": 56, "major": 62}, seconds=10, deadband=2, message="Oil ${oil_temperature} °C 油温过高")),
    Rule("pump-vibration", "pump", "Pump vibrates", "水泵振动过大", _above(
        "vibration", {"minor": 4.5, "major": 7.1}, seconds=10, deadband=0.5, message="Vibration ${vibration} mm/s 振动过大")),
    Rule("pump-flow", "pump", "Flow too low", "流量过低", _below(
        "flow", {"minor": 90, "major": 80}, seconds=10, deadband=4, message="Flow ${flow} m³/h 流量过低")),
    Rule("conveyor-motor", "conveyor", "Motor too hot", "电机过热", _above(
        "motor_temperature", {"minor": 75, "major": 88}, seconds=10, deadband=3,
        message="Motor ${motor_temperature} °C 电机过热")),
    Rule("transformer-winding", "transformer", "Winding too hot", "绕组温度过高", _above(
        "winding_temperature", {"minor": 100, "major": 110}, seconds=10, deadband=3,
        message="Winding ${winding_temperature} °C 绕组温度过高")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the demo company: where they work, as what, with which skills, in which shift."""

    username: str
    name: str
    role: str
    where: str
    language: str = "zh"
    skills: tuple[str, ...] = ()
    shift: tuple[time, time] | None = None


DAY, LATE, NIGHT = (time(7), time(15)), (time(15), time(23)), (time(23), time(7))
OFFICE = (time(8), time(18))
ALL_DAY = (time(0), time(0))
ALL_ROUND = ("mechanical", "electrical", "hydraulics", "refrigeration")
"""One technician a shift works in Hamburg; whatever breaks is theirs."""

PEOPLE: Final = (
    Person("administrator", "He Ping 何平", "administrator", "company", shift=OFFICE),
    Person("manager", "Chen Yun 陈芸", "manager", "company", shift=OFFICE),
    Person("dispatcher", "Zhou Min 周敏", "dispatcher", "company", shift=OFFICE),
    Person("dispatcher-eu", "Katrin Vogel", "dispatcher", "europe", "en", shift=OFFICE),
    Person("planner", "Liu Fang 刘芳", "planner", "company", shift=OFFICE),
    Person("storekeeper", "Sun Lei 孙磊", "storekeeper", "company", shift=OFFICE),
    Person("zhang.wei", "Zhang Wei 张伟", "technician", "suzhou", skills=("mechanical", "hydraulics"), shift=DAY),
    Person(
        "li.na", "Li Na 李娜", "technician", "suzhou", skills=("mechanical", "electrical", "hydraulics"), shift=LATE
    ),
    Person("wang.qiang", "Wang Qiang 王强", "technician", "suzhou", skills=("mechanical", "hydraulics"), shift=NIGHT),
    Person("zhao.jun", "Zhao Jun 赵军", "technician", "suzhou", skills=("electrical", "refrigeration"), shift=ALL_DAY),
    Person("huang.bo", "Huang Bo 黄博", "technician", "ningbo", skills=("mechanical", "electrical"), shift=DAY),
    Person("wu.tao", "Wu Tao 吴涛", "technician", "ningbo", skills=("mechanical", "electrical"), shift=LATE),
    Person("xu.lin", "Xu Lin 徐林", "technician", "ningbo", skills=("mechanical", "electrical"), shift=NIGHT),
    Person("jonas", "Jonas Weber", "technician", "hamburg", "en", ALL_ROUND, DAY),
    Person("leyla", "Leyla Demir", "technician", "hamburg", "en", ALL_ROUND, LATE),
    Person("piotr", "Piotr Nowak", "technician", "hamburg", "en", ALL_ROUND, NIGHT),
)

CUSTOMERS: Final = (
    ("Moulding customer Lanyu", "蓝宇塑业", "suzhou", "gold"),
    ("Beilun Port Services", "北仑港务服务", "ningbo", "standard"),
    ("Elbe Packaging", "易北包装", "hamburg", "gold"),
)

PARTS: Final = (
    # number, name, name in Chinese, unit, category, cost, level, on hand at (suzhou, ningbo, hamburg)
    *(
        (f"{prefix}-{number:03d}", f"{name} {size}", f"{name_zh} {size}", unit, category, cost * (1 + number / 9), level, stock)
        for prefix, name, name_zh, unit, category, cost, level, stock, sizes in (
            ("FLT", "Air filter", "空气滤芯", "pcs", "Filters", 68.0, 6, (18, 9, 7), ("C-1250", "C-1640", "C-2010")),
            ("OIL", "Oil filter", "机油滤芯", "pcs", "Filters", 45.0, 6, (20, 10, 8), ("W-719", "W-940", "W-962", "W-11102")),
            ("LUB", "Compressor oil", "空压机油", "L", "Lubricants", 38.0, 20, (120, 60, 40), ("VG46", "VG68")),
            ("HYD", "Hydraulic oil", "液压油", "L", "Lubricants", 22.0, 40, (200, 40, 80), ("HLP46", "HLP68")),
            ("BRG", "Deep groove bearing", "深沟球轴承", "pcs", "Bearings", 52.0, 4, (10, 8, 6),
             ("6205", "6206", "6208", "6210", "6308", "6310", "6312")),
            ("SEL", "Mechanical seal", "机械密封", "pcs", "Seals", 210.0, 2, (4, 6, 3), ("25", "32", "40", "50", "65")),
            ("ORG", "O-ring set", "O型圈套装", "set", "Seals", 26.0, 5, (12, 9, 6), ("NBR", "FKM", "EPDM")),
            ("BLT", "V-belt", "三角带", "pcs", "Drives", 34.0, 6, (16, 12, 9), ("SPA-1250", "SPA-1600", "SPB-2000", "SPB-2500")),
            ("CPL", "Coupling element", "联轴器弹性体", "pcs", "Drives", 88.0, 3, (6, 6, 4), ("24", "28", "38", "42")),
            ("SNS", "Temperature sensor", "温度传感器", "pcs", "Sensors", 120.0, 3, (7, 5, 5), ("PT100-50", "PT100-100", "PT1000")),
            ("PRS", "Pressure transmitter", "压力变送器", "pcs", "Sensors", 340.0, 2, (4, 3, 2), ("0-10 bar", "0-16 bar", "0-250 bar")),
            ("VIB", "Vibration sensor", "振动传感器", "pcs", "Sensors", 520.0, 1, (3, 3, 2), ("M8", "M10")),
            ("CNT", "Contactor", "接触器", "pcs", "Electrical", 96.0, 4, (9, 8, 6), ("25A", "40A", "65A", "95A")),
            ("FUS", "Fuse link", "熔断器芯", "pcs", "Electrical", 12.0, 10, (40, 30, 24), ("16A", "32A", "63A", "100A")),
            ("FAN", "Cooling fan", "冷却风机", "pcs", "Cooling", 680.0, 1, (2, 1, 2), ("EC-300", "EC-450")),
            ("VLV", "Thermostatic valve", "温控阀", "pcs", "Cooling", 310.0, 2, (3, 2, 3), ("55 °C", "71 °C", "83 °C")),
            ("REF", "Refrigerant R134a", "制冷剂 R134a", "kg", "Cooling", 76.0, 10, (30, 5, 20), ("cylinder",)),
            ("CLN", "Coil cleaner", "翅片清洗剂", "L", "Cooling", 18.0, 5, (25, 10, 10), ("neutral", "alkaline")),
            ("HOS", "Hydraulic hose", "液压软管", "pcs", "Hydraulics", 140.0, 3, (8, 3, 6), ("DN12", "DN16", "DN20")),
        )
        for number, size in enumerate(sizes, 1)
    ),
)  # fmt: skip

CHECKLISTS: Final = (
    ("compressor-weekly", "Compressor weekly round", "空压机周点检", "compressor", (
        {"key": "oil-level", "name": "Oil level within marks", "name_zh": "油位在刻度内", "kind": "tick"},
        {"key": "noise", "name": "No unusual noise", "name_zh": "无异常声响", "kind": "tick"},
        {"key": "outlet", "name": "Outlet temperature", "name_zh": "排气温度", "kind": "number", "unit": "°C", "low": 60, "high": 95},
        {"key": "filter", "name": "Intake filter", "name_zh": "进气滤芯", "kind": "choice", "choices": ["clean", "dusty", "blocked"],
         "choices_zh": ["干净", "积尘", "堵塞"], "pass": ["clean"], "flag": ["dusty"]},
        {"key": "drain", "name": "Condensate drain works", "name_zh": "冷凝水排放正常", "kind": "tick"})),
    ("pump-monthly", "Pump monthly inspection", "水泵月度检查", "pump", (
        {"key": "seal", "name": "Shaft seal dry", "name_zh": "轴封无泄漏", "kind": "tick"},
        {"key": "bearing", "name": "Bearing temperature", "name_zh": "轴承温度", "kind": "number", "unit": "°C", "low": 20, "high": 75},
        {"key": "bolts", "name": "Foundation bolts tight", "name_zh": "地脚螺栓紧固", "kind": "tick"})),
    ("moulding-weekly", "Moulding machine weekly round", "注塑机周点检", "moulding", (
        {"key": "oil", "name": "Hydraulic oil clean", "name_zh": "液压油清洁", "kind": "tick"},
        {"key": "guard", "name": "Safety gate stops the machine", "name_zh": "安全门联锁有效", "kind": "tick"},
        {"key": "oil-temperature", "name": "Oil temperature", "name_zh": "油温", "kind": "number", "unit": "°C", "low": 30, "high": 58},
        {"key": "tie-bars", "name": "Tie bars greased", "name_zh": "拉杆润滑", "kind": "tick"})),
    ("chiller-monthly", "Chiller monthly inspection", "冷水机组月度检查", "chiller", (
        {"key": "coil", "name": "Condenser coil clean", "name_zh": "冷凝器翅片清洁", "kind": "tick"},
        {"key": "leak", "name": "No refrigerant leak", "name_zh": "无制冷剂泄漏", "kind": "tick"})),
    ("electrical-quarterly", "Electrical quarterly inspection", "电气季度检查", "transformer", (
        {"key": "terminals", "name": "Terminals tight, no hot spot", "name_zh": "端子紧固无过热", "kind": "tick"},
        {"key": "insulation", "name": "Insulation resistance", "name_zh": "绝缘电阻", "kind": "number", "unit": "MΩ", "low": 10})),
)  # fmt: skip
