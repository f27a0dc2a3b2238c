"""Weight gradients with LdPixels: random windows over images, the instruction's fields for one, and programs of one product each."""

from dataclasses import dataclass

import numpy as np

from gen.config import Config, Unit
from gen.isa import Instruction, Mode, Output
from sw.compiler.layout import pack_moving, pitch_of
from sw.compiler.window import Window
from sw.golden import bfloat16
from tb.sw.float_works import numbers

SPACE = 1 << 16             # addresses in a slice, and their differences
SLICES = {"moving": 0, "pixels": 1, "results": 2}
PIXELS, MOVING, WAVES, STORED, ALL = 1, 2, 4, 8, 16       # tokens


def random_window(rng: np.random.Generator, most: int = 7) -> Window:
    """One to three small images, kernels up to 3 x 3, strides 1 and 2 (now and then 3), any padding the kernel reaches over."""
    height, width = (int(size) for size in rng.integers(1, most, 2))
    padding = tuple(int(pad) for pad in rng.integers(0, 3, 4))
    kernel = tuple(int(rng.integers(1, min(3, size + padding[axis] + padding[axis + 2]) + 1)) for axis, size in enumerate((height, width)))
    return Window(images=int(rng.integers(1, 4)), height=height, width=width, kernel=kernel,  # type: ignore[arg-type]
                  stride=int(rng.choice([1, 1, 2, 2, 3])), padding=padding)  # type: ignore[arg-type]


def fields_of(window: Window, position: tuple[int, int], first: int, base: int) -> dict[str, int]:
    """The fields of a LdPixels that begins with output pixel `first` (of all images) at a kernel position; the images begin in `base`."""
    stride, (top, left) = window.stride, window.padding[:2]
    first_line, first_column = position[0] - top, position[1] - left
    right, down = (window.out_width - 1) * stride, (window.out_height - 1) * stride
    image, place = divmod(first, window.out_height * window.out_width)
    line, column = place // window.out_width * stride + first_line, place % window.out_width * stride + first_column
    words = {
        "address": base + (image * window.height + line) * window.width + column, "x_step": stride,
        "row_step": stride * window.width - right, "image_step": (window.height - down) * window.width - right,
    }
    return {name: value % SPACE for name, value in words.items()} | {
        "column": column, "line": line, "first_column": first_column, "last_column": first_column + right, "first_line": first_line,
        "last_line": first_line + down, "in_width": window.width, "in_height": window.height, "stride": stride}


def input_pixel(window: Window, position: tuple[int, int], pixel: int) -> int | None:
    """Of an output pixel, counted over all images, the number of its input pixel at a kernel position; None outside the image."""
    image, y, x = np.unravel_index(pixel, (1 << 16, window.out_height, window.out_width))
    line, column = int(y) * window.stride - window.padding[0] + position[0], int(x) * window.stride - window.padding[1] + position[1]
    if line not in range(window.height) or column not in range(window.width):
        return None
    return (int(image) * window.height + line) * window.width + column


@dataclass(frozen=True)
class Gradient:
    """A program whose tiles are dY^T x im2col(X) at a kernel position each: instructions, memory, and where what results lies there."""

    instructions: list[Instruction]
    memory: np.ndarray
    result: int
    wanted: np.ndarray      # bits of the fp32 sums, as StLBUF writes them: tile, block, row, half, column


