"""The report in a real browser: no error, no request, a slider that counts, nothing too wide."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest

from imbalanced_losses.compare import Finding
from imbalanced_losses.compare._report import _panels, _words, write_report
from made_up import comparison

# Long runs of what test_report.py covers.
pytestmark = pytest.mark.no_cover

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)><svg onload=alert(3)>',
    "\u202egnp.exe\n{{ 7 * 7 }}" + "x" * 300,
)


@pytest.fixture(scope="module")
def made():
    return comparison()


@pytest.fixture(scope="module")
def hostile():
    """Three labels with hostile names, of which the two rarest have a slider."""
    return comparison(
        "multilabel",
        HOSTILE,
        (30, 60, 120),
        name=HOSTILE[0],
        target=HOSTILE[1],
        findings=tuple(Finding("leak", name, (name,)) for name in HOSTILE),
    )


@pytest.fixture(scope="module")
def pages(made, hostile, tmp_path_factory):
    """Address of each page."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_panels, "MOST_PANELS", 2)
        return {
            "binary": write_report(made, folder / "binary").as_uri(),
            "hostile": write_report(hostile, folder / "hostile").as_uri(),
        }


@pytest.fixture
def visit(visit, pages):
    """Opens one of the pages, which are one file each."""

    def opened(name, **options):
        return visit(pages[name], **options)

    opened.said = visit.said
    return opened


def shown(page, dial=0):
    """What the page shows at the slider's setting."""
    found = page.locator(f'[data-dial="{dial}"] [data-show]')
    return dict(found.evaluate_all("all => all.map(one => [one.dataset.show, one.textContent])"))


def recomputed(made, label, setting):
    """The same from the scores, by numpy alone, for the setting with the n-th fewest alerts."""
    scores = made.scores.calibrated[made.choice][:, label]
    targets = made.scores.targets.reshape(len(scores), -1)[:, label]
    ordered = -np.sort(-scores)
    threshold = ordered[setting - 1]
    alert = scores >= threshold
    hits, alarms = (int((alert & (targets == kind)).sum()) for kind in (1, 0))
    positives = int(targets.sum())
    return {
        "threshold": _words.probability(threshold),
        "budget": _words.fixed(1000 * (hits + alarms) / len(scores), 1),
        "recall": _words.fixed(100 * hits / positives, 1) + " %",
        "precision": _words.fixed(100 * hits / (hits + alarms), 1) + " %",
        "hits": f"{hits:,}",
        "alarms": f"{alarms:,}",
        "missed": f"{positives - hits:,}",
        "passed": f"{len(scores) - positives - alarms:,}",
    }


def alerts(page, dial=0):
    """Alerts at every setting of a slider."""
    return json.loads(page.locator("#dials").text_content())[dial]["alerts"]


def test_the_mouse_moves_the_slider_and_the_numbers_are_exact(visit, made):
    page = visit("binary")
    slider = page.locator('input[type="range"]')
    settings = alerts(page)
    box = slider.bounding_box()
    before = shown(page)
    for share in (0.1, 0.5, 0.93):
        slider.click(position={"x": share * box["width"], "y": box["height"] / 2})
        setting = int(slider.input_value())
        assert abs(setting / (len(settings) - 1) - share) < 0.03
        assert shown(page) == recomputed(made, 0, settings[setting])
        assert shown(page) != before
        marker = page.locator(".marker").bounding_box()
        thumb = box["x"] + 10 + (box["width"] - 20) * setting / (len(settings) - 1)
        assert marker["x"] + marker["width"] / 2 == pytest.approx(thumb, abs=1.5)


def test_the_keyboard_moves_the_slider_and_the_numbers_are_exact(visit, made):
    page = visit("binary")
    settings = alerts(page)
    slider = page.get_by_role("slider", name="Alerts per 1,000 rows")
    start = int(slider.input_value())
    assert shown(page) == recomputed(made, 0, settings[start])
    # A reader without a mouse comes to it by the tab key alone.
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "range":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    for key, setting in (
        ("ArrowRight", start + 1),
        ("ArrowUp", start + 2),
        ("ArrowLeft", start + 1),
        ("Home", 0),
        ("End", len(settings) - 1),
    ):
        page.keyboard.press(key)
        assert int(slider.input_value()) == setting
        assert shown(page) == recomputed(made, 0, settings[setting])
        said = slider.get_attribute("aria-valuetext")
        assert said == f"{shown(page)['budget']} alerts per 1,000 rows"


