"""Row, wave and pixel walks of the moving operand against plain index arithmetic, at full field widths."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Unit
from gen.isa import Mode
from rtl.buffer.address import RowWalk, WaveWalk
from rtl.buffer.pixels import PixelCheck
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
    """Random steps (any words, even senseless ones) and a size that rate allows, small ones and the largest."""
    sizes = [1 << rate, (1 << rate) + 1, 7, 4095]
    return {"out_width": rng.choice([size for size in sizes if size >= 1 << rate]), "out_height": rng.choice([1, 2, 5]),
            "x_step": rng.integers(1 << 16), "row_step": rng.integers(1 << 16), "image_step": rng.integers(1 << 16)}


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


@pytest.mark.parametrize("im2col", [0, 1])
@pytest.mark.parametrize(("mode", "rate"), RATES)
def test_rows(mode, rate, im2col):
    """Starts, steps and returns for random geometries; rows beyond the last repeat one that counts."""
    seed = 10 * mode + 2 * rate + im2col
    print("seed", seed)
    rng = np.random.default_rng(seed)
    dut = RowWalk(machine(Unit.FLEX))

    async def bench(ctx):
        for _ in range(12):
            conv, step = geometry(rng, rate), 1 << rate
            x, y = rng.integers(max(0, conv["out_width"] - 6), conv["out_width"]), rng.integers(conv["out_height"])
            rows = int(rng.integers(1, 30))
            address, pitch = int(rng.integers(1 << 16)), int(rng.integers(1 << 16))
            pixels = pixel_walk(conv, int(x), int(y), rows + 4) if im2col else [(i, 0, 0) for i in range(rows + 4)]
            assign(ctx, dut.conv, **conv)
            ctx.set(dut.start, 0)
            ctx.set(dut.again, 0)
            ctx.set(dut.step, 0)
            ctx.set(dut.set, 1)
            await ctx.tick()
            ctx.set(dut.set, 0)
            assign(ctx, dut.conv, **geometry(rng, rate))      # the queue moves on
            assign(ctx, dut.load, mode=mode, rate=rate, rows=rows, address=address, pitch=pitch, im2col=im2col, start_x=x, start_y=y)
            for again in (0, 1):
                for first in range(0, rows, step):
                    ctx.set(dut.start, first == 0 and not again)
                    ctx.set(dut.again, first == 0 and again)
                    ctx.set(dut.step, first > 0)
                    ctx.set(dut.rows, min(rows - first, 4))
                    await ctx.tick()
                    if first == 0 and not again:
                        assign(ctx, dut.load, mode=3 - mode, rate=0, address=0, pitch=0, im2col=1 - im2col, start_x=0)
                    for core in range(4):
                        row = first + PART[mode][core] % step
                        base = address + (pitch if mode.tall and core >= 2 else 0)
                        words, px, py = pixels[row]
                        if row >= rows:
                            block = pitch if mode.tall and core >= 2 and first == 0 else 0
                            assert ctx.get(dut.addresses[core]) == (address + block + pixels[first][0]) % 65536
                            continue
                        assert ctx.get(dut.addresses[core]) == (base + words) % 65536, (core, first)
                        if im2col:
                            assert (ctx.get(dut.x[core]), ctx.get(dut.y[core])) == (px, py)

    simulate(dut, bench)


@pytest.mark.parametrize("im2col", [0, 1])
def test_waves(im2col):
    print("seed", im2col)
    rng = np.random.default_rng(im2col)
    dut = WaveWalk()

    async def bench(ctx):
        for _ in range(30):
            channels, width, height = int(rng.choice([1, 2, 3, 255])), int(rng.integers(1, 16)), int(rng.integers(1, 16))
            x_step, y_step, stride = (int(v) for v in rng.integers(0, 1 << 16, 3))
            wave, x, y = int(rng.integers(channels)), int(rng.integers(width)), int(rng.integers(height))
            assign(ctx, dut.conv, channel_waves=channels, kernel_width=width, kernel_height=height)
            assign(ctx, dut.conv, kernel_x_step=x_step, kernel_y_step=y_step)
            assign(ctx, dut.load, wave_stride=stride, im2col=im2col, start_wave=wave, start_kernel_x=x, start_kernel_y=y)
            ctx.set(dut.advance, 0)
            ctx.set(dut.start, 0)
            ctx.set(dut.set, 1)
            await ctx.tick()
            ctx.set(dut.set, 0)
            assign(ctx, dut.conv, channel_waves=77, kernel_width=9, kernel_x_step=5, kernel_y_step=6)     # the queue moves on
            number = (y * width + x) * channels + wave
            for i in range(min(40, width * height * channels - number)):
                ctx.set(dut.start, i == 0)
                ctx.set(dut.advance, i > 0)
                await ctx.tick()
                place, wave_now = divmod(number + i, channels)
                ky, kx = divmod(place, width)
                words = kx * x_step + ky * y_step + wave_now * stride if im2col else i * stride
                assert (ctx.get(dut.kernel) + ctx.get(dut.channel)) % 65536 == words % 65536
                if im2col:
                    assert (ctx.get(dut.kernel_x), ctx.get(dut.kernel_y)) == (kx, ky)

    simulate(dut, bench)


def test_pixels():
    """Positions around the edges; the geometry changes in every cycle."""
    print("seed 5")
    rng = np.random.default_rng(5)
    config = machine(Unit.FLEX)
    dut = PixelCheck(config)
    expected = {}

    async def bench(ctx):
        for cycle in range(400):
            if cycle in expected:
                assert ctx.get(dut.outside) == expected[cycle]
            size, pad, kernel = rng.choice([1, 3, 16, 4095], 2), rng.integers(0, 16, 2), rng.integers(0, 16, 2)
            stride, active = int(rng.integers(1, 16)), int(rng.integers(0, 4) > 0)
            assign(ctx, dut.conv, in_width=size[0], in_height=size[1], stride=stride, pad_x=pad[0], pad_y=pad[1])
            for port, value in ((dut.active, active), (dut.kernel_x, kernel[0]), (dut.kernel_y, kernel[1])):
                ctx.set(port, int(value))
            outside = 0
            for core in range(4):
                # Near one of the two edges, or anywhere.
                edges = [(pad[i] // stride, (size[i] + pad[i]) // stride, rng.integers(4096)) for i in range(2)]
                x, y = (int(np.clip(rng.choice(choice) + rng.integers(-1, 2), 0, 4095)) for choice in edges)
                ctx.set(dut.x[core], x)
                ctx.set(dut.y[core], y)
                inside = all(0 <= v * stride - int(pad[i]) + int(kernel[i]) < size[i] for i, v in enumerate((x, y)))
                outside |= (active and not inside) << core
            expected[cycle + PixelCheck.LATENCY] = outside
            await ctx.tick()

    simulate(dut, bench)
