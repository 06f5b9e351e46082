"""Audio models of transformers, from the Hugging Face hub or a folder, and their embeddings."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from torch import Tensor, nn

from skaudio._files import answer_within
from skaudio._optional import import_torchaudio, import_transformers, some_stderr
from skaudio.nn._device import limited_threads, seeded
from skaudio.nn._plain import blank_weights, fill_blank, limited_parts, plain_arrays
from skaudio.nn._windows import overlapping_windows
from skaudio.nn.pretrained import NetworkFacts, PlainNetwork, statistics_over_time

__all__ = [
    "TransformersEmbedder",
    "TransformersNetwork",
    "is_hub_name",
    "random_transformers",
    "read_transformers",
]

HUB_NAME = re.compile(r"hf:[\w.-]+(/[\w.-]+)?")
# Seconds to wait for the hub before saying that it cannot be reached.
HUB_TIMEOUT = 8.0
# Shortest input of models without convolutions over samples: one frame of a spectrogram.
FRAME_DURATION, FRAME_STEP = 0.025, 0.01
# Weights that checkpoints may lack, because they are used in training only.
TRAINING_ONLY = ("masked_spec_embed",)
KIND = "transformers"
ABOUT = {"kind", "config", "front_end", "scores", "n_features"}
# Models and front ends that model files hold: they are built without memory for weights.
SAVED_TYPES = ("audio-spectrogram-transformer", "clap", "hubert", "wav2vec2", "wavlm", "whisper")
SAVED_FRONT_ENDS = (
    "ASTFeatureExtractor", "ClapFeatureExtractor", "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor",
)  # fmt: skip
# Settings without effect on embeddings: the folder, and the type of numbers in the weights' file.
NOT_KEPT = ("_name_or_path", "dtype", "transformers_version")
# Maximum numbers in a model file: any int, any list of ints in total, and settings by name.
MAX_INT, MAX_SUM, MAX_VALUES = 2**20, 2**22, 2**28
MAX_SETTINGS = {"feature_size": 2**11, "num_mel_bins": 2**11, "n_fft": 2**16,
                "fft_window_size": 2**16, "nb_frequency_bins": 2**16}  # fmt: skip
_LOCK = threading.RLock()


def is_hub_name(name: object) -> bool:
    """Return whether a name has the form 'hf:OWNER/NAME'.

    Parameters
    ----------
    name : object
        Value of the parameter `model`.

    Returns
    -------
    is_hub : bool
        False for paths of folders.
    """
    return isinstance(name, str) and HUB_NAME.fullmatch(name) is not None


@dataclass(frozen=True, eq=False)
class TransformersNetwork(PlainNetwork):
    """An audio model of transformers as plain values.

    Parameters
    ----------
    name, arrays, outputs, about
        See `PlainNetwork`; `name` is that of the repository or folder. `about` has 'kind',
        'config' of the model, 'front_end' (configuration of the feature extractor), 'scores'
        (whether it has its classification head), and 'n_features'.
    """

    @property
    def record(self) -> NetworkFacts:
        """Sample rate, sizes and shortest clip."""
        front_end, config = self.about["front_end"], self.about["config"]
        rate = int(front_end["sampling_rate"])
        return NetworkFacts(
            self.name,
            rate,
            _shortest(config, rate) / rate,
            int(self.about["n_features"]),
            len(self.outputs),
        )

    @property
    def computes(self) -> tuple[str, ...]:
        """Values of `output` that it can compute: the model has its classification head or not."""
        return ("scores",) if self.about["scores"] else ("embedding",)

    def embedder(self) -> TransformersEmbedder:
        """Build the network; the same module for equal weights and settings."""
        return _embedder(self)

    def check(self) -> None:
        """Check that the settings are those of a known model of limited size.

        Raises
        ------
        ValueError
            If they are not.
        """
        _check_settings(self.about, self.outputs)


@functools.lru_cache(maxsize=2)  # these networks are large
def _embedder(plain: TransformersNetwork) -> TransformersEmbedder:
    about = plain.about
    with limited_threads(1), torch.inference_mode(False), _quiet():
        front_end = _build_front_end(about["front_end"])
        network = _build_with(plain.arrays, about["config"], about["scores"])
        return TransformersEmbedder(network, front_end).eval()


def read_transformers(source: str, *, scores: bool) -> TransformersNetwork:
    """Read a model with its own weights.

    Parameters
    ----------
    source : str
        'hf:OWNER/NAME', or a folder.
    scores : bool
        Whether its classification head is wanted, instead of embeddings.

    Returns
    -------
    network : TransformersNetwork
        The same object for the same source, unless files in the folder have changed.

    Raises
    ------
    ImportError
        If transformers is not installed.
    ValueError
        If it is no audio model in safetensors format without code of its own, or has no
        classification head.
    OSError
        If files are missing, or the hub cannot be reached.
    """
    changed = 0.0
    if not is_hub_name(source):
        changed = max((file.stat().st_mtime for file in Path(source).iterdir()), default=0.0)
    return _read(source, scores, changed)


@functools.lru_cache(maxsize=2)
def _read(source: str, scores: bool, changed: float) -> TransformersNetwork:
    with limited_threads(1), _quiet():
        place, options, config, front_end = _open(source)
        kind = _auto_class(config, scores, source)
        with seeded(0, torch.device("cpu")):
            model, info = kind.from_pretrained(
                place, config=config, use_safetensors=True, output_loading_info=True, **options
            )
        missing = [
            name
            for name in (*info["missing_keys"], *info["mismatched_keys"])
            if str(name).rpartition(".")[2] not in TRAINING_ONLY
        ]
        if missing:
            what = "a classification head" if scores else "all weights"
            raise ValueError(f"its files do not contain {what}: {missing[0]} is missing")
        return _plain(source, model.float(), config, front_end, scores)


def random_transformers(source: str, *, scores: bool, seed: int) -> TransformersNetwork:
    """Build a model with random weights from its configuration.

    Parameters
    ----------
    source : str
        'hf:OWNER/NAME', or a folder.
    scores : bool
        As for `read_transformers`.
    seed : int
        Seed of the weights.

    Returns
    -------
    network : TransformersNetwork
        The network.
    """
    with limited_threads(1), _quiet():
        _, _, config, front_end = _open(source)
        _auto_class(config, scores, source)
        model = _build(config.to_dict(), scores, seed=seed)
        return _plain(source, model, config, front_end, scores)


def _open(source: str) -> tuple[str, dict[str, Any], Any, dict[str, Any]]:
    """Return where a model is, how to read it, its configuration and that of its front end.

    Files of the hub that were downloaded before are used without asking it.
    """
    transformers = import_transformers("AudioEmbedding")
    place = source.partition(":")[2] if is_hub_name(source) else source
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(place, **options)
        if is_hub_name(source):
            options["local_files_only"] = _is_complete(place)
    except OSError:
        if not is_hub_name(source):
            raise
        options["local_files_only"] = False
        answer_within(HUB_TIMEOUT, functools.partial(_ask_hub, place))
        config = transformers.AutoConfig.from_pretrained(place, **options)
    # Attention kernels may come from other repositories, with code.
    if "/" in str(getattr(config, "_attn_implementation", "")):
        raise ValueError("its configuration asks for code of another repository")
    front_end = transformers.AutoFeatureExtractor.from_pretrained(place, **options)
    if not hasattr(front_end, "sampling_rate"):
        raise ValueError(f"its front end {type(front_end).__name__} is not one for sound")
    return place, options, config, json.loads(front_end.to_json_string())


def _ask_hub(repo: str) -> None:
    """Check that the hub can be reached, since its client would retry for minutes."""
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    with suppress(HTTPError):  # an answer too, which the client explains better
        urlopen(f"{hub}/{repo}/resolve/main/config.json", timeout=HUB_TIMEOUT).close()


def _is_complete(repo: str) -> bool:
    """Whether front end and weights of a repository are in the local cache."""
    from transformers.utils import cached_file

    def is_cached(*names: str) -> bool:
        for name in names:
            try:
                cached_file(repo, name, local_files_only=True)
            except OSError:
                continue
            return True
        return False

    return is_cached("preprocessor_config.json", "processor_config.json") and is_cached(
        "model.safetensors", "model.safetensors.index.json"
    )


def _auto_class(config: Any, scores: bool, source: str) -> Any:
    """The class of transformers that builds and reads the model.

    Raises
    ------
    ValueError
        If scores are wanted of a model that has no classification head.
    """
    transformers = import_transformers("AudioEmbedding")
    if not scores:
        return transformers.AutoModel
    heads = set(transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING.keys())
    trained = [str(name) for name in config.architectures or ()]
    if type(config) not in heads or not any("Classification" in name for name in trained):
        raise ValueError(
            f"output='scores' needs a model with a classification head, and this one is "
            f"{', '.join(trained) or type(config).__name__}: use output='embedding'"
        )
    return transformers.AutoModelForAudioClassification


def _build(config: dict[str, Any], scores: bool, *, seed: int) -> nn.Module:
    """Build the part of a model that is used, with random weights."""
    transformers = import_transformers("AudioEmbedding")
    kind = transformers.AutoModelForAudioClassification if scores else transformers.AutoModel
    made = transformers.AutoConfig.for_model(**config)
    with seeded(seed, torch.device("cpu")):
        return _used_part(kind.from_config(made, trust_remote_code=False).float(), scores)


def _build_with(arrays: dict[str, Any], config: dict[str, Any], scores: bool) -> nn.Module:
    """Build the part of a model that is used, with given weights.

    Other models than `SAVED_TYPES` may compute more tensors than their weights.
    """
    if config["model_type"] in SAVED_TYPES:
        _import_model(config["model_type"], scores)
        with blank_weights(), limited_parts(arrays):
            network = _build(config, scores, seed=0)
    else:
        network = _build(config, scores, seed=0)
    fill_blank(network, arrays)
    return network


def _import_model(model_type: str, scores: bool) -> None:
    """Import the modules of a model, whose own tensors would have no values among blank weights."""
    transformers = import_transformers("AudioEmbedding")
    import_torchaudio()
    kinds = (
        transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
        if scores
        else transformers.MODEL_MAPPING
    )
    kinds.get(transformers.CONFIG_MAPPING[model_type], None)


def _used_part(model: Any, scores: bool) -> nn.Module:
    """The audio tower of a model for sound and text, or the encoder in front of a decoder."""
    if scores:
        return model
    if hasattr(model, "audio_model"):
        return model.audio_model
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    return model


def _plain(
    source: str, model: Any, config: Any, front_end: dict[str, Any], scores: bool
) -> TransformersNetwork:
    network = _used_part(model, scores).eval()
    settings = json.loads(json.dumps(config.to_dict(), default=str))
    if settings["model_type"] in SAVED_TYPES:
        settings = _known_settings(settings, _default_config(settings["model_type"]))
    if front_end["feature_extractor_type"] in SAVED_FRONT_ENDS:
        front_end = _known_settings(front_end, _default_front_end(front_end))
    embedder = TransformersEmbedder(network, _build_front_end(front_end))
    n_samples = _shortest(settings, int(front_end["sampling_rate"]))
    with torch.inference_mode():
        wave = torch.zeros(1, n_samples)
        n_features = 0 if scores else embedder.embed(wave, None, 1).shape[-1]
    about = {
        "kind": KIND, "config": settings, "front_end": front_end, "scores": scores,
        "n_features": n_features,
    }  # fmt: skip
    names = [str(config.id2label[n]) for n in sorted(config.id2label)] if scores else []
    return TransformersNetwork(
        re.split(r"[/\\:]", os.path.normpath(source))[-1],
        plain_arrays(network),
        tuple(names),
        about,
    )


def _shortest(config: dict[str, Any], rate: int) -> int:
    """Number of samples of the shortest clip: one step of the model's output."""
    size, step = 1, 1
    for kernel, stride in zip(
        config.get("conv_kernel") or (), config.get("conv_stride") or (), strict=False
    ):
        size, step = size + (kernel - 1) * step, step * stride
    return max(size, math.ceil(FRAME_DURATION * rate))


