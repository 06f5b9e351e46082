"""What the parameter `model` of `AudioEmbedding` may name, and how such networks are read."""

from __future__ import annotations

import difflib
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from skaudio._checks import (
    SEED_LIMIT,
    ParameterError,
    abbreviate,
    expand_home,
    random_generator,
    reject,
)
from skaudio.nn.onnx_audio import OnnxNetwork, read_onnx
from skaudio.nn.pretrained import NETWORKS, PlainNetwork, load_listed, random_network
from skaudio.nn.timm_audio import TimmNetwork, WeightsError, random_timm, read_timm
from skaudio.nn.transformers_audio import (
    TransformersNetwork,
    is_hub_name,
    random_transformers,
    read_transformers,
)

__all__ = ["OWNER", "load_network", "make_network", "name_for_files", "unknown_network"]

OWNER = "AudioEmbedding"


class Source(ABC):
    """A kind of network."""

    #: What `model` may be, for messages.
    rule: str
    #: Values of `weights` that are no files.
    weights: tuple[str | None, ...] = ("hub", None)
    #: Whether `weights` may be a file, and whether `sample_rate` may be set.
    takes_file, takes_sample_rate = False, False

    @abstractmethod
    def accepts(self, model: str) -> bool:
        """Return whether a value of `model` is of this kind."""

    @abstractmethod
    def load(self, embedding: Any, model: str) -> PlainNetwork:
        """Read or build the network that the parameters of an `AudioEmbedding` name.

        Raises
        ------
        ValueError
            If a parameter does not fit; names it.
        OSError
            If the network cannot be downloaded.
        """


class ListedSource(Source):
    """The networks of `list_networks`."""

    rule = f"one of {', '.join(map(repr, NETWORKS))}"
    takes_file = True

    def accepts(self, model: str) -> bool:
        """Return whether it is one of the names."""
        return model in NETWORKS

    def load(self, embedding: Any, model: str) -> PlainNetwork:
        """Read or download the weights."""
        weights = embedding.weights
        if weights is None:
            return random_network(model, _draw_seed(embedding))
        return load_listed(model, weights, OWNER)


class TransformersSource(Source):
    """Models of transformers, on the Hugging Face hub or in a folder."""

    rule = "'hf:OWNER/NAME' or a folder with a model of transformers"

    def accepts(self, model: str) -> bool:
        """Return whether it is a name of the hub, or an existing folder."""
        return is_hub_name(model) or os.path.isdir(model)

    def load(self, embedding: Any, model: str) -> PlainNetwork:
        """Read the model, or build it from its configuration."""
        scores = embedding.output == "scores"
        try:
            if embedding.weights is None:
                return random_transformers(model, scores=scores, seed=_draw_seed(embedding))
            return read_transformers(model, scores=scores)
        except ImportError:
            raise
        except Exception as err:  # of transformers, the hub's client, or a broken file
            if is_hub_name(model) and isinstance(err, OSError):
                raise self._unreachable(model, err) from err
            raise ParameterError(
                f"model of {OWNER}",
                "must be an audio model of transformers with config.json, "
                "preprocessor_config.json and model.safetensors, and without code of its own, got "
                f"{embedding.model!r}: {_reason(err)}.",
            ) from err

    @staticmethod
    def _unreachable(model: str, err: OSError) -> OSError:
        repository = model.partition(":")[2]
        return OSError(
            f"model={model!r} of {OWNER} cannot be loaded ({type(err).__name__}: {err}): check the "
            f"name, or download config.json, preprocessor_config.json and model.safetensors of the "
            f"repository {repository} of the Hugging Face hub on another machine, and pass their "
            "folder as model='FOLDER'."
        )


class TimmSource(Source):
    """Networks of timm, which were trained on images."""

    rule = "'timm:NAME'"
    takes_file = True

    def accepts(self, model: str) -> bool:
        """Return whether it starts with 'timm:'."""
        return model.startswith("timm:")

    def load(self, embedding: Any, model: str) -> PlainNetwork:
        """Build the network, and read or download its weights."""
        name, weights = model.partition(":")[2], embedding.weights
        try:
            if weights is None:
                return random_timm(name, _draw_seed(embedding))
            return read_timm(name, None if weights == "hub" else expand_home(weights))
        except WeightsError as err:
            raise ParameterError(
                f"weights of {OWNER}",
                f"must be a file with the weights of {model!r}, None, or 'hub' if timm has "
                f"pretrained ones, got {weights!r}: {_reason(err)}.",
            ) from err
        except ValueError as err:
            raise ParameterError(
                f"model of {OWNER}",
                f"must be 'timm:NAME' with a convolutional network of timm, got {model!r}: "
                f"{_reason(err)}.",
            ) from err
        except OSError as err:
            raise OSError(
                f"weights='hub' of {OWNER} cannot be loaded ({err}): download model.safetensors of "
                f"timm's {name!r} on another machine and pass its path as weights='FILE'."
            ) from err


