"""The configurations that have a name. Each is 1G1F; `Config.organise` derives the paper's other organisations."""

from gen.config import Array, Buffers, Config, Memory

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
    )
}
