"""The weight gradient of a convolution: a product of the gradient and of pixels, summed over all pixels of a batch."""

from dataclasses import dataclass

from gen.config import Unit
from gen.isa import Output
from sw.compiler.emission import ADDRESSES
from sw.compiler.errors import CompileError
from sw.compiler.layout import blocks_of, ceil_div, pitch_of
from sw.compiler.tiling import Depth
from sw.compiler.window import Window
from sw.model.closed_form import row_limit
from sw.model.ideal import mode_of
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place
from sw.train.lower.slots import Slots


@dataclass(frozen=True)
class Chunk:
    """Images first..stop-1, and of their pixels (output pixels of the convolution) those from row..row_stop-1, counted over all images, in
    waves of `blocks` blocks along k."""

    first: int
    stop: int
    row: int
    row_stop: int
    blocks: int


class WeightGradient:
    """result = gradient^T x patches of x: [kernel position, channel block][output], fp32, summed over all output pixels of the window.

    `exchanged`: the gradient with rows and columns exchanged, [block of pixels][output]. Pixels are walked where they lie (LdPixels). The
    remainder of the pixels comes first, then they ascend. As many images at a time as both operands find room for in a slice; what was used
    last stays there. The pixels are a multiple of the array's side. Raises CompileError where too few images fit.
    """

    def __init__(self, code: Code, x: Tensor, exchanged: Tensor, result: Tensor, window: Window, channels: int):
        config = code.config
        self.code, self.config, self.x, self.exchanged, self.result, self.window = code, config, x, exchanged, result, window
        self.depth, self.c_blocks = Depth(config, window.rows), blocks_of(config, channels)
        self.image_rows, self.image_pixels = window.out_height * window.out_width, window.height * window.width
        assert window.rows % config.array.side == 0
        self.chunks = self.cut()
        # Slices: one or two for results, the others for moving tiles and for pixels.
        free = [*code.free_slices, code.staying]
        self.targets = free[-2:] if len(free) > 4 else free[-1:]
        others = free[:-len(self.targets)]
        share = 0 if exchanged in code.residents else len(others) if x in code.residents else len(others) // 2
        self.moving, self.pixels = Slots(others[:share]), Slots(others[share:])
        self.emit()

    def cut(self) -> list[Chunk]:
        """The batch in pieces; no wave crosses from one to the next."""
        config, window, depth, words = self.config, self.window, self.depth, self.config.buffers.slice_words
        tile, side = config.tile, config.array.side
        least = next(count for count in range(1, tile * config.beat_words + 1)
                     if count * self.image_rows % tile == 0 and count * self.image_pixels % config.beat_words == 0)
        moving = words // pitch_of(config, self.exchanged.rows) * side // self.image_rows
        most = min(moving, (words // depth.reach - 4) // self.image_pixels) // least * least
        if not most:
            raise CompileError(f"buffers.slice_words = {words} is too small for the weight gradient of {least} images of "
                               f"{self.image_pixels} pixels and {self.exchanged.rows} outputs")
        found, whole = [], window.rows // tile * tile
        if depth.remainder:
            first = whole // self.image_rows // least * least
            found.append(Chunk(first, window.images, whole, window.rows, depth.remainder))
        for first in range(0, ceil_div(whole, self.image_rows), most):
            stop = min(window.images, first + most)
            found.append(Chunk(first, stop, first * self.image_rows, min(whole, stop * self.image_rows), depth.reach))
        return found

    def emit(self):
        """Tile after tile of the result, between barriers."""
        config, reach = self.config, self.depth.reach
        self.code.sequencer.barrier()
        widths = {min(reach, self.c_blocks), (self.c_blocks - 1) % reach + 1}
        limit = row_limit(config, {mode_of(config, chunk.blocks, width) for chunk in self.chunks for width in widths})
        limit -= limit % config.beat_words
        number = 0
        for row in range(0, self.exchanged.rows, limit):
            rows = min(limit, self.exchanged.rows - row)
            for c_block in range(0, self.c_blocks, reach):
                width = min(reach, self.c_blocks - c_block)
                for tap in range(self.window.taps):
                    self.tile(number % 2, row, rows, c_block, width, tap)
                    number += 1
        self.code.sequencer.barrier()

    def tile(self, half: int, row: int, rows: int, c_block: int, width: int, tap: int):
        """Some outputs, up to two channel blocks, at one position of the kernel."""
        config, sequencer = self.config, self.code.sequencer
        for number, chunk in enumerate(self.chunks):
            mode, waves = mode_of(config, chunk.blocks, width), (chunk.row_stop - chunk.row) // (chunk.blocks * config.array.side)
            a, b = self.moving_of(chunk), self.pixels_of(chunk, c_block, width)
            sequencer.add("LdPixels", [b.slice], slice=b.slice, mode=mode, waves=waves, pitch=b.pitch,
                          **walk(self.window, chunk, tap, b.address))
            sequencer.add("LdLBUF_H", [a.slice], slice=a.slice, address=a.at(0, row).address, mode=mode, rate=mode.parts.bit_length() - 1,
                          rows=rows, waves=waves, pitch=a.pitch, wave_stride=chunk.blocks * a.pitch if waves > 1 else 0)
            sequencer.add("ExecGEMM", (), [("half", half)], mode=mode, rows=rows, waves=waves, half=half, accumulate=number > 0)
        target, pitch = self.targets[half % len(self.targets)], 2 * rows
        sequencer.add("StLBUF", [("half", half)], [target], half=half, wide=config.array.unit is Unit.SINGLE or width > 1, rows=rows,
                      output=Output.FP32, slice=target, address=0, pitch=pitch)
        self.code.transfer("DmaOut", target, 0, self.result.at(tap * self.c_blocks + c_block, row), pitch, chunks=width,
                           memory_stride=self.result.stride, buffer_stride=pitch)

    def moving_of(self, chunk: Chunk) -> Place:
        """Where a chunk's blocks of pixels are, from its first row on."""
        code, side = self.code, self.config.array.side
        first, stop = chunk.first * self.image_rows // side, ceil_div(chunk.stop * self.image_rows, side)
        if self.exchanged in code.residents:
            place = code.place(self.exchanged, blocks=(first, stop))
        else:
            index, fresh = self.moving.place((first, stop))
            place = Place(index, 0, pitch_of(self.config, self.exchanged.rows))
            if fresh:
                code.load(self.exchanged, place, blocks=(first, stop))
        return Place(place.slice, place.address + (chunk.row // side - first) * place.pitch, place.pitch)

    def pixels_of(self, chunk: Chunk, c_block: int, width: int) -> Place:
        """Where a chunk's images are, in up to two channel blocks."""
        blocks, rows = (c_block, c_block + width), (chunk.first * self.image_pixels, chunk.stop * self.image_pixels)
        if self.x in self.code.residents:
            return self.code.place(self.x, blocks=blocks, rows=rows)
        index, fresh = self.pixels.place((chunk.first, chunk.stop, c_block))
        place = Place(index, 0, pitch_of(self.config, rows[1] - rows[0]))
        if fresh:
            self.code.load(self.x, place, blocks=blocks, rows=rows)
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