def random_gradient(rng: np.random.Generator, config: Config) -> Gradient:
    """A few kernel positions of a random window. The waves along the pixels are cut into runs of a mode each."""
    side, space = config.array.side, config.buffers.slice_words
    flex, single = config.array.unit is Unit.FLEX, config.array.unit is Unit.SINGLE
    group = int(rng.integers(config.array.groups))
    blocks = int(rng.integers(1, 3)) if flex else 1
    while True:
        window, outputs = random_window(rng), int(rng.integers(1, 2 * side + 3))
        runs = _runs(rng, config, window.rows, blocks)
        k = sum(count * pixels for _, count, pixels in runs)
        pitch, moving_pitch = pitch_of(config, window.pixels), pitch_of(config, outputs)
        if blocks * pitch <= space and k // side * moving_pitch <= space and min(config.narrow_rows, 2 * config.moving_capacity) >= outputs:
            break
    channels = (blocks - 1) * side + int(rng.integers(1, side + 1))
    x, dy = numbers(rng, (window.pixels, channels), 0), numbers(rng, (window.rows, outputs), 0)
    a = np.zeros((outputs, k), np.float32)
    a[:, :window.rows] = dy.T
    base = int(rng.integers(0, space - blocks * pitch + 1)) // config.beat_words * config.beat_words
    regions = {"moving": pack_moving(config, a), "pixels": pack_moving(config, x)}
    positions = [divmod(int(number), window.kernel[1]) for number in rng.permutation(window.taps)]
    rows = outputs + -outputs % config.beat_words
    most = max(1, min(space // (2 * rows * blocks), 5))
    positions = positions[:most]

    beat, size = config.memory.bytes_per_cycle, config.word_bytes
    place = regions["moving"].size
    result = place + regions["pixels"].size
    memory = np.zeros(result + len(positions) * blocks * rows * 2 * size, np.uint8)
    memory[:place], memory[place:result] = regions["moving"], regions["pixels"]
    lines = [regions["moving"].size // (k // side) // beat, regions["pixels"].size // blocks // beat]    # beats of a block
    program = [
        Instruction("DmaIn", signal=PIXELS, memory=place, slice=SLICES["pixels"], address=base, chunks=blocks, beats=lines[1],
                    memory_stride=lines[1] * beat, buffer_stride=pitch),
        Instruction("DmaIn", signal=MOVING, slice=SLICES["moving"], chunks=k // side, beats=lines[0], memory_stride=lines[0] * beat,
                    buffer_stride=moving_pitch),
    ]
    wanted = []
    for tile, position in enumerate(positions):
        b = np.zeros((k, blocks * side), np.float32)
        for pixel in range(window.rows):
            source = input_pixel(window, position, pixel)
            b[pixel, :channels] = 0 if source is None else x[source]
        first, slices = 0, []
        for number, (mode, count, pixels) in enumerate(runs):
            common, last = {"mode": mode, "waves": count}, number == len(runs) - 1
            program += [
                Instruction("LdPixels", wait=PIXELS if tile + number == 0 else 0, slice=SLICES["pixels"], pitch=pitch, **common,
                            **fields_of(window, position, first, base)),
                Instruction("LdLBUF_H", wait=MOVING if tile + number == 0 else 0, slice=SLICES["moving"], rows=outputs,
                            address=first // side * moving_pitch, rate=mode.parts.bit_length() - 1, pitch=moving_pitch,
                            wave_stride=pixels // side * moving_pitch, **common),
                Instruction("ExecGEMM", wait=STORED if tile > 1 and number == 0 else 0, signal=WAVES * last, rows=outputs, half=tile & 1,
                            accumulate=int(number > 0), **common),
            ]
            slices += [slice(first + wave * pixels, first + (wave + 1) * pixels) for wave in range(count)]
            first += count * pixels
        program.append(Instruction("StLBUF", wait=WAVES, signal=STORED | ALL * (tile == len(positions) - 1), half=tile & 1,
                                   wide=int(single or blocks > 1), rows=outputs, output=Output.FP32, slice=SLICES["results"],
                                   address=2 * tile * blocks * rows, pitch=2 * rows))
        sums = bfloat16.matmul(a, b, slices).view("<u4").reshape(outputs, blocks, side).transpose(1, 0, 2)
        wanted.append(np.stack([sums & 0xFFFF, sums >> 16], axis=2).astype("<u2"))
    program += [Instruction("DmaOut", wait=ALL, memory=result, slice=SLICES["results"],
                            beats=len(positions) * blocks * rows * 2 // config.beat_words), Instruction("End")]
    for instruction in program:
        instruction.values["group"] = group
    return Gradient(program, memory, result, np.stack(wanted))


def _runs(rng: np.random.Generator, config: Config, pixels: int, blocks: int) -> list[tuple[Mode, int, int]]:
    """Waves that cover so many pixels: mode, number of waves, pixels of each, run after run."""
    side, found = config.array.side, []
    while pixels > 0:
        if config.array.unit is Unit.FLEX:
            mode = Mode(2 * int(rng.integers(2)) + (blocks == 1))
            each = 2 * side if mode.tall else side
        else:
            mode, each = Mode.ISW if config.array.unit is Unit.QUAD else Mode.FW, side
        count = int(rng.integers(1, -(-pixels // each) + 1))
        found.append((mode, count, each))
        pixels -= count * each
    return found


def found_in(work: Gradient, memory: np.ndarray) -> np.ndarray:
    """The results in a memory, like `Gradient.wanted`."""
    tiles, blocks, outputs, _, side = work.wanted.shape
    data = memory[work.result:].view("<u2")
    return data.reshape(tiles, blocks, -1, 2, side)[:, :, :outputs]
