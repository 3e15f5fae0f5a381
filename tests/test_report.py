"""A run on one page: whatever is in the run's folder it is safe, small and whole; and a browser, a finger, a keyboard
and a screen reader can use it.

The tests of the second half drive a headless Chromium. They are skipped where there is none.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import kernels
from minigan import options, report
from minigan.chart import POINTS, line_chart, spread
from minigan.models import PRESETS, networks
from minigan.run import Run
from minigan.table import layer_costs, outline

EVIL = "\"><script>alert(1)<'&amp;${x}"  # and no slash, for it has to be a folder's name too
ABOUT = {
    "device": "cpu",
    "pictures": 64,
    "commands": ["python -m minigan.train"],
    "started": "2026-01-02T03:04:05+00:00",
    "versions": {"python": "3.11"},
}
NOTE = {"diagnosis": "collapse", "says": "All pictures look alike.", "evidence": "a tenth as diverse", "try": "--lr-d"}


def new_run(folder: Path, **about) -> Run:
    """An empty run: 64 pictures of 16 pixels, 8 steps an epoch."""
    settings = options.new_settings(options.parse(["--size", "16", "--batch-size", "8"]))
    return Run.create(folder, settings, ABOUT | about, [])


def noise(side: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def log(run: Run, steps: int, every: int = 10) -> None:
    """Rows of a training that took a tenth of a second a step."""
    for step in range(every, steps + 1, every):
        run.log(
            {
                "step": step,
                "epoch": step / 8,
                "seconds": step / 10,
                "d_loss": 1 + 0.5 * np.sin(step),
                "g_loss": 2 + 0.5 * np.cos(step),
                "d_real": 0.7,
                "d_fake": 0.3,
                "images_per_second": 80.0,
                "memory_mib": 123,
            }
        )


def visit(run: Run, step: int, *notes: dict) -> None:
    """A row of the doctor's."""
    with (run.folder / "doctor.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "measures": {"diversity": 0.5}, "notes": notes}) + "\n")


def full_run(folder: Path) -> Run:
    """One with everything in it: 400 steps, 5 samples."""
    run = new_run(folder)
    log(run, 400)
    pictures = np.random.default_rng(1).uniform(-1, 1, (16, 16, 16, 3))
    run.save_real(pictures)
    for step in range(0, 401, 100):
        run.save_sample(step, pictures * step / 400)
    visit(run, 100, NOTE)
    visit(run, 200, NOTE)
    visit(run, 400, NOTE | {"diagnosis": "learning well", "says": "Go on."})
    return run


class Page(HTMLParser):
    """What is on a page: its elements, by (tag, attributes), and its text."""

    def __init__(self, run: Run):
        super().__init__()
        self.source = report.write(run).read_text()
        self.elements, self.texts = [], []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


# ---- the page ----------------------------------------------------------------


def test_what_comes_from_outside_is_only_text(tmp_path):
    """Names, paths, commands, notes and reasons that look like HTML, or like the template's own names, are shown."""
    run = new_run(tmp_path / EVIL, device=EVIL, commands=[EVIL], versions={EVIL: EVIL})
    run.settings = options.new_settings(options.parse(["--data", EVIL]))
    (run.folder / "samples" / "000000.png").write_text(EVIL)
    visit(run, 0, {name: EVIL for name in NOTE})
    plain = Page(new_run(tmp_path / "plain", versions={"a": "b"}))
    page = Page(run)
    assert len(page.all("script")) == len(plain.all("script")) == 1
    assert page.text.count(EVIL) >= 10
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_the_page_asks_for_nothing(tmp_path):
    """Its policy forbids all but pictures in the page itself and the one script and style that were written into it."""
    page = Page(full_run(tmp_path / "run"))
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.source, re.DOTALL)
        assert rules[f"{tag}-src"] == f"'{report._hash(text)}'"
    for attribute in ("src", "href"):
        for _, attributes in page.elements:
            assert attributes.get(attribute, "#").startswith(("#", "data:image/webp;base64,"))


