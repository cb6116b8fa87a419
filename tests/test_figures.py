"""Figures of timings and of other lengths, from records made by hand: python tests/test_figures.py"""

import unittest
from pathlib import Path

import numpy as np
from stubbed import SCRIPTS  # noqa: F401  (puts scripts/ on the path)

from ssmb import cases, estimate, figures, page, results, series, tables

KNOWN = {f.name: f for f in figures.discover()}


def bench(rates: dict[str, dict[int, float]], threads: int = 1, level: str = "mixer") -> results.Run:
    """A bench file: variant -> T -> tokens per second at B 2, D 8; 10 flops and 2 bytes a token."""
    rows = [(v, t, r) for v, by_length in rates.items() for t, r in by_length.items()]
    name = f"{level}.{{}}.forward.B2.T{{}}.D8"
    table = {"case": [name.format(v, t) for v, t, _ in rows], "variant": [v for v, _, _ in rows]}
    table |= {"T": [t for _, t, _ in rows], "tokens": [2 * t for _, t, _ in rows]}
    table |= {"flops": [20.0 * t for _, t, _ in rows], "bytes": [4.0 * t for _, t, _ in rows]}
    same = {"level": level, "mode": "forward", "B": 2, "D": 8, "high_water": 2**20, "state": "ok", "reason": ""}
    table |= {k: [v] * len(rows) for k, v in same.items()}
    timing = {n: {"seconds": np.full(4, 2 * t / r)} for n, (_, t, r) in zip(table["case"], rows, strict=True)}
    timing |= {f"ceiling_{n}": {"seconds": np.array([1.0, 2.0]), "work": w}
               for n, w in (("gemm", 1e9), ("exp", 1e8), ("copy", 1e8))}  # fmt: skip
    run = results.Run(Path("b.h5"), "bench", state="complete", meta={"threads": threads}, timing=timing)
    run.bench = {k: np.array(v) for k, v in table.items()}
    return run


def scored(length: int, score: float, seed: int = 1, trained: bool = False) -> results.Run:
    config = {"task": "induction", "model.variant": "mamba", "induction.length": length, "seed.init": seed}
    row = {"step": [9], "split": np.array(["test"]), "metric": [score]}
    run = results.Run(Path("e.h5"), f"run{seed}", state="complete", config=config, task={"metric": "accuracy"})
    run.evals = {k: np.asarray(v) for k, v in row.items()}
    run.train = {"step": np.array([9])} if trained else {}
    return run


