"""ImageNet CNNs from timm, ready for spectrograms."""

from __future__ import annotations

import difflib
import hashlib
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from skaudio._optional import some_stderr
from skaudio.nn.weights import read_weights

__all__ = ["build_cnn", "fetch_imagenet", "find_head", "import_timm", "stages"]

# Seconds to wait for the model hub before saying that it cannot be reached. timm itself tries for
# the better part of a minute, also where the hub is there but does not give out files.
HUB_TIMEOUT = 8.0


def import_timm() -> ModuleType:
    """Import timm, or say why it cannot be imported.

    Raises
    ------
    ImportError
        If timm is missing or torchvision, which it needs, does not match torch.
    """
    try:
        import timm
    except (ImportError, RuntimeError, OSError, AttributeError) as err:
        # A torchvision built for another torch seldom raises ImportError.
        raise ImportError(
            f"timm cannot be imported ({err}). If it is installed, torchvision probably does not "
            "match torch: reinstall both together with 'pip install -U torch torchvision timm'. A "
            "callable as backbone needs no timm."
        ) from err
    return timm


def build_cnn(
    name: str, *, in_channels: int, n_classes: int, options: dict[str, Any] | None = None
) -> nn.Module:
    """Build a timm model with random weights.

    Parameters
    ----------
    name : str
        A name of `timm.list_models`.
    in_channels, n_classes : int
        Channels of the images and number of logits.
    options : dict or None, default=None
        Further arguments of `timm.create_model`.

    Returns
    -------
    model : nn.Module
        Images ``(batch, in_channels, height, width)`` to logits ``(batch, n_classes)``.

    Raises
    ------
    ImportError
        If timm cannot be imported.
    ValueError
        If there is no such model, or it does not take these options.
    """
    timm = import_timm()
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(
            f"timm has no model {name!r}"
            + (f", did you mean {' or '.join(map(repr, near))}" if near else "")
        )
    try:
        return timm.create_model(
            name, pretrained=False, in_chans=in_channels, num_classes=n_classes, **(options or {})
        )
    except Exception as err:  # models check their options in ways of their own, or not at all
        raise ValueError(
            f"{name!r} cannot be built with the options {options!r} ({type(err).__name__}: {err})"
        ) from err


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
    path = _cached_file(config) if config.hf_hub_id else None
    if path is None:
        _require_file(config)
    try:
        if config.hf_hub_id:
            with some_stderr():
                file = path or _download_file(config)
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


def find_head(model: Any) -> nn.Module | None:
    """Layer that turns embeddings into logits: timm's classifier, else the last `nn.Linear`.

    None where there is no such layer, or several as in distilled models.
    """
    if hasattr(model, "get_classifier"):
        head = model.get_classifier()
        return head if isinstance(head, nn.Module) else None
    return next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)


def stages(model: Any) -> list[list[str]]:
    """Names of the parameters of each stage from input to output, without the head.

    timm's own coarse grouping where the model has one, otherwise its children in order.
    """
    head = find_head(model)
    ours = {id(p) for p in head.parameters()} if head is not None else set()
    names = [name for name, p in model.named_parameters() if id(p) not in ours]
    if hasattr(model, "group_matcher"):
        matcher = model.group_matcher(coarse=True)
        groups = import_timm().models.group_parameters(model, matcher)
        ordered = [[n for n in groups[i] if n in names] for i in sorted(groups)]
    else:
        tops = dict.fromkeys(re.match(r"[^.]+", name).group() for name in names)  # type: ignore[union-attr]
        ordered = [[n for n in names if n.split(".")[0] == top] for top in tops]
    return [group for group in ordered if group]


def _file_names(config: Any) -> tuple[str, str]:
    """The file of a model on the hub, as safetensors and as torch saves it."""
    name = config.hf_hub_filename or "pytorch_model.bin"
    return f"{name.replace('pytorch_model', 'model').rpartition('.')[0]}.safetensors", name


def _cached_file(config: Any) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for filename in _file_names(config):
        path = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(path, str):
            return path
    return None


def _download_file(config: Any) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError

    safe, pickled = _file_names(config)
    try:
        path = hf_hub_download(config.hf_hub_id, safe)
    except EntryNotFoundError:
        path = hf_hub_download(config.hf_hub_id, pickled)
    # The cache names large files by the checksum that the hub gives, and does not look at it.
    checksum = Path(path).resolve().name
    if re.fullmatch("[0-9a-f]{64}", checksum):
        found = _sha256(path)
        if found != checksum:
            Path(path).resolve().unlink()
            raise OSError(f"the file has the sha256 {found}, not {checksum}; it is removed")
    return path


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _require_file(config: Any) -> None:
    """Check within `HUB_TIMEOUT` that the host of the weights answers for their very file."""
    from huggingface_hub import constants, hf_hub_url

    if config.hf_hub_id and constants.HF_HUB_OFFLINE:
        raise OSError("the model hub is switched off by HF_HUB_OFFLINE")
    address = (
        hf_hub_url(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if config.hf_hub_id
        else config.url
    )
    reasons: list[str | None] = []  # one, None if there is nothing against the download

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=HUB_TIMEOUT):
                reasons.append(None)
        except urllib.error.HTTPError as err:
            # A redirect leads to the file. Of other refusals (another file name, a token that is
            # needed) the download makes the best, without the retries that take so long.
            fails_slowly = err.code >= 500 or err.code in (408, 429)
            reasons.append(f"it answers with HTTP {err.code}" if fails_slowly else None)
        except Exception as err:
            reasons.append(f"{type(err).__name__}: {err}")

    # In a thread, because looking up a host name does not obey the timeout of urllib.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    reason = reasons[0] if reasons else f"no answer within {HUB_TIMEOUT:g} s"
    if reason is not None:
        raise OSError(f"the model hub cannot be reached from this machine ({reason})")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leave redirects alone: urllib would ask for the whole file where they lead."""

    def redirect_request(self, *args):
        return None
