#!/usr/bin/env python3
"""Opens pages in headless Chromium, as a reader would, and checks what a reader would notice.

    browser.py PAGE.html ... [--shots FOLDER]

For each page, light and dark, 400 and 1400 pixels wide: no message on the console, nothing asked
from a network, no element that sticks out of the page, headings in order, every chart and table with
a name, every link inside the page to something that exists, text with enough contrast, figures by
the arrow keys; and that it prints. Exit status 77 where there is no Chromium."""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']

# What sticks out: wider than the page, and not inside something that scrolls.
OVERFLOW = '''(() => {
  const wide = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > wide) out.push('page ' + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.scroll, pre, .skip, svg, #tip, details:not([open])')) continue;
    const b = e.getBoundingClientRect();
    if (b.width && (b.right > wide + 1 || b.left < -1)) out.push(e.tagName + '.' + e.className + ' ' + Math.round(b.right));
  }
  return out.slice(0, 5);
})()'''

STRUCTURE = '''(() => {
  const bad = [];
  const say = (text) => bad.push(text);
  if (!document.title) say('no title');
  if (!document.documentElement.lang) say('no language');
  if (document.querySelectorAll('h1').length !== 1) say('not one h1');
  let level = 1;
  for (const h of document.querySelectorAll('h1, h2, h3, h4')) {
    const own = Number(h.tagName[1]);
    if (own > level + 1) say('heading jumps to ' + h.tagName + ': ' + h.textContent);
    if (!h.textContent.trim()) say('empty heading');
    level = own;
  }
  for (const s of document.querySelectorAll('svg'))
    if (!s.getAttribute('aria-label') && s.getAttribute('aria-hidden') !== 'true') say('svg without a name');
  for (const r of document.querySelectorAll('[role=region]'))
    if (!r.getAttribute('aria-label')) say('region without a name');
  for (const f of document.querySelectorAll('figure.chart')) {
    const section = f.closest('section');
    if (!section.querySelector('details table, table')) say('no table behind ' + section.id);
  }
  for (const a of document.querySelectorAll('a[href^="#"]'))
    if (!document.getElementById(a.getAttribute('href').slice(1))) say('dead link ' + a.getAttribute('href'));
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) say('ids used twice');
  for (const e of document.querySelectorAll('[src], [href]'))
    if (/^(https?:)?\\/\\//.test(e.getAttribute('src') || e.getAttribute('href'))) say('from a network: ' + e.outerHTML.slice(0, 80));
  for (const t of document.querySelectorAll('svg text'))
    if (/nan|inf|undefined/i.test(t.textContent) && t.textContent.length < 12) say('text ' + t.textContent);
  for (const e of document.querySelectorAll('svg *'))
    for (const a of e.attributes) if (a.name !== 'href' && /\\bnan\\b|\\binf\\b/.test(a.value)) say(e.tagName + ' ' + a.name);
  return bad.slice(0, 8);
})()'''

# WCAG's contrast of text on what lies behind it: 4.5, or 3 where it is large.
CONTRAST = '''(() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  for (const e of document.querySelectorAll('h1, h2, h3, p, td, th, dt, dd, a, span, small, li, summary, figcaption, code, b')) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const s = getComputedStyle(e), a = light(parse(s.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.6 && Number(s.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.add(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2));
  }
  return [...bad].slice(0, 5);
})()'''

KEYS = '''(() => {
  const svg = document.querySelector('svg[data-marks]');
  if (!svg) return 'no chart';
  svg.focus();
  if (document.activeElement !== svg) return 'a chart takes no focus';
  for (const key of ['Home', 'ArrowRight', 'ArrowRight', 'ArrowLeft'])
    svg.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const tip = document.getElementById('tip');
  if (tip.hidden || !tip.textContent.trim()) return 'no figures by the arrow keys';
  const box = tip.getBoundingClientRect();
  if (box.left < 0 || box.right > innerWidth + 1) return 'the figures stick out';
  svg.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
  return tip.hidden ? 'ok' : 'Escape does not close';
})()'''


