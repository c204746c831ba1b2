"""The cheaper models that a cheater serves in place of the packaged one, as folders that vLLM loads.

Owns how each is made. No package brings a second small language model, so "another model" is made of this
one's every second layer: a network of half the depth that shares no intermediate result with it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = "model.safetensors"
_DONE: Final = "made.json"
_VERSION: Final = 1
DROPPED_LAYER: Final = 15
INT4_GROUP: Final = 64
Tensors = dict[str, Any]


def another(tensors: Tensors, config: dict[str, Any]) -> Tensors:
    """Every second layer."""
    return _kept(tensors, config, lambda layer: layer % 2 == 0)


def dropped_layer(tensors: Tensors, config: dict[str, Any]) -> Tensors:
    """All layers but one in the middle."""
    return _kept(tensors, config, lambda layer: layer != DROPPED_LAYER)


def int8(tensors: Tensors, config: dict[str, Any]) -> Tensors:
    """Linear layers rounded to 8 bits, one scale for each row: how weight-only quantisation is done."""
    return {name: _rounded(name, tensor, 127, None) for name, tensor in tensors.items()}


def int4(tensors: Tensors, config: dict[str, Any]) -> Tensors:
    """Linear layers rounded to 4 bits, one scale for each group of a row."""
    return {name: _rounded(name, tensor, 7, INT4_GROUP) for name, tensor in tensors.items()}


MAKERS: Final[dict[str, Callable[[Tensors, dict[str, Any]], Tensors]]] = {
    "another model": another,
    "dropped layer": dropped_layer,
    "int4": int4,
    "int8": int8,
}


def make(model: Path, name: str, folder: Path) -> Path:
    """Return the folder of a cheaper model below `folder`, made from `model` if it is not there yet."""
    from safetensors.torch import load_file, save_file

    place = folder / name.replace(" ", "-")
    about = {"version": _VERSION, "name": name}
    if (place / _DONE).is_file() and json.loads((place / _DONE).read_text()) == about:
        return place
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(model, place, ignore=shutil.ignore_patterns(WEIGHTS))
    config = json.loads((model / "config.json").read_text())
    tensors = MAKERS[name](load_file(model / WEIGHTS), config)
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()}, place / WEIGHTS, {"format": "pt"}
    )
    (place / "config.json").write_text(json.dumps(config, indent=2))
    (place / _DONE).write_text(json.dumps(about))
    return place


def _kept(tensors: Tensors, config: dict[str, Any], keep: Callable[[int], bool]) -> Tensors:
    layers = [layer for layer in range(config["num_hidden_layers"]) if keep(layer)]
    config["num_hidden_layers"] = len(layers)
    places = {layer: place for place, layer in enumerate(layers)}
    kept = {}
    for name, tensor in tensors.items():
        before, found, rest = name.partition(".layers.")
        if not found:
            kept[name] = tensor
            continue
        number, _, after = rest.partition(".")
        if int(number) in places:
            kept[f"{before}{found}{places[int(number)]}.{after}"] = tensor
    return kept


def _rounded(name: str, tensor: Any, levels: int, group: int | None) -> Any:
    if tensor.ndim != 2 or "embed" in name or "lm_head" in name:
        return tensor
    rows, columns = tensor.shape
    size = group if group is not None and columns % group == 0 else columns
    blocks = tensor.float().reshape(rows, columns // size, size)
    scale = blocks.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / levels
    whole = (blocks / scale).round().clamp(-levels, levels) * scale
    return whole.reshape(rows, columns).to(tensor.dtype)