def test_a_page_stays_small(tmp_path):
    """5 MB at most: with pictures that no codec can shrink, more of them than are shown, and a log of 3,000 rows."""
    run = new_run(tmp_path / "run")
    log(run, 30_000)
    noise(1042, seed=0).save(run.folder / "real.png")  # as 64 pictures of 128 pixels are
    for step in range(40):
        os.link(run.folder / "real.png", run.folder / "samples" / f"{step:06d}.png")
    page = Page(run)
    assert len(page.source.encode()) < 5e6
    steps = [int(image["data-step"]) for image in page.all("img") if "data-step" in image]
    assert steps == [*range(0, 39, 4), 39]


def test_samples_are_spread_over_the_run(tmp_path):
    """However many: the first, the newest, and between them every so manieth; and one more sample costs two at most."""
    paths = []
    for step in range(3 * report.FRAMES):
        paths.append(tmp_path / f"{step}.png")
        noise(2, step).save(paths[-1])
        before = report._encoded.cache_info().misses
        shown, broken = report._frames(paths)
        steps = [int(path.stem) for path in shown]
        assert not broken
        assert len(steps) <= report.FRAMES
        assert steps[0] == 0
        assert steps[-1] == step
        assert len(set(np.diff(steps[:-1]))) <= 1
        assert report._encoded.cache_info().misses - before <= 2


def test_pictures_are_reduced_and_never_enlarged(tmp_path):
    """The newest sample is larger than those before it; a small one is shown as it is."""
    sizes = {}
    for side in (66, 530, 1042, 2066):
        for name in "earlier", "newest":
            noise(side, 0).save(tmp_path / f"{name}.png")
        shown, _ = report._frames([tmp_path / "earlier.png", tmp_path / "newest.png"])
        sizes[side] = [int(re.search(r'width="(\d+)"', attributes)[1]) for attributes in shown.values()]
        report._encoded.cache_clear()
    assert sizes == {66: [66, 66], 530: [530, 530], 1042: [521, 1042], 2066: [517, 1033]}


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    """No rows, samples, real pictures or visits of the doctor yet: it says so of each."""
    page = Page(new_run(tmp_path / "run"))
    for said in ("No samples yet", "no real pictures", "No steps are logged yet", "has not looked at this run"):
        assert said in page.text


