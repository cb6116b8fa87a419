"""Kernels of other projects that the PyTorch side takes where Python can import them: mamba-ssm's and fla's."""

import importlib
from collections.abc import Callable
from importlib import metadata

import torch

# By variant: module, function, package, what it is written in, and what it does to numbers
KERNELS = {
    "mamba": ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn", "mamba-ssm", "CUDA", ""),
    "mamba2": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined", "mamba-ssm", "Triton", ""),
    "retnet": ("fla.ops.retention", "chunk_retention", "fla-core", "Triton", ""),
    "gla": ("fla.ops.gla", "chunk_gla", "fla-core", "Triton", ""),
    "linear_attention": ("fla.ops.linear_attn", "chunk_linear_attn", "fla-core", "Triton", ""),
    "deltanet": ("fla.ops.delta_rule", "chunk_delta_rule", "fla-core", "Triton", ", in bfloat16: it takes no float32"),
    # Parts of the above
    "selective_scan": ("selective_scan_cuda", "fwd", "mamba-ssm", "CUDA", ""),
    "selective_scan_backward": ("selective_scan_cuda", "bwd", "mamba-ssm", "CUDA", ""),
    "short_conv": ("fla.modules.causal_conv1d", "causal_conv1d", "fla-core", "Triton", ""),
    "state_update": (
        "mamba_ssm.ops.triton.selective_state_update", "selective_state_update", "mamba-ssm", "Triton", "",
    ),
}  # fmt: skip
PLAIN = {"loop": "PyTorch, position by position", "chunk": "PyTorch, chunk by chunk"}


def kernel(name: str) -> Callable:
    """torch.compile leaves it as it is. Raises RuntimeError saying why it cannot be imported."""
    module, function, package, *_ = KERNELS[name]
    try:
        return torch.compiler.disable(getattr(importlib.import_module(module), function))
    except Exception as e:  # what a package of kernels raises where there is no GPU is its own affair
        raise RuntimeError(f"{package}'s {function} cannot be imported: {type(e).__name__}: {e}") from e


def has(name: str) -> bool:
    try:
        return bool(kernel(name))
    except RuntimeError:
        return False


def scan_of(variant: str, asked: str, device: str) -> str:
    """kernel, loop or chunk; "" where the variant has neither. auto: the kernel where it can be imported and there is a
    GPU, else chunk. Raises RuntimeError when a kernel is asked for and is not there."""
    if variant not in KERNELS:
        return ""
    if asked == "auto":
        return "kernel" if device == "cuda" and has(variant) else "chunk"
    if asked == "kernel":
        kernel(variant)
    return asked if variant == "mamba" or asked != "loop" else "chunk"


def text(name: str) -> str:
    """Whose kernel it is, for the record."""
    _, function, package, language, note = KERNELS[name]
    try:
        version = f" {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        version = ""
    return f"{package}{version} {function}, {language}{note}"


def scan_text(variant: str, scan: str, device: str) -> str:
    """How the recurrence is computed, and why not by a kernel where one was to be had."""
    if not scan:
        return ""
    if scan == "kernel":
        return text(variant)
    try:
        if device == "cuda":
            kernel(variant)
    except RuntimeError as e:
        return f"{PLAIN[scan]} ({e})"
    return PLAIN[scan]
