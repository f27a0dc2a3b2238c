"""Modules described once and instantiated many times in the Verilog flow, while the Python simulator sees plain components.

Amaranth writes one module for each instance; a 128x128 array would be 16,384 processing elements. `gen.verilog` passes a `SharedModules` as
`platform`; every component placed through `place` then becomes an instance of a module that is converted once.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, ResetInserter, ResetSignal, Signal, Value
from amaranth.lib import wiring


class SharedModules:
    """Platform of the Verilog flow: collects the modules to convert, by name. `family` selects vendor primitives (None or "ecp5").

    `multipliers` is how many multiplier blocks the arrays may take; PEs beyond it multiply in LUTs. None: one for each PE.
    Each factory returns one and the same component, which is there to be converted once. Raises ValueError.
    """

    def __init__(self, *, family: str | None = None, multipliers: int | None = None):
        if multipliers is not None and multipliers < 0:
            raise ValueError(f"multipliers = {multipliers} must be 0 or more")
        self.family, self.multipliers = family, multipliers
        self.factories: dict[str, Callable[[], Any]] = {}


def family(platform) -> str | None:
    """Vendor family whose primitives may be instantiated; None in simulation."""
    return getattr(platform, "family", None)


def multipliers(platform) -> int | None:
    """Multiplier blocks that the arrays may take; None: as many as they have PEs."""
    return getattr(platform, "multipliers", None)


def everywhere(m: Module, device: str | None, signal: Signal, *, name: str) -> Signal:
    """A one-bit signal for thousands of registers: on ECP5 through the network that carries the clocks, as fabric is too slow for it."""
    if device != "ecp5":
        return signal
    spread = Signal(name=name)
    m.submodules[name] = Instance("DCCA", i_CLKI=signal, i_CE=1, o_CLKO=spread)
    return spread


def place(m: Module, platform, *, instance: str, module: str, factory: Callable[[], Any], clocked: bool = True,
          reset: Signal | None = None) -> Any:
    """Add a component to `m` as submodule `instance` and return it (or its ports alone, where it is shared), to be wired.

    `module` names the design and must be the same exactly for components that are the same; they must use the `sync` domain, and no
    clock at all if not `clocked`. `reset` takes the place of the domain's reset and must be up after it.
    """
    if not isinstance(platform, SharedModules):
        component = factory()
        m.submodules[instance] = component if reset is None else ResetInserter(reset)(component)
        return component
    if module not in platform.factories:
        component = factory()
        platform.factories[module] = lambda: component
    signature = platform.factories[module]().signature
    interface = signature.create(path=(instance,))
    ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal() if reset is None else reset} if clocked else {}
    for path, member, value in signature.flatten(interface):
        direction = "i" if member.flow is wiring.In else "o"
        if not isinstance(Value.cast(value), Const):        # a stream that is always ready has no such port
            ports[f"{direction}_{'__'.join(map(str, path))}"] = value
    m.submodules[instance] = Instance(module, **ports)
    return interface
