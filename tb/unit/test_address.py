"""Row, wave and pixel walks of the moving operand against plain index arithmetic, at full field widths."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator

from gen.config import Memory, Unit
from gen.isa import Mode
from rtl.buffer.address import RowWalk, WaveWalk
from rtl.buffer.pixels import PixelCheck
from rtl.instruction import instruction_layout
from tb.unit.loading import machine

# Part of the rows that cores 0 .. 3 take, and modes with their largest rate.
PART = {Mode.FW: [0, 0, 0, 0], Mode.VSW: [0, 1, 0, 1], Mode.HSW: [0, 0, 1, 1], Mode.ISW: [0, 1, 2, 3]}
RATES = [(mode, rate) for mode, most in ((Mode.FW, 0), (Mode.VSW, 1), (Mode.HSW, 1), (Mode.ISW, 2)) for rate in range(most + 1)]


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def assign(ctx, view, **values):
    for name, value in values.items():
        ctx.set(getattr(view, name), int(value))


def geometry(rng, rate: int) -> dict:
    """Random steps (any words, even senseless ones), a size that rate allows, small ones and the largest, and images around the outputs."""
    sizes, stride = [1 << rate, (1 << rate) + 1, 7, 4095], int(rng.choice([1, 2, 3, 4, 15]))
    out = int(rng.choice([size for size in sizes if size >= 1 << rate])), int(rng.choice([1, 2, 5]))
    pad = rng.integers(0, 16, 2)
    inner = [int(np.clip(rng.choice([1, 7, 4095, out[i] * stride - pad[i] + rng.integers(-3, 4)]), 1, 4095)) for i in range(2)]
    return {"out_width": out[0], "out_height": out[1], "in_width": inner[0], "in_height": inner[1], "stride": stride, "pad_x": pad[0],
            "pad_y": pad[1], "x_step": rng.integers(1 << 16), "row_step": rng.integers(1 << 16), "image_step": rng.integers(1 << 16)}


def pixel_walk(conv: dict, x: int, y: int, count: int) -> list[tuple[int, int, int]]:
    """(words from the first pixel, x, y), pixel by pixel."""
    words, out = 0, []
    for _ in range(count):
        out.append((words, x, y))
        x += 1
        step = conv["x_step"]
        if x == conv["out_width"]:
            x, y, step = 0, y + 1, conv["row_step"]
            if y == conv["out_height"]:
                y, step = 0, conv["image_step"]
        words += step
    return out


class Walks(Elaboratable):
    """A row walk with the pixel check that follows it, as in the loader: `conv` and `now` are those under way, `load` the next."""

    def __init__(self, config):
        self.rows, self.pixels = RowWalk(config), PixelCheck(config)
        self.conv, self.now = Signal(instruction_layout("SetConv")), Signal(instruction_layout("LdLBUF_H"))

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows, m.submodules.pixels = rows, pixels = self.rows, self.pixels
        m.d.comb += [rows.conv.eq(self.conv), pixels.conv.eq(self.conv), pixels.load.eq(self.now)]
        m.d.comb += [getattr(pixels, name).eq(getattr(rows, name)) for name in ("turned", "turns", "bottom", "columns")]
        m.d.comb += [there.eq(here) for there, here in zip(pixels.places, rows.places)]
        return m


@dataclass
class Case:
    """A load of `rows` rows, for as many waves as there are bases and kernel positions; a geometry of its own, or the one before (None)."""

    conv: dict | None
    load: dict
    bases: list[int]
    kernels: list[tuple[int, int]]


def random_case(rng, mode: Mode, rate: int, im2col: int, conv: dict | None, before: dict) -> Case:
    shape = conv or before
    bases, kernels = [int(v) for v in rng.integers(1 << 16, size=3)], [(int(x), int(y)) for x, y in rng.integers(0, 16, (3, 2))]
    load = {"mode": mode, "rate": rate, "rows": rng.integers(1, 30), "address": bases[0], "pitch": rng.integers(1 << 16), "im2col": im2col,
            "start_x": rng.integers(max(0, shape["out_width"] - 6), shape["out_width"]), "start_y": rng.integers(shape["out_height"])}
    return Case(conv, {name: int(value) for name, value in load.items()}, bases, kernels)


def wanted(case: Case, conv: dict, wave: int, first: int) -> list[tuple[int, bool] | None]:
    """Of each core in the step that begins with row `first`: address, and whether the pixel is outside; None for rows that do not count."""
    load, kernel, out = case.load, case.kernels[wave], []
    pixels = pixel_walk(conv, load["start_x"], load["start_y"], load["rows"])
    for core in range(4):
        row = first + PART[load["mode"]][core] % (1 << load["rate"])
        if row >= load["rows"]:
            out.append(None)
            continue
        words, *place = pixels[row] if load["im2col"] else (row, 0, 0)
        block = load["pitch"] if Mode(load["mode"]).tall and core >= 2 else 0
        sides = zip(place, kernel, (conv["pad_x"], conv["pad_y"]), (conv["in_width"], conv["in_height"]))
        inside = all(0 <= v * conv["stride"] - pad + k < size for v, k, pad, size in sides)
        out.append(((case.bases[wave] + block + words) % 65536, bool(load["im2col"]) and not inside))
    return out


@pytest.mark.parametrize("banks", [4, 16])
@pytest.mark.parametrize(("mode", "rate"), RATES)
def test_rows(mode, rate, banks):
    """Loads of several waves back to back, plain and with pixels, with geometries of their own: every address, and the padding three
    cycles later. Rows beyond the last take words of the first lane's bank."""
    seed = 10 * mode + rate
    print("seed", seed)
    rng = np.random.default_rng(seed)
    config = machine(Unit.FLEX)
    config = dataclasses.replace(config, memory=Memory(bytes_per_cycle=banks * config.array.side))
    assert config.banks == banks
    dut, expected = Walks(config), {}
    cycle = 0

    async def bench(ctx):
        nonlocal cycle

        async def tick(**controls):
            nonlocal cycle
            for name in ("set", "start", "again", "step"):
                ctx.set(getattr(dut.rows, name), controls.get(name, 0))
            for core, outside in expected.pop(cycle, {}).items():
                assert ctx.get(dut.pixels.outside[core]) == outside, (cycle, core)
            await ctx.tick()
            cycle += 1

        conv = geometry(rng, rate)
        case = random_case(rng, mode, rate, 1, conv, conv)
        assign(ctx, dut.rows.new_conv, **conv)
        await tick(set=1)
        for _ in range(25):
            if case.conv:           # an empty issue cycle in front
                conv = case.conv
                assign(ctx, dut.conv, **conv)
                assign(ctx, dut.rows.new_conv, **geometry(rng, rate))      # the queue moves on
                assign(ctx, dut.rows.load, **case.load)
                await tick(start=1)
            following = random_case(rng, mode, rate, int(rng.integers(3) > 0), geometry(rng, rate) if rng.integers(2) else None, conv)
            assign(ctx, dut.now, **case.load)
            assign(ctx, dut.rows.load, **following.load)
            assign(ctx, dut.rows.new_conv, **(following.conv or geometry(rng, rate)))
            rows, step = case.load["rows"], 1 << rate
            for wave, kernel in enumerate(case.kernels):
                ctx.set(dut.rows.base, case.bases[(wave + 1) % 3])
                ctx.set(dut.pixels.kernel_x, kernel[0])
                ctx.set(dut.pixels.kernel_y, kernel[1])
                for first in range(0, rows, step):
                    ctx.set(dut.pixels.first, first == 0)
                    ctx.set(dut.rows.rows, min(rows - first, 4))
                    lead = ctx.get(dut.rows.addresses[0])
                    for core, item in enumerate(wanted(case, conv, wave, first)):
                        address = ctx.get(dut.rows.addresses[core])
                        if item is None:
                            assert (address - lead) % config.banks == 0
                            continue
                        assert address == item[0], (core, wave, first)
                        expected.setdefault(cycle + PixelCheck.LATENCY, {})[core] = item[1]
                    if first + step < rows:
                        await tick(step=1)
                    elif wave < len(case.kernels) - 1:
                        await tick(again=1)
                    else:
                        await tick(set=1) if following.conv else await tick(start=1)
            case = following

    simulate(dut, bench)


