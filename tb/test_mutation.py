"""The mutation check itself: every fault can still be planted, and a few cheap ones show each verdict. All faults: `make mutation`."""

import dataclasses

import pytest

from tb.mutants import MUTANTS, unit
from tb.mutation import ROOT, Stale, check, main, mutated

CHEAP = [mutant for mutant in MUTANTS if mutant.name in ("queue-empty", "queue-wrap", "product-operand")]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_fault_has_its_place(mutant):
    assert mutant.old != mutant.new
    compile(mutated(mutant), mutant.file, "exec")
    for test in mutant.tests:
        path, _, function = test.partition("::")
        assert f"def {function}" in (ROOT / path).read_text(), test


def test_names_differ():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


def test_verdicts(tmp_path, capsys):
    """Faults that are found, one that changes nothing and one that cannot be built."""
    harmless = dataclasses.replace(CHEAP[0], name="harmless", new=CHEAP[0].old)
    broken = dataclasses.replace(CHEAP[0], name="broken", new="nothing")
    assert not check([*CHEAP, harmless, broken], tmp_path / "work")
    *lines, last = capsys.readouterr().out.splitlines()
    assert {line.split()[0]: line.split()[2] for line in lines[1:]} == {
        "queue-empty": "red", "queue-wrap": "red", "product-operand": "red", "harmless": "SURVIVED", "broken": "invalid"}
    assert all("test_pe::test_multiplier[" in line or "test_queue::test_against_deque[" in line for line in lines[1:4])
    assert lines[5].endswith("NameError in rtl/arith/product.py during test_pe::test_multiplier[2]")
    assert last == "5 mutants, 3 red"
    assert not list((tmp_path / "work").iterdir())


def test_tests_must_pass_without_a_fault(tmp_path, capsys):
    missing = dataclasses.replace(CHEAP[0], tests=unit("queue::test_that_is_not_there"))
    assert not check([missing], tmp_path)
    assert "tests that fail without a fault" in capsys.readouterr().err


def test_a_fault_without_its_place_is_named(tmp_path):
    for old, count in (("no such text", 0), ("self", None)):
        stale = dataclasses.replace(CHEAP[0], name="stale", old=old)
        with pytest.raises(Stale, match=f"stale: '{old}' occurs {'' if count is None else count}"):
            check([stale], tmp_path)


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["queue-empty", "no-such-fault"])
    assert stop.value.code == 2 and "no such fault: no-such-fault" in capsys.readouterr().err
