"""AST-base, the audio spectrogram transformer with which MAST is compared.

Gong, Chung and Glass, arXiv:2104.01778: a DeiT-base with distillation token on patches of 16 x 16,
at a stride of 10. Written from that description, with random weights, for counting and timing only.
"""

import torch
from torch import nn
from torch.nn import functional

DIM, N_BLOCKS, N_HEADS = 768, 12, 12
PATCH, STRIDE = 16, 10
N_EXTRA = 2  # class token and distillation token
NORM_EPS = 1e-6


class Block(nn.Module):
    """Self-attention over all tokens and a multilayer perceptron."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM, NORM_EPS), nn.LayerNorm(DIM, NORM_EPS)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))

    def forward(self, x):
        """Tokens (batch, n_tokens, DIM) to tokens of the same shape."""
        heads = self.qkv(self.norm1(x)).unflatten(2, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        gathered = functional.scaled_dot_product_attention(*heads)  # (batch, heads, n_tokens, d)
        x = x + self.proj(gathered.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class AST(nn.Module):
    """Spectrograms (batch, 1, n_mels, n_frames) of one size to logits (batch, n_classes)."""

    def __init__(self, n_classes, n_mels, n_frames):
        super().__init__()
        self.n_tokens = N_EXTRA + n_patches(n_mels) * n_patches(n_frames)
        self.patches = nn.Conv2d(1, DIM, PATCH, STRIDE)
        self.extra = nn.Parameter(torch.randn(1, N_EXTRA, DIM) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, self.n_tokens, DIM) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(N_BLOCKS)))
        self.norm = nn.LayerNorm(DIM, NORM_EPS)
        # The authors' network contains both heads of its ImageNet model but does not use them.
        self.unused_heads = nn.ModuleList(nn.Linear(DIM, 1000) for _ in range(N_EXTRA))
        self.head = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, n_classes))

    def forward(self, images):
        """Logits from the mean of the two extra tokens."""
        x = self.patches(images).flatten(2).transpose(1, 2)  # (batch, n_patches, DIM)
        x = torch.cat([self.extra.expand(len(x), -1, -1), x], dim=1) + self.positions
        x = self.norm(self.blocks(x))
        return self.head(x[:, :N_EXTRA].mean(1))


def n_patches(n_cells):
    """Number of patches along an axis."""
    return (n_cells - PATCH) // STRIDE + 1
