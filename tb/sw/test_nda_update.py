"""Momentum and weight decay on the near-data units: bits of the golden rule (through units that read the launch registers), bytes, time."""

import numpy as np
import pytest

from gen.dram import DramConfig, part, replace
from gen.traffic import Workload
from sw.dram import metrics, svrg
from sw.dram.allocate import NdaError
from sw.dram.blas import Mismatch, Nda
from sw.dram.engines import model
from sw.golden.float32 import add, multiply
from sw.golden.training import momentum_step
from sw.train import nda_update
from sw.train.nda_update import NearDataUpdate
from sw.train.network import digits_resnet
from tb.sw.nda_standin import StandIn
from tb.sw.test_nda_golden import floats

MEMORIES = {
    "one channel of two ranks": DramConfig(part=part("ddr4-2400r"), channels=1, ranks=2),
    "two channels of two ranks, not hashed": replace(DramConfig(part=part("ddr4-2400r")), channels=2, ranks=2, hashed=False),
    "ranks change every 4 columns": svrg.system(2, 4),
}
RULE = {"rate": 0.05, "momentum": 0.9, "decay": 5e-4}


def network(rng: np.random.Generator, *, special: float = 0.2) -> dict[str, np.ndarray]:
    """Parameters of many forms, none of them whole blocks but one."""
    shapes = {"first.weight": (3, 3, 5, 7), "bias": (1,), "gamma": (16,), "matrix": (int(rng.integers(1, 90)), 33)}
    return {name: floats(rng, *shape, special=special) for name, shape in shapes.items()}


def bits(values: dict[str, np.ndarray]) -> dict[str, tuple]:
    return {name: (value.shape, value.dtype, value.tobytes()) for name, value in values.items()}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("seed", range(4))
