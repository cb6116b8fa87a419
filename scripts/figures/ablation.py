"""What each change does to the score.

Difference to the base setting of the same task, mean over seeds, with its 95 % bootstrap interval (paired by seed
where both settings have the seed). Hollow: less than two deviations over seeds, or one seed only. Grey band: two
deviations of the base over its seeds.
"""

from ssmb import curves, style
from ssmb.effects import ablation, effect
from ssmb.series import group

ORDER = 8


def panel(ax, base, effects):
    scale = 100 if base.runs[0].metric == "accuracy" else 1
    ax.axvline(0, color=style.INK, linewidth=0.9)
    spread = effect(base, None, "").deviation
    if spread == spread:
        ax.axvspan(-2 * spread * scale, 2 * spread * scale, color=style.GRID, alpha=0.6, linewidth=0, zorder=0)
    for i, e in enumerate(effects):
        colour, marker = style.mark(e.series.mark)
        if e.difference_low == e.difference_low:
            ax.plot([e.difference_low * scale, e.difference_high * scale], [i, i], color=colour, linewidth=2)
        face = style.PAPER if e.mark else colour
        ax.plot([e.difference * scale], [i], marker, ms=7, color=colour, mfc=face, mew=1.6)
    ax.set_yticks(range(len(effects)), [e.change for e in effects])
    ax.set_ylim(len(effects) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    unit = "accuracy (points)" if scale == 100 else base.runs[0].metric
    ax.set_xlabel(f"{unit}, difference to {base.label}")


def figure(runs):
    series = group([r for r in runs if r.evals])
    found = [(t, *ablation([s for s in series if s.task == t])) for t in dict.fromkeys(s.task for s in series)]
    found = [f for f in found if f[2]]
    if not found:
        return None
    heights = [0.8 + 0.3 * len(effects) for _, _, effects in found]
    canvas = style.figure(7.6, 0.5 + sum(heights))
    panels = canvas.subplots(len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (task, base, effects) in zip(panels, found, strict=True):
        panel(ax, base, effects)
        ax.set_title(task if len(found) > 1 else "")
    hollow = "Hollow: less than two deviations over seeds, or one seed. Grey band: two deviations of the base."
    curves.footnote(canvas, [hollow])
    return canvas
