"""The matrix products of a training step: convolutions forward and backward by the compiler, weight gradients from pixels."""

from dataclasses import dataclass

from gen.config import Unit
from gen.isa import Output
from sw.compiler.errors import CompileError
from sw.compiler.layout import blocks_of, ceil_div, pitch_of
from sw.compiler.lower import compile_product
from sw.compiler.tiling import FLOAT, Depth, Gemm
from sw.compiler.window import Window
from sw.model.closed_form import row_limit
from sw.model.ideal import mode_of
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place
from sw.train.lower.slots import Slots

ADDRESSES = 1 << 16


def product(code: Code, moving: Tensor, stationary: Tensor, result: Tensor, *, m: int, n: int, k: int, window: Window | None = None,
            output: str = FLOAT):
    """A product, or a convolution of `window`, by the compiler."""
    gemm = Gemm(m=m, n=n, k=k, a_dtype=FLOAT, b_dtype=FLOAT, output=output, window=window)
    program = compile_product(code.config, gemm, addresses={
        "moving": moving.address, "stationary": stationary.address, "result": result.address})
    code.sequencer.program(program.instructions)


@dataclass(frozen=True)
class Chunk:
    """Images first..stop-1, and of their pixels (output pixels of the convolution) those from row..row_stop-1, counted over all images."""

    first: int
    stop: int
    row: int
    row_stop: int


