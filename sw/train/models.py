"""Models that can be trained, by name: our own, or what a function of the user's makes."""

import importlib
import sys
from pathlib import Path
from typing import Any

from sw.runtime.errors import UserError
from sw.train.data import Data
from sw.train.engines import torch_is_missing
from sw.train.golden_engine import Parameters
from sw.train.network import Network, Norm, digits_resnet


def one_group() -> Network:
    """`digits-resnet` as it is pruned: each normalisation is one group."""
    return digits_resnet(group=0)


MODELS, PRUNED = {"digits-resnet": digits_resnet}, {"digits-resnet": one_group}


def load(name: str, data: Data, *, seed: int, prune: bool = False) -> tuple[Network, Parameters | None]:
    """The network of `name` or `package.module:factory`, and its parameters if it comes with any (a PyTorch module does).

    PyTorch's random numbers are seeded with `seed`, so that a module's parameters are the same in each run. `prune`: with normalisations
    that can lose channels. Raises UserError.
    """
    if name in MODELS:
        return (PRUNED if prune else MODELS)[name](), None
    if ":" not in name:
        raise UserError(f"model = {name!r} is none of {', '.join(MODELS)}, nor package.module:factory")
    made = _call(name, seed)
    if isinstance(made, Network):
        return made, None
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(made, torch.nn.Module):
        raise UserError(f"model = {name!r} makes {type(made).__name__}, allowed: sw.train.network.Network or torch.nn.Module")
    from sw.train.torch_front import network_of, parameters_of

    network = network_of(made, name, data.image)
    return network, parameters_of(made, network)


def _call(name: str, seed: int) -> Any:
    """What the factory returns. The current folder is searched for its module too."""
    path, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(path), attribute)
        known = "torch" in sys.modules
        made = factory() if not known else None
        if "torch" in sys.modules:      # perhaps only now
            sys.modules["torch"].manual_seed(seed)
            made = factory()
        return made
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise torch_is_missing(f"model = {name!r}") from None
        raise UserError(f"model = {name!r}: there is no module {error.name!r}") from None
    except UserError:
        raise
    except Exception as error:      # whatever somebody else's code raises
        text = (str(error).splitlines() or [""])[0]
        raise UserError(f"model = {name!r}: {type(error).__name__}: {text}") from None
    finally:
        sys.path.remove(here)


def check_prunable(network: Network):
    """Raises UserError for a network whose channels pruning cannot take out."""
    for layer in network.layers:
        if isinstance(layer, Norm) and layer.group != layer.channels:
            raise UserError(f"{network.name}: {layer.name} has groups of {layer.group} of {layer.channels} channels, to prune it needs one "
                            "group of all")
