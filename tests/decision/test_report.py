"""The report without a browser: its bytes, its numbers, and names that want to break out of it."""

import base64
import dataclasses
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import confusion_matrix

import launch
from imbalanced_losses.compare import Decision, Estimate, Finding
from imbalanced_losses.compare._report import (
    _class_pictures,
    _environment,
    _panels,
    _pictures,
    _words,
    write_report,
)
from imbalanced_losses.compare._report._class_pictures import _bins
from imbalanced_losses.compare._report._held_out import held_out
from imbalanced_losses.compare._report._panels import Dial
from imbalanced_losses.compare._report._pictures import _reach, in_order
from imbalanced_losses.compare._report._svg import COLOURS, label_lines, picture
from made_up import BUDGET, comparison

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert('2')>",
    "a\nb\r\x00\x1b\u2028\ud800 & $\\frac{x$ {{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\u202c שלום",
)
VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements, their attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.words.append(data)


def page(made, folder):
    return write_report(made, folder).read_text(encoding="utf-8")


def dials(text):
    return json.loads(re.search(r'id="dials">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def binary():
    return comparison()


@pytest.fixture(scope="module")
def several():
    return comparison("multiclass", ("head", "middle", "tail"), (300, 90, 30), target="size")


@pytest.fixture(scope="module")
def hostile():
    return comparison(
        "multiclass",
        HOSTILE,
        (30, 40, 60, 150),
        name="<b>evil</b>.csv",
        target="<i>\"'&",
        findings=tuple(
            Finding("leak", f"Column {name} is the target.", (name,)) for name in HOSTILE
        ),
    )


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time, and some tests look at words and numbers alone."""
    for module in (_pictures, _class_pictures):
        monkeypatch.setattr(module, "picture", lambda *_, **__: Markup("<svg></svg>"))


@pytest.fixture(scope="module")
def binary_page(binary, tmp_path_factory):
    return page(binary, tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="module")
def hostile_page(hostile, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_panels, "MOST_PANELS", 2)
        return page(hostile, tmp_path_factory.mktemp("hostile"))


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(binary, binary_page, tmp_path):
    binary.save(tmp_path)
    code = (
        "import sys; from imbalanced_losses.compare import Comparison\n"
        "from imbalanced_losses.compare._report import write_report\n"
        "write_report(Comparison.load(sys.argv[1]), sys.argv[1])"
    )
    launch.python("-c", code, tmp_path, PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    written = (tmp_path / "report.html").read_bytes()
    assert written == binary_page.encode()
    assert b"\r" not in written


def test_the_page_names_no_other_machine_and_no_other_file(binary_page, hostile_page):
    for text in (binary_page, hostile_page):
        found = Page(text)
        assert not {"img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
        links = [value for _, name, value in found.attributes if name in ("src", "href", "action")]
        assert {link for link in links if not link.startswith("#")} == {"data:,"}
        styles = text[text.index("<style>") : text.index("</style>")]
        assert "url(" not in styles
        assert "@import" not in styles
        paths = re.findall(r"url\(([^)]*)\)", text)
        assert all(path.startswith("#") for path in paths)


def test_the_page_forbids_every_script_but_its_own(binary_page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', binary_page)[1]
    script = re.search(r"<script>(.*?)</script>", binary_page, re.DOTALL)[1]
    digest = hashlib.sha256(script.encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_names_are_text(hostile_page):
    found = Page(hostile_page)
    assert found.tags.count("script") == 2
    assert "i" not in found.tags
    assert "b" not in found.tags
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    for name in (*HOSTILE, "<b>evil</b>.csv", "<i>\"'&"):
        assert _words.visible(name) in found.text
    # What hides in a name is written out, so that nothing turns the text beside it around.
    assert r"\u202egnp.exe\u202c שלום" in found.text
    assert r"a\nb\r\x00\x1b\u2028\ud800" in found.text
    assert not re.search("[\x00-\x09\x0b-\x1f\u2028\u2029\u202a-\u202e\u2066-\u2069]", hostile_page)
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|49(?= \{%)", found.text)


def test_hostile_names_stay_inside_of_their_picture(hostile_page):
    for drawn in re.findall(r"<svg.*?</svg>", hostile_page, re.DOTALL):
        root = ElementTree.fromstring(drawn)
        kinds = {element.tag for element in root.iter()}
        assert kinds <= {"svg", "g", "path", "defs", "use", "clipPath", "rect"} | {
            "text",
            "line",
            "polyline",
        }


def test_a_hostile_name_in_the_data_of_the_script_ends_no_element(hostile, tmp_path):
    panel = Dial.of(next(held_out(hostile)).curve(hostile.choice), None, 10)
    evil = dataclasses.replace(panel, thresholds=("</script><!--\u2028",) * len(panel.alerts))
    template = _environment().from_string("<script>{{ data|tojson }}</script>")
    text = template.render(data=evil.data())
    assert text.count("<") == 2
    assert json.loads(text.removeprefix("<script>").removesuffix("</script>")) == json.loads(
        json.dumps(evil.data())
    )


def test_ids_are_unlike_and_every_reference_has_its_target(hostile_page):
    found = Page(hostile_page)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]*)\)", hostile_page))
    wanted |= {
        value.removeprefix("#")
        for _, name, value in found.attributes
        if name == "href" and value.startswith("#")
    }
    wanted |= {v for _, name, v in found.attributes if name in ("for", "aria-labelledby")}
    assert wanted <= set(ids)


def test_the_slider_has_the_counts_of_scikit_learn(binary, binary_page):
    (dial,) = dials(binary_page)
    scores = binary.scores.calibrated[binary.choice][:, 0]
    targets = binary.scores.targets
    curve = next(held_out(binary)).curve(binary.choice)
    (places,) = np.nonzero(np.isin(curve.alerts, dial["alerts"]))
    assert len(places) == len(dial["alerts"]) <= 240
    for setting, threshold in enumerate(curve.threshold[places]):
        (_, alarms), (missed, hits) = confusion_matrix(targets, scores >= threshold)
        assert dial["hits"][setting] == hits
        assert dial["alerts"][setting] == hits + alarms
        assert dial["positives"] - dial["hits"][setting] == missed
        assert dial["thresholds"][setting] == _words.probability(threshold)
    assert dial["rows"] == len(targets)
    assert dial["alerts"][0] == 1
    assert dial["alerts"][-1] == len(targets)


def test_the_slider_begins_at_the_decision(binary, binary_page):
    (decision,) = binary.decisions
    scores = binary.scores.calibrated[binary.choice][:, 0]
    alerts = int((scores >= decision.threshold).sum())
    assert alerts <= BUDGET * (len(scores) + 1)
    start = int(re.search(r'type="range".*?value="(\d+)"', binary_page)[1])
    assert dials(binary_page)[0]["alerts"][start] == alerts
    assert f'data-show="budget">{1000 * alerts / len(scores):.1f}<' in binary_page


def test_tied_scores_raise_their_alerts_together():
    made = comparison(counts=(30, 10))
    scores = made.scores.calibrated[made.choice].round(1)
    calibrated = made.scores.calibrated | {made.choice: scores}
    made = dataclasses.replace(made, scores=dataclasses.replace(made.scores, calibrated=calibrated))
    dial = Dial.of(next(held_out(made)).curve(made.choice), None, 100)
    distinct = np.unique(scores)[::-1]
    assert list(dial.alerts) == [int((scores >= t).sum()) for t in distinct]
    assert list(dial.hits) == [int((scores[made.scores.targets == 1] >= t).sum()) for t in distinct]


def test_rows_that_were_never_held_out_are_left_out(tmp_path, without_pictures):
    made = comparison()
    raw = made.scores.raw.copy()
    raw[:100] = math.nan
    made = dataclasses.replace(made, scores=dataclasses.replace(made.scores, raw=raw))
    (dial,) = dials(page(made, tmp_path))
    assert dial["rows"] == len(raw) - 100
    assert dial["positives"] == made.scores.targets[100:].sum()


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_every_class_has_its_own_slider_the_rarest_first(kind, tmp_path, without_pictures):
    made = comparison(kind, ("head", "middle", "tail"), (300, 90, 30))
    text = page(made, tmp_path)
    assert [dial["positives"] for dial in dials(text)] == [30, 90, 300]
    options = re.findall(r"<option[^>]*>(.*?)</option>", text)
    assert options == ["tail · 30 rows", "middle · 90 rows", "head · 300 rows"]
    positive = made.scores.targets == 2 if kind == "multiclass" else made.scores.targets[:, 2] == 1
    scores = made.scores.calibrated[made.choice][:, 2]
    first = dials(text)[0]
    for alerts, hits in zip(first["alerts"], first["hits"], strict=True):
        assert positive[np.argsort(-scores)[:alerts]].sum() == hits


def test_a_page_of_many_classes_says_what_it_leaves_out(tmp_path, without_pictures):
    counts = tuple(range(60, 20, -1))
    made = comparison("multiclass", tuple(f"class {n}" for n in counts), counts)
    text = page(made, tmp_path)
    assert "The 10 rarest of 40 are here." in text
    assert len(dials(text)) == _panels.MOST_PANELS == 10
    shares = text[text.index('class="shares"') :]
    assert "class 60" in shares
    assert "class 21" in shares
    assert "class 40" not in shares


def test_a_page_is_small(binary_page, hostile_page):
    assert len(binary_page) < 150_000
    # Each class adds five pictures and the settings of its slider, and there are ten at most.
    assert len(hostile_page) < 150_000 + 70_000


def test_without_scores_the_page_has_no_slider(tmp_path, without_pictures):
    text = page(comparison(with_scores=False), tmp_path)
    assert "<input" not in text
    assert "Alert from" in text
    assert dials(text) == [None]


def test_no_clear_difference_is_what_the_page_begins_with(tmp_path, without_pictures):
    gains = {"focal": (-0.001, 0.004), "smooth_ap_mix": (0.0, 0.004), "boosting": (0.0, 0.01)}
    found = Page(page(comparison(choice="prior_bias", gains=gains), tmp_path))
    said = "No clear difference: keep cross-entropy with prior bias."
    assert said in found.text
    assert found.text.index(said) < found.text.index("What each recipe gains")


def test_a_comparison_of_the_baseline_alone_has_a_page(tmp_path, without_pictures):
    made = comparison(choice="prior_bias", gains={"boosting": (0.0, 0.01)})
    alone = dataclasses.replace(made.outcome("boosting"), difference=None)
    text = page(dataclasses.replace(made, outcomes=(made.baseline, alone)), tmp_path)
    assert "<svg></svg><svg></svg>" not in text
    found = Page(text).text
    assert "the baseline" in found
    assert "not judged" in found


def test_a_wish_that_cannot_be_met_is_said(binary, tmp_path, without_pictures):
    no = "budget=1e-06 cannot be met: on 2000 rows it is less than one alert."
    decision = Decision("diseased tree", "budget=1e-06", None, None, None, None, None, no)
    text = page(dataclasses.replace(binary, decisions=(decision,)), tmp_path)
    assert no in Page(text).text
    assert "The dot is the decision" not in text
    # The slider begins with one alert for each positive.
    start = int(re.search(r'type="range".*?value="(\d+)"', text)[1])
    assert dials(text)[0]["alerts"][start] == dials(text)[0]["positives"]


def test_values_that_no_fold_could_judge_are_dashes(several, tmp_path, monkeypatch):
    monkeypatch.setattr(_class_pictures, "picture", lambda *_, **__: Markup("<svg></svg>"))
    broken = dataclasses.replace(
        several.outcomes[2],
        mean=math.nan,
        low=math.nan,
        high=math.nan,
        per_class=(math.nan, 0.5, math.nan),
        difference=dataclasses.replace(
            several.outcomes[2].difference,
            mean=math.nan,
            low=math.nan,
            high=math.nan,
            p=math.nan,
            p_holm=math.nan,
            verdict="unclear",
        ),
    )
    outcomes = (*several.outcomes[:2], broken, *several.outcomes[3:])
    text = page(dataclasses.replace(several, outcomes=outcomes), tmp_path)
    assert "nan" not in Page(text).text.lower().replace("dominant", "")
    assert f"<td>{_words.NONE}</td>" in text


def test_the_same_interval_means_the_same_everywhere(binary_page, binary):
    text = Page(binary_page).text
    assert "Ranges “a to b” and bars are 95 % intervals" in text
    assert "±" not in text
    for one, gap in in_order(binary):
        assert f"{_words.fixed(one.low)} to {_words.fixed(one.high)}" in text
        assert f"{_words.signed(gap.low)} to {_words.signed(gap.high)}" in text


def test_wins_and_losses_are_coloured_and_the_rest_is_grey(binary, binary_page):
    drawn = re.search(r'<svg class="picture wide".*?</svg>', binary_page, re.DOTALL)[0]
    verdicts = [gap.verdict for _, gap in in_order(binary)]
    assert {"better", "worse", "unclear"} == set(verdicts)
    dots = re.findall(r'<use [^>]*style="fill: var\(--(\w+)\); stroke: var\(--(\w+)\)', drawn)
    strokes = [stroke for _, stroke in dots if stroke in ("win", "loss", "grey")]
    assert strokes == [{"better": "win", "worse": "loss"}.get(v, "grey") for v in verdicts]


def test_a_row_that_trails_by_far_does_not_press_the_others_onto_the_line(binary):
    near = [gap for one, gap in in_order(binary) if one.recipe not in ("boosting", "class_weights")]
    far = dataclasses.replace(near[0], mean=-0.6, low=-0.7, high=-0.5)
    assert _reach([*near, far]) == _reach(near)
    assert _reach(near) > max(abs(gap.low) for gap in near)
    nothing = dataclasses.replace(near[0], mean=0.0, low=0.0, high=0.0)
    assert _reach([nothing]) > 0
    assert _reach([]) > 0


def test_bins_of_the_calibration_hold_as_many_expected_positives_each():
    generator = np.random.default_rng(0)
    scores = generator.beta(0.3, 4, 20_000)
    positive = generator.random(20_000) < scores
    bins = _bins(scores, positive, 0.9)
    edges = np.concatenate([[0], (bins[1:, 0] + bins[:-1, 0]) / 2, [1]])
    assert len(bins) == 10
    assert (np.diff(edges) > 0).all()
    # Calibrated by construction: nine of ten intervals hold the prediction, give or take.
    assert ((bins[:, 2] <= bins[:, 0]) & (bins[:, 0] <= bins[:, 3])).sum() >= 8
    order = np.argsort(scores)
    last = order[scores[order].cumsum() > 0.9 * scores.sum()]
    assert bins[-1, 0] == pytest.approx(scores[last].mean(), rel=1e-3)
    hits = positive[last].sum()
    interval = stats.binomtest(int(hits), len(last)).proportion_ci(0.9, "exact")
    assert bins[-1, 2:] == pytest.approx([interval.low, interval.high], abs=2e-3)


def test_bins_of_equal_scores_are_one():
    bins = _bins(np.full(50, 0.2), np.arange(50) < 10, 0.95)
    assert bins.shape == (1, 4)
    assert bins[0, :2] == pytest.approx([0.2, 0.2])
    assert _bins(np.zeros(50), np.arange(50) < 10, 0.95)[0, 1] == pytest.approx(0.2)


def test_labels_on_lines_keep_off_each_other_and_inside():
    boxes = []

    def paint(figure):
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        x = np.linspace(0, 1, 50)
        lines = [
            (name, COLOURS["ink"], x, x**power)
            for name, power in zip("abc", (1, 1.02, 3), strict=True)
        ]
        label_lines(axes, [(name * 12, *rest) for name, *rest in lines])
        frame = axes.get_window_extent()
        for text in axes.texts:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1
            boxes.append(box)

    picture("labels", "", (380, 300), paint)
    assert len(boxes) == 3
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])


def test_a_picture_has_no_font_no_colour_and_no_date_of_its_own():
    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set_title("<&>\"' $x$", color=COLOURS["win"])

    drawn = str(picture("one", 'a "label" <b>', (100, 80), paint))
    root = ElementTree.fromstring(drawn)
    assert root.get("aria-label") == 'a "label" <b>'
    assert root.get("viewBox") == "0 0 100 80"
    assert [text.text for text in root.iter("text") if text.text.startswith("<")] == ["<&>\"' $x$"]
    assert "font-family" not in drawn
    assert "#" not in re.sub(r"url\(#\w+\)|href=\"#\w+\"", "", drawn)
    assert "var(--win)" in drawn


def test_numbers_are_rounded_as_a_browser_rounds_them():
    assert _words.fixed(12.25, 1) == "12.3"
    assert _words.fixed(-0.0004) == "0.000"
    assert _words.fixed(math.inf) == _words.NONE
    assert _words.p_value(0.0004) == "< 0.001"
    assert _words.probability(0.0) == "0 %"
    assert [_words.seconds(t) for t in (3.21, 45.2, 600, math.nan)] == [
        "3.2 s",
        "45 s",
        "10 min",
        _words.NONE,
    ]
    assert _words.short("a very long name", 8) == "a very…"


def test_an_estimate_that_is_missing_or_has_no_interval_is_a_dash_or_alone():
    assert _words.estimate(None) == (_words.NONE, "")
    assert _words.estimate(Estimate(0.5, math.nan, math.nan)) == ("50.0 %", "")
    assert _words.estimate(Estimate(math.nan, 0.1, 0.25)) == (_words.NONE, "10.0 to 25.0 %")
    assert _words.estimate(Estimate(12.34, 8, 20), rate=False) == ("12.3", "8.0 to 20.0")


def test_a_name_of_joined_letters_stays_whole():
    assert _words.visible("می‌خواهم 👩‍🔬 日本") == "می‌خواهم 👩‍🔬 日本"


def test_a_report_that_fails_leaves_the_old_one(binary, tmp_path, monkeypatch, without_pictures):
    path = write_report(binary, tmp_path / "new" / "folder")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(binary, path.parent)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]
