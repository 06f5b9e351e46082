"""Networks of other packages as backbones, as in the user guide."""

from torch import nn


class SpectrogramEncoder(nn.Module):
    """A tiny audio spectrogram transformer; its own weights would come from `from_pretrained`."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        from transformers import ASTConfig, ASTForAudioClassification

        config = ASTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            patch_size=8, frequency_stride=8, time_stride=8, num_mel_bins=16, max_length=26,
            num_labels=n_classes,
        )  # fmt: skip
        self.model = ASTForAudioClassification(config)

    def forward(self, x):  # (batch, 1, n_mels, n_frames), and AST wants (batch, n_frames, n_mels)
        return self.model(x[:, 0].transpose(1, 2)).logits


class WaveformEncoder(nn.Module):
    """A tiny wav2vec 2.0, and a linear layer on the mean over its frames."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        config = Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            conv_dim=(16, 16, 16), conv_kernel=(10, 8, 4), conv_stride=(5, 4, 2),
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, apply_spec_augment=False,
        )  # fmt: skip
        self.encoder = Wav2Vec2Model(config)
        self.head = nn.Linear(config.hidden_size, n_classes)

    def forward(self, x):  # (batch, 1, 1, n_samples)
        return self.head(self.encoder(x[:, 0, 0]).last_hidden_state.mean(1))
