"""The DRAM command trace: what is written is read again, and what is malformed is named."""

import random

import numpy as np
import pytest

from sw.dram import commands as trace
from sw.dram.commands import HEADER, NAMES, PREA, REF, SOURCES, Commands, TraceError, read, write

EXAMPLE = f"""{HEADER}
0,0,0,,,PREA,,,host
17,0,0,,,REF,,,host
437,1,0,3,2,ACT,65535,,nda
453,1,0,3,2,RDA,,1016,nda
454,0,3,0,0,WR,12,0,host
12345678901,0,0,0,1,PRE,,,host
"""


def columns(commands: Commands) -> list[list[int]]:
    return [getattr(commands, name).tolist() for name in HEADER.split(",")]


def random_commands(draw: random.Random, length: int) -> Commands:
    generator = np.random.default_rng(draw.randrange(1 << 32))
    command = generator.integers(0, len(NAMES), length)
    banked, column = ~np.isin(command, (PREA, REF)), np.isin(command, (3, 4, 5, 6))
    named = banked & ((command == 0) | (generator.random(length) < 0.3))
    return Commands(np.cumsum(generator.integers(0, 10 ** draw.randrange(1, 6), length)), generator.integers(0, 2, length),
                    generator.integers(0, 11, length), np.where(banked, generator.integers(0, 4, length), -1),
                    np.where(banked, generator.integers(0, 4, length), -1), command,
                    np.where(named, generator.integers(0, 1 << 16, length), -1),
                    np.where(column, generator.integers(0, 1024, length), -1), generator.integers(0, 2, length))


def test_example(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(EXAMPLE)
    commands = read(path)
    assert [NAMES[code] for code in commands.command] == ["PREA", "REF", "ACT", "RDA", "WR", "PRE"]
    assert [SOURCES[code] for code in commands.source] == ["host", "host", "nda", "nda", "host", "host"]
    assert columns(commands[2:4])[:5] == [[437, 453], [1, 1], [0, 0], [3, 3], [2, 2]]
    assert commands.row.tolist() == [-1, -1, 65535, -1, 12, -1] and commands.column.tolist() == [-1, -1, -1, 1016, 0, -1]
    assert commands.cycle[-1] == 12345678901
    write(tmp_path / "again.csv", commands)
    assert (tmp_path / "again.csv").read_text() == EXAMPLE
    path.write_bytes(EXAMPLE.rstrip().replace("\n", "\r\n").encode())      # line ends of another kind, none at the end
    assert columns(read(path)) == columns(commands)
    path.write_text(HEADER + "\n")
    assert len(read(path)) == 0
    write(path, read(path))
    assert path.read_text() == HEADER + "\n"


@pytest.mark.parametrize("block", [7, 100, 1 << 24])
def test_round_trip(tmp_path, monkeypatch, block):
    """Also with pieces of the file shorter than a line."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    monkeypatch.setattr(trace, "_READ", block)
    monkeypatch.setattr(trace, "_WRITE", 64)
    for length in (1, 63, 64, 65, 300):
        commands = random_commands(draw, length)
        write(tmp_path / "trace.csv", commands)
        lines = (tmp_path / "trace.csv").read_text().splitlines()
        place = draw.randrange(length)
        fields = ["" if value[place] < 0 else str(value[place]) for value in columns(commands)]
        fields[5], fields[8] = NAMES[commands.command[place]], SOURCES[commands.source[place]]
        assert len(lines) == length + 1 and lines[place + 1] == ",".join(fields)
        assert columns(read(tmp_path / "trace.csv")) == columns(commands)


@pytest.mark.parametrize("line, text", [
    ("x,0,0,0,0,PRE,,,host", "cycle 'x', allowed is 0 to"),
    (",0,0,0,0,PRE,,,host", "cycle '', allowed"),
    ("-5,0,0,0,0,PRE,,,host", "cycle '-5'"),
    ("5.0,0,0,0,0,PRE,,,host", "cycle '5.0'"),
    ("1000000000000000000000,0,0,0,0,PRE,,,host", "cycle '1000000000000000000000'"),
    ("5,256,0,0,0,PRE,,,host", "channel '256', allowed is 0 to 255"),
    ("5,0,,0,0,PRE,,,host", "rank ''"),
    ("5,0,0,0,,PRE,,,host", "bank '', allowed is 0 to 255 with this command"),
    ("5,0,0,0,0,pre,,,host", "command 'pre', allowed is one of ACT, PRE, PREA"),
    ("5,0,0,0,0,PREX,,,host", "command 'PREX'"),
    ("5,0,0,0,0,PREAX,,,host", "command 'PREAX'"),
    ("5,0,0,0,0,,,,host", "command ''"),
    ("5,0,0,0,0,ACT,,,host", "row '', allowed is 0 to 1073741824 with this command"),
    ("5,0,0,0,0,RD,3,,host", "column ''"),
    ("5,0,0,0,0,ACT,3,7,host", "column '7', allowed is nothing with this command"),
    ("5,0,0,,3,PREA,,,host", "bank '3', allowed is nothing with this command"),
    ("5,0,0,1,,REF,,,host", "bank_group '1', allowed is nothing"),
    ("5,0,0,0,0,PRE,,,cpu", "source 'cpu', allowed is one of host, nda"),
    ("5,0,0,0,0,PRE,,,hos", "source 'hos'"),
    ("5,0,0,0,0,PRE,,host", "line '5,0,0,0,0,PRE,,host', allowed are 9 fields"),
    ("5,0,0,0,0,PRE,,,host,", "allowed are 9 fields"),
    ("", "line '', allowed are 9 fields"),
])
def test_malformed(tmp_path, monkeypatch, line, text):
    path = tmp_path / "trace.csv"
    good = "1,0,0,0,0,PRE,,,host\n"
    for block, before in ((1 << 24, 3), (50, 40)):
        monkeypatch.setattr(trace, "_READ", block)
        for after in (good, ""):
            path.write_text(HEADER + "\n" + good * before + line + "\n" + after + ("a,b\n" if after else ""))
            with pytest.raises(TraceError) as caught:
                read(path)
            message = str(caught.value)
            assert message.startswith(f"{path} line {before + 2}: ") and text in message and "\n" not in message


def test_header(tmp_path):
    (tmp_path / "trace.csv").write_text("cycle,rank\n")
    with pytest.raises(TraceError, match=r"line 1: header 'cycle,rank'"):
        read(tmp_path / "trace.csv")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "trace.csv"
    path.write_text(EXAMPLE)
    commands = read(path)[:3]

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(trace, "_format", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, commands)
    assert path.read_text() == EXAMPLE and list(tmp_path.iterdir()) == [path]


def test_columns_of_one_length():
    with pytest.raises(ValueError, match="allowed is one length for all"):
        Commands(*(np.zeros(2 + (index == 3)) for index in range(9)))
