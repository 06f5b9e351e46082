"""Save a screenshot of the top of a page, such as a report for the user guide.

    python docs/screenshot.py report.html docs/images/report.png

Needs playwright, and Chromium on the path.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright


def main():
    """Open the page, wait for images and players, save the screenshot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1120)
    parser.add_argument("--height", type=int, default=940)
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        tab = browser.new_page(viewport={"width": args.width, "height": args.height})
        tab.goto(args.page.resolve().as_uri())
        tab.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
        tab.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.duration > 0)")
        tab.screenshot(path=args.picture)
        browser.close()


if __name__ == "__main__":
    main()
