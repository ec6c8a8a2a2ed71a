"""Pages of the built site in a real browser: sliders, both colour schemes, phones, no script."""

import re
from pathlib import Path

import pytest

import launch

pytest.importorskip("mkdocs", reason="it builds the site, from Python 3.11 on")

pytestmark = pytest.mark.slow  # it builds the site

ROOT = Path(__file__).parents[2]
SLIDERS = ("temperature", "pauc", "drift")
PAGES = (*SLIDERS, "evidence")
# The explanation alone; `make docs` builds the whole site and refuses what is dead or missing.
BUILD = """
import sys
from mkdocs.commands.build import build
from mkdocs.config import load_config

others = "*.py\\n/how-to\\n/reference\\n/tutorials"
build(load_config(sys.argv[1], site_dir=sys.argv[2], strict=False, exclude_docs=others, nav=[]))
"""


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    """Address of the site's folder."""
    folder = tmp_path_factory.mktemp("site")
    launch.python("-c", BUILD, ROOT / "mkdocs.yml", folder, NO_MKDOCS_2_WARNING="1")
    pages = (folder / "explanation").glob("*.html")
    assert {page.stem for page in pages if 'class="frames"' in page.read_text()} == set(SLIDERS)
    return folder.as_uri()


@pytest.fixture
def visit(visit, site):
    """Opens a page of the explanation, which may ask for files of the site alone."""

    def opened(name, **options):
        return visit(f"{site}/explanation/{name}.html", within=site, **options)

    return opened


def shown(page):
    """Setting and description of each frame that can be seen."""
    frames = page.locator(".frame:visible")
    return [
        (frame.get_attribute("data-setting"), frame.locator(".picture").get_attribute("aria-label"))
        for frame in frames.all()
    ]


def settings_of(page):
    return page.locator(".frame").evaluate_all("all => all.map(one => one.dataset.setting)")


def assert_shows(page, index):
    """One frame, whose setting is beside the slider and said by it."""
    slider, setting = page.get_by_role("slider"), settings_of(page)[index]
    assert int(slider.input_value()) == index
    ((found, words),) = shown(page)
    assert found == setting
    assert words.endswith(setting)
    assert page.locator(".frames output").inner_text() == setting
    assert slider.get_attribute("aria-valuetext") == setting


@pytest.mark.parametrize("name", SLIDERS)
def test_mouse_and_keyboard_move_the_frame(visit, name):
    page = visit(name)
    slider, last = page.get_by_role("slider"), len(settings_of(page)) - 1
    start = int(slider.get_attribute("value"))
    assert_shows(page, start)
    # A reader without a mouse comes to it by the tab key alone, and sees where they are.
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "range":
            break
    assert page.evaluate("document.activeElement.type") == "range"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, index in (("Home", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("End", last)):
        page.keyboard.press(key)
        assert_shows(page, index)
    box = slider.bounding_box()
    slider.click(position={"x": 1, "y": box["height"] / 2})
    assert_shows(page, 0)


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_that_the_browser_set_shows_its_frame(visit, name):
    """On the way back to a page, a browser restores what its reader had set."""
    page = visit(name)
    page.get_by_role("slider").press("End")
    page.goto(page.url.replace(name, "why"))
    page.go_back()
    assert_shows(page, int(page.get_by_role("slider").input_value()))


@pytest.mark.parametrize("name", SLIDERS)
def test_without_script_the_picture_stands_still_with_its_setting(visit, name):
    page = visit(name, java_script_enabled=False)
    ((setting, words),) = shown(page)
    assert words.endswith(setting)
    assert page.locator(".frames output").inner_text() == setting
    assert not page.locator(".frames input").is_visible()


# What reaches beyond the page; code and tables scroll, and what is in the frame of a picture.
BEYOND = """() => [...document.querySelectorAll(".md-content *")].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1)
        && !one.closest("pre, table, .md-typeset__scrollwrap")
        && !one.parentElement.closest(".picture, p:has(> img)");
}).map(one => one.outerHTML.slice(0, 90))"""
# The text of the least contrast with the page, after WCAG 2.1.
FAINTEST = """() => {
    const parts = text => text.match(/[\\d.]+/g).map(Number);
    const paper = parts(getComputedStyle(document.body).backgroundColor).slice(0, 3);
    const light = rgb => rgb.map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
    const words = "p, h1, h2, h3, td, th, li, summary, label span, output, svg text";
    return [...document.querySelectorAll(`.md-content :is(${words})`)].map(one => {
        const style = getComputedStyle(one);
        const [r, g, b, alpha = 1] = parts(one.tagName === "text" ? style.fill : style.color);
        const ink = [r, g, b].map((v, k) => alpha * v + (1 - alpha) * paper[k]);
        const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
        return [(high + .05) / (low + .05), one.outerHTML.slice(0, 120)];
    }).sort((a, b) => a[0] - b[0])[0];
}"""
# Height of the smallest letters of the pictures that can be seen, in pixels; powers aside.
SMALLEST = """() => Math.min(...[...document.querySelectorAll(".picture svg")]
    .filter(svg => svg.getBoundingClientRect().width)
    .flatMap(svg => [...svg.querySelectorAll("text")]
        .filter(text => !text.querySelector("tspan"))
        .map(text => parseFloat(getComputedStyle(text).fontSize)
            * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"""


@pytest.mark.parametrize("name", SLIDERS)
def test_words_of_a_picture_can_be_read_on_a_phone_by_scrolling_it(visit, name):
    page = visit(name)
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate(SMALLEST) > 9.5
    picture = page.locator(".frame:visible .picture")
    assert picture.evaluate("one => (one.scrollLeft = 1000, one.scrollLeft)") > 100


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_page_and_every_word_can_be_read(visit, name):
    papers = set()
    for scheme in ("light", "dark"):
        page = visit(name, color_scheme=scheme)
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        contrast, faintest = page.evaluate(FAINTEST)
        assert contrast >= 4.5, faintest
        for width in (400, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            # The theme lays out its search anew, a moment after the width has changed.
            page.wait_for_function("document.documentElement.scrollWidth === innerWidth")
            assert page.evaluate("innerWidth") == width
            assert page.evaluate(BEYOND) == []
    assert len(papers) == 2


def test_the_study_is_there_with_its_pictures_and_its_tables(visit):
    page = visit("evidence")
    source = (ROOT / "benchmarks" / "evidence" / "EVIDENCE.md").read_text(encoding="utf-8")
    pictures = page.locator(".md-content img")
    assert pictures.count() == len(re.findall(r"^!\[", source, re.MULTILINE))
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 99)")
    table = page.locator("details table").first
    assert not table.is_visible()
    page.locator("details summary").first.click()
    assert table.is_visible()


def test_search_finds_pages_of_a_folder(visit):
    page = visit("pauc")
    page.keyboard.press("/")
    page.get_by_role("textbox", name="Search").press_sequentially("temperature")
    page.get_by_text(re.compile(r"\d+ matching document")).wait_for()
    page.locator(".md-search-result__link").first.click()
    page.wait_for_url("**/explanation/temperature.html**")
