"""Weights by name, from a local model hub."""

import hashlib
import http.server
import io
import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from skaudio.nn import imagenet
from skaudio.nn.cnn import build_cnn, import_timm
from skaudio.nn.imagenet import fetch_imagenet
from skaudio.nn.weights import load_weights


def use_hub(monkeypatch, folder, address):
    """Have the files of the hub at an address, and an empty cache."""
    from huggingface_hub import constants, file_download

    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # older releases keep the template in both
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub that refuses connections."""
    use_hub(monkeypatch, tmp_path, "http://127.0.0.1:9")


class Handler(http.server.BaseHTTPRequestHandler):
    """A hub: the server's files with its code, or no answer before the server is released."""

    def do_HEAD(self):
        self.server.asked.append(self.path)
        if self.server.code is None:
            self.server.released.wait(30)
        self.answer(200 if self.path.startswith("/elsewhere") else self.server.code or 200)

    def do_GET(self):
        self.wfile.write(self.answer(200))

    def answer(self, code):
        name = self.path.rpartition("/")[2]
        content = self.server.files.get(name, b"")
        self.send_response(code if content or code >= 400 else 404)
        etag = self.server.etag or hashlib.sha256(content).hexdigest()
        if content:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(content)))
        elif code < 400:
            self.send_header("X-Error-Code", "EntryNotFound")
        if code == 302:
            self.send_header("Location", f"http://{self.headers['Host']}/elsewhere/{name}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *args):
        """Stay quiet."""


def pretrained_resnet():
    """A substitute for pretrained weights."""
    return build_cnn("test_resnet", in_channels=3, n_classes=1000)


def as_torch(content):
    """The bytes of a file of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine whose first page is always there."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.code, server.asked, server.released = 200, [], threading.Event()
        server.files, server.etag = {}, None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_hub(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.released.set()
        server.shutdown()


def fill_resnet():
    """Load the pretrained weights of a model, and give it back."""
    model = build_cnn("test_resnet", in_channels=1, n_classes=2)
    tensors = fetch_imagenet("test_resnet")
    load_weights(model, tensors, head_names={"fc.weight", "fc.bias"})
    return model


def test_without_network_the_hub_is_given_up_on_quickly(no_hub):
    with pytest.raises(OSError, match=r"r160_in1k/.*/model\.safetensors cannot be .*refused"):
        fill_resnet()


@pytest.mark.parametrize(
    ("code", "message"),
    [(503, "503 "), (429, "429 "), (401, "401 "), (404, "404 "), (None, "imed out|within 0")],
)
def test_a_hub_that_gives_out_no_files_is_given_up_on_quickly(hub, monkeypatch, code, message):
    monkeypatch.setattr(imagenet, "HUB_TIMEOUT", 0.5)
    hub.code, start = code, time.monotonic()
    with pytest.raises(OSError, match=rf"/model\.safetensors cannot be downloaded \(.*({message})"):
        fill_resnet()
    assert time.monotonic() - start < 5
    assert hub.asked == ["/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"]


@pytest.mark.parametrize("code", [200, 302])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_downloaded_where_the_hub_answers(hub, code, name):
    source = pretrained_resnet()
    weights = source.state_dict()
    hub.code = code
    hub.files = {name: save(weights) if name.endswith("tensors") else as_torch(weights)}
    stem = fill_resnet().conv1[0].weight
    torch.testing.assert_close(stem, source.conv1[0].weight.sum(1, keepdim=True))
    asked = len(hub.asked)
    assert hub.asked[0].endswith("/model.safetensors")
    torch.testing.assert_close(fill_resnet().conv1[0].weight, stem)
    assert len(hub.asked) == asked  # the second time from the cache


class Bomb:
    """What makes a folder when it is unpickled by somebody who trusts it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_weights_from_the_hub_are_never_unpickled(hub, tmp_path):
    bad = tmp_path / "executed"
    hub.files = {
        "pytorch_model.bin": as_torch({**pretrained_resnet().state_dict(), "x": Bomb(bad)})
    }
    with pytest.raises(OSError, match=r"the download failed \(ValueError: .*cannot be read"):
        fill_resnet()
    assert not bad.exists()
    torch.load(io.BytesIO(hub.files["pytorch_model.bin"]), weights_only=False)
    assert bad.exists()  # so the file would have run code


def test_weights_that_arrive_damaged_are_removed(hub, tmp_path):
    hub.files = {"model.safetensors": save(pretrained_resnet().state_dict())}
    hub.etag = "0" * 64
    with pytest.raises(OSError, match=r"the file has the sha256 [0-9a-f]{64}, not 0{64}"):
        fill_resnet()
    hub.etag = None
    fill_resnet()


@pytest.mark.parametrize("right", [True, False])
def test_weights_that_are_not_on_the_hub_come_with_a_checksum(hub, monkeypatch, tmp_path, right):
    source = pretrained_resnet()
    content = as_torch(source.state_dict())
    name = f"resnet-{hashlib.sha256(content if right else b'').hexdigest()[:8]}.pth"
    hub.files = {name: content}
    url = f"http://127.0.0.1:{hub.server_address[1]}/{name}"
    config = SimpleNamespace(hf_hub_id=None, url=url, custom_load=False)
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda name: config)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    if right:
        tensors = fetch_imagenet("test_resnet")
        torch.testing.assert_close(tensors["conv1.0.weight"], source.conv1[0].weight)
    else:
        with pytest.raises(OSError, match="download failed .*invalid hash value"):
            fetch_imagenet("test_resnet")


def test_weights_that_only_their_model_can_read_are_refused(monkeypatch):
    config = SimpleNamespace(hf_hub_id="a/b", hf_hub_filename="c.npz", url="", custom_load="hf")
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda name: config)
    with pytest.raises(ValueError, match=r"weights of 'test_resnet' only in a form of another"):
        fetch_imagenet("test_resnet")


def test_every_address_of_weights_is_of_https():
    timm = import_timm()
    configs = [timm.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)]
    assert len(configs) > 1000
    assert all(config.hf_hub_id or config.url.startswith("https://") for config in configs)


@pytest.mark.parametrize("error", [RuntimeError("no space"), KeyError("state"), OSError("gone")])
def test_a_download_that_breaks_is_one_kind_of_error(hub, monkeypatch, error):
    def fail(name, pretrained, **options):
        if pretrained:
            raise error
        return create(name, **options)

    create = import_timm().create_model
    hub.files = {"model.safetensors": save(pretrained_resnet().state_dict())}
    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(OSError, match=rf"the download failed \({type(error).__name__}: "):
        fill_resnet()


def test_cached_weights_need_no_network(no_hub, monkeypatch, tmp_path):
    source = build_cnn("test_resnet", in_channels=3, n_classes=1000)
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repo, name: str(tmp_path / name) if name.endswith("bin") else None,
    )
    tensors = fetch_imagenet("test_resnet")
    assert torch.equal(tensors["conv1.0.weight"], source.conv1[0].weight)


def test_damaged_weights_in_the_cache_are_no_download_that_failed(no_hub, monkeypatch, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"cut short")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(path))
    with pytest.raises(OSError, match=r"the file in the cache is of no use \(.*model\.safetensors"):
        fetch_imagenet("test_resnet")


def test_a_model_without_pretrained_weights_says_so():
    with pytest.raises(ValueError, match="no pretrained weights for 'no_such_model'"):
        fetch_imagenet("no_such_model")