# What is wider than the page though nobody can scroll to it.
BEYOND = """() => [...document.querySelectorAll("body *")].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1)
        && !one.closest(".scroll, .hidden");
}).map(one => one.outerHTML.slice(0, 90))"""
# The text of the least contrast with the page, after WCAG 2.1.
FAINTEST = """() => {
    const parts = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = rgb => rgb.map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
    const paper = light(parts(getComputedStyle(document.body).backgroundColor));
    const words = "p, h1, h2, h3, dt, dd, td, th, small, li, svg text, .key span";
    return [...document.querySelectorAll(words)].map(one => {
        const style = getComputedStyle(one);
        const ink = light(parts(one.tagName === "text" ? style.fill : style.color));
        const [high, low] = ink > paper ? [ink, paper] : [paper, ink];
        return [(high + .05) / (low + .05), one.outerHTML.slice(0, 120)];
    }).sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize("name", ["binary", "hostile"])
def test_nothing_is_wider_than_the_page_and_every_word_can_be_read(visit, name, tmp_path):
    page = visit(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrast, faintest = page.evaluate(FAINTEST)
        assert contrast >= 4.5, faintest
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        for width in (400, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(BEYOND) == []
            heights = page.locator("svg.picture text").evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().height).filter(Boolean)"
            )
            assert len(heights) > 50
            assert min(heights) >= 11
            assert page.locator("svg.wide").first.is_visible() == (width == 1400)
            assert page.locator("svg.narrow").first.is_visible() == (width == 400)
            # A folder in this variable keeps the pictures for people to look at.
            kept = os.environ.get("REPORT_SCREENSHOTS")
            shot = tmp_path / "shot.png" if kept is None else f"{kept}/{name}-{width}-{scheme}.png"
            assert len(page.screenshot(path=shot, full_page=kept is not None)) > 10_000


def test_hostile_names_inject_nothing(visit):
    page = visit("hostile")
    assert page.locator("img, iframe, object, embed, svg[onload]").count() == 0
    assert page.locator("script").count() == 2
    body = page.locator("body").inner_text()
    for name in HOSTILE:
        assert _words.visible(name) in re.sub(r"\s+", " ", body)
    # Whoever finds a hole in the escaping meets the page's policy.
    page.evaluate(
        """() => {
            const evil = document.createElement("script");
            evil.textContent = "window.harmed = true";
            document.body.append(evil);
        }"""
    )
    assert page.evaluate("window.harmed") is None
    assert "Content Security Policy" in visit.said.pop()


def test_the_chooser_shows_one_class_with_its_own_slider(visit, hostile):
    page = visit("hostile")
    chooser = page.get_by_label("Label", exact=True)
    assert page.locator("[data-panel]:visible").count() == 1
    chooser.focus()
    page.keyboard.press("ArrowDown")
    assert chooser.input_value() == "1"
    panel = page.locator("[data-panel]:visible")
    assert panel.get_attribute("data-panel") == "1"
    panel.locator('input[type="range"]').focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert shown(page, 1) == recomputed(hostile, 1, alerts(page, 1)[-2])
    assert shown(page, 0) == recomputed(
        hostile, 0, alerts(page, 0)[int(page.locator("#budget-0").get_attribute("value"))]
    )


def test_without_script_every_class_and_a_table_of_settings_is_shown(visit, hostile):
    page = visit("hostile", java_script_enabled=False)
    panels = page.locator("[data-panel]")
    assert panels.count() == 2
    assert panels.nth(0).is_visible()
    assert panels.nth(1).is_visible()
    assert not page.locator("#chooser").is_visible()
    assert not page.locator("#budget-0").is_visible()
    rows = panels.nth(1).locator(".without-script tbody tr")
    assert rows.count() == 8
    assert rows.first.is_visible()
    cells = rows.nth(3).locator("td").all_inner_texts()
    count = round(float(cells[0]) * len(hostile.scores.targets) / 1000)
    expected = recomputed(hostile, 1, count)
    names = ("budget", "threshold", "recall", "precision", "hits", "alarms", "missed")
    assert cells == [expected[name] for name in names]


def test_on_paper_there_is_the_table_and_no_control(visit):
    page = visit("binary", color_scheme="dark")
    assert not page.locator(".without-script").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".without-script").is_visible()
    assert not page.locator('input[type="range"]').is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf(print_background=True)) > 20_000


def test_nothing_moves_by_itself(visit):
    page = visit("binary", reduced_motion="reduce")
    page.locator('input[type="range"]').focus()
    page.keyboard.press("End")
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_page_without_scores_has_no_error(visit, pages, made, tmp_path):
    bare = dataclasses.replace(made, scores=None)
    pages["bare"] = write_report(bare, tmp_path).as_uri()
    page = visit("bare")
    assert page.locator('input[type="range"]').count() == 0
    assert page.get_by_role("heading", level=1).inner_text() == made.sentence.split(" Clearly")[0]
