"""network.sv: the module that connects the instances of a network."""

from __future__ import annotations

from icsnn_deploy.exporters.systemverilog.plan import Design, Instance, Stream, TopParameter, Value
from icsnn_deploy.version import __version__

TOP = "icsnn_network"

_HEAD = """// A spiking network: written by icsnn-deploy {version}.
// Network {hash}, T = {steps} steps.
//
// in: {about_input}, in the order [channel][y][x].
// out: the sums of the readout's current, {outputs} values per sample; out_last with the last one.
// A value moves in a clock in which valid and ready are high. Samples follow each other.
module {top} #(
    parameter int STEPS = {steps}
) (
    input  logic clock,
    input  logic reset,
    input  logic in_valid,
    output logic in_ready,
    input  logic {sign}[{input}:0] in_value,
    output logic out_valid,
    input  logic out_ready,
    output logic signed [{output}:0] out_value,
    output logic out_last
);
"""


def top_text(design: Design) -> str:
    """The text of network.sv."""
    graph, start, end = design.graph, design.input, design.output
    values = 1
    for size in graph.input.shape:
        values *= size
    kind = (
        f"{values} spikes of 0 or 1 per step"
        if graph.input.is_timed
        else f"{values} values of type {graph.input.dtype} per sample"
    )
    outputs = design.instances[-1].sizes["NEURONS"]
    lines = [
        _HEAD.format(
            version=__version__,
            hash=graph.hash()[:16],
            steps=graph.steps,
            about_input=kind,
            outputs=outputs,
            top=TOP,
            sign="signed " if start.signed else "",
            input=start.bits - 1,
            output=end.bits - 1,
        ),
        _declared(start),
        f"    assign {start.name}_valid = in_valid;\n"
        f"    assign in_ready = {start.name}_ready;\n"
        f"    assign {start.name}_value = in_value;\n",
        *_fork(design, start),
    ]
    for instance in design.instances:
        lines += [_declared(instance.out), _instance(instance)]
        if instance.out.name.startswith("map_"):
            lines += _fork(design, instance.out)
    lines.append(
        f"    assign out_valid = {end.name}_valid;\n"
        f"    assign {end.name}_ready = out_ready;\n"
        f"    assign out_value = {end.name}_value;\n"
        "endmodule\n"
    )
    return "".join(lines)


def _declared(stream: Stream) -> str:
    sign = "signed " if stream.signed else ""
    return (
        f"    logic {stream.name}_valid, {stream.name}_ready;\n"
        f"    logic {sign}[{stream.bits - 1}:0] {stream.name}_value;\n"
    )


def _fork(design: Design, stream: Stream) -> list[str]:
    """The readers of a stream."""
    readers = design.readers.get(stream.name, [])
    if not readers:
        return [f"    assign {stream.name}_ready = 1'b1;  // no one reads it\n"]
    lines = [
        _declared(Stream(name=name, bits=stream.bits, signed=stream.signed)) for name in readers
    ]
    lines += [f"    assign {name}_value = {stream.name}_value;\n" for name in readers]
    if len(readers) == 1:
        (name,) = readers
        lines.append(
            f"    assign {name}_valid = {stream.name}_valid;\n"
            f"    assign {stream.name}_ready = {name}_ready;\n\n"
        )
        return lines
    lines.append(
        f"    icsnn_fork #(.OUTPUTS({len(readers)})) fork_{stream.name} (\n"
        f"        .in_valid({stream.name}_valid), .in_ready({stream.name}_ready),\n"
        f"        .out_valid({_joined(readers, 'valid')}),\n"
        f"        .out_ready({_joined(readers, 'ready')})\n"
        "    );\n\n"
    )
    return lines


def _joined(names: list[str], what: str) -> str:
    return "{" + ", ".join(f"{name}_{what}" for name in names) + "}"


def _instance(instance: Instance) -> str:
    """An instance of a module."""
    parameters = ",\n".join(
        f"        .{name}({_literal(value)})" for name, value in instance.parameters.items()
    )
    sources = [stream.name for stream in instance.sources]
    ports = {
        "clock": "clock",
        "reset": "reset",
        **{f"in_{what}": _joined(sources, what) for what in ("valid", "ready", "value")},
        **{f"out_{what}": f"{instance.out.name}_{what}" for what in ("valid", "ready", "value")},
    }
    if len(sources) == 1:
        ports |= {f"in_{what}": f"{sources[0]}_{what}" for what in ("valid", "ready", "value")}
    if instance.module == "icsnn_readout":
        ports["out_last"] = "out_last"
    connected = ",\n".join(f"        .{port}({signal})" for port, signal in ports.items())
    about = f"    // {_plain(instance.about)}\n" if instance.about else ""
    return (
        f"{about}    {instance.module} #(\n{parameters}\n    ) {instance.name} (\n{connected}\n"
        "    );\n\n"
    )


def _literal(value: Value) -> str:
    match value:
        case TopParameter():
            return value.name
        case str():
            return f'"{value}"'
    return str(value)


def _plain(text: str) -> str:
    """Text of one line of ASCII, for a comment; no backslash, which would go on with the line."""
    return "".join(c if 32 <= ord(c) < 127 and c != "\\" else "_" for c in text[:80])
