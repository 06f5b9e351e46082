"""Largest differences of networks and front ends from outputs of reference implementations.

    python benchmarks/accuracy/golden.py --golden FOLDER --esc10 FOLDER \
        --efficientat FILE --yamnet FILE

The first folder contains ``efficientat_mn04.npz`` and ``yamnet.npz``, the second ``meta.csv``; the
files are weights of both networks. Writes a table into docs/benchmarks.md. Takes ten seconds.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from skaudio import AudioEmbedding
from skaudio.audio import load_clip
from skaudio.nn.pretrained import read_network

sys.path.insert(0, str(Path(__file__).parents[1]))
from pages import describe_machine, write_block

WINDOW, PATCH, STEP = 0.96, 96, 48  # of YAMNet, in seconds and frames
TOLERANCES = {"signals": 2e-4, "files": 1e-3}
# What the reference calls a quantity, our name of it, and the length of windows in seconds.
QUANTITIES = {
    "features": ("spectrogram", None),
    "embedding": ("embedding", None),
    "embedding_whole": ("embedding", None),
    "embedding_patches": ("embedding, windows", WINDOW),
    "embedding_patches_mean": ("embedding, windows", WINDOW),
    "logits": ("logits", None),
    "logits_patches": ("logits, windows", WINDOW),
}


def compute(name, window, clip, model, embedding):
    """Compute a quantity of a clip, a waveform or a path."""
    if name.startswith("embedding"):
        return embedding.set_params(window=window).transform([clip])[0]
    rate = embedding.sample_rate_
    wave = clip if isinstance(clip, np.ndarray) else load_clip(clip, sample_rate=rate)
    with torch.inference_mode():
        images = model.spectrograms(torch.from_numpy(wave)[None])
        if name == "spectrogram":
            return images[0, 0].numpy()
        if window is not None:
            images = images[0].unfold(1, PATCH, STEP).permute(1, 0, 3, 2)  # (n, 1, frames, bands)
        return model.network(images).mean(0).numpy()


def differences(golden, esc10, network, weights):
    """Yield source, quantity, largest difference and largest value of every stored array."""
    model = read_network(network, Path(weights), 0.0).embedder()
    embedding = AudioEmbedding(network, weights=weights).fit([np.zeros(1, np.float32)])
    for key in golden.files:
        clip, _, kind = key.rpartition("/")
        if kind not in QUANTITIES:
            continue
        name, window = QUANTITIES[kind]
        expected = golden[key].mean(0) if kind.endswith("_patches") else golden[key]
        is_signal = f"{clip}/wave" in golden.files
        source = golden[f"{clip}/wave"] if is_signal else next(Path(esc10).rglob(clip))
        found = compute(name, window, source, model, embedding)
        gap, size = float(np.abs(found - expected).max()), float(np.abs(expected).max())
        yield "signals" if is_signal else "files", name, gap, size


def main():
    """Compare both networks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", required=True, help="folder with the reference outputs")
    parser.add_argument("--esc10", required=True, help="folder with audio/ and meta.csv")
    parser.add_argument("--efficientat", required=True, help="weights of efficientat_mn04")
    parser.add_argument("--yamnet", required=True, help="weights of yamnet")
    args = parser.parse_args()
    lines = [
        "Largest absolute difference from the reference: the authors' code for efficientat_mn04, a "
        "second implementation of the published recipe for yamnet. Signals: noise, chirp, silence, "
        "click; files: ten clips of ESC-10, decoded and resampled. Written by "
        f"`benchmarks/accuracy/golden.py`, {describe_machine()}.",
        "",
        "| network | input | quantity | compared | largest value | difference | tolerance |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for network, weights in (("efficientat_mn04", args.efficientat), ("yamnet", args.yamnet)):
        golden, found = np.load(Path(args.golden) / f"{network}.npz"), {}
        for source, name, *sizes in differences(golden, args.esc10, network, weights):
            found.setdefault((source, name), []).append(sizes)
        for (source, name), sizes in found.items():
            (gap, size), limit = np.max(sizes, axis=0), TOLERANCES[source]
            verdict = f"{limit:.0e}" if gap <= limit else f"**exceeded: {limit:.0e}**"
            cells = source, name, str(len(sizes)), f"{size:.3g}", f"{gap:.1e}", verdict
            lines.append(f"| {network} | {' | '.join(cells)} |")
    print("\n".join(lines))
    write_block("golden", lines)


if __name__ == "__main__":
    main()
