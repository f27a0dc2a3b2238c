"""Models of the machine: exact cycles, functional behaviour and energy of a program."""

from sw.model.check import ModelError, check
from sw.model.cycles import Event, Prediction, predict
from sw.model.energy import energy, load_table
from sw.model.functional import run

__all__ = ["Event", "ModelError", "Prediction", "check", "energy", "load_table", "predict", "run"]
