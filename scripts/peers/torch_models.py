"""The models in plain PyTorch, as one writes them without kernels of one's own; where they can be imported, scans and
chunks are mamba-ssm's and fla's (torch_kernels.py).

    embedding -> layers x [x + mixer(norm(x))] -> norm -> mean over time -> classes

x (B,T,D) throughout; for some an MLP follows every mixer as a second residual branch. The mixers follow the published
definitions; attention (scaled_dot_product_attention, causal) and TCN stand here, the others in torch_convolutions.py,
torch_recurrences.py and torch_matrix_states.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_convolutions import H3, S4, S4D, Hyena, LongConv
from torch_matrix_states import DeltaNet, Gla, LinearAttention, Mamba2, RetNet
from torch_recurrences import S5, Gated, Lru, Mamba


@dataclass
class Shape:
    d: int
    length: int
    layers: int
    vocab: int
    classes: int
    scan: str = "chunk"  # kernel, loop (Mamba) or chunk
    mlp: int = -1  # width of the MLP in units of D, 0: none, -1: the variant's


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on the two halves of the last axis."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Causal softmax attention with rotary positions."""

    def __init__(self, d: int, length: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        half = d // heads // 2
        angle = torch.arange(length)[:, None] * 10000 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = (rotate(v, self.cos, self.sin) for v in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Tcn(nn.Module):
    """Two weight-normed causal convolutions of width k and dilation 2^layer, each with ReLU; then ReLU(x + y)."""

    def __init__(self, d: int, layer: int, k: int = 3):
        super().__init__()
        self.pad = (k - 1) * 2**layer
        make = torch.nn.utils.parametrizations.weight_norm
        self.convs = nn.ModuleList(make(nn.Conv1d(d, d, k, dilation=2**layer)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2)
        for conv in self.convs:
            y = F.relu(conv(F.pad(y, (self.pad, 0))))
        return F.relu(y.transpose(1, 2) + x)


MIXERS = {
    "s4d": lambda s, _: S4D(s.d, s.length),
    "s4": lambda s, _: S4(s.d, s.length),
    "s5": lambda s, _: S5(s.d, s.length),
    "lru": lambda s, _: Lru(s.d, s.length),
    "longconv": lambda s, _: LongConv(s.d, s.length),
    "hyena": lambda s, _: Hyena(s.d, s.length),
    "h3": lambda s, _: H3(s.d, s.length),
    "mamba": lambda s, _: Mamba(s.d, s.scan),
    "mamba2": lambda s, _: Mamba2(s.d, s.scan),
    "retnet": lambda s, _: RetNet(s.d, s.length, s.scan),
    "gla": lambda s, _: Gla(s.d, s.scan),
    "deltanet": lambda s, _: DeltaNet(s.d, s.scan),
    "linear_attention": lambda s, _: LinearAttention(s.d, s.scan),
    "attention": lambda s, _: Attention(s.d, s.length),
    "cnn": lambda s, layer: Tcn(s.d, layer),
    "lstm": lambda s, _: Gated(nn.LSTM, s.d),
    "gru": lambda s, _: Gated(nn.GRU, s.d),
}
# Width of the MLP after every mixer, in units of D
MLP = {"attention": 2, "hyena": 2, "h3": 4, "retnet": 2, "gla": 4, "deltanet": 4, "linear_attention": 2}


class BatchNorm(nn.BatchNorm1d):
    """Over batch and time."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


NORMS = dict.fromkeys(("mamba", "mamba2", "retnet", "gla", "deltanet"), nn.RMSNorm) | {"s5": BatchNorm}


class Block(nn.Module):
    """x + mixer(norm(x)), and where there is an MLP x + MLP(norm(x)) after it."""

    def __init__(self, name: str, s: Shape, layer: int):
        super().__init__()
        make_norm = NORMS.get(name, nn.LayerNorm)
        self.norm, self.mixer, self.mlp = make_norm(s.d), MIXERS[name](s, layer), None
        width = s.d * (MLP.get(name, 0) if s.mlp < 0 else s.mlp)
        if width:
            up, down = nn.Linear(s.d, width), nn.Linear(width, s.d)
            self.mlp = nn.Sequential(make_norm(s.d), up, nn.GELU(), down)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm(x))
        return x if self.mlp is None else x + self.mlp(x)


class Model(nn.Module):
    def __init__(self, name: str, s: Shape):
        super().__init__()
        self.embed = nn.Embedding(s.vocab, s.d)
        self.blocks = nn.Sequential(*(Block(name, s, i) for i in range(s.layers)))
        self.norm = NORMS.get(name, nn.LayerNorm)(s.d)
        self.head = nn.Linear(s.d, s.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(tokens))).mean(dim=1))
