"""The public API may grow, never change: every field, enum value and rpc of the golden file is still
there with its number, name, type and presence.

    evolution_test.py API.desc GOLDEN            checks
    evolution_test.py API.desc GOLDEN --update   writes the golden file after additions
"""

import sys

from google.protobuf import descriptor_pb2

FIELD = descriptor_pb2.FieldDescriptorProto


def type_name(enum, value):
    return enum.Name(value).split("_", 1)[1].lower()


def field_line(path, field, oneofs):
    kind = field.type_name.lstrip(".") or type_name(FIELD.Type, field.type)
    label = type_name(FIELD.Label, field.label)
    if field.proto3_optional:
        label = "presence"
    elif field.HasField("oneof_index"):
        label = "oneof " + oneofs[field.oneof_index].name
    return f"field {path}.{field.number} {field.name} {label} {kind}"


def message_lines(path, message):
    for field in message.field:
        yield field_line(path, field, message.oneof_decl)
    for nested in message.nested_type:
        yield from message_lines(f"{path}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from enum_lines(f"{path}.{enum.name}", enum)


def enum_lines(path, enum):
    for value in enum.value:
        yield f"enum {path}.{value.number} {value.name}"


def service_lines(package, service):
    for rpc in service.method:
        shape = ("stream " if rpc.client_streaming else "", "stream " if rpc.server_streaming else "")
        yield (f"rpc {package}.{service.name}.{rpc.name} {shape[0]}{rpc.input_type.lstrip('.')} -> "
               f"{shape[1]}{rpc.output_type.lstrip('.')}")


def describe(files):
    lines = []
    for file in files.file:
        for message in file.message_type:
            lines += message_lines(f"{file.package}.{message.name}", message)
        for enum in file.enum_type:
            lines += enum_lines(f"{file.package}.{enum.name}", enum)
        for service in file.service:
            lines += service_lines(file.package, service)
    return sorted(lines)


def broken(golden, current):
    """Lines of the golden file that the current API no longer keeps."""
    return sorted(set(golden) - set(current))


def selftest(current):
    """The check itself can fail: a removed, renumbered or retyped field is found."""
    field = next(line for line in current if line.startswith("field "))
    kind, path, *rest = field.split(" ", 2)
    without = [line for line in current if line != field]
    head, number = path.rsplit(".", 1)
    renumbered = f"{kind} {head}.{int(number) + 1000} {rest[0]}"
    assert broken(current, without) == [field]
    assert broken(current, without + [renumbered]) == [field]
    assert broken(current, current + ["field added.1 x presence string"]) == []


def main():
    with open(sys.argv[1], "rb") as f:
        current = describe(descriptor_pb2.FileDescriptorSet.FromString(f.read()))
    if "--update" in sys.argv:
        with open(sys.argv[2], "w") as f:
            f.write("\n".join(current) + "\n")
        return 0
    with open(sys.argv[2]) as f:
        golden = f.read().splitlines()
    selftest(current)
    lost = broken(golden, current)
    for line in lost:
        print("lost or changed:", line)
    added = sorted(set(current) - set(golden))
    for line in added:
        print("added, not in the golden file (run with --update):", line)
    print(f"{len(golden)} golden lines, {len(lost)} lost, {len(added)} added")
    return 1 if lost or added else 0


if __name__ == "__main__":
    sys.exit(main())