class OnnxSource(Source):
    """Graphs in ONNX files, as 'FILE.onnx' or 'FILE.onnx#OUTPUT'."""

    rule = "the path of an ONNX file"
    weights = ("hub",)
    takes_sample_rate = True
    _path = re.compile(r"(.+\.onnx)(?:#(.+))?", flags=re.IGNORECASE | re.DOTALL)

    def accepts(self, model: str) -> bool:
        """Return whether it ends with '.onnx', or '.onnx#' and a name."""
        return self._path.fullmatch(model) is not None and not os.path.isdir(model)

    def load(self, embedding: Any, model: str) -> PlainNetwork:
        """Read the file."""
        match = self._path.fullmatch(model)
        file, output = match.groups() if match else (model, None)
        rate, window = embedding.sample_rate, embedding.window
        try:
            changed = os.stat(file).st_mtime
            plain_window = None if window is None else float(window)
            return read_onnx(Path(file), changed, output, rate and int(rate), plain_window)
        except ImportError:
            raise
        except (ValueError, OSError) as err:
            raise ParameterError(
                f"model of {OWNER}",
                "must be an ONNX file that computes embeddings from waveforms, got "
                f"{embedding.model!r}: {_reason(err)}.",
            ) from err


SOURCES: tuple[Source, ...] = (ListedSource(), TimmSource(), OnnxSource(), TransformersSource())
# Classes of networks by the entry 'kind' of `about`.
KINDS: dict[Any, type[PlainNetwork]] = {
    None: PlainNetwork, "timm": TimmNetwork, "onnx": OnnxNetwork,
    "transformers": TransformersNetwork,
}  # fmt: skip


def load_network(embedding: Any) -> PlainNetwork:
    """Read the network that the parameters of an `AudioEmbedding` name.

    Parameters
    ----------
    embedding : AudioEmbedding
        Its parameters are valid on their own.

    Returns
    -------
    network : PlainNetwork
        The network.

    Raises
    ------
    ValueError
        If `model` names no network, or other parameters do not fit it.
    OSError
        If it cannot be downloaded.
    """
    model = expand_home(embedding.model)
    source = next((one for one in SOURCES if one.accepts(model)), None)
    if source is None:
        raise unknown_network(embedding.model)
    weights = embedding.weights
    if weights not in source.weights and not source.takes_file:
        rule = f"{' or '.join(map(repr, source.weights))} for model={embedding.model!r}"
        raise reject("weights", OWNER, f"{rule}, which contains its weights", weights)
    if embedding.sample_rate is not None and not source.takes_sample_rate:
        raise ParameterError(
            f"sample_rate of {OWNER}",
            f"must be None for model={embedding.model!r}, which has a sample rate of its own, got "
            f"{embedding.sample_rate!r}: pass waveforms with another rate as pairs (array, rate).",
        )
    return source.load(embedding, model)


def make_network(
    name: str, arrays: dict[str, Any], outputs: tuple[str, ...], about: dict[str, Any] | None
) -> PlainNetwork:
    """Create a network from its plain values.

    Parameters
    ----------
    name, arrays, outputs, about
        See `PlainNetwork`; None stands for an empty `about`.

    Returns
    -------
    network : PlainNetwork
        Of the class that belongs to `about`.

    Raises
    ------
    ValueError
        If `about` is of no known kind.
    """
    about = about or {}
    kind = about.get("kind")
    if kind not in KINDS:
        raise ValueError(f"its network {name!r} is of an unknown kind, {kind!r}")
    return KINDS[kind](name, arrays, outputs, about)


def name_for_files(model: Any) -> str:
    """Return a value of `model` without folders of this machine."""
    text = os.fspath(model)
    known = text in NETWORKS or is_hub_name(text) or text.startswith("timm:")
    return text if known else re.split(r"[/\\]", os.path.normpath(text))[-1]


def unknown_network(model: Any) -> ParameterError:
    """Return the error that `model` names no network."""
    near = difflib.get_close_matches(os.fspath(model), NETWORKS, n=1)
    rules = ", ".join(source.rule for source in SOURCES)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return ParameterError(f"model of {OWNER}", f"must be {rules}, got {abbreviate(model)}{hint}")


def _draw_seed(embedding: Any) -> int:
    return random_generator(embedding.random_state, OWNER).randint(SEED_LIMIT)


def _reason(err: Exception) -> str:
    return str(err).strip().rstrip(".") or type(err).__name__
