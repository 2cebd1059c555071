"""Notebook 09 in a real browser: JupyterLab runs it, the slider moves, the probability changes, no error appears."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import ptame_lib
from ptame_lib import PTAME, load_auxiliary
from ptame_study import paths

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

DRAWN_AGAIN = (NoSuchElementException, StaleElementReferenceException)
ROOT = Path(ptame_lib.__file__).parent.parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="needs a Chromium with its chromedriver: apt install chromium-driver"
)


@pytest.fixture
def lab(study_root):
    """The address of a JupyterLab on a study folder with the notebook, the weights and an explainer."""
    (study_root / "data").mkdir()
    (study_root / "data" / "embedded").symlink_to(ROOT / "data" / "embedded")
    shutil.copy(ROOT / "notebooks" / "09_explorer.ipynb", study_root)
    PTAME(load_auxiliary("embedded/auxiliary"), 10).save(paths.explainer("small", "embedded/resnet"))
    folders = {f"JUPYTER_{kind}_DIR": str(study_root / kind.lower()) for kind in ("CONFIG", "RUNTIME")} | {
        "IPYTHONDIR": str(study_root / "ipython")
    }
    environment = {
        **os.environ,
        **folders,
        "PYTHONPATH": str(ROOT),
        "PTAME_ROOT": str(study_root),
        "OMP_NUM_THREADS": "1",
    }
    options = {"ip": "127.0.0.1", "port": 0, "root_dir": study_root, "open_browser": False}
    command = [f"--ServerApp.{name}={value}" for name, value in options.items()] + [
        "--IdentityProvider.token=",
        "--allow-root",
    ]
    command += [
        f"--LabApp.workspaces_dir={study_root / 'workspaces'}",
        f"--LabApp.user_settings_dir={study_root / 'settings'}",
    ]
    with (study_root / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *command], env=environment, stdout=log, stderr=log, cwd=study_root
        )
        try:
            yield f"{address(study_root / 'runtime', server, study_root / 'server.log')}lab"
        finally:
            server.terminate()  # which ends its kernels, too
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def address(runtime, server, log):
    """Where the server says that it listens, on a port of the system's choice; it answers there."""
    while True:
        assert server.poll() is None, log.read_text()
        try:
            [file] = runtime.glob("jpserver-*.json")
            found = json.loads(file.read_text())["url"]
            with urllib.request.urlopen(f"{found}api"):
                return found
        except (urllib.error.URLError, OSError, ValueError):
            time.sleep(0.3)


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1400,2600",
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'browser'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def until(browser, what, seconds=900):
    return WebDriverWait(browser, seconds, 0.2, ignored_exceptions=DRAWN_AGAIN).until(what)


def percents(browser, kind):
    """The probabilities shown, one for each method."""
    return [
        int(re.search(r"(\d+) %", bar.text).group(1))
        for bar in browser.find_elements(By.CSS_SELECTOR, f".ptame-{kind}")
    ]


def pictures(browser):
    return [picture.get_attribute("src") for picture in browser.find_elements(By.CSS_SELECTOR, "img.ptame-picture")]


def run_all(browser):
    """JupyterLab's menu Run, Run All Cells; tried again while the page is still being built."""

    def chosen(b):
        b.find_element(By.XPATH, "//*[contains(@class,'lm-MenuBar-itemLabel') and text()='Run']").click()
        b.find_element(By.XPATH, "//*[contains(@class,'lm-Menu-itemLabel') and text()='Run All Cells']").click()
        return True

    WebDriverWait(browser, 900, 0.5, ignored_exceptions=[WebDriverException]).until(chosen)


def test_the_slider_moves_and_the_probability_changes(lab, browser):
    browser.get(f"{lab}/tree/09_explorer.ipynb?reset")
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    until(
        browser,
        lambda b: (
            "Idle"
            in b.find_element(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator").get_attribute("data-status").title()
        ),
    )
    run_all(browser)
    until(browser, lambda b: len(percents(b, "kept")) >= 4)
    handle = until(browser, lambda b: b.find_element(By.CSS_SELECTOR, ".ptame-share .noUi-handle"))
    before, shown = {kind: percents(browser, kind) for kind in ("kept", "rest")}, pictures(browser)
    assert len(shown) == 1 + 3 * len(before["kept"])
    assert shown[0].startswith("blob:")

    handle.click()
    handle.send_keys(Keys.END)
    until(browser, lambda b: handle.get_attribute("aria-valuenow") == "100.0")
    whole = until(
        browser, lambda b: len(set(percents(b, "kept"))) == 1 and percents(b, "kept")
    )  # all pixels: the whole image, whatever the map
    assert whole != before["kept"]
    assert percents(browser, "rest") != before["rest"]

    kinds = ", ".join(f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("stderr", "error"))
    problems = [output.text for output in browser.find_elements(By.CSS_SELECTOR, f".jp-Notebook :is({kinds})")]
    assert [text for text in problems if "Error" in text or "Traceback" in text] == []
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == [], json.dumps(severe, indent=1)