class Timings(unittest.TestCase):
    def test_crossings_are_exact_for_power_laws(self):
        x = np.array([64.0, 256.0, 1024.0])
        ((at, value),) = cases.crossings(x, 1e6 / x, np.full(3, 1e4))
        self.assertAlmostEqual(at, 100.0)
        self.assertAlmostEqual(value, 1e4)
        self.assertEqual(cases.crossings(x, x, 2 * x), [])

    def test_kinds(self):
        self.assertEqual([r.kind for r in (bench({"a": {8: 1.0}}), scored(8, 0.5), scored(8, 0.5, trained=True))],
                         ["bench", "eval", "train"])  # fmt: skip

    def test_speed_against_length_names_the_crossing(self):
        runs = [bench({"attention": {64: 2e4, 256: 5e3, 1024: 1250.0}, "s4d": {64: 1e4, 256: 1e4, 1024: 1e4}})]
        canvas = KNOWN["length"].draw(runs)
        self.assertEqual(len(canvas.axes), 2)
        self.assertIn(
            "crossings with attention at T of about: s4d 128.", canvas._supxlabel.get_text().replace("\n ", "")
        )
        self.assertIsNone(KNOWN["length"].draw([bench({"s4d": {64: 1.0}})]))
        self.assertIsNone(KNOWN["length"].draw([scored(8, 0.5)]))

    def test_steps_against_length_by_device_with_the_reasons_of_gaps(self):
        runs = [bench({"attention": {64: 1e3, 256: 1e3}, "s4d": {64: 2e3}}, level="step") for _ in range(2)]
        for run, device in zip(runs, ("a CPU", "a GPU"), strict=True):
            run.meta["device"] = device
            more = {"case": "s4d at 256", "variant": "s4d", "T": 256, "state": "skipped", "reason": "full"}
            for name, column in run.bench.items():
                run.bench[name] = np.append(column, more.get(name, column[0]))
        runs[1].config["run.gemm"] = "tf32"
        canvas = KNOWN["length"].draw(runs)
        self.assertEqual([ax.get_title(loc="left").split(":")[0] for ax in canvas.axes[::2]], ["a CPU", "a GPU, tf32"])
        drawn = {line.get_label(): line for line in canvas.axes[0].lines}
        np.testing.assert_allclose(drawn["attention"].get_ydata(), [128, 512])  # ms: 2 T tokens at 1000 a second
        self.assertEqual(list(drawn["s4d"].get_xdata()), [64])
        said = " ".join(canvas._supxlabel.get_text().split())
        self.assertIn("a GPU, tf32: No point for s4d at 256: full.", said)

    def test_of_two_shapes_the_one_with_more_lengths_is_drawn(self):
        found = cases.cases([bench({"s4d": {64: 1e3, 128: 1e3, 256: 1e3}})])
        for c in found:
            c.B, c.tokens = 512 // c.T, 512.0
        self.assertEqual([c.T for c in cases.widest(found, "T")], [64, 128, 256])  # B T is the same
        self.assertEqual(len(cases.widest(found, "D")), 1)

    def test_views_and_state_sizes_are_lines_of_their_own(self):
        run = []
        for i, (view, n) in enumerate([("conv", 16), ("scan", 16), ("scan", 64)]):
            more = bench({"s4d": {64: 2e4 + i, 256: 2e4 + i}})
            more.bench |= {"view": np.array([view] * 2), "N": np.array([n] * 2)}
            run.append(more)
        lost = {
            "case": "no",
            "variant": "mamba",
            "N": -1,
            "view": "conv",
            "state": "skipped",
            "reason": "view conv: no",
        }
        for name, column in run[0].bench.items():
            run[0].bench[name] = np.append(column, lost.get(name, column[0]))
        canvas = KNOWN["length"].draw([*run, *run])  # a case that two files have is one, with all samples
        labels = {line.get_label() for line in canvas.axes[0].lines if not line.get_label().startswith("_")}
        self.assertEqual(labels, {"s4d conv N 16", "s4d scan N 16", "s4d scan N 64"})
        self.assertEqual(len({(line.get_color(), line.get_linestyle()) for line in canvas.axes[1].lines}), 3)
        self.assertIn("No point for mamba at 64: view conv: no.", " ".join(canvas._supxlabel.get_text().split()))

    def test_scaling_is_against_the_fewest_threads(self):
        runs = [bench({"s4d": {64: 1e4}}, 1), bench({"s4d": {64: 1.5e4}}, 2)]
        (ax,) = KNOWN["threads"].draw(runs).axes
        lines = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
        self.assertEqual(lines["s4d"], [1.0, 1.5])
        self.assertIsNone(KNOWN["threads"].draw(runs[:1]))

    def test_roofline_uses_the_measured_ceilings(self):
        run = bench({"s4d": {64: 1e4}})
        self.assertEqual(estimate.rates(run), {"flops": 1e9, "exps": 1e8, "bytes": 1e8})
        (ax,) = KNOWN["roofline"].draw([run]).axes
        point = next(line for line in ax.lines if len(line.get_xdata()) == 1)
        self.assertEqual((point.get_xdata()[0], point.get_ydata()[0]), (5.0, 1e5))
        roof = next(line for line in ax.lines if len(line.get_xdata()) == 3)
        self.assertEqual(roof.get_ydata()[1:].tolist(), [1e9, 1e9])

    def test_roofline_has_a_roof_per_precision(self):
        run = bench({"s4d": {64: 1e4, 65: 2e4}}, level="op")
        run.timing["ceiling_gemm_tf32"] = {"seconds": np.array([1.0]), "work": 8e9}
        run.bench["precision"] = np.array(["fp32", "tf32"])
        run.bench["T"][:] = 64
        for name in run.bench["case"]:  # 400 FLOPs per byte
            run.timing[f"{name}.00.linear.forward"] = {"seconds": np.array([2.0]), "flops": 8e8, "bytes": 2e6}
        run.bench["tokens"][:] = 128
        self.assertEqual(estimate.product_rates(run), {"fp32": 1e9, "tf32": 8e9})
        canvas = KNOWN["roofline"].draw([run])
        self.assertEqual([ax.get_title("left").split(":")[0][-4:] for ax in canvas.axes], ["fp32", "tf32"])
        for ax, own in zip(canvas.axes, (1e9, 8e9), strict=True):
            roofs = {line.get_ydata()[-1]: line.get_linestyle() for line in ax.lines if len(line.get_xdata()) == 3}
            self.assertEqual(roofs, {1e9: "-" if own == 1e9 else "--", 8e9: "-" if own == 8e9 else "--"})
            said = [t.get_text() for t in ax.texts]
            self.assertIn("tf32 product\n8 GFLOP/s", said)
        said = " ".join(canvas._supxlabel.get_text().split())
        self.assertIn("1 s4d linear forward 2,000 ms, 40 %; 2 s4d linear forward 2,000 ms, 5 %.", said)

    def test_ops_carry_their_own_work(self):
        run = bench({"s4d": {64: 1e4}}, level="op")
        name = run.bench["case"][0]
        run.timing[f"{name}.00.linear.forward"] = {"seconds": np.array([2.0]), "flops": 8.0, "bytes": 2.0}
        part = next(c for c in cases.cases([run], ("op",)) if c.part)
        self.assertEqual((part.part, part.flops / part.bytes, part.median), ("00.linear.forward", 4.0, 2.0))


