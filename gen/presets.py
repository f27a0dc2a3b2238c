"""The configurations that have a name. Each is 1G1F; `Config.organise` derives the paper's other organisations, `as_bf16` the machines
that train."""

from gen.config import Array, Buffers, Config, Memory, Vector

PRESETS = {
    config.name: config
    for config in (
        Config(
            name="tiny",
            array=Array(side=2),
            buffers=Buffers(moving_words=64, accumulator_words=16, slice_words=256, store_lanes=2),
            memory=Memory(bytes_per_cycle=4),
        ),
        Config(
            name="small",
            array=Array(side=4),
            buffers=Buffers(moving_words=256, accumulator_words=32, slice_words=1024, store_lanes=4),
            memory=Memory(bytes_per_cycle=8),
        ),
        Config(name="base"),
        Config(
            name="paper",
            array=Array(side=64),
            buffers=Buffers(moving_words=2048, accumulator_words=256, slice_words=16384, store_lanes=64),
            memory=Memory(bytes_per_cycle=256),
        ),
        # Machines for boards: the arrays of `base` and `tiny` in fewer LUTs (slices cost multiplexers, store lanes requantisers).
        Config(name="ulx3s", buffers=Buffers(slices=4, slice_words=4096, store_lanes=2), vector=Vector(window=0)),
        Config(
            name="orangecrab",
            array=Array(side=2),
            buffers=Buffers(moving_words=64, accumulator_words=16, slices=3, slice_words=4096, store_lanes=1),
            memory=Memory(bytes_per_cycle=4, latency=4),
            vector=Vector(window=0),
        ),
        # Units for boards too small for a machine: the host has the slices. A wave has many rows, so that the link carries little besides.
        Config(
            name="icebreaker",
            array=Array(side=2, multiplier_latency=1),
            buffers=Buffers(moving_words=256, stationary_tiles=4, accumulator_words=64, store_lanes=1),
            memory=Memory(bytes_per_cycle=4),
            vector=Vector(window=0),
        ),
        Config(
            name="tang-nano-9k",
            array=Array(side=2),
            buffers=Buffers(moving_words=512, accumulator_words=128, store_lanes=1),
            memory=Memory(bytes_per_cycle=4),
            vector=Vector(window=0),
        ),
    )
}
FLOATING = "-bf16"      # behind a preset's name: its machine for bf16 numbers


def preset(name: str) -> Config | None:
    """The preset of that name, or a preset's machine for bf16 numbers; None if there is none."""
    if name in PRESETS:
        return PRESETS[name]
    return PRESETS[name.removesuffix(FLOATING)].as_bf16() if name.endswith(FLOATING) and name.removesuffix(FLOATING) in PRESETS else None