def _longest(front_end: Any) -> int | None:
    """Number of samples up to which a front end pads clips, and beyond which it cuts them."""
    for name in ("n_samples", "nb_max_samples"):  # Whisper, CLAP
        if hasattr(front_end, name):
            return getattr(front_end, name)
    if type(front_end).__name__ == "ASTFeatureExtractor":
        frames = FRAME_DURATION + FRAME_STEP * (front_end.max_length - 1)
        return int(frames * front_end.sampling_rate)
    return None


def _default_config(model_type: str) -> dict[str, Any]:
    """Settings that models of a type have, with their default values."""
    return import_transformers("AudioEmbedding").AutoConfig.for_model(model_type).to_dict()


def _default_front_end(settings: dict[str, Any]) -> dict[str, Any]:
    kind = getattr(import_transformers("AudioEmbedding"), settings["feature_extractor_type"])
    return kind().to_dict()


def _known_settings(settings: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Keep only the settings that models of this type have, also those of their parts."""
    parts = {name for name in known if name.endswith("_config")}
    return {
        name: _known_settings(value, known[name]) if name in parts else value
        for name, value in settings.items()
        if name in known and name not in NOT_KEPT
    }


def _check_settings(about: dict[str, Any], outputs: tuple[str, ...]) -> None:
    """Check what a model file says about a model; see `TransformersNetwork.check`."""
    config, front_end = about["config"], about["front_end"]
    kind, extractor = config["model_type"], front_end["feature_extractor_type"]
    if kind not in SAVED_TYPES or extractor not in SAVED_FRONT_ENDS:
        raise ValueError(
            f"model files hold models of transformers of the types {', '.join(SAVED_TYPES)}, got "
            f"{kind!r} with {extractor!r}: use joblib.dump(model, 'model.joblib'), whose files run "
            "code when they are loaded"
        )
    with _quiet():
        known = {"config": _default_config(kind), "front_end": _default_front_end(front_end)}
    named = all(_known_settings(about[name], known[name]) == about[name] for name in known)
    if set(about) != ABOUT or not named:
        raise ValueError("its model of transformers has settings that such models do not have")
    for name, value in _numbers([config, front_end]):
        if not abs(value) <= MAX_SETTINGS.get(name, MAX_INT if type(value) is int else math.inf):
            raise ValueError(f"{name} of its model of transformers is too large: {value}")
    if type(about["n_features"]) is not int or not 0 <= about["n_features"] <= MAX_INT:
        raise ValueError("n_features of its model of transformers is not valid")
    if bool(outputs) is not about["scores"]:
        raise ValueError("its model of transformers has scores without names, or the reverse")
    made = _build_front_end(front_end)
    longest, bins = _longest(made) or 0, getattr(made, "num_mel_bins", made.feature_size)
    hop = getattr(made, "hop_length", FRAME_STEP * made.sampling_rate)
    if not (hop >= 1 and longest <= MAX_VALUES and longest / hop * bins <= MAX_VALUES):
        raise ValueError("the input of its model of transformers is larger than any model's")


def _numbers(value: Any, name: str = "a number") -> Iterator[tuple[str, int | float]]:
    """Yield names and values of all numbers in nested settings, and the sums of lists of ints."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one, name)
        if sum(abs(one) for one in value if type(one) is int) > MAX_SUM:
            raise ValueError(f"{name} of its model of transformers is too large")
    elif isinstance(value, int | float):
        yield name, value


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no remarks of transformers; missing weights raise an error instead."""
    log = import_transformers("AudioEmbedding").utils.logging
    with _LOCK, some_stderr():
        level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            yield
        finally:
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()


class TransformersEmbedder(nn.Module):
    """A model of transformers with its front end: waveforms to embeddings or scores.

    Parameters
    ----------
    network : nn.Module
        The model.
    front_end : transformers.SequenceFeatureExtractor
        Its feature extractor.
    """

    def __init__(self, network: nn.Module, front_end: Any) -> None:
        super().__init__()
        self.network, self.front_end = network, front_end
        self.longest = _longest(self.front_end)

    def embed(self, waves: Tensor, window: float | None, batch_size: int) -> Tensor:
        """Compute statistics of the embeddings over time.

        Parameters
        ----------
        waves : Tensor of shape (batch, n_samples), float32
            Waveforms of at least the shortest duration of the model.
        window : float or None
            Length in seconds of windows of the waveforms, of which each overlaps one half of the
            next; the last one ends with the clip. None: the model processes whole clips, or equal
            parts of those that are longer than its front end takes.
        batch_size : int
            Number of windows that are processed at a time.

        Returns
        -------
        statistics : Tensor of shape (batch, n_statistics, n_features)
            The rows of `STATISTICS`, over all steps of the model's last layer that are not
            padding, or over the means of the windows. A model with an output that it pools itself,
            such as AST and CLAP, has one step per window.
        """
        return torch.stack([self._statistics(wave, window, batch_size) for wave in waves])

    def score(self, waves: Tensor, window: float | None, batch_size: int) -> Tensor:
        """Compute the probability of every output, shape (batch, n_outputs); see `embed`."""
        scores = []
        for wave in waves:
            outputs = [output for output, _ in self._outputs(wave, window, batch_size)]
            scores.append(self._probabilities(torch.cat([o.logits for o in outputs])).mean(0))
        return torch.stack(scores)

    def _statistics(self, wave: Tensor, window: float | None, batch_size: int) -> Tensor:
        parts: list[Tensor] = []
        for output, mask in self._outputs(wave, window, batch_size):
            parts += _steps(output, mask)
        if window is not None:
            parts = [part.mean(0, keepdim=True) for part in parts]
        return statistics_over_time(torch.cat(parts).T)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities by the rule of transformers' pipelines."""
        config: Any = self.network.config
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return logits.sigmoid()
        return logits.softmax(-1)

    def _windows(self, wave: Tensor, window: float | None) -> list[Tensor]:
        n_samples, rate = len(wave), self.front_end.sampling_rate
        longest = self.longest or n_samples
        if window is None:
            return list(wave.tensor_split(math.ceil(n_samples / longest)))
        config: Any = self.network.config
        shortest = _shortest(config.to_dict(), rate)
        length = min(n_samples, longest, max(shortest, round(window * rate)))
        return overlapping_windows(wave, length)

    def _outputs(
        self, wave: Tensor, window: float | None, batch_size: int
    ) -> Iterator[tuple[Any, Tensor | None]]:
        """Outputs of the model for batches of windows, with the mask of the input if it pads."""
        windows = self._windows(wave, window)
        # In a batch, the front end of CLAP with fusion chooses a clip at random.
        size = 1 if getattr(self.front_end, "truncation", None) == "fusion" else batch_size
        for first in range(0, len(windows), size):
            pieces = [piece.cpu().numpy() for piece in windows[first : first + size]]
            inputs = self._inputs(pieces)
            inputs = {name: tensor.to(wave.device) for name, tensor in inputs.items()}
            output = self.network(**inputs, return_dict=True)
            yield output, inputs.get("attention_mask")

    def _inputs(self, pieces: list[Any]) -> dict[str, Tensor]:
        """Apply the front end to waveforms of one length, on the CPU."""
        asked = {"return_attention_mask": True} if self.longest else {}
        found = self.front_end(
            pieces, sampling_rate=self.front_end.sampling_rate, return_tensors="pt", **asked
        )
        if "attention_mask" in found and found["attention_mask"].all():
            del found["attention_mask"]  # nothing is padded
        return {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in found.items()
        }


def _build_front_end(settings: dict[str, Any]) -> Any:
    """Create the feature extractor of transformers that settings describe."""
    transformers = import_transformers("AudioEmbedding")
    name = str(settings["feature_extractor_type"])
    kind = getattr(transformers, name, None)
    base = transformers.SequenceFeatureExtractor
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(f"its front end {name} is not one of transformers for sound")
    return kind(**settings)


def _steps(output: Any, mask: Tensor | None) -> list[Tensor]:
    """Embeddings ``(n_steps, n_features)`` of every window, without those of padding."""
    pooled = output.get("pooler_output")
    if pooled is not None:
        return list(pooled[:, None])
    hidden = output.last_hidden_state  # (n_windows, n_steps, n_features)
    if mask is None:
        return list(hidden)
    n_steps = hidden.shape[1]
    steps = mask[:, :: mask.shape[1] // n_steps][:, :n_steps].bool()
    return [part[chosen] for part, chosen in zip(hidden, steps, strict=True)]