def compared(variant: str, gemm: str, modes: dict[str, float | str]) -> results.Run:
    """Ours takes 2 ms; modes: PyTorch's milliseconds, or why there are none."""
    config = {"task": "induction", "model.variant": variant, "run.gemm": gemm}
    run = results.Run(Path("p.h5"), f"peer-{variant}{gemm}", state="complete", config=config, meta={"device": "a GPU"})
    run.memory = {"rss": 9e9, "peer_rss": 9e9, "high_water": 2**20, "peer_high_water": 3 * 2**20}
    run.timing = {"train_step": {"seconds": np.array([0.002, 0.002, 0.5])}}
    timed = {mode: ms for mode, ms in modes.items() if not isinstance(ms, str)}
    for mode, ms in timed.items():
        run.timing[f"peer_{mode}"] = {"seconds": np.full(3, 1e-3 * ms), "mode": mode}
    if timed:
        run.timing["peer_train_step"] = run.timing[f"peer_{min(timed, key=timed.get)}"]
    run.peer = {"mode": np.array(list(modes)), "state": np.array(["ok" if m in timed else "failed" for m in modes]),
                "reason": np.array(["" if m in timed else modes[m] for m in modes])}  # fmt: skip
    return run


class Peers(unittest.TestCase):
    def test_fastest_mode_counts_and_failed_ones_are_named(self):
        modes = {"eager": 9.0, "graph": 3.0, "compile": "no compiler"}
        runs = [compared("s4d", gemm, modes) for gemm in ("fp32", "tf32")]
        runs.append(compared("mamba", "tf32", {"eager": 40.0, "graph": 10.0}))
        canvas = KNOWN["peers"].draw(runs)
        self.assertEqual([len(ax.get_yticks()) for ax in canvas.axes[::2]], [1, 2])  # fp32, tf32
        self.assertEqual([t.get_text() for t in canvas.axes[0].texts], ["× 1.50 graph"])
        self.assertEqual([t.get_text() for t in canvas.axes[1].texts], ["× 3.00"])  # memory: of the device, not rss
        self.assertEqual([t.get_text() for t in canvas.axes[2].texts], ["× 5.00 graph", "× 1.50 graph"])
        self.assertEqual(canvas.axes[0].get_title(loc="left"), "a GPU, fp32")
        self.assertIn("PyTorch, eager", [line.get_label() for line in canvas.axes[0].lines])
        self.assertIn("PyTorch, compile: no compiler (s4d).", canvas._supxlabel.get_text())

    def test_shapes_have_panels_of_their_own(self):
        runs = [compared("s4d", "tf32", {"graph": 3.0}) for _ in range(2)]
        for run, batch in zip(runs, (16, 8), strict=True):
            run.config |= {"train.batch": batch, "train.length": 64, "model.d_model": 32, "model.depth": 2}
        titles = [ax.get_title(loc="left") for ax in KNOWN["peers"].draw(runs).axes[::2]]
        self.assertEqual(titles, [f"a GPU, tf32, B {b} T 64 D 32, 2 layers" for b in (8, 16)])

    def test_without_any_time_the_reason_is_told(self):
        self.assertEqual(KNOWN["peers"].draw([compared("s4d", "fp32", {"eager": "no GPU"})]),
                         "PyTorch, eager: no GPU (s4d).")  # fmt: skip
        self.assertIsNone(KNOWN["peers"].draw([scored(64, 0.8, trained=True)]))