def test_an_early_runs_page(tmp_path):
    """A run from before commands and memory were kept has a page without them."""
    run = full_run(tmp_path / "run")
    del run.about["commands"]
    rows = [{name: value for name, value in row.items() if name != "memory_mib"} for row in run.rows()]
    (run.folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(run)
    assert "not kept by this early run" in page.text
    assert "123 MiB" not in page.text


def test_what_the_page_says(tmp_path):
    """How far, how fast, what was asked, when a sample was drawn; the doctor's newest notes first."""
    page = Page(full_run(tmp_path / "run"))
    facts = dict(re.findall("<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page.source))
    epochs = PRESETS["tiny32"].epochs
    assert list(facts.values()) == ["400", f"50.0 of {epochs}", "40 s", "80", "123 MiB", "0.70, 0.30"]
    assert list(facts)[:4] == ["steps", "epochs", "of training", "pictures a second, median"]
    for said in ("python -m minigan.train", "tiny32", "python 3.11", "2026-01-02 03:04:05"):
        assert said in page.text
    assert [image.get("data-when") for image in page.all("img")][:2] == [
        "step 0, epoch 0.0",
        "step 100, epoch 12.5, after 10 s",
    ]
    assert page.text.index("Learning well") < page.text.index("Step 400: learning well")
    assert page.text.index("Step 400: learning well") < page.text.index("Step 100 to 200: collapse")


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    """One sample that the disk has spoilt does not cost the page, nor the run."""
    run = full_run(tmp_path / "run")
    path = run.samples()[2]
    path.write_bytes(path.read_bytes()[:100])
    page = Page(run)
    assert "000200.png cannot be read (" in page.text
    assert [image["data-step"] for image in page.all("img") if "data-step" in image] == ["0", "100", "300", "400"]


def test_a_chart_of_one_row_shows_it():
    """A point has no length, and this one lies at the frame: it is drawn as a piece of a line inside."""
    drawn = line_chart([20], {"D": [1.0]}, "", top=2.0)
    width, height = map(int, re.search(r'width="(\d+)" height="(\d+)" class="plot"', drawn).groups())
    assert f'class="mean curve-0" d="M{width}.0 {height / 2:.1f}h-8"' in drawn


@pytest.mark.parametrize("name", ["log.jsonl", "doctor.jsonl"])
def test_a_broken_row_is_named(tmp_path, capsys, name):
    """The command ends with one line that names the file; the page of before stays."""
    run = full_run(tmp_path / "run")
    before = report.write(run).read_bytes()
    with (run.folder / name).open("a") as file:
        file.write('{"step": 4\n')
    assert re.search(rf"{name}: line \d+: broken \(", refused(capsys, report.report, run.folder))
    assert (run.folder / "report.html").read_bytes() == before


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    """A full disk leaves the page of before and nothing beside it."""
    run = full_run(tmp_path / "run")
    report.report([str(run.folder)])
    assert capsys.readouterr().out == f"report    {run.folder / 'report.html'}\n"
    before = (run.folder / "report.html").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    log(run, 400)
    monkeypatch.setattr(os, "fsync", full)
    assert "cannot be written (No space left on device)" in refused(capsys, report.report, run.folder)
    assert (run.folder / "report.html").read_bytes() == before
    assert not list(run.folder.glob("*.tmp"))


def test_no_run_is_refused_in_one_line(tmp_path, capsys):
    assert "no run's folder" in refused(capsys, report.report, tmp_path)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_outline_of_a_network_costs_what_the_network_costs(preset):
    """Layer for layer: shapes, parameters, multiply-adds, memory. (At the smallest size, for the real one is drawn.)"""
    settings = options.new_settings(options.parse(["--preset", preset, "--size", "16"]))
    real = networks(PRESETS[preset], kernels.device("cpu"), 16, 3, settings.z_dim, settings.slope, seed=0)
    drawn = outline(settings)
    assert (drawn.z_shape, drawn.picture) == (real.z_shape, real.picture)
    for player, shape in (("generator", real.z_shape), ("discriminator", real.picture)):
        assert layer_costs(getattr(drawn, player), shape, 4) == layer_costs(getattr(real, player), shape, 4)


# ---- its charts --------------------------------------------------------------


def paths(svg: str) -> list[tuple[str, list[list[float]]]]:
    """(classes, points) of each curve."""
    found = re.findall(r'<path class="((?:raw|mean) curve-\d)" d="M([^"h]*)', svg)
    return [(kind, [list(map(float, point.split())) for point in points.split("L")]) for kind, points in found]


def test_a_chart_is_to_scale():
    """A value of 0 is on the floor, `top` at the ceiling, the last step at the right edge, step 0 at the left."""
    svg = line_chart([0, 5, 10], {"a": [0, 4, 2], "b": [4, 4, 4]}, "said <&", top=4)
    (width,), (height,) = re.findall(r'<svg x="42" y="10" width="(\d+)"', svg), re.findall(r'height="(\d+)"', svg)
    width, height = float(width), float(height)
    drawn = dict(paths(svg))
    assert drawn["raw curve-0"] == [[0, height], [width / 2, 0], [width, height / 2]]
    assert drawn["raw curve-1"] == drawn["mean curve-1"] == [[0, 0], [width / 2, 0], [width, 0]]
    assert 'aria-label="said &lt;&amp;"' in svg


def test_a_long_curve_is_thinned():
    """At most POINTS points, the first and the last among them, whatever the number of rows; few rows are all drawn."""
    for count in (1, 2, POINTS, POINTS + 1, 10 * POINTS):
        for _, points in paths(line_chart(range(count), {"a": [1.0] * count}, "", top=1)):
            assert len(points) == min(count, POINTS)
        indices = spread(count, POINTS)
        assert (indices[0], indices[-1]) == (0, count - 1)


def test_a_chart_has_a_few_round_ticks():
    """Between 2 and 9 on each axis, none outside, for any range."""
    for top in (1e-3, 0.07, 1, 1.99, 9, 1234, 5577, 1e9):
        svg = line_chart([1, max(2, int(top))], {"a": [0, 0]}, "", top)
        for anchor, end in (("end", top), ("middle", max(2, int(top)))):
            ticks = [float(t.replace(",", "")) for t in re.findall(rf'text-anchor="{anchor}">([^<]+)<', svg)]
            assert 2 <= len(ticks) <= 9
            assert ticks[0] == 0
            assert ticks[-1] <= end * 1.001


# ---- in a browser ------------------------------------------------------------

CONTROLS = "a[href], button, input, summary, [tabindex='0']"  # what a keyboard has to reach

# The least contrast of any text with what is behind it (WCAG 2.2, 1.4.3), and what text that is.
CONTRAST = """
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = colour => {
  const [r, g, b] = channels(colour).slice(0, 3).map(linear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (channels(colour).length === 3) return colour;  // a fourth number is transparency
  }
};
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const found = [];
for (const element of document.body.querySelectorAll(arguments[0])) {
  const colour = getComputedStyle(element)[arguments[1]];
  found.push([ratio(luminance(colour), luminance(behind(element))), element.outerHTML.slice(0, 80)]);
}
return found.sort((a, b) => a[0] - b[0])[0];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of a run with everything in it."""
    return report.write(full_run(tmp_path_factory.mktemp("browser") / "run"))


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window, for which every host name is unknown."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    wanted = webdriver.ChromeOptions()
    wanted.binary_location = browser
    wanted.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # no-sandbox: in a container there is none; the page is the test's own
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "host-resolver-rules=MAP * ~NOTFOUND"):
        wanted.add_argument(f"--{argument}")
    with webdriver.Chrome(wanted, webdriver.ChromeService(driver)) as opened:
        yield opened


@pytest.fixture
def browser(chromium, page):
    """The page, freshly opened from the disk in a window of a laptop's size."""
    screen(chromium, 1280)
    chromium.get(page.as_uri())
    return chromium


def screen(browser, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def one(browser, selector: str):
    return browser.find_element(By.CSS_SELECTOR, selector)


def every(browser, selector: str) -> list:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def shown(browser) -> str:
    """The step of the sample that can be seen, which is one."""
    return shown_after(browser, "")


def shown_after(browser, action: str) -> str:
    """The same, at the moment when this line of script has run: another may be shown soon, if it plays."""
    script = "return [...document.querySelectorAll('#frames img')].filter(image => image.checkVisibility()) \
        .map(image => [image.dataset.step, image.naturalWidth])"
    ((step, width),) = browser.execute_script(action + script)
    assert width > 0
    return step


def marked(browser) -> list[float]:
    """Where the charts mark a step, from 0 to 1 of their width."""
    script = "return [...document.querySelectorAll('.now')].map(line => {const plot = line.ownerSVGElement; \
        return line.transform.baseVal[0].matrix.e / plot.width.baseVal.value})"
    return browser.execute_script(script)


def test_it_loads_without_an_error_or_the_network(browser):
    """Nothing on the console, every picture there, nothing fetched; and what would be fetched is refused."""
    assert browser.get_log("browser") == []
    pictures = "return [...document.images].filter(image => !image.hidden && !image.naturalWidth).length"
    assert browser.execute_script(pictures) == 0
    fetched = "return performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 5))"
    assert set(browser.execute_script(fetched)) <= {"data:"}
    refuse = """
        document.addEventListener("securitypolicyviolation", event => arguments[0](event.effectiveDirective));
        new Image().src = "http://127.0.0.1/cat.png";
    """
    assert browser.execute_async_script(refuse) == "img-src"


def test_the_slider_goes_through_the_samples(browser):
    """With the arrow keys: picture, caption, the slider's words and the marks in the curves go together."""
    slider = one(browser, "input[type=range]")
    assert (shown(browser), marked(browser)) == ("400", [1, 1, 1])
    slider.send_keys(Keys.ARROW_LEFT)
    assert (shown(browser), marked(browser)) == ("300", [0.75, 0.75, 0.75])
    assert one(browser, "#when").text == "step 300, epoch 37.5, after 30 s"
    assert slider.get_attribute("aria-valuetext") == "step 300, epoch 37.5, after 30 s"
    slider.send_keys(Keys.HOME)
    assert (shown(browser), marked(browser)) == ("0", [0, 0, 0])
    slider.send_keys(Keys.ARROW_RIGHT)
    assert shown(browser) == "100"


def test_it_plays(browser):
    """From the first sample to the newest, and stops there; a second click stops at once."""
    button = one(browser, "button")
    assert shown_after(browser, "document.querySelector('button').click();") == "0"
    assert button.text == "Pause"  # a second and more is left until it comes to the newest
    button.click()
    assert button.text == "Play"
    assert int(shown(browser)) < 400
    button.click()
    WebDriverWait(browser, 10, 0.05).until(lambda _: button.text == "Play")
    assert shown(browser) == "400"


def test_without_a_script_the_newest_sample_is_there(browser):
    """And no control that would do nothing."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.refresh()
        assert shown(browser) == "400"
        assert not one(browser, "#controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_it_fits_any_screen(browser, width):
    """Nothing sticks out on the side, with every table opened; on a phone letters and controls have a readable size."""
    screen(browser, width)
    browser.execute_script("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    sides = "const {scrollWidth, clientWidth} = document.documentElement; return [scrollWidth, clientWidth]"
    needed, there = browser.execute_script(sides)
    assert needed <= there <= width
    size = (
        "return Math.min(...[...document.querySelectorAll('p, td, th, dd, dt, figcaption, h1, h2')]"
        ".map(element => parseFloat(getComputedStyle(element).fontSize)))"
    )
    assert browser.execute_script(size) >= 12  # pixels
    for control in every(browser, "button, input"):
        assert control.size["height"] >= 44  # pixels, a finger's


def test_a_keyboard_reaches_every_control(browser):
    """With Tab alone, in the order of the page, and it can be seen which one has the focus."""
    wanted = [element for element in every(browser, CONTROLS) if element.is_displayed()]
    assert {"a", "button", "input", "summary", "div"} == {element.tag_name for element in wanted}
    reached = []
    for _ in wanted:
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.switch_to.active_element)
        assert reached[-1].value_of_css_property("outline-style") == "solid"
    assert reached == wanted


def test_a_screen_reader_is_told_everything(browser):
    """Landmarks, one first heading and no level left out, and a name for every control, picture, chart and table."""
    browser.execute_script("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert one(browser, "html").get_attribute("lang") == "en"
    assert browser.title == "run, a run of minigan"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(every(browser, landmark)) == 1
    levels = [int(heading.tag_name[1]) for heading in every(browser, "h1, h2, h3, h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1
    for element in every(
        browser, f"{CONTROLS}, section, svg[role=img], table, #frames img:not([hidden]), figure > img"
    ):
        assert element.accessible_name, element.get_attribute("outerHTML")[:200]
    for table in every(browser, "table"):
        assert table.find_elements(By.CSS_SELECTOR, "caption")
        assert table.find_elements(By.CSS_SELECTOR, "th[scope=col]")
    assert every(browser, "svg:not([role=img]):not([aria-hidden]):not([role=img] svg)") == []
    links = [link.get_attribute("href").partition("#")[2] for link in every(browser, "nav a")]
    assert links == [heading.get_attribute("id") for heading in every(browser, "h2")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_can_be_told_apart(browser, scheme):
    """Text has 4.5 times the light of what is behind it, or the other way round; curves and the slider 3 times."""
    screen(browser, 1280, scheme)
    least, text = browser.execute_script(CONTRAST, ":not(svg *, script, img, input)", "color")
    assert least >= 4.5, text
    least, text = browser.execute_script(CONTRAST, "svg text", "fill")
    assert least >= 4.5, text
    least, curve = browser.execute_script(CONTRAST, ".mean, .now, .middle", "stroke")
    assert least >= 3, curve
    assert browser.execute_script(CONTRAST, "input", "accentColor")[0] >= 3
