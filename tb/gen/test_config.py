"""Configurations: TOML round trip, refusals, presets and organisations."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen.config import ORGANISATIONS, SECTIONS, Config, ConfigError, Unit
from gen.presets import PRESETS


def _field(item):
    """A strategy for one field, in and around its range."""
    meta = item.metadata
    if "low" not in meta:
        return st.sampled_from([str(unit) for unit in Unit])
    if meta["power_of_two"]:
        return st.sampled_from([1 << i for i in range(16) if meta["low"] <= 1 << i <= meta["high"]])
    return st.integers(meta["low"], meta["high"])


def _section(kind):
    return st.fixed_dictionaries({}, optional={item.name: _field(item) for item in dataclasses.fields(kind)})


sections = st.fixed_dictionaries({}, optional={name: _section(kind) for name, kind in SECTIONS.items()})
INTEGERS = [(name, item) for name, kind in SECTIONS.items() for item in dataclasses.fields(kind) if "low" in item.metadata]


@given(sections)
def test_toml_round_trip(data):
    try:
        config = Config.from_dict(data)
    except ConfigError as error:
        assert "\n" not in str(error) and "=" in str(error)
        return
    again = Config.from_toml(config.to_toml())
    assert again == config and again.digest() == config.digest()
    assert Config.from_dict(config.to_dict()) == config


@given(st.sampled_from(INTEGERS), st.booleans())
def test_out_of_range(field, above):
    section, item = field
    value = item.metadata["high"] * 2 if above else item.metadata["low"] - 1
    allowed = rf"{item.metadata['low']}\.\.{item.metadata['high']}"
    with pytest.raises(ConfigError, match=rf"^{section}\.{item.name} = {value} is outside {allowed} "):
        Config.from_dict({section: {item.name: value}})


@pytest.mark.parametrize("name", ["tiny", "small", "base", "paper"])
@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_presets_for_bf16(name, organisation):
    integers, floating = PRESETS[name].organise(organisation), Config.load(f"{name}-bf16").organise(organisation)
    assert Config.from_toml(floating.to_toml()) == floating
    assert floating.pes == integers.pes and floating.beat_words == integers.beat_words and floating.digest() != integers.digest()
    assert floating.as_bf16().digest() == floating.digest()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_presets_and_organisations(name, organisation):
    preset = PRESETS[name]
    config = preset.organise(organisation)
    assert config.organisation == organisation
    assert config.pes == preset.pes
    assert Config.from_toml(config.to_toml()) == config
    total = config.array.groups * config.buffers.slices * config.buffers.slice_words * config.array.side
    assert total == preset.buffers.slices * preset.buffers.slice_words * preset.array.side


@pytest.mark.parametrize("text, message", [
    ("[array]\nsid = 8", "array.sid is not a field, did you mean 'side'?"),
    ("[aray]\nside = 8", "aray is not a field, did you mean 'array'?"),
    ("[array]\nside = 6", "array.side = 6 must be a power of two in 1..128 PEs"),
    ("[array]\nside = 256", "array.side = 256 is outside 1..128 PEs"),
    ("[array]\nside = 8.0", "array.side must be an integer, not 8.0"),
    ("[array]\nside = true", "array.side must be an integer, not True"),
    ("[array]\nunit = 'flexible'", "array.unit = 'flexible' is none of flex, quad, single"),
    ("[array]\ndtype = 'fp8'", "array.dtype = 'fp8' is none of int8, bf16"),
    ("[array]\ndtype = 'bf16'", "vector.window = 256 is outside 0..0 pixels with array.dtype = 'bf16'"),
    ("[array]\ndtype = 'bf16'\n[memory]\nbytes_per_cycle = 8\n[vector]\nwindow = 0",
     "memory.bytes_per_cycle = 8 is outside 16..256 bytes (1..16 words)"),
    ("array = 3", "array = 3 must be a table"),
    ("name = 'two words'", "name = 'two words' must be a word of letters, digits, - and _"),
    ("[memory]\nbytes_per_cycle = 4", "memory.bytes_per_cycle = 4 is outside 8..128 bytes (1..16 words)"),
    ("[buffers]\nstore_lanes = 16", "buffers.store_lanes = 16 is outside 1..8 columns (array.side)"),
])
def test_refusals(text, message):
    with pytest.raises(ConfigError) as caught:
        Config.from_toml(text)
    assert str(caught.value) == message


def test_not_toml():
    with pytest.raises(ConfigError, match=r"^not valid TOML: .*line 1, column 6"):
        Config.from_toml("name base")


def test_unknown_organisation():
    with pytest.raises(ConfigError, match="organisation = '2G1F' is none of 1G1C, 1G4C, 4G4C, 1G1F, 4G1F"):
        PRESETS["tiny"].organise("2G1F")
    with pytest.raises(ConfigError, match="can only be derived from a 1G1F configuration, not 4G4C"):
        PRESETS["tiny"].organise("4G4C").organise("1G1C")


def test_a_fetch_burst_must_fit_the_instruction_buffer():
    paper = PRESETS["paper"]
    with pytest.raises(ConfigError, match=r"^control.fetch_depth = 16 is outside 32..256 instructions \(one fetch burst\)$"):
        dataclasses.replace(paper, memory=dataclasses.replace(paper.memory, bytes_per_cycle=1024),
                            control=dataclasses.replace(paper.control, fetch_depth=16))