def versus(rows: list[tuple[str, str, float, float]]) -> results.Run:
    """Rows: what, phase, microseconds of ours and theirs; NaN: there are none."""
    run = results.Run(Path("v.h5"), "ops-1", state="complete", meta={"device": "a GPU"})
    table = {"what": [r[0] for r in rows], "phase": [r[1] for r in rows], "variant": ["mamba"] * len(rows)}
    table |= {key: [8] * len(rows) for key in "BTD"} | {"N": [-1] * len(rows), "precision": ["tf32"] * len(rows)}
    table |= {key: [f"{key}.{i}" for i in range(len(rows))] for key in ("ours", "theirs")}
    table |= {"mode": ["graph"] * len(rows), "version": ["PyTorch 9"] * len(rows), "kernel": ["another's"] * len(rows)}
    table |= {"state": ["ok"] * len(rows), "reason": ["no such kernel"] * len(rows)}
    run.versus = {key: np.array(column) for key, column in table.items()}
    for i, row in enumerate(rows):
        for key, value in zip(("ours", "theirs"), row[2:], strict=True):
            if np.isfinite(value):
                run.timing[f"{key}.{i}"] = {"seconds": np.array([1e-6 * value, 1e-6 * value, 1.0])}
    return run


class Versus(unittest.TestCase):
    def test_ratio_of_medians_and_what_is_missing(self):
        run = versus(
            [("ssd", "forward", 2, 5), ("ssd", "forward_backward", 4, 2), ("scan", "forward", 3, float("nan"))]
        )
        self.assertEqual(run.kind, "versus")
        canvas = KNOWN["peer_ops"].draw([run])
        (ax,) = canvas.axes
        self.assertEqual([t.get_text().split("   ")[0] for t in ax.texts], ["× 2.50", "× 0.50"])
        self.assertEqual(ax.get_yticklabels()[1].get_text(), "ssd forward + backward, B 8 T 8 D 8")
        said = " ".join(canvas._supxlabel.get_text().split())
        self.assertIn("another's: ssd.", said)
        self.assertIn("scan forward, B 8 T 8 D 8: no such kernel.", said)
        again = versus([("ssd", "forward", 2, 6), ("scan", "forward", float("nan"), 3)])
        (ax,) = KNOWN["peer_ops"].draw([run, again]).axes
        self.assertEqual([t.get_text().split("   ")[0] for t in ax.texts], ["× 3.00", "× 0.50"])
        alone = versus([("scan", "forward", 3, float("nan"))])
        self.assertEqual(KNOWN["peer_ops"].draw([alone]), "scan forward, B 8 T 8 D 8: no such kernel.")
        self.assertIsNone(KNOWN["peer_ops"].draw([scored(64, 0.8, trained=True)]))


class Lengths(unittest.TestCase):
    def test_mean_over_seeds_at_every_length(self):
        runs = [scored(64, 0.8, s, trained=True) for s in (1, 2)] + [scored(128, 0.4, 1), scored(128, 0.6, 2)]
        (ax,) = KNOWN["extrapolation"].draw(runs).axes
        line = next(line for line in ax.lines if line.get_label() == "mamba")
        self.assertEqual(list(line.get_xdata()), [64, 128])
        np.testing.assert_allclose(line.get_ydata(), [80, 50])
        self.assertIsNone(KNOWN["extrapolation"].draw(runs[:2]))

    def test_scores_at_other_lengths_stay_out_of_other_figures(self):
        self.assertIsNone(KNOWN["variant_task"].draw([scored(64, 0.8)]))


