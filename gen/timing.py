"""Pipeline latencies in cycles: the constants that RTL and cycle model share. `rtl/README.md` defines each event they lie between."""

from gen.config import Config

LOAD_LATENCY = 5          # a loader's decision to its tile being readable, when rows arrive at full rate
LBUF_LATENCY = 2          # a read issued to an LBUF to the word at the array's port
ACCUMULATOR_LATENCY = 4   # least interval of waves that add to the same OBUF words, but for the registers of a floating-point adder
FETCH_LATENCY = 4         # OBUF read issued to the words of its lanes
STORE_LATENCY = 18        # last OBUF read of a store to its words in the global buffer
ADD_LATENCY = 7           # what a residual adds to STORE_LATENCY
SET_ADD_LATENCY = 1       # last issue cycle of a SetAdd to its being done
POOL_LATENCY = 2          # last word of a window read to its first columns in the place of sums from an OBUF
SCALE_LATENCY = 7         # last global-buffer read of an LdScale to the parameters being usable
VECTOR_LATENCY = 13       # last read of a Vector to its words being readable
FOLD_LATENCY = 17         # what a sum of a stream's elements adds to it
DIVIDE_INTERVAL, ROOT_INTERVAL = 27, 26     # of a column's division (square root) to the next one's
LANES_LATENCY = 6         # what a register's divisions (square roots) take besides these
TRANSPOSE_LATENCY = 7     # last word of a Transpose leaving the square to its being readable
LANES_STEP = 5            # what a step of a sum of neighbouring columns takes besides a cycle a column
LANES_START = 3           # a VectorLanes' decision to the first step of such a sum
TOKEN_LATENCY = 2         # tokens asserted to their being visible
QUIET_LATENCY = 1         # the last unit being idle to a Barrier or End leaving
DMA_OUT_LATENCY = 6       # DmaOut's decision to its first beat offered to the memory port
ASK_LATENCY = 3           # DmaIn's decision to its first beat offered to the memory port
DMA_IN_LATENCY = 2        # last beat at the memory port to DmaIn being idle


def accumulator_latency(config: Config) -> int:
    """Least interval of waves that add to the same OBUF words."""
    return ACCUMULATOR_LATENCY + (config.array.row_latency if config.floating else 0)


def array_latency(config: Config) -> int:
    """From core 0's last moving word at the array's port to the wave's last result at the array's edge."""
    array, far = config.array, config.core_offset(3)
    return far + 1 + array.row_latency * array.side + (array.side - 1) + array.multiplier_latency


def drain(config: Config) -> int:
    """From the last moving row of a wave being issued to its last accumulator being written: when ExecGEMM signals."""
    return LBUF_LATENCY + array_latency(config) + accumulator_latency(config)


def penalty(config: Config) -> int:
    """Cycles that a short wave behind a tall one in the same half waits beyond the interval.

    Its results leave `side` rows earlier, and it comes to a word in half the steps: what is added keeps reads of an OBUF word
    `accumulator_latency` apart for waves of few rows.
    """
    return config.array.side * config.array.row_latency + (accumulator_latency(config) + 1) // 2 - 1


def interval(config: Config, streamed: int) -> int:
    """Cycles a wave occupies the array in steady state."""
    return max(streamed, config.array.side, accumulator_latency(config))
