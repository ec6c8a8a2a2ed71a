"""Settings shared by the whole test run, and the browser that shows pages."""

import os
import shutil

import coverage
import hypothesis
import pytest
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Let a worker of pytest-xdist begin with none of the coverage that it is started with.

    It is measured as a subprocess and, by pytest-cov, as the main process too, and both would go on
    wherever a test asks for no coverage. The worker's own is started after this.
    """
    if hasattr(session.config, "workerinput"):
        while (running := coverage.Coverage.current()) is not None:
            running.stop()


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No background service of the browser's own has a part in the test; root has no sandbox.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(
            f"none of {', '.join(BROWSERS)} is on the PATH; on Debian, "
            "`apt-get install --no-install-recommends chromium` installs one"
        )
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Opens a page and, at the end of the test, fails if it complained or asked for what is not
    below `within`, where nothing but the page itself is if it is left out.
    """
    contexts, said = [], []

    def opened(address, within=None, **options):
        options = {"viewport": {"width": 1400, "height": 900}} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith(within or address) or said.append(request.url),
        )
        page.goto(address)
        return page

    opened.said = said
    yield opened
    for context in contexts:
        context.close()
    assert said == []
