"""Notebook 09 in a real browser: in JupyterLab the slider moves the probability; voila's visitors share nothing."""

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
from PIL import Image
from processes import voila_server

import ptame_lib
from ptame_lib import PTAME, load_auxiliary
from ptame_study import paths
from ptame_study.explorer import LARGEST

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
    driver.set_script_timeout(900)
    driver.command_executor.client_config.timeout = 900  # voila gives a page when its cells have run
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


def kernel_is_ready(lab):
    """Whether the server's one kernel is idle and the page connected to it; the page says "Idle" before that, too."""
    with urllib.request.urlopen(f"{lab.removesuffix('lab')}api/sessions") as answer:
        kernels = [session["kernel"] for session in json.load(answer)]
    return [(kernel["execution_state"], kernel["connections"]) for kernel in kernels] == [("idle", 1)]


def test_the_slider_moves_and_the_probability_changes(lab, browser):
    browser.get(f"{lab}/tree/09_explorer.ipynb?reset")
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    until(browser, lambda _: kernel_is_ready(lab))
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
    said = [each.text for each in browser.find_elements(By.CSS_SELECTOR, ".ptame-verdict")]
    assert len(said) == len(whole)
    assert all("Shown are the 100% of the pixels that the map puts first." in text for text in said)

    kinds = ", ".join(f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("stderr", "error"))
    problems = [output.text for output in browser.find_elements(By.CSS_SELECTOR, f".jp-Notebook :is({kinds})")]
    assert [text for text in problems if "Error" in text or "Traceback" in text] == []
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == [], json.dumps(severe, indent=1)


@pytest.fixture
def page(study_root):
    """The address of the page, as voila shows it, on a study folder with the weights and an explainer."""
    pytest.importorskip("voila", reason="voila is not installed")
    for folder in ("data", "notebooks"):
        (study_root / folder).mkdir()
    (study_root / "data" / "embedded").symlink_to(ROOT / "data" / "embedded")
    (study_root / "voila.json").write_text((ROOT / "voila.json").read_text())
    notebook = (ROOT / "notebooks" / "09_explorer.ipynb").read_text()
    slow = r", \"RISE\", \"occlusion\"]"
    assert slow in notebook
    (study_root / "notebooks" / "09_explorer.ipynb").write_text(notebook.replace(slow, "]"))
    PTAME(load_auxiliary("embedded/auxiliary"), 10).save(paths.explainer("small", "embedded/resnet"))
    given = {"PYTHONPATH": str(ROOT), "PTAME_ROOT": str(study_root), "OMP_NUM_THREADS": "1"}
    with voila_server(study_root, {**os.environ, **given}) as address:
        yield address


def upload(browser, file):
    """Choose a file by the page's button, whose hidden input is laid open."""
    browser.execute_script(
        "HTMLInputElement.prototype.click = function() { this.className = 'chosen'; document.body.append(this); }"
    )
    browser.find_element(By.CSS_SELECTOR, ".widget-upload").click()
    chosen = browser.find_elements(By.CSS_SELECTOR, "input.chosen")[-1]
    chosen.send_keys(str(file))


def says(browser, text):
    return text in browser.find_element(By.TAG_NAME, "body").text


def named(browser):
    """The image that the first drop-down names."""
    return browser.execute_script(
        "const list = document.querySelector('.widget-dropdown select'); return list.options[list.selectedIndex].text"
    )


def first_figure(browser):
    """The curves of the image that was open first."""
    return browser.find_element(By.CSS_SELECTOR, ".jp-OutputArea-child:has(.ptame-first) + .jp-OutputArea-child img")


def seen(browser):
    """What a visitor sees: the probabilities, and the pictures' content."""
    read = """
        const [source, done] = arguments;
        fetch(source).then(r => r.arrayBuffer()).then(b => crypto.subtle.digest("SHA-256", b))
            .then(d => done(Array.from(new Uint8Array(d)).join()));
    """
    shown = [browser.execute_async_script(read, source) for source in pictures(browser)]
    return percents(browser, "kept"), percents(browser, "rest"), shown


def test_two_visitors_share_nothing_and_a_large_upload_is_refused(page, browser, tmp_path):
    """Each has an image and a slider of his own, and the page goes on after a file that it does not take."""
    Image.new("RGB", (80, 80), "red").save(tmp_path / "mine.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(LARGEST + 2**20)
    visitors = {}
    for name in ("one", "other"):
        browser.switch_to.new_window("window")
        visitors[name] = browser.current_window_handle
        browser.get(page)
        until(browser, lambda b: len(percents(b, "kept")) == len(percents(b, "rest")) == 2)
    start = seen(browser)

    # one opens an image: the other's page stays as it was
    browser.switch_to.window(visitors["one"])
    assert seen(browser) == start
    upload(browser, tmp_path / "mine.png")
    until(browser, lambda b: says(b, "shown: mine.png"))
    mine = seen(browser)
    assert mine[2][0] != start[2][0]
    assert named(browser) == "mine.png"
    assert not first_figure(browser).is_displayed()
    assert says(browser, "Another image or class is open")
    browser.switch_to.window(visitors["other"])
    assert not says(browser, "mine.png")
    assert named(browser).replace("\xa0", " ") == "held-out image 1"
    assert seen(browser) == start
    assert first_figure(browser).is_displayed()

    # the other moves the slider: so does the first one's
    handle = browser.find_element(By.CSS_SELECTOR, ".ptame-share .noUi-handle")
    handle.click()
    handle.send_keys(Keys.END)
    until(browser, lambda b: len(set(percents(b, "kept"))) == 1 and percents(b, "kept") != start[0])
    browser.switch_to.window(visitors["one"])
    assert seen(browser) == mine

    # a file that is too large is refused in words, and the next one is shown
    upload(browser, tmp_path / "large.png")
    until(browser, lambda b: says(b, "large.png has 51 MB, more than 50 MB: make the image smaller"))
    assert seen(browser) == mine
    Image.new("RGB", (80, 80), "blue").save(tmp_path / "next.png")
    upload(browser, tmp_path / "next.png")
    until(browser, lambda b: says(b, "shown: next.png"))
    assert seen(browser)[2][0] not in (mine[2][0], start[2][0])