def recalled(mixer: str, state: int, score: float, growth: str = "constant", seed: int = 1) -> results.Run:
    config = {"task": "mqar", "model.variant": mixer, "mqar.length": 128, "mqar.pairs": 8, "seed.init": seed}
    run = results.Run(Path("m.h5"), f"{mixer}{state}{seed}", state="complete", config=config)
    run.model = {"state_bytes": state, "state_growth": growth}
    run.evals = {"step": np.array([9]), "split": np.array(["test"]), "metric": np.array([score])}
    run.train = {"step": np.array([9])}
    run.references = [results.Reference("floor", "some value of the context", 0.125, "1 / pairs")]
    return run


class Recall(unittest.TestCase):
    def test_accuracy_by_state_bytes(self):
        runs = [recalled("mamba", 2048, s, seed=i) for i, s in enumerate((0.5, 0.7))] + [recalled("mamba", 1024, 0.25)]
        grows = "grows: of model.l_max = 128 positions"
        runs += [recalled("attention", 65536, 1.0, grows), recalled("hybrid", -1, 0.5, "does not stream: reads ahead")]
        canvas = KNOWN["recall_state"].draw([*runs, scored(64, 0.5, trained=True)])
        (ax,) = canvas.axes
        lines = {line.get_label(): line for line in ax.lines}
        self.assertEqual(list(lines["mamba"].get_xdata()), [1024, 2048])
        np.testing.assert_allclose(lines["mamba"].get_ydata(), [25, 60])
        self.assertNotEqual(lines["attention"].get_markerfacecolor(), lines["attention"].get_color())
        self.assertEqual(lines["mamba"].get_markerfacecolor(), lines["mamba"].get_color())
        self.assertNotIn("hybrid", lines)
        self.assertIn("hybrid: does not stream: reads ahead", " ".join(canvas._supxlabel.get_text().split()))
        self.assertIsNone(KNOWN["recall_state"].draw([scored(64, 0.5, trained=True)]))
        self.assertIn("reads ahead", KNOWN["recall_state"].draw(runs[-1:]))


class Joules(unittest.TestCase):
    def test_joules_of_a_score_are_those_of_its_step(self):
        run = scored(64, 0.8, trained=True)
        run.energy = {"source": "", "reason": "RAPL: /sys/class/powercap: No such file or directory"}
        self.assertIn("No such file", KNOWN["accuracy_joules"].draw([run]))
        run.train = {"step": np.array([9]), "joules": np.array([40.0])}
        run.evals["joules"] = np.array([40.0])
        (ax,) = KNOWN["accuracy_joules"].draw([run]).axes
        self.assertIn(40.0, [x for line in ax.lines if line.get_label() == "mamba" for x in line.get_xdata()])

    def test_the_report_says_joules_per_token_or_why_not(self):
        run = scored(64, 0.8, trained=True)
        run.energy = {"source": "", "reason": "no counter"}
        self.assertNotIn("joules", tables.all_tables([run]))
        self.assertIn("Energy was not counted: no counter.", tables.all_tables([run]))
        run.energy = {"source": "NVML", "reason": ""}
        run.train = {"tokens_real": np.array([2_000_000]), "joules": np.array([84.0])}
        page = tables.all_tables([run])
        self.assertIn("joules per million tokens", page)
        self.assertIn(">42<", page)


class Guesses(unittest.TestCase):
    def test_the_report_says_what_needs_no_input(self):
        runs = [scored(64, 0.8, trained=True), scored(128, 0.9, trained=True)]
        self.assertNotIn("permuted", tables.all_tables(runs))
        for run, permuted in zip(runs, (0.1, 0.125), strict=True):
            run.evals |= {"majority": np.array([0.168]), "permuted": np.array([permuted])}
        self.assertIn(
            "the test examples scores 16.8 %; these predictions score 10.0 to 12.5 %", tables.all_tables(runs)
        )