@pytest.mark.parametrize("im2col", [0, 1])
def test_waves(im2col):
    """First words of the waves: as many steps of each kind as there are ends of kernel positions and rows before; and the position."""
    print("seed", im2col)
    rng = np.random.default_rng(im2col)
    dut = WaveWalk()

    async def bench(ctx):
        for _ in range(30):
            channels, width, height = int(rng.choice([1, 2, 3, 255])), int(rng.integers(1, 16)), int(rng.integers(1, 16))
            address, x_step, y_step, stride = (int(v) for v in rng.integers(0, 1 << 16, 4))
            wave, x, y = int(rng.integers(channels)), int(rng.integers(width)), int(rng.integers(height))
            conv = {"channel_waves": channels, "kernel_width": width, "kernel_height": height,
                    "kernel_x_step": x_step, "kernel_y_step": y_step}
            assign(ctx, dut.new_conv, **conv)
            ctx.set(dut.start, 0)
            ctx.set(dut.advance, 0)
            ctx.set(dut.set, 1)
            await ctx.tick()
            ctx.set(dut.set, 0)
            assign(ctx, dut.conv, **conv)
            assign(ctx, dut.new_conv, channel_waves=77, kernel_width=9)     # the queue moves on
            assign(ctx, dut.load, address=address, wave_stride=stride, im2col=im2col, start_wave=wave, start_kernel_x=x, start_kernel_y=y)
            number, here = (y * width + x) * channels + wave, address
            for i in range(min(40, width * height * channels - number)):
                ctx.set(dut.start, i == 0)
                ctx.set(dut.advance, i > 0)
                await ctx.tick()
                assign(ctx, dut.load, address=0, wave_stride=7, im2col=1 - im2col)      # the queue moves on
                place = (number + i) // channels
                if im2col:
                    assert (ctx.get(dut.kernel_x), ctx.get(dut.kernel_y)) == (place % width, place // width)
                step = stride
                if im2col and (number + i + 1) % channels == 0:
                    step = y_step if (place + 1) % width == 0 else x_step
                here = (here + step) % 65536
                assert ctx.get(dut.following) == here

    simulate(dut, bench)
