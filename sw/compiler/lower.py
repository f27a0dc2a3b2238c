"""From a matrix product or a convolution to a program: check, split over groups, plan, place in memory, emit."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from gen.config import Config
from gen.isa import INSTRUCTION_BYTES, Instruction
from sw.compiler.emit import Emitter
from sw.compiler.emit_group import GroupEmitter
from sw.compiler.errors import CompileError, refuse_outside
from sw.compiler.layout import PARAMETER_WORDS, blocks_of, padded_bytes, padded_rows, round_up, stationary_bytes
from sw.compiler.plan import Plan, make_plan
from sw.compiler.pooling import PoolEmitter, Pooling
from sw.compiler.pooling import shares as shares_of_pooling
from sw.compiler.program import Program, Region
from sw.compiler.tiling import LARGEST, Gemm, Share, check_operand, shares
from sw.compiler.window import Window

ADDRESS_SPACE = 1 << 32


def compile_gemm(
    config: Config, m: int, n: int, k: int, *, a_dtype: str = "int8", b_dtype: str = "int8", a_zero_point: int = 0, b_zero_point: int = 0,
    output: str = "int32", parameters: bool = False, relu: bool = False, output_zero_point: int = 0,
    base: int = 0, addresses: Mapping[str, int] | None = None,
) -> Program:
    """Compile C = (A - a_zero_point) x (B - b_zero_point) for a machine; A is m x k, B is k x n. On a machine with `array.dtype` bf16
    both are bf16 without zero points, and the output is fp32 or bf16 without parameters.

    `parameters`: a bias for each column is added (always so, with a multiplier, for output int8 and uint8, requantised as ONNX QLinear
    defines it). Regions of memory lie one behind the other from byte `base`, but for those that `addresses` places ("moving", "stationary",
    "parameters", "result", "program"), for instance to let one product read what another has written: 8-bit results have the layout of a
    moving operand. Several groups share the rows and the n tiles; splitting k, with a sum at the end, is left to the caller.

    Raises CompileError, one line, for what the machine or the 32-bit address space cannot hold.
    """
    return compile_product(config, Gemm(
        m=m, n=n, k=k, a_dtype=a_dtype, b_dtype=b_dtype, a_zero_point=a_zero_point, b_zero_point=b_zero_point, output=output,
        parameters=parameters, relu=relu, output_zero_point=output_zero_point), base, addresses)


def compile_conv(
    config: Config, window: Window, channels: int, outputs: int, *, x_dtype: str = "int8", w_dtype: str = "int8", x_zero_point: int = 0,
    w_zero_point: int = 0, output: str = "int32", parameters: bool = False, relu: bool = False, output_zero_point: int = 0,
    base: int = 0, addresses: Mapping[str, int] | None = None,
) -> Program:
    """Compile a convolution of images (images, height, width, channels) with a kernel (height, width, channels, outputs).

    Patches are never written out: LOAD_H walks the pixels where they lie. The program's operands are `a`, the images, and `b`, the kernel;
    images and result lie in memory as a matrix of one row a pixel does. All else is as for `compile_gemm`.
    """
    refuse_outside("channels", channels, 1, LARGEST)
    refuse_outside("outputs", outputs, 1, LARGEST)
    for operand, dtype, zero_point in (("x", x_dtype, x_zero_point), ("w", w_dtype, w_zero_point)):
        check_operand(operand, dtype, zero_point)
    return compile_product(config, Gemm(
        m=window.rows, n=outputs, k=channels, a_dtype=x_dtype, b_dtype=w_dtype, a_zero_point=x_zero_point, b_zero_point=w_zero_point,
        output=output, parameters=parameters, relu=relu, output_zero_point=output_zero_point, window=window), base, addresses)


def compile_product(config: Config, gemm: Gemm | Pooling, base: int = 0, addresses: Mapping[str, int] | None = None,
                    pace: Fraction = Fraction(1)) -> Program:
    """Compile what `gemm` describes; see `compile_gemm`, `compile_conv` and `compile_pool`. The plan is made for a memory port that
    accepts `pace` beats a cycle."""
    if isinstance(gemm, Pooling):
        return compile_pool(config, gemm, base, addresses)
    if gemm.addition and not config.vector.window:
        raise CompileError("vector.window = 0 is outside 1..4096 pixels for a residual")
    if gemm.floating != config.floating:
        raise CompileError(f"array.dtype = '{config.array.dtype}' does not multiply {gemm.a_dtype}")
    addresses = addresses or {}
    regions = place(config, gemm, base, addresses)
    by_rows, plans = partition(config, gemm, pace)
    starts = {name: region.address for name, region in regions.items()}
    emitters = [Emitter(share, plan, group, starts, sharers(len(plans), pace)) for group, (share, plan) in enumerate(plans)]
    return finish(config, gemm, emitters, regions, base, addresses, {
        "by_rows": by_rows, "cycles": max(plan.cycles for _, plan in plans), "groups": [
            {"rows": [share.row, share.row_stop], "n_tiles": [share.tile, share.tile_stop]} | plan.to_dict() for share, plan in plans]})


def finish(config: Config, gemm: Gemm | Pooling, emitters: Sequence[Emitter | PoolEmitter], regions: dict[str, Region], base: int,
           addresses: Mapping[str, int], plan: dict) -> Program:
    """The program of these emitters, itself placed in memory."""
    instructions = (*interleave(config, emitters), Instruction("End"))
    regions |= place_program(config, instructions, regions, base, addresses.get("program"))
    memory = max(address + size for address, size in regions.values())
    return Program(config, gemm, instructions, regions, memory, plan)


def place_program(config: Config, instructions: Sequence[Instruction], regions: Mapping[str, Region], base: int,
                  address: int | None = None) -> dict[str, Region]:
    """The region of a program: a fetch reads whole bursts."""
    size = round_up(len(instructions) * INSTRUCTION_BYTES, config.fetch_instructions * INSTRUCTION_BYTES)
    return place_region(regions, "program", size, base, address, max(INSTRUCTION_BYTES, config.memory.bytes_per_cycle))


def compile_pool(config: Config, pooling: Pooling, base: int = 0, addresses: Mapping[str, int] | None = None) -> Program:
    """Compile a pooling. Operand `a` are the images, and with an addition `residual`; memory as for `compile_gemm`."""
    if not config.vector.window:
        raise CompileError("vector.window = 0 is outside 1..4096 pixels for a pooling")
    if pooling.kind == "average" and pooling.window.taps > config.vector.window:
        raise CompileError(f"vector.window = {config.vector.window} is outside {pooling.window.taps}..4096 pixels for this window")
    word, addresses = config.word_bytes, addresses or {}
    sizes = {
        "moving": blocks_of(config, pooling.channels) * padded_rows(config, pooling.window.pixels) * word,
        "parameters": padded_bytes(config, len(pooling.parameters()) * PARAMETER_WORDS * word),
        "residual": blocks_of(config, pooling.channels) * padded_rows(config, pooling.m) * word if pooling.addition else 0,
        "result": blocks_of(config, pooling.channels) * padded_rows(config, pooling.m) * word,
    }
    regions = place_all(config, {name: size for name, size in sizes.items() if size}, base, addresses)
    starts = {name: region.address for name, region in regions.items()}
    emitters = [PoolEmitter(config, pooling, group, blocks, starts) for group, blocks in enumerate(shares_of_pooling(config, pooling))]
    return finish(config, pooling, emitters, regions, base, addresses, {"strips": [len(emitter.strips) for emitter in emitters]})


def place(config: Config, gemm: Gemm, base: int, addresses: Mapping[str, int]) -> dict[str, Region]:
    """Regions of the operands and the result, each at a whole beat."""
    word, rows = config.word_bytes, padded_rows(config, gemm.m)
    sizes = {
        "moving": blocks_of(config, gemm.k) * padded_rows(config, gemm.pixels) * word,
        "stationary": stationary_bytes(config, gemm.k, gemm.n, gemm.taps),
        "parameters": padded_bytes(config, blocks_of(config, gemm.n) * PARAMETER_WORDS * word) if gemm.parameters else 0,
        "residual": blocks_of(config, gemm.n) * rows * word if gemm.addition else 0,
        "result": blocks_of(config, gemm.n) * rows * gemm.output_words * word,
    }
    return place_all(config, {name: size for name, size in sizes.items() if size}, base, addresses)


def place_all(config: Config, sizes: Mapping[str, int], base: int, addresses: Mapping[str, int]) -> dict[str, Region]:
    """Regions of these sizes."""
    for name in addresses:
        if name not in (*sizes, "program"):
            raise CompileError(f"addresses.{name} is not a region; known: {', '.join(sizes)}, program")
    refuse_outside("base", base, 0, ADDRESS_SPACE - 1)
    regions: dict[str, Region] = {}
    for name in sorted(sizes, key=lambda name: name not in addresses):      # fixed ones first
        regions |= place_region(regions, name, sizes[name], base, addresses.get(name), config.memory.bytes_per_cycle)
    return regions


def place_region(regions: Mapping[str, Region], name: str, size: int, base: int, address: int | None, align: int) -> dict[str, Region]:
    """One more region, at `address` or behind `base` and all others. Raises CompileError where it does not fit or overlaps another."""
    if address is None:
        end = max([base, *(region.address + region.bytes for region in regions.values())])
        address = round_up(end, align)
    else:
        refuse_outside(f"addresses.{name}", address, 0, ADDRESS_SPACE - 1)
    if address % align:
        raise CompileError(f"addresses.{name} = {address} must be a multiple of {align} bytes")
    if address + size > ADDRESS_SPACE:
        room = max(0, ADDRESS_SPACE - address)
        raise CompileError(f"{name} = {size} bytes from byte {address} is outside 0..{room} bytes (32-bit address space)")
    for other, region in regions.items():
        if address < region.address + region.bytes and region.address < address + size:
            last = region.address + region.bytes - 1
            raise CompileError(f"addresses.{name} = {address}..{address + size - 1} overlaps {other} at {region.address}..{last}")
    return {name: Region(address, size)}


def sharers(groups: int, pace: Fraction) -> float:
    """Groups that would share a port of one beat a cycle as well as these share this one."""
    return groups if pace == 1 else float(groups / pace)


def partition(config: Config, gemm: Gemm, pace: Fraction) -> tuple[int, list[tuple[Share, Plan]]]:
    """The split over the groups with the fewest estimated cycles, then the least traffic."""
    best, choice = None, (1, [])
    for bit in range(config.array.groups.bit_length()):
        parts, known, plans = shares(config, gemm, 1 << bit), {}, []
        for share in parts:
            # Of a convolution, shares of equal size still read different numbers of pixels.
            shape = (share.row if share.walk else 0, share.rows, share.n_tiles, share.width(share.tile_stop - 1))
            if shape not in known:
                known[shape] = make_plan(share, sharers(len(parts), pace))
            plans.append((share, known[shape]))
        cost = max(plan.cycles for _, plan in plans), sum(plan.memory for _, plan in plans)
        if best is None or cost <= best:
            best, choice = cost, (1 << bit, plans)
    return choice


def interleave(config: Config, emitters: Sequence[Emitter | PoolEmitter | GroupEmitter]) -> Iterator[Instruction]:
    """One stream for all groups, step by step. Loads run ahead by less than DMA_IN's queue holds: full, it would hold back all else."""
    budget = max(1, (config.control.queue_depth - 2) // len(emitters))
    starting = list(emitters)
    while starting:
        for emitter in starting:
            yield from emitter.load()
        starting = [emitter for emitter in starting if emitter.loaded <= emitter.go_step]
    running = emitters
    while running:
        for emitter in running:
            if emitter.loaded == emitter.done:
                yield from emitter.load()
            while emitter.ahead < budget and emitter.can_load():
                yield from emitter.load()
            yield from emitter.step()
        running = [emitter for emitter in running if not emitter.finished]