class Flops(unittest.TestCase):
    def test_flops_follow_the_declared_work(self):
        run = scored(64, 0.8, trained=True)
        run.ops = {f"{way}_flops": np.array([1.0, 2.0]) for way in ("forward", "backward")}
        run.config["train.accumulate"] = 2
        self.assertEqual(run.flops_per_step(), 12.0)
        self.assertIsNone(KNOWN["accuracy_flops"].draw([scored(64, 0.8, trained=True)]))


class VariantTask(unittest.TestCase):
    def test_scores_stand_between_ceiling_floor_and_published_values(self):
        run = scored(256, 0.5, trained=True)
        run.references = [
            results.Reference(*r, "somewhere")
            for r in (
                ("chance", "guess", 0.1), ("floor", "bag", 0.2), ("floor", "root", 0.361), ("ceiling", "exact", 1.0),
                ("published", "Mamba", 0.42), ("published", "S5", 0.62),
            )
        ]  # fmt: skip
        canvas = KNOWN["variant_task"].draw([run])
        said = [t.get_text() for t in canvas.axes[0].texts]
        for text in ("50.0", "published 42.0", "ceiling", "100.0", "floor", "36.1", "best published", "62.0"):
            self.assertIn(text, said)
        run.references = run.references[:1]
        said = [t.get_text() for t in KNOWN["variant_task"].draw([run]).axes[0].texts]
        self.assertIn("10.0", said)  # chance where no floor is known
        self.assertNotIn("best published", said)

    def test_best_is_the_lowest_error(self):
        runs = [scored(256, 0.4, trained=True), scored(256, 0.1, trained=True)]
        for run, name in zip(runs, ("mamba", "s5"), strict=True):
            run.task["metric"], run.config["model.variant"] = "mse", name
            run.references = [results.Reference("chance", c, v, "s") for c, v in (("constant", 0.5), ("zero", 0.7))]
        texts = KNOWN["variant_task"].draw(runs).axes[0].texts
        self.assertEqual([t.get_text() for t in texts if t.get_fontweight() == "bold"][1:], ["0.1"])
        self.assertIn("0.5", [t.get_text() for t in texts])

    def test_small_errors_keep_their_digits(self):
        run = scored(256, 0.00341, trained=True)
        run.task["metric"] = "mse"
        run.references = [results.Reference("ceiling", "filter", 0.0013, "s")]
        said = [t.get_text() for t in KNOWN["variant_task"].draw([run]).axes[0].texts]
        self.assertIn("0.00341", said)
        self.assertIn("0.0013", said)


class Errors(unittest.TestCase):
    def test_the_report_ranks_errors_from_the_lowest(self):
        runs = [scored(256, v, trained=True) for v in (0.4, 0.02)]
        for run, name in zip(runs, ("mamba", "s5"), strict=True):
            run.task["metric"], run.config["model.variant"] = "mse", name
            run.references = [
                results.Reference(*r, "s")
                for r in (("chance", "zero", 0.5), ("floor", "late", 0.03), ("ceiling", "all", 0.0))
            ]
        html = tables.all_tables(runs)
        self.assertLess(html.index("s5"), html.index("mamba"))
        self.assertIn("s5 scores lowest: mse 0.02", page.lede(runs))
        self.assertIn("reference line “late”", page.lede(runs))
        self.assertIn("late", html)
        self.assertEqual([series.level(v, runs[0]) for v in (0.6, 0.4, 0.02, 0)], ["above zero", "zero", "late", "all"])
        self.assertEqual(series.level(0.4, scored(256, 0.4)), "")


class Waiting(unittest.TestCase):
    def test_the_report_says_how_long_steps_waited(self):
        runs = [scored(64, 0.8, trained=True), scored(128, 0.9, trained=True)]
        self.assertNotIn("waited", tables.all_tables(runs))
        for run, share in zip(runs, (0.001, 0.004), strict=True):
            run.how = {"loader_wait_share": share, "loader_cpu_share": 10 * share}
        self.assertIn("waited for data at most 0.4 % of the training time", tables.all_tables(runs))
        self.assertIn("at most 4 % of the CPU time of the steps", tables.all_tables(runs))


if __name__ == "__main__":
    unittest.main()