class Chromium:
    """One browser, spoken to over its debugging pipe."""

    def __init__(self, path):
        self.folder = tempfile.TemporaryDirectory(prefix='pquant-browser-')
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def pipes():
            os.dup2(os.dup(to_read), 3)
            os.dup2(os.dup(to_write), 4)

        self.process = subprocess.Popen(
            [path, '--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe',
             '--disable-dev-shm-usage', '--hide-scrollbars', '--no-first-run',
             '--user-data-dir=' + self.folder.name, 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pipes,
            close_fds=False)
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.number, self.events, self.session = b'', 0, [], None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(domain + '.enable')

    def receive(self):
        while b'\0' not in self.buffer:
            more = os.read(self.back, 1 << 20)
            if not more:
                raise SystemExit('the browser ended')
            self.buffer += more
        message, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self.receive()
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise SystemExit(f'{method}: {answer["error"]}')
                return answer['result']
            self.events.append(answer)

    def wait(self, event):
        while not any(e.get('method') == event for e in self.events):
            self.events.append(self.receive())

    def value(self, script):
        answer = self.call('Runtime.evaluate', expression=script, returnByValue=True)
        if 'exceptionDetails' in answer:
            raise SystemExit(str(answer['exceptionDetails']))
        return answer['result'].get('value')

    def open(self, page, width, scheme):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call('Emulation.setEmulatedMedia', media='',
                  features=[{'name': 'prefers-color-scheme', 'value': scheme}])
        self.events.clear()
        self.call('Page.navigate', url=page.resolve().as_uri())
        self.wait('Page.loadEventFired')

    def messages(self):
        """Of the console and the network since the page was opened."""
        found = []
        for e in self.events:
            p, method = e.get('params', {}), e.get('method')
            if method == 'Runtime.exceptionThrown':
                found.append(str(p['exceptionDetails'].get('text')))
            elif method == 'Runtime.consoleAPICalled':
                found.append('console: ' + p['type'])
            elif method == 'Log.entryAdded':
                found.append(p['entry']['text'])
            elif method == 'Network.requestWillBeSent':
                url = p['request']['url']
                if not url.startswith(('file:', 'data:')):
                    found.append('asks for ' + url)
        return found

    def shot(self, path, height):
        data = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True,
                         clip={'x': 0, 'y': 0, 'scale': 1, 'height': min(height, 16000),
                               'width': self.value('innerWidth')})['data']
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.session = None
        try:
            self.call('Browser.close')
        except (SystemExit, OSError):
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def check(browser, page, shots):
    problems = []
    for width in (400, 1400):
        for scheme in ('light', 'dark'):
            where = f'{page}, {width} px, {scheme}'
            browser.open(page, width, scheme)
            browser.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            problems += [f'{where}: sticks out: {x}' for x in browser.value(OVERFLOW)]
            browser.value("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
            problems += [f'{where}: sticks out: {x}' for x in browser.value(OVERFLOW)]
            problems += [f'{where}: contrast: {x}' for x in browser.value(CONTRAST)]
            problems += [f'{where}: {x}' for x in browser.value(STRUCTURE)]
            if browser.value("!!document.querySelector('svg[data-marks] [data-mark]')"):
                keys = browser.value(KEYS)
                if keys != 'ok':
                    problems.append(f'{where}: {keys}')
            problems += [f'{where}: {x}' for x in browser.messages()]
            if shots:
                browser.value('document.activeElement.blur()')
                height = browser.value('document.documentElement.scrollHeight')
                browser.shot(shots / f'{page.parent.name}-{page.stem}-{width}-{scheme}.png', height)
    pdf = base64.b64decode(browser.call('Page.printToPDF')['data'])
    if not pdf.startswith(b'%PDF') or len(pdf) < 5000:
        problems.append(f'{page}: does not print')
    if shots:
        browser.call('Emulation.setEmulatedMedia', media='print')
        height = browser.value('document.documentElement.scrollHeight')
        browser.shot(shots / f'{page.parent.name}-{page.stem}-print.png', height)
    if page.stat().st_size > 1_200_000:
        problems.append(f'{page}: {page.stat().st_size} bytes, about 1 MB expected')
    return problems


def main(arguments):
    shots = None
    if '--shots' in arguments:
        at = arguments.index('--shots')
        shots = pathlib.Path(arguments[at + 1])
        shots.mkdir(parents=True, exist_ok=True)
        del arguments[at:at + 2]
    path = next((p for p in map(shutil.which, NAMES) if p), None)
    if not path:
        print('skipped: no Chromium')
        return 77
    browser = Chromium(path)
    problems = []
    try:
        for page in arguments:
            problems += check(browser, pathlib.Path(page), shots)
    finally:
        browser.close()
    print('\n'.join(problems) if problems else f'{len(arguments)} pages: nothing to complain about')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