def test_bits_are_the_golden_rule(memory, seed):
    """Three steps with zeros, subnormal numbers, infinities and NaNs among the numbers; the units write nowhere else (StandIn)."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    weights, velocities = network(rng), network(np.random.default_rng(seed))
    colour = int(rng.integers(MEMORIES[memory].colours)) if seed else None
    update = NearDataUpdate(Nda(MEMORIES[memory], StandIn(), "stochastic-4", seed=seed, grain=seed % 2), weights, velocities, colour=colour)
    assert bits(update.parameters) == bits(weights) and bits(update.velocities) == bits(velocities)
    for number in range(3):
        rule = RULE if number == 0 else {name: float(abs(value)) for name, value in zip(RULE, floats(rng, 3, special=0))}
        rule = rule | [{}, {"decay": 0.0}, {"momentum": 0.0}][number]
        gradients = {name: floats(rng, *value.shape, special=0.2) for name, value in weights.items()}
        found = update.step(gradients, **rule)
        for name in weights:
            weights[name], velocities[name] = momentum_step(weights[name], velocities[name], gradients[name], **rule)
        assert bits(update.parameters) == bits(weights) and bits(update.velocities) == bits(velocities)
        assert (found.cycles, found.host_bytes, found.unit_bytes) == (None, None, None)
    assert np.isnan(weights["first.weight"]).any() and np.isfinite(weights["first.weight"]).any()


def test_the_comparison_sees_a_rounding():
    """Numbers as above, added in another order or rounded once less, give other bits: the test above can fail."""
    rng = np.random.default_rng(0)
    w, v, g = floats(rng, 3, 2000, special=0)
    weight, velocity = momentum_step(w, v, g, **RULE)
    rate, momentum, decay = (np.float32(RULE[name]) for name in ("rate", "momentum", "decay"))
    other = add(add(multiply(momentum, v), g), multiply(decay, w))
    assert 0 < (other != velocity).sum() < 2000
    fused = (velocity.astype(np.float64) * float(-rate) + w).astype(np.float32)
    assert 0 < (fused != weight).sum() < 2000


def test_a_wrong_unit_is_found():
    class Wrong(StandIn):
        def play(self, config, launches, load, store):
            played = super().play(config, launches, load, store)
            assert played.blocks is not None
            place = store[0]
            played.blocks[place] = bytes([played.blocks[place][0] ^ 1]) + played.blocks[place][1:]
            return played

    values = {"w": np.ones(40, np.float32)}
    with pytest.raises(Mismatch, match="axpbypcz, axpy: channel, rank, bank, row, column"):
        NearDataUpdate(Nda(svrg.system(1, 2), Wrong()), values).step(values, **RULE)


def test_a_network_on_the_model():
    """A whole network: cycles and bytes are those of its launches on the cycle model, whatever the numbers."""
    seed = 3
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    weights = digits_resnet().parameters(seed)
    gradients = {name: floats(rng, *value.shape, special=0) for name, value in weights.items()}
    config = MEMORIES["one channel of two ranks"]
    update = NearDataUpdate(Nda(config, "model", "next-rank"), weights)
    found = update.step(gradients, **RULE)
    for name, value in weights.items():
        wanted = momentum_step(value, np.zeros_like(value), gradients[name], **RULE)
        assert (update.parameters[name].tobytes(), update.velocities[name].tobytes()) == tuple(item.tobytes() for item in wanted)
    assert update.elements == sum(value.size for value in weights.values()) <= update.padded
    blocks = sum(-(-value.size // 16) for value in weights.values())
    assert update.padded == 16 * blocks
    assert found.launches == 2 * config.channels * config.ranks and found.host_bytes == 64 * found.launches
    assert found.unit_bytes == nda_update.UNIT_BYTES * 16 * blocks
    alone = model(config, Workload(launches=nda_update.launches(config, update.padded, "next-rank")))
    assert found.cycles == alone.cycles > update.padded * nda_update.UNIT_BYTES / 64 * 4 / 2      # two ranks' peak
    assert metrics.violations(config, alone) == []
    small = NearDataUpdate(Nda(config, "model", grain=1), weights).step(gradients, **RULE)
    assert small.launches > found.launches and (small.unit_bytes, small.host_bytes) == (found.unit_bytes, 64 * small.launches)


def test_host_traffic():
    """Every block of w and v is read and then written, every one of g is read: 20 bytes an element."""
    core = nda_update.host_core(1000)
    assert len(core.blocks) * 64 == nda_update.HOST_BYTES * 63 * 16
    reads, writes = core.blocks[~core.writes], core.blocks[core.writes]
    assert sorted(reads.tolist()) == list(range(3 * 63)) and sorted(writes.tolist()) == list(range(2 * 63))
    order = {(int(block), bool(write)): number for number, (block, write) in enumerate(zip(core.blocks, core.writes))}
    for block in range(63):
        assert max(order[block + 63 * vector, False] for vector in range(3)) < min(order[block, True], order[block + 63, True])


def test_beside_other_traffic():
    config, elements = MEMORIES["one channel of two ranks"], 20_000
    found = nda_update.beside(config, elements, host="mix4", requests=4000, seed=1)
    host, units = found["host"], found["units"]
    assert host.channel_bytes == nda_update.HOST_BYTES * elements and host.unit_bytes == 0
    assert units.channel_bytes == 64 * 4 and units.unit_bytes == nda_update.UNIT_BYTES * elements
    assert host.traffic_alone == units.traffic_alone > max(host.update, units.update)       # there is other traffic all the time
    for one in (host, units):
        assert one.update_alone < one.update
    assert units.slowdown < 1.01 < host.slowdown


def refused(text: str, function, *arguments, **named) -> None:
    with pytest.raises(NdaError) as caught:
        function(*arguments, **named)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes():
    engine = StandIn()
    nda, one = Nda(svrg.system(1, 2), engine), {"a": np.ones((4, 5), np.float32), "b": np.ones(3, np.float32)}
    update = NearDataUpdate(nda, one)
    refused("gradients: b in one of the two sets of names only", update.step, {"a": one["a"]}, **RULE)
    refused("gradients: b is float32 (4,), allowed is float32 (3,)", update.step, one | {"b": np.ones(4, np.float32)}, **RULE)
    refused("gradients: b is float64 (3,)", update.step, one | {"b": np.ones(3)}, **RULE)
    refused("rate = inf is not finite", update.step, one, **RULE | {"rate": float("inf")})
    refused("momentum = nan is not finite", update.step, one, **RULE | {"momentum": float("nan")})
    refused("rate = 1e+39 is outside", update.step, one, **RULE | {"rate": 1e39})
    assert engine.runs == 0 and bits(update.parameters) == bits(one)      # a refused step has done nothing
    refused("parameters: no elements", NearDataUpdate, nda, {})
    refused("parameters: no elements", NearDataUpdate, nda, {"a": np.ones(0, np.float32)})
    refused("velocities: b in one", NearDataUpdate, nda, one, {"a": one["a"]})
    refused("parameters: a is int32 (3,)", NearDataUpdate, nda, {"a": np.ones(3, np.int32)})
    refused("consecutive frames", NearDataUpdate, nda, {"a": np.broadcast_to(np.float32(0), (1 << 14, 1 << 14))})
