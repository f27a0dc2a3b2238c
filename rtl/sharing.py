"""Modules described once and instantiated many times in the Verilog flow, while the Python simulator sees plain components.

Amaranth writes one module for each instance; a 128x128 array would be 16,384 processing elements. `gen.verilog` passes a `SharedModules` as
`platform`; every component placed through `place` then becomes an instance of a module that is converted once.
"""

from collections.abc import Callable

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring


class SharedModules:
    """Platform of the Verilog flow: collects the modules to convert, by name. `family` selects vendor primitives (None or "ecp5")."""

    def __init__(self, *, family: str | None = None):
        self.family = family
        self.factories: dict[str, Callable[[], wiring.Component]] = {}


def family(platform) -> str | None:
    """Vendor family whose primitives may be instantiated; None in simulation."""
    return getattr(platform, "family", None)


def place(m: Module, platform, *, instance: str, module: str, factory: Callable[[], wiring.Component]) -> wiring.Component:
    """Add a component to `m` as submodule `instance` and return it, to be wired through its ports.

    `module` names the design and must be the same exactly for components that are the same; they must use the `sync` domain.
    """
    component = factory()
    if not isinstance(platform, SharedModules):
        m.submodules[instance] = component
        return component
    platform.factories.setdefault(module, factory)
    ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
    for path, member, value in component.signature.flatten(component):
        direction = "i" if member.flow is wiring.In else "o"
        ports[f"{direction}_{'__'.join(map(str, path))}"] = value
    m.submodules[instance] = Instance(module, **ports)
    return component
