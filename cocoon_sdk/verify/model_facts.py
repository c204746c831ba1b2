"""What a model's own files say of every answer of it: how long it can be, and which tokens end it.

Owns which files say it, that they are those of the manifest, and the rule for the context. Needs no weights
and no engine. The manifest's hash is the model id, and the files are checked against the manifest: so whoever
reads them comes to the same, and nobody's own settings change what is held against a worker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cocoon_sdk.verify.manifest import Difference, ModelDiffersError, ModelManifest, Problem
from cocoon_sdk.verify.model_files import CONFIG, GENERATION, MAX_CONFIG_BYTES, end_tokens_of

_LENGTHS: Final = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    *("model_max_length", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""Names under which configurations say how many tokens a model holds."""
_STRETCHED: Final = frozenset({"llama3", "longrope", "su"})
"""Kinds of rotary embeddings whose configuration names the length that they were stretched to."""
_MAX_CONTEXT: Final = 1 << 31
_MAX_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`context` is the most tokens of prompt and output together; None for either: its files do not say."""

    context: int | None = None
    end_tokens: frozenset[int] | None = None


def facts_of(manifest: ModelManifest, folder: Path) -> ModelFacts:
    """Read what the files of a manifest say, which lie in `folder`; a model without files says nothing.

    Raises `ModelDiffersError` when one is missing there, or another one.
    """
    configs: dict[str, Mapping[str, Any]] = {}
    for file in manifest.files:
        if file.path not in (CONFIG, GENERATION):
            continue
        try:
            with (folder / file.path).open("rb") as opened:
                data = opened.read(MAX_CONFIG_BYTES)
        except OSError:
            data = b""
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            problem = Problem.CONTENT if data else Problem.MISSING
            raise ModelDiffersError(
                f"cannot read what {manifest.name} is in {folder}",
                [Difference(file.path, problem)],
                hint="Name the folder with the files of this very model; weights are not needed",
            )
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        configs[file.path] = value if isinstance(value, dict) else {}
    return ModelFacts(context_of(configs.get(CONFIG, {})), end_tokens_of(configs.values()))


def context_of(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model holds by its configuration, at most; None where that does not say.

    It is the largest that any engine makes of it: what is beyond, no honest worker can have answered.
    """
    inner = config.get("text_config")
    merged = {**(inner if isinstance(inner, dict) else {}), **config}
    longest = max((each for name in _LENGTHS if type(each := merged.get(name)) is int), default=0)
    if longest < 1:
        return None
    ropes = [*_ropes(merged.get("rope_scaling")), *_ropes(merged.get("rope_parameters"))]
    return min(_MAX_CONTEXT, max([longest, *(_stretched(rope, longest) for rope in ropes)]))


def _ropes(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of rotary embeddings; some models have one set for each kind of layer."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return
    yield value
    for each in value.values():
        yield from _ropes(each, depth + 1)


def _stretched(rope: Mapping[str, Any], longest: int) -> int:
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind in _STRETCHED or not isinstance(factor, int | float) or not 1 <= factor <= _MAX_CONTEXT:
        return longest
    original = rope.get("original_max_position_embeddings")
    base = original if isinstance(original, int) and 0 < original <= _MAX_CONTEXT else longest
    return max(longest, int(min(base, _MAX_CONTEXT) * factor))
