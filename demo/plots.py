"""The pictures of the data and of the results; the training curves have their own module."""

from pathlib import Path

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from . import data
from .comparison import CONFIDENCE, Results, differences_from_baseline
from .curves import training_curves
from .strategies import BASELINE
from .style import DASHES, MARKERS, legend_below, line_width, picture
from .tasks import precision_at_each_positive

# Not in the palette of the losses: these bars belong to none of them.
TRAIN_COLOR, TEST_COLOR = "#44366b", "#cfcadd"


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Save every picture of one task; returns the files."""
    pictures = [class_distribution, precision_recall, differences, training_curves]
    if results.task.per_class:
        pictures.insert(2, ap_per_class)
    return [draw(results, folder) for draw in pictures]


def class_distribution(results: Results, folder: Path) -> Path:
    """Rows per class in training and on the test set."""
    split = results.splits[0]
    train, test = np.array(split.train_counts), np.array(split.test_counts)
    if results.task.per_class:
        labels = [str(digit) for digit in range(len(train))]
    else:
        labels = ["other digits", f"digit {data.RARE_DIGIT}"]
    title = f"{train.max() / train.min():.0f} to 1: the training rows, class by class"
    subtitle = f"{results.task.title}. {train.sum()} rows train, {test.sum()} others are scored."
    path = folder / f"{results.task.key}-classes.png"
    with picture(path, title, subtitle, (8.5 if results.task.per_class else 6.5, 4.6)) as figure:
        axes = figure.subplots()
        axes.grid(axis="x", visible=False)
        x = np.arange(len(train))
        for offset, counts, color, label in (
            (-0.2, train, TRAIN_COLOR, "training"),
            (0.2, test, TEST_COLOR, results.held_out_name),
        ):
            bars = axes.bar(x + offset, counts, 0.38, color=color, label=label)
            axes.bar_label(bars, padding=2, fontsize=9, color="#333333")
        axes.set_xticks(x, labels)
        axes.set_ylabel("rows")
        axes.legend(loc="upper right")
        if results.task.per_class:
            axes.tick_params(axis="x", length=0, pad=30)
            axes.set_xlabel("digit")
            for digit, image in enumerate(data.one_image_per_digit()):
                axes.add_artist(
                    AnnotationBbox(
                        OffsetImage(image, zoom=2.4, cmap="gray_r"),
                        (digit, 0),
                        xybox=(0, -17),
                        xycoords=("data", "axes fraction"),
                        boxcoords="offset points",
                        frameon=False,
                    )
                )
    return path


def precision_recall(results: Results, folder: Path) -> Path:
    """Precision-recall curves, averaged over seeds, of the rarest classes."""
    split = results.splits[0]
    if results.task.per_class:
        panels = {f"digit {d}  ({split.train_counts[d]} rows)": d for d in data.GROUPS["tail"]}
        title = "Precision against recall for the three rarest digits"
    else:
        panels = {"": 1}
        title = f"Precision against recall for the rare digit {data.RARE_DIGIT}"
    path = folder / f"{results.task.key}-precision-recall.png"
    subtitle = (
        f"{results.held_out_name.capitalize()}, {results.mean_over}; "
        "the area under a curve is its mean AP."
    )
    with picture(path, title, subtitle, (max(7.5, 4.2 * len(panels)), 4.8)) as figure:
        axes_row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, label) in zip(axes_row, panels.items(), strict=True):
            for strategy, dashes in zip(results.task.strategies, DASHES, strict=True):
                curves = [
                    precision_at_each_positive(
                        split.y_test.numpy() == label,
                        run.scores[:, label] if run.scores.ndim == 2 else run.scores,
                    )
                    for split, run in zip(results.splits, results.runs[strategy.name], strict=True)
                ]
                precision = np.mean(curves, axis=0)
                # The k-th positive holds the recall from (k - 1)/P to k/P.
                recall = np.linspace(0, 1, len(precision) + 1)
                axes.plot(
                    recall,
                    np.append(precision, precision[-1]),
                    drawstyle="steps-post",
                    color=strategy.color,
                    dashes=dashes,
                    linewidth=line_width(strategy),
                    label=strategy.name,
                )
            axes.set_title(name)
            axes.set_xlabel("recall")
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            axes.set_ylim(0, 1.02)
        axes_row[0].set_ylabel("precision")
        legend_below(figure, axes_row[0], 3)
    return path


def ap_per_class(results: Results, folder: Path) -> Path:
    """Average precision of every class and loss, head to tail."""
    counts = results.splits[0].train_counts
    path = folder / f"{results.task.key}-ap-per-class.png"
    title = "Average precision of each digit, from the most training rows to the fewest"
    subtitle = (
        f"{results.held_out_name.capitalize()}, {results.mean_over}; "
        "bars: standard error of the mean."
    )
    with picture(path, title, subtitle, (10.5, 5)) as figure:
        axes = figure.subplots()
        axes.grid(axis="x", visible=False)
        x = np.arange(len(counts))
        for digit in x[::2]:
            axes.axvspan(digit - 0.5, digit + 0.5, color="#f6f6f6", linewidth=0, zorder=0)
        offsets = np.linspace(-0.34, 0.34, len(results.task.strategies))
        for strategy, marker, offset in zip(results.task.strategies, MARKERS, offsets, strict=True):
            values = results.per_class(strategy.name)
            n = len(values)
            axes.errorbar(
                x + offset,
                values.mean(0),
                yerr=values.std(0, ddof=1) / np.sqrt(n) if n > 1 else None,
                fmt=marker,
                markersize=5.5,
                color=strategy.color,
                elinewidth=1.3,
                label=strategy.name,
            )
        axes.set_xticks(x, [f"{digit}\n{rows} rows" for digit, rows in enumerate(counts)])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, len(counts) - 0.5)
        axes.set_ylim(top=1.01)
        axes.set_ylabel("average precision")
        axes.set_xlabel("digit and its training rows")
        legend_below(figure, axes, 3)
    return path


def differences(results: Results, folder: Path) -> Path:
    """Every loss minus plain cross-entropy, paired by seed, one panel per measure."""
    by_strategy = differences_from_baseline(results)
    baseline = results.measures(BASELINE)
    rivals = [s for s in results.task.strategies if s.name != BASELINE]
    path = folder / f"{results.task.key}-differences.png"
    title = "Each loss against plain cross-entropy"
    subtitle = (
        f"Difference on the {results.held_out_name}, paired by seed. Small dots: seeds; "
        f"bars: {CONFIDENCE:.0%} t-interval of the mean. Left of the line is worse."
    )
    with picture(path, title, subtitle, (max(9.6, 2.7 * len(baseline)), 4.2)) as figure:
        row = figure.subplots(1, len(baseline), sharey=True, squeeze=False)[0]
        for axes, (measure, reference) in zip(row, baseline.items(), strict=True):
            axes.grid(axis="y", visible=False)
            axes.axvline(0, color="#4d4d4d", linewidth=1.6)
            for y, (strategy, marker) in enumerate(zip(rivals, MARKERS[1:], strict=True)):
                seeds = results.measures(strategy.name)[measure] - reference
                difference = by_strategy[strategy.name][measure]
                axes.plot(
                    seeds, np.full(len(seeds), y - 0.22), ".", color=strategy.color, alpha=0.45
                )
                axes.errorbar(
                    difference.mean,
                    y,
                    xerr=difference.half_width if difference.seeds > 1 else None,
                    fmt=marker,
                    color=strategy.color,
                    elinewidth=2,
                )
            axes.set_title(measure)
            axes.set_xlabel(f"difference from {reference.mean():.3f}")
            axes.margins(x=0.15)
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter("{x:g}")
        row[0].set_yticks(range(len(rivals)), [s.name for s in rivals])
        row[0].set_ylim(len(rivals) - 0.5, -0.6)
    return path
