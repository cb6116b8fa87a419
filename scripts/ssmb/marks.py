"""Marks of variants: Okabe and Ito's colours, safe for colour-blind readers; colour is never a variant's only mark.
Standard library only."""

import hashlib

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">")
# Marks that differ most where variants often stand together; any other name gets its own by hash.
FIXED = {
    "s4d": (BLUE, "o"),
    "s4": (SKY, "s"),
    "mamba": (VERMILLION, "^"),
    "attention": (GREEN, "D"),
    "cnn": (PURPLE, "v"),
    "s5": (ORANGE, "P"),
    "lru": (PURPLE, "s"),
    "mamba2": (SKY, "^"),
    "h3": (GREEN, "v"),
    "hyena": (ORANGE, "X"),
    "longconv": (SKY, "P"),
    "linear_attention": (GREEN, "s"),
    "retnet": (PURPLE, "D"),
    "gla": (ORANGE, "D"),
    "deltanet": (BLUE, "X"),
    "selective_dplr": (VERMILLION, "o"),
    "lstm": (PURPLE, "P"),
    "gru": (SKY, "v"),
}
FREE = [(c, m) for m in MARKERS for c in COLOURS if (c, m) not in FIXED.values()]


def mark(mixer: str) -> tuple[str, str]:
    """(colour, marker) of a variant: the same in every figure, on every machine."""
    if mixer in FIXED:
        return FIXED[mixer]
    return FREE[int.from_bytes(hashlib.sha256(mixer.encode()).digest()[:4], "big") % len(FREE)]
