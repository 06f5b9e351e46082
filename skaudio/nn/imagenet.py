"""Pretrained weights of timm models, from the model hub."""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch
from torch import Tensor

from skaudio._files import answer_within
from skaudio._optional import some_stderr
from skaudio.nn.cnn import import_timm
from skaudio.nn.weights import read_weights

__all__ = ["fetch_imagenet"]

# Seconds to wait for the model hub before saying that it cannot be reached.
HUB_TIMEOUT = 8.0


def fetch_imagenet(name: str, options: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """Pretrained weights of a timm model.

    Parameters
    ----------
    name : str
        Its timm name, with a weight tag or without.
    options : dict or None, default=None
        Further arguments of `timm.create_model`.

    Returns
    -------
    tensors : dict of str to Tensor
        Named as in timm's model, its head included.

    Raises
    ------
    OSError
        If the weights are neither in the cache nor can be downloaded, or those in the cache are
        damaged.
    ValueError
        If timm knows no pretrained weights for the model, or has them only in a form that one of
        its models reads by itself.

    Notes
    -----
    timm is handed tensors and never a file, since some of its releases unpickle what they find
    where a model has no safetensors; `read_weights` and `weights_only` execute nothing.
    """
    timm = import_timm()
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise ValueError(f"timm has no pretrained weights for {name!r}")
    if config.custom_load and not config.hf_hub_id or config.custom_load == "hf":
        raise ValueError(f"timm has the weights of {name!r} only in a form of another library")
    path = _cached_file(config)
    filename = _ask_host(config) if path is None else ""
    try:
        if config.hf_hub_id:
            with some_stderr():
                file = path or _download_file(config.hf_hub_id, filename)
            tensors = read_weights(file)
        else:
            tensors = torch.hub.load_state_dict_from_url(
                config.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        # By way of timm's model, which knows how the names in older files have changed.
        overlay = {"state_dict": tensors}
        model = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **(options or {})
        )
    except Exception as err:  # of the hub's client, the network, the disk or a broken file
        what = "the download failed" if path is None else "the file in the cache is of no use"
        raise OSError(f"{what} ({type(err).__name__}: {err})") from err
    return model.state_dict()


def _file_names(config: Any) -> tuple[str, str]:
    """The file of a model on the hub, as safetensors and as torch saves it."""
    name = config.hf_hub_filename or "pytorch_model.bin"
    return f"{name.replace('pytorch_model', 'model').rpartition('.')[0]}.safetensors", name


def _cached_file(config: Any) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for filename in _file_names(config) if config.hf_hub_id else ():
        path = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(path, str):
            return path
    return None


def _download_file(repo: str, filename: str) -> str:
    import pooch
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(repo, filename)
    # The cache names large files by the checksum that the hub gives, but does not verify it.
    checksum = Path(path).resolve().name
    if re.fullmatch("[0-9a-f]{64}", checksum):
        found = pooch.file_hash(path)
        if found != checksum:
            Path(path).resolve().unlink()
            raise OSError(f"the file has the sha256 {found}, not {checksum}; it is removed")
    return path


def _ask_host(config: Any) -> str:
    """Return the name of the file that the host of the weights has, within `HUB_TIMEOUT`.

    Without an answer, `hf_hub_download` of huggingface-hub 2 retries for minutes, and `torch.hub`
    has no timeout.
    """
    from huggingface_hub import hf_hub_url

    try:
        return answer_within(HUB_TIMEOUT, functools.partial(_find_file, config))
    except Exception as err:
        url = config.url
        if config.hf_hub_id:
            url = hf_hub_url(config.hf_hub_id, _file_names(config)[0])
        raise OSError(f"{url} cannot be downloaded ({type(err).__name__}: {err})") from err


def _find_file(config: Any) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import EntryNotFoundError

    if not config.hf_hub_id:
        urlopen(config.url, timeout=HUB_TIMEOUT).close()
        return config.url
    names = _file_names(config)
    for name in names:
        with suppress(EntryNotFoundError):
            get_hf_file_metadata(hf_hub_url(config.hf_hub_id, name), timeout=HUB_TIMEOUT)
            return name
    raise FileNotFoundError(f"it has neither {' nor '.join(names)}")