def weight_gradient(code: Code, x: Tensor, exchanged: Tensor, result: Tensor, window: Window, channels: int, outputs: int):
    """result = gradient^T x patches of x: [kernel position, channel block][output], fp32, summed over all output pixels of the window.

    `exchanged`: the gradient with rows and columns exchanged, [block of pixels][output]. Pixels are walked where they lie (LdPixels). The
    remainder of the pixels comes first, then they ascend; their number is a multiple of the array's side.
    """
    config, side, sequencer = code.config, code.config.array.side, code.sequencer
    depth, beat = Depth(config, window.rows), config.beat_words
    image_rows, image_pixels = window.out_height * window.out_width, window.height * window.width
    c_blocks, rows_pitch = blocks_of(config, channels), pitch_of(config, exchanged.rows)
    if window.rows % side:
        raise CompileError(f"batch = {window.images} gives {window.rows} pixels, no multiple of array.side = {side}")
    code.sequencer.barrier()

    # As many images at a time as both operands find room for in a slice, waves never crossing from one chunk to the next.
    words = config.buffers.slice_words
    least = next(count for count in range(1, config.tile + 1) if count * image_rows % config.tile == 0 and count * image_pixels % beat == 0)
    most = min(words // rows_pitch * side // image_rows, (words // depth.reach - 4) // image_pixels) // least * least
    if not most:
        raise CompileError(f"buffers.slice_words = {words} is too small for the weight gradient of {least} images of {image_pixels} pixels "
                           f"and {outputs} outputs")
    chunks, whole = [], window.rows // config.tile * config.tile
    if depth.remainder:
        first = whole // image_rows // least * least
        chunks.append(Chunk(first, window.images, whole, window.rows))
    for first in range(0, ceil_div(whole, image_rows), most):
        stop = min(window.images, first + most)
        chunks.append(Chunk(first, stop, first * image_rows, min(whole, stop * image_rows)))

    # Slices: one or two for results, the others for moving tiles and for pixels.
    free = [*code.free_slices, code.staying]
    results = free[-2:] if len(free) > 4 else free[-1:]
    others = free[:-len(results)]
    share = 0 if exchanged in code.residents else len(others) if x in code.residents else len(others) // 2
    moving, pixels = Slots(others[:share]), Slots(others[share:])
    modes = {mode_of(config, wave_depth, width) for wave_depth in {depth.depth(0), depth.depth(depth.waves - 1)}
             for width in {min(depth.reach, c_blocks), (c_blocks - 1) % depth.reach + 1}}
    limit = row_limit(config, modes) // beat * beat
    tile_number = 0
    for row in range(0, exchanged.rows, limit):
        rows = min(limit, exchanged.rows - row)
        for c_block in range(0, c_blocks, depth.reach):
            width = min(depth.reach, c_blocks - c_block)
            for tap in range(window.taps):
                half = tile_number % 2
                for number, chunk in enumerate(chunks):
                    remainder = depth.remainder and number == 0
                    reach = depth.remainder if remainder else depth.reach
                    mode = mode_of(config, reach, width)
                    a = _load_moving(code, exchanged, moving, chunk, image_rows)
                    b = _load_pixels(code, x, pixels, chunk, image_pixels, c_block, width)
                    waves = 1 if remainder else (chunk.row_stop - chunk.row) // config.tile
                    sequencer.add("LdPixels", [b.slice], slice=b.slice, mode=mode, waves=waves, pitch=b.pitch,
                                  **walk(window, chunk, tap, b.address))
                    sequencer.add("LdLBUF_H", [a.slice], slice=a.slice, address=a.at(0, row).address, mode=mode,
                                  rate=mode.parts.bit_length() - 1, rows=rows, waves=waves, pitch=a.pitch,
                                  wave_stride=reach * a.pitch if waves > 1 else 0)
                    sequencer.add("ExecGEMM", (), [("half", half)], mode=mode, rows=rows, waves=waves, half=half, accumulate=number > 0)
                out = results[half % len(results)]
                stored_pitch = rows * 2
                sequencer.add("StLBUF", [("half", half)], [out], half=half,
                              wide=config.array.unit is Unit.SINGLE or width > 1, rows=rows, output=Output.FP32, slice=out, address=0,
                              pitch=stored_pitch)
                code.transfer("DmaOut", out, 0, result.at(tap * c_blocks + c_block, row), stored_pitch, chunks=width,
                              memory_stride=result.stride, buffer_stride=stored_pitch)
                tile_number += 1
    code.sequencer.barrier()


def _load_moving(code: Code, exchanged: Tensor, slots: Slots, chunk: Chunk, image_rows: int) -> Place:
    """Where a chunk's blocks of pixels are, from its first row on."""
    side = code.config.array.side
    first, stop = chunk.first * image_rows // side, ceil_div(chunk.stop * image_rows, side)
    if exchanged in code.residents:
        place = code.place(exchanged, blocks=(first, stop))
    else:
        index, fresh = slots.place((first, stop))
        place = Place(index, 0, pitch_of(code.config, exchanged.rows))
        if fresh:
            code.load(exchanged, place, blocks=(first, stop))
    return Place(place.slice, place.address + (chunk.row // side - first) * place.pitch, place.pitch)


def _load_pixels(code: Code, x: Tensor, slots: Slots, chunk: Chunk, image_pixels: int, c_block: int, width: int) -> Place:
    """Where a chunk's pixels are, in up to two channel blocks."""
    blocks, rows = (c_block, c_block + width), (chunk.first * image_pixels, chunk.stop * image_pixels)
    if x in code.residents:
        return code.place(x, blocks=blocks, rows=rows)
    index, fresh = slots.place((chunk.first, chunk.stop, c_block))
    place = Place(index, 0, pitch_of(code.config, rows[1] - rows[0]))
    if fresh:
        code.load(x, place, blocks=blocks, rows=rows)
    return place


def walk(window: Window, chunk: Chunk, tap: int, origin: int) -> dict[str, int]:
    """The fields of LdPixels for a chunk that lies from word `origin` on, at a kernel position."""
    kernel_y, kernel_x = divmod(tap, window.kernel[1])
    line, x = divmod(chunk.row - chunk.first * window.out_height * window.out_width, window.out_width)
    image, y = divmod(line, window.out_height)
    step, first_line, first_column = window.stride, kernel_y - window.padding[0], kernel_x - window.padding[1]
    across, down = step * (window.out_width - 1), step * (window.out_height - 1)
    start = (image * window.height + y * step + first_line) * window.width + x * step + first_column
    return {
        "address": (origin + start) % ADDRESSES, "x_step": step, "row_step": (step * window.width - across) % ADDRESSES,
        "image_step": ((window.height - down) * window.width - across) % ADDRESSES,
        "column": x * step + first_column, "first_column": first_column, "last_column": first_column + across,
        "line": y * step + first_line, "first_line": first_line, "last_line": first_line + down,
        "in_width": window.width, "in_height": window.height, "stride": step,
    }
