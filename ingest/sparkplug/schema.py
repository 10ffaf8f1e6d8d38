"""The Sparkplug B payload as protocol buffers: built from the field table of the specification, version 3.0, §6.4.

In code rather than generated: a table of forty lines can be read beside the specification, and no compiler is needed.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE: Final = "fixwright.sparkplug"
_KINDS: Final = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_SCALARS: Final = (
    ("int_value", "uint32"), ("long_value", "uint64"), ("float_value", "float"), ("double_value", "double"),
    ("boolean_value", "bool"), ("string_value", "string"),
)  # fmt: skip

# Message → its fields as (number, name, type): a type in capitals is a message of this table, "*" marks a repeated
# field, "|" one of the alternatives of ``value``.
_MESSAGES: Final[dict[str, list[tuple[int, str, str]]]] = {
    "Payload": [
        (1, "timestamp", "uint64"), (2, "metrics", "*Metric"), (3, "seq", "uint64"), (4, "uuid", "string"),
        (5, "body", "bytes"),
    ],
    "Metric": [
        (1, "name", "string"), (2, "alias", "uint64"), (3, "timestamp", "uint64"), (4, "datatype", "uint32"),
        (5, "is_historical", "bool"), (6, "is_transient", "bool"), (7, "is_null", "bool"),
        (9, "properties", "PropertySet"),
        *((10 + place, name, f"|{kind}") for place, (name, kind) in enumerate(_SCALARS)),
        (16, "bytes_value", "|bytes"), (17, "dataset_value", "|DataSet"), (18, "template_value", "|Template"),
    ],
    "Template": [
        (1, "version", "string"), (2, "metrics", "*Metric"), (4, "template_ref", "string"),
        (5, "is_definition", "bool"),
    ],
    "DataSet": [
        (1, "num_of_columns", "uint64"), (2, "columns", "*string"), (3, "types", "*uint32"), (4, "rows", "*Row"),
    ],
    "Row": [(1, "elements", "*DataSetValue")],
    "DataSetValue": [(1 + place, name, f"|{kind}") for place, (name, kind) in enumerate(_SCALARS)],
    "PropertySet": [(1, "keys", "*string"), (2, "values", "*PropertyValue")],
    "PropertyValue": [
        (1, "type", "uint32"), (2, "is_null", "bool"),
        *((3 + place, name, f"|{kind}") for place, (name, kind) in enumerate(_SCALARS)),
    ],
}  # fmt: skip


def _payload() -> Any:  # noqa: ANN401 - protobuf makes the class; what it holds is the table above
    file = descriptor_pb2.FileDescriptorProto(name="fixwright/sparkplug.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        if any(kind[0] == "|" for _, _, kind in fields):
            described.oneof_decl.add(name="value")
        for number, name, marked in fields:
            kind = marked.lstrip("*|")
            field = described.field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if marked[0] == "*" else _Field.LABEL_OPTIONAL
            field.type = _KINDS.get(kind, _Field.TYPE_MESSAGE)
            if kind in _MESSAGES:
                field.type_name = f".{_PACKAGE}.{kind}"
            if marked[0] == "|":
                field.oneof_index = 0
            elif kind == "uint32" and marked[0] == "*":
                field.options.packed = False
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


Payload: Final = _payload()
"""The class of payloads; the messages within it are made through it."""
