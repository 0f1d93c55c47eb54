#!/usr/bin/env python3
"""Reports in a real browser: Chromium, at the width of a phone and of a desktop, light and dark, and on paper.

    apt-get install -y chromium
    cargo build --release
    python3 benches/report.py [pipelines/quickstart.yaml ...] [--keep FOLDER]

Runs each pipeline in a folder of its own (or in --keep, where results and pictures of the pages stay), reports it, and opens the report.
Without arguments: three pipelines of this repository and the table of faithfulness in docs/report.md.
Fails if the browser says anything on its console or asks for anything but the file, if the page is wider than the window, if texts of a
picture lie on each other or outside of it, if an axis has no name, or if a link or a scrolled table cannot be reached by the Tab key.
Without a browser it says so and does nothing; MEDIANT_CHROMIUM names one that is not on the PATH.
"""
import argparse, base64, json, os, pathlib, shutil, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEDIANT = os.environ.get("MEDIANT") or str(ROOT / "target/release/mediant")
PIPELINES = ["quickstart", "ioi-circuit", "edge-attribution"]
MOST_BYTES = 3_000_000

# Everything open, as a reader who looks at all of it would have it.
OPEN = "document.querySelectorAll('details').forEach(d => d.open = true)"
CHECK = """(width => {
  const problems = [], page = document.documentElement;
  if (page.scrollWidth > width) problems.push(`the page is ${page.scrollWidth} wide in a window of ${width}`);
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect(), name = svg.querySelector('title').textContent;
    const axes = [...svg.querySelectorAll('.axis')].filter(t => t.textContent.trim());
    if (svg.classList.contains('mediant-plot') && axes.length < 2) problems.push(`${name}: an axis has no name`);
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]).filter(t => t[1].width > 0);
    texts.forEach(([text, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        problems.push(`${name}: "${text}" is outside of the picture`);
      for (const [other, b] of texts.slice(0, i)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        // Boxes of text have room above and below the letters.
        if (wide > 1 && high > 0.35 * Math.min(a.height, b.height)) problems.push(`${name}: "${text}" lies on "${other}"`);
      }
    });
  }
  return JSON.stringify(problems.slice(0, 20));
})"""
STOPS = "document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length"
FOCUSED = "(() => { const e = document.activeElement; return e === document.body ? '' : e.tagName + [...document.querySelectorAll('*')].indexOf(e) })()"


class Browser:
    """Chromium, spoken to over a pipe."""

    def __init__(self, program, folder):
        to_read, self.write = os.pipe()
        self.read, to_write = os.pipe()

        def place():
            # Chromium reads from 3 and writes to 4; the pipe's ends may be in the way.
            ends = os.dup(to_read), os.dup(to_write)
            high = [os.dup2(end, 20 + i) for i, end in enumerate(ends)]
            os.dup2(high[0], 3), os.dup2(high[1], 4)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        self.process = subprocess.Popen([program, *options], preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read), os.close(to_write)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.ask(domain + ".enable")

    def message(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.read, 1 << 20)
            if not piece:
                sys.exit("the browser is gone")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def evaluate(self, code):
        return self.ask("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def open(self, address, width, scheme):
        self.events.clear()
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=address)
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.05)

    def said(self, address):
        """What went to the console, and requests for anything else than the page or data in it."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] in ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"]:
                found.append(json.dumps(params)[:300])
            url = params.get("request", {}).get("url", "") if event["method"] == "Network.requestWillBeSent" else ""
            if url and url != address and not url.startswith("data:"):
                found.append(f"asked for {url}")
        return found

    def picture(self, path):
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def paper(self, path):
        self.ask("Emulation.setEmulatedMedia", media="", features=[])
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"]))

    def tabs(self):
        """Places that the Tab key stops at, and how many there should be."""
        stops = set()
        wanted = self.evaluate(STOPS)
        for _ in range(wanted + 2):
            for kind in ["keyDown", "keyUp"]:
                self.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            stops.add(self.evaluate(FOCUSED))
        return len(stops - {""}), wanted


def check(browser, page, folder):
    address, problems = page.as_uri(), []
    if page.stat().st_size > MOST_BYTES:
        problems.append(f"{page.stat().st_size} bytes")
    for width in [390, 1280]:
        for scheme in ["light", "dark"]:
            browser.open(address, width, scheme)
            browser.picture(folder / f"{page.stem}-{width}-{scheme}.png")
            browser.evaluate(OPEN)
            browser.picture(folder / f"{page.stem}-{width}-{scheme}-open.png")
            problems += [f"{width} {scheme}: {problem}" for problem in json.loads(browser.evaluate(f"{CHECK}({width})")) + browser.said(address)]
    browser.open(address, 1280, "dark")
    browser.paper(folder / f"{page.stem}.pdf")
    browser.evaluate(OPEN)
    reached, wanted = browser.tabs()
    if reached < wanted:
        problems.append(f"the Tab key reaches {reached} of {wanted} places")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    program = os.environ.get("MEDIANT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        print("skipped: there is no chromium here (apt-get install -y chromium, or MEDIANT_CHROMIUM=...)")
        return
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = (args.keep or scratch / "reports").absolute()
        (folder / "pipelines").mkdir(parents=True, exist_ok=True)
        if not (folder / "datasets").exists():
            (folder / "datasets").symlink_to(ROOT / "datasets")
        pipelines = args.pipelines
        if not pipelines:
            example = scratch / "circuits.yaml"
            example.write_text((ROOT / "docs/report.md").read_text().split("```yaml\n")[2].split("```")[0])
            pipelines = [*(ROOT / f"pipelines/{name}.yaml" for name in PIPELINES), example]
        browser = Browser(program, scratch / "profile")
        for pipeline in pipelines:
            shutil.copy(pipeline, folder / "pipelines")
            file = folder / "pipelines" / pipeline.name
            subprocess.run([MEDIANT, "run", file, "--quiet"], check=True)
            page = folder / f"{pipeline.stem}.html"
            start = time.monotonic()
            subprocess.run([MEDIANT, "report", file, "--output", page], check=True, stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - start
            problems = check(browser, page, folder)
            failed |= bool(problems)
            print(f"{pipeline.stem}: {page.stat().st_size / 1e6:.2f} MB in {seconds:.2f} s, {len(problems)} problems", flush=True)
            for problem in problems:
                print(f"  {problem}")
        browser.ask("Browser.close")
        browser.process.wait()
    sys.exit(failed)


if __name__ == "__main__":
    main()
