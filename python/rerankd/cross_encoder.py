# SPDX-License-Identifier: Apache-2.0
"""cross_encoder.py - the interface of sentence-transformers' CrossEncoder on this engine."""
import asyncio
import os
import subprocess
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from ._native import Engine
from ._program import find_program
from .errors import RerankError

Activation = Optional[Callable[[Any], Any]]
Pair = Sequence[str]


def _progress(items: Iterable[Any], shown: bool, total: int) -> Iterator[Any]:
    if not shown:
        return iter(items)
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return iter(items)  # no bar is no reason to fail
    return iter(tqdm(items, desc="Batches", total=total))


def _groups(pairs: Sequence[Pair]) -> List[Tuple[str, List[str]]]:
    """Pairs in a row with the same query as one request."""
    groups: List[Tuple[str, List[str]]] = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError("expected pairs of two texts, found %r" % type(pair).__name__)
        if not groups or groups[-1][0] != pair[0]:
            groups.append((pair[0], []))
        groups[-1][1].append(pair[1])
    return groups


def _sigmoid(logits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """In double precision, as the engine computes it."""
    e = np.exp(-np.abs(logits.astype(np.float64)))
    return np.asarray(np.where(logits >= 0, 1 / (1 + e), e / (1 + e)), dtype=np.float32)


def _activate(logits: "np.ndarray[Any, Any]", scores: "np.ndarray[Any, Any]", identity: bool,
              activation: Activation) -> "np.ndarray[Any, Any]":
    """None is what the model asks for: scores, which the engine computed: the sigmoid, or with
    identity the logits.  torch modules get a tensor, other functions an array."""
    name = type(activation).__name__
    if activation is None:
        return scores
    if name == "Sigmoid":
        return _sigmoid(logits) if identity else scores
    if name == "Identity":
        return logits
    if type(activation).__module__.startswith("torch"):
        import torch
        return np.asarray(activation(torch.from_numpy(logits)))
    return np.asarray(activation(logits), dtype=np.float32)


def _as_asked(out: "np.ndarray[Any, Any]", as_array: bool, as_tensor: bool) -> Any:
    """An array, a tensor, or else a list: of tensors, without torch of float32 numbers."""
    if as_tensor or not as_array:
        try:
            import torch
        except ImportError:
            if as_tensor:
                raise
            return list(out)
        tensor = torch.from_numpy(np.ascontiguousarray(out))
        return tensor if as_tensor else list(tensor)
    return out


def _refuse_rest(method: str, rest: Dict[str, Any], *harmless: str) -> None:
    """Arguments of sentence-transformers that change nothing here are taken; one that would have to
    change something is refused."""
    for name in ("num_workers", "chunk_size", *harmless):
        rest.pop(name, None)
    for name, why in (("device", "the device is chosen when the model is opened"),
                      ("pool", "one engine uses all processors"),
                      ("prompt", "put it into the texts"), ("prompt_name", "put it into the texts")):
        if rest.pop(name, None) is not None:
            raise TypeError("%s: %s is not supported: %s" % (method, name, why))
    if rest:
        raise TypeError("%s: unknown argument %s" % (method, min(rest)))


def _folder_of(path: Union[str, "os.PathLike[str]"]) -> str:
    """A name on the Hugging Face hub becomes the folder that the program fetches it to."""
    model = os.fspath(path)
    parts = model.split("@")[0].split("/")
    if os.path.exists(model) or len(parts) != 2 or not all(parts):
        return model
    try:
        fetched = subprocess.run([find_program(), "pull", model], stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise RerankError("%s is no folder here, and could not be fetched from the hub: %s"
                          % (model, e), "RR_ENOENT") from e
    return os.fsdecode(fetched.stdout.splitlines()[-1])


class CrossEncoder:
    """predict and rank as in sentence-transformers, for models with one label.

    model_name_or_path: a folder in Hugging Face layout, a GGUF file, or ORG/NAME on the hub.  Further
    arguments: those of Engine."""

    def __init__(self, model_name_or_path: Union[str, "os.PathLike[str]"], *,
                 max_length: Optional[int] = None, device: Optional[str] = None,
                 activation_fn: Activation = None,
                 **engine_options: Any) -> None:
        self.engine = Engine(_folder_of(model_name_or_path), max_length=max_length, device=device,
                             **engine_options)
        self.activation_fn = activation_fn
        self._identity = self.engine.info["activation"] == "identity"

    @property
    def max_length(self) -> int:
        """Tokens of a pair; longer ones are cut."""
        return int(self.engine.info["max_length"])

    def predict(self, inputs: Union[Pair, Sequence[Pair], None] = None, batch_size: int = 32,
                show_progress_bar: Optional[bool] = None, activation_fn: Activation = None,
                apply_softmax: Optional[bool] = False, convert_to_numpy: bool = True,
                convert_to_tensor: bool = False, **older: Any) -> Any:
        """Scores of pairs: float32, one for each; for a single pair its score alone.

        batch_size only sets the steps of the progress bar: the engine makes its own batches.
        apply_softmax changes nothing, since there is one label.  older: sentences and activation_fct,
        names of earlier releases; num_workers and chunk_size are not needed."""
        inputs = older.pop("sentences", inputs)
        activation = older.pop("activation_fct", activation_fn) or self.activation_fn
        _refuse_rest("predict", older)
        if inputs is None:
            raise TypeError("predict: no inputs")
        single = len(inputs) == 2 and all(isinstance(x, str) for x in inputs)
        pairs: List[Pair] = [inputs] if single else list(inputs)  # type: ignore[list-item]
        step = max(1, batch_size) if show_progress_bar else max(1, len(pairs))
        starts = range(0, len(pairs), step)
        found = []
        for start in _progress(starts, bool(show_progress_bar), len(starts)):
            for scores in self.engine.score_many(_groups(pairs[start:start + step])):
                found += [(x.logit, x.score) for x in scores.scores]
        values = np.asarray(found, dtype=np.float64).reshape(len(found), 2)
        out = _activate(values[:, 0].astype(np.float32), values[:, 1].astype(np.float32),
                        self._identity, activation)
        shaped = _as_asked(out, convert_to_numpy, convert_to_tensor)
        return shaped[0] if single else shaped

    def rank(self, query: str, documents: Sequence[str], top_k: Optional[int] = None,
             return_documents: bool = False, batch_size: int = 32,
             show_progress_bar: Optional[bool] = None, activation_fn: Activation = None,
             **older: Any) -> List[Dict[str, Any]]:
        """[{"corpus_id", "score"[, "text"]}], best first, equal ones in the order of the input.

        older: arguments of earlier releases that do not matter here, such as convert_to_tensor."""
        activation = older.pop("activation_fct", activation_fn)
        _refuse_rest("rank", older, "apply_softmax", "convert_to_numpy", "convert_to_tensor")
        scores = self.predict([(query, d) for d in documents], batch_size, show_progress_bar,
                              activation).tolist()
        rows: List[Dict[str, Any]] = []
        for i in sorted(range(len(documents)), key=lambda i: scores[i], reverse=True)[:top_k]:
            rows.append({"corpus_id": i, "score": scores[i]})
            if return_documents:
                rows[-1]["text"] = documents[i]
        return rows

    async def apredict(self, sentences: Sequence[Pair]) -> "np.ndarray[Any, Any]":
        """predict for pairs, without holding up the event loop."""
        done = await asyncio.gather(*[self.engine.ascore(q, d) for q, d in _groups(list(sentences))])
        rows = [x for scores in done for x in scores.scores]
        return _activate(np.asarray([x.logit for x in rows], dtype=np.float32),
                         np.asarray([x.score for x in rows], dtype=np.float32), self._identity,
                         self.activation_fn)

    def close(self) -> None:
        """Frees the model."""
        self.engine.close()

    def __enter__(self) -> "CrossEncoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
