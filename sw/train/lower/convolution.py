"""A convolution, or a product, of tensors that may stay on the chip: what layers are made of that serialise a mini-batch."""

from gen.isa import Output
from sw.compiler.emission import ADDRESSES
from sw.compiler.errors import CompileError
from sw.compiler.layout import blocks_of, ceil_div, pitch_of
from sw.compiler.tiling import FLOAT, Gemm, Share
from sw.compiler.window import Window
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place, Range
from sw.train.lower.slots import Slots


class Convolution:
    """result = patches of x times stationary tiles (`pack_stationary`'s order); bf16, or fp32 where the result has two planes.

    Some images at a time, all channels of which lie in a slice (in several, if that is too small for any); all images where x and result
    stay on the chip. Stationary tiles are read for each such piece, an n tile's waves as many at a time as a slice holds.
    """

    def __init__(self, code: Code, x: Tensor, stationary: Tensor, result: Tensor, window: Window, k: int, n: int):
        config = code.config
        self.code, self.config, self.x, self.stationary, self.result, self.window = code, config, x, stationary, result, window
        self.in_pixels, self.out_pixels = window.height * window.width, window.out_height * window.out_width
        gemm = Gemm(m=window.rows, n=n, k=k, a_dtype=FLOAT, b_dtype=FLOAT, output="fp32" if result.planes == 2 else FLOAT, window=window)
        n_tiles = ceil_div(blocks_of(config, n), config.tile // config.array.side)
        self.share = Share(config, gemm, 0, window.rows, 0, n_tiles, resident=True)
        self.depth, self.walk, self.k_blocks = self.share.depth, self.share.walk, self.share.depth.blocks
        self.widths = [self.share.width(number) for number in range(n_tiles)]
        self.limit = self.share.row_limit()
        self.limit -= self.limit % 4 if self.limit > 4 else 0
        self.half = 0
        self.sources: list[tuple[Range, Place]] = []    # of the present piece: channel blocks, and where they are
        self.emit()

    def emit(self):
        """All of it, between barriers."""
        code = self.code
        code.sequencer.barrier()
        free = [*code.free_slices, code.staying]
        stays = [tensor in code.residents for tensor in (self.x, self.result)]
        pieces = self.images()
        # Slices for pixels, for results, the others for stationary tiles.
        pitch = pitch_of(self.config, (pieces[0][1] - pieces[0][0]) * self.in_pixels)
        reach, words = self.depth.reach, self.config.buffers.slice_words
        fitting = self.k_blocks if stays[0] or self.k_blocks * pitch <= words else words // pitch // reach * reach
        together = ceil_div(self.k_blocks, fitting)
        needed = (0 if stays[0] else together), (0 if stays[1] else 1)
        if len(free) <= sum(needed):
            raise CompileError("a convolution finds too few free slices of the global buffer")
        sources, targets, free = free[:needed[0]], free[needed[0]:sum(needed)], free[sum(needed):]
        if len(free) > 3 + sum(needed):
            sources, targets, free = sources + free[:needed[0]], targets + free[needed[0]:sum(needed)], free[sum(needed):]
        self.tiles = Slots(free[:4])
        if self.walk:
            code.sequencer.add("SetConv", **self.walk.geometry(1))
        number = 0
        for piece, images in enumerate(pieces):
            self.sources = []
            for part, first in enumerate(range(0, self.k_blocks, fitting)):
                blocks = first, min(self.k_blocks, first + fitting)
                place = self.place(self.x, sources and sources[(piece * together + part) % len(sources)], images, self.in_pixels, blocks)
                code.load(self.x, place, blocks=blocks, rows=(images[0] * self.in_pixels, images[1] * self.in_pixels))
                self.sources.append((blocks, place))
            for n_tile, width in enumerate(self.widths):
                blocks = n_tile * self.depth.reach, n_tile * self.depth.reach + width
                target = self.place(self.result, targets and targets[number % len(targets)], images, self.out_pixels, blocks)
                self.n_tile(target, images, n_tile, width)
                code.store(self.result, target, blocks=blocks, rows=(images[0] * self.out_pixels, images[1] * self.out_pixels))
                number += 1
        code.sequencer.barrier()

    def images(self) -> list[Range]:
        """Pieces of the batch: as many images as fit a slice, where they do not stay on the chip."""
        count, words, beat = self.window.images, self.config.buffers.slice_words, self.config.beat_words
        most, planes = count, self.result.planes
        if self.x not in self.code.residents:
            fitting = next((images for images in range(count, 0, -1)
                            if pitch_of(self.config, images * self.in_pixels) * self.k_blocks <= words), 0)
            if fitting < beat and pitch_of(self.config, beat * self.in_pixels) * self.depth.reach <= words:
                fitting = beat      # in several slices
            most = min(most, fitting)
        if self.result not in self.code.residents:
            most = min(most, words // (max(self.widths) * planes) // self.out_pixels)
        most -= most % beat
        if not most:
            raise CompileError(f"buffers.slice_words = {words} is too small for {beat} images of {self.in_pixels} pixels in {self.k_blocks}"
                               f" channel blocks, or of {self.out_pixels} results")
        return [(first, min(count, first + most)) for first in range(0, count, most)]

    def place(self, tensor: Tensor, index: int | list[int], images: Range, pixels: int, blocks: Range) -> Place:
        """Where these images of a tensor are, or will be in the slice `index`."""
        rows, free = (images[0] * pixels, images[1] * pixels), iter([index] if isinstance(index, int) else index)
        return self.code.place(tensor, free, blocks=blocks, rows=rows, apart=tensor is self.x)

    def n_tile(self, target: Place, images: Range, n_tile: int, width: int):
        """Up to two blocks of outputs for all pixels of some images."""
        sequencer, rows = self.code.sequencer, (images[1] - images[0]) * self.out_pixels
        for row in range(0, rows, self.limit):
            count = min(self.limit, rows - row)
            for wave in range(self.depth.waves):
                self.wave(n_tile, width, wave, row, count)
            planes = self.result.planes
            sequencer.add("StLBUF", [("half", self.half)], [target.slice], half=self.half,
                          wide=self.share.stores_wide(width), rows=count,
                          output=Output.FP32 if planes == 2 else Output.BF16, slice=target.slice, address=target.at(0, row).address,
                          pitch=target.pitch * planes)
            self.half ^= 1

    def wave(self, n_tile: int, width: int, wave: int, row: int, rows: int):
        """A wave along k at all positions of the kernel."""
        sequencer, taps, depth = self.code.sequencer, self.window.taps, self.depth
        mode = self.share.mode(wave, width)
        index, address = self.stationary_tiles(n_tile, width, wave)
        (first, _), source = next(item for item in self.sources if item[0][0] <= depth.block(wave) < item[0][1])
        block = depth.block(wave) - first
        moving, rate = {"address": source.at(block, row).address}, self.share.rate(mode, row, rows)
        if self.walk:
            x, y, pixel = self.walk.place(row)
            moving = {"address": (source.at(block).address + pixel) % ADDRESSES, "im2col": 1, "start_x": x, "start_y": y}
        sequencer.add("LdLBUF_V", [index], slice=index, address=address, mode=mode, waves=taps)
        sequencer.add("LdLBUF_H", [source.slice], slice=source.slice, mode=mode, rate=rate, rows=rows, waves=taps, pitch=source.pitch,
                      **moving)
        sequencer.add("ExecGEMM", (), [("half", self.half)], mode=mode, rows=rows, waves=taps, half=self.half, accumulate=wave > 0)

    def stationary_tiles(self, n_tile: int, width: int, wave: int) -> tuple[int, int]:
        """The slice and the address of a wave's tiles; loads as many waves as a slice holds."""
        depth, words = self.depth, self.config.buffers.slice_words
        block = self.window.taps * self.config.array.side * width       # words of a block along k
        if depth.reach * block > words:
            raise CompileError(f"buffers.slice_words = {words} is outside {depth.reach * block}..65536 words for a kernel of "
                               f"{self.window.taps} positions")
        together = words // (depth.reach * block)
        first = wave // together * together
        index, fresh = self.tiles.place((n_tile, first))
        origin = n_tile * depth.reach * self.k_blocks * self.window.taps * self.config.array.side
        if fresh:
            stop = min(depth.waves, first + together)
            begin, end = depth.position(first), depth.position(stop - 1) + depth.depth(stop - 1)
            self.code.transfer("DmaIn", index, 0, self.stationary.at(0, origin + begin * block), (end - begin) * block)
        return index, (depth.position(wave) - depth.position(first)) * block
