"""Matrix states in plain PyTorch, chunk by chunk. q, k (B,T,H,K), v (B,T,H,V), o (B,T,H,V); b: sums of g in a chunk."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cut(x: Tensor, size: int) -> Tensor:
    """(B,T,H,..) -> (B,H,n,size,..), the last chunk filled up with zeros."""
    rest = -x.shape[1] % size
    if rest:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, rest))
    return x.unflatten(1, (-1, size)).movedim(3, 1)


def joined(o: Tensor, length: int) -> Tensor:
    """(B,H,n,size,V) -> (B,T,H,V)"""
    return o.movedim(1, 3).flatten(1, 2)[:, :length]


def before_chunks(added: Tensor, decay: Tensor | None) -> Tensor:
    """States before each chunk: added (B,H,n,K,V) by it, decay (B,H,n,K or 1) over it."""
    state, out = torch.zeros_like(added[:, :, 0]), []
    for c, add in enumerate(added.unbind(2)):
        out.append(state)
        state = add + (state if decay is None else decay[:, :, c, :, None] * state)
    return torch.stack(out, dim=2)


def below(size: int, device, diagonal: int = 0) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).tril(diagonal)


def scalar_decay(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, size: int = 64) -> Tensor:
    """S_t = e^{g_t} S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t; g (B,T,H), at most 0, or None: 0."""
    length = q.shape[1]
    q, k, v = (cut(x, size) for x in (q, k, v))
    lower = below(size, q.device)
    if g is None:
        scores, late, decay = (q @ k.mT).masked_fill(~lower, 0), k, None
    else:
        b = cut(g, size).cumsum(-1)  # (B,H,n,C)
        apart = (b[..., :, None] - b[..., None, :]).masked_fill(~lower, -torch.inf)
        scores = (q @ k.mT) * apart.exp()
        late, decay = k * (b[..., -1:] - b).exp()[..., None], b[..., -1:].exp()
        q = q * b.exp()[..., None]
    return joined(scores @ v + q @ before_chunks(late.mT @ v, decay), length)


def vector_decay(q: Tensor, k: Tensor, v: Tensor, g: Tensor, size: int = 16) -> Tensor:
    """S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t; g (B,T,H,K). Chunks are short: e^{-b} stays finite."""
    length = q.shape[1]
    q, k, v, g = (cut(x, size) for x in (q, k, v, g))
    b = g.cumsum(-2)
    q, end = q * b.exp(), b[..., -1:, :]
    scores = (q @ (k * (-b).exp()).mT).masked_fill(~below(size, q.device), 0)
    states = before_chunks((k * (end - b).exp()).mT @ v, end[..., 0, :].exp())
    return joined(scores @ v + q @ states, length)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, size: int = 64) -> Tensor:
    """S_t = (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,  o_t = S_t^T q_t; beta (B,T,H), |k| = 1.

    In a chunk the corrections are U = (I + N)^{-1} beta (V - K S), N_ij = beta_i k_i.k_j below the diagonal.
    """
    length = q.shape[1]
    q, k, v = (cut(x, size) for x in (q, k, v))
    beta = cut(beta, size)[..., None]
    system = (beta * (k @ k.mT)).masked_fill(~below(size, q.device, -1), 0)  # the diagonal of ones is implied
    solved = torch.linalg.solve_triangular(system, beta * torch.cat([v, k], dim=-1), upper=False, unitriangular=True)
    u, w = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    scores = (q @ k.mT).masked_fill(~below(size, q.device), 0)
    state, out = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]), []
    for q_c, k_c, u_c, w_c, scores_c in zip(*(x.unbind(2) for x in (q, k, u, w, scores)), strict=True):
        right = u_c - w_c @ state
        out.append(q_c @ state + scores_c @ right)
        state = state + k_c.mT @ right
    return joined(torch.stack(out, dim=2), length)
