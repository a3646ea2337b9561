"""Takes the pictures for the README: screenshot.py EXAMPLE LIGHT.png DARK.png"""

import base64
import signal
import sys
import time

from run import Story


def take(page, scheme, path):
    page.call("Emulation.setDeviceMetricsOverride", width=1120, height=100, deviceScaleFactor=1.5, mobile=False)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    time.sleep(0.2)
    picture = page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
    with open(path, "wb") as file:
        file.write(base64.b64decode(picture["data"]))


def main():
    _, example, light, dark = sys.argv
    story = Story(example)
    try:
        page, hesitant, doomed = story.page(), story.page(), story.page()
        time.sleep(25)
        for number, pause in (signal.SIGSTOP, 1.4), (signal.SIGCONT, 15):
            hesitant.signal(number)
            time.sleep(pause)
        doomed.signal(signal.SIGSTOP)
        time.sleep(8)
        hesitant.signal(signal.SIGSTOP)
        time.sleep(2.4)
        take(page, "light", light)
        take(page, "dark", dark)
    finally:
        story.close()


if __name__ == "__main__":
    main()
