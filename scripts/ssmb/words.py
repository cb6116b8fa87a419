"""Numbers as people read them."""


def short(value: float, unit: str = "") -> str:
    """1234567 -> "1.23 M"; NaN -> a dash."""
    if value != value:
        return "–"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}".strip()


def clock(seconds: float) -> str:
    """75 -> "1:15"; NaN -> "?"."""
    if seconds != seconds:
        return "?"
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"
