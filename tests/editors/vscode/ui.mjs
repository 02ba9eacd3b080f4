// What a user sees, with the real program and its embedded model: types in a file, sees the ghost text, accepts it with
// Tab, saves. Leaves screenshots in $OUT.
import fs from 'node:fs';
import path from 'node:path';
import { report, required, Workbench } from './workbench.mjs';

const READY_TIMEOUT_MS = 120_000; // a model is loaded
const GHOST_TIMEOUT_MS = 180_000; // a machine that is busy with builds gives the engine little
const SAVE_TIMEOUT_MS = 120_000;
const GHOST = '.ghost-text-decoration, .ghost-text-decoration-preview';
const GHOST_LINES = '.ghost-text-decoration, .suggest-preview-text .view-line'; // on the cursor's line, and below it

const FILE = 'stack.py';
const BEFORE = `class Stack:
    """A stack of items, the last one first."""

    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
`;
const TYPED = '        return self.';

const state = required('STATE');
const out = required('OUT');
const workspace = path.join(state, 'workspace');
const file = path.join(workspace, FILE);
fs.mkdirSync(workspace, { recursive: true });
fs.writeFileSync(file, BEFORE);

let workbench;
let step = 'VS Code starts';
const passed = () => report(`on the screen: ${step}`);
try {
  workbench = await Workbench.start({
    state,
    vsix: required('VSIX'),
    settings: {
      'lacuna.serverPath': required('LACUNA'),
      'lacuna.deadlineMs': GHOST_TIMEOUT_MS,
      'editor.fontSize': 16,
      'editor.autoIndent': 'none',
    },
    size: { width: 1000, height: 480 },
  });
  const { page } = workbench;
  await workbench.open(workspace, [['openFile', workbench.remote(file)]]);
  await page.locator('.tab', { hasText: FILE }).first().waitFor({ timeout: READY_TIMEOUT_MS });
  passed();

  step = 'the status bar says that it is ready';
  const bar = page.locator('.statusbar-item', { hasText: 'Lacuna' });
  await bar.waitFor({ timeout: READY_TIMEOUT_MS });
  await page.locator('.statusbar-item[aria-label="Lacuna, ready"], .statusbar-item [aria-label="Lacuna, ready"]').first().waitFor({ timeout: READY_TIMEOUT_MS });
  passed();

  step = 'typing brings ghost text';
  await page.locator('.monaco-editor .view-lines').first().click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type(TYPED, { delay: 80 });
  const started = Date.now();
  await page.locator(GHOST).first().waitFor({ timeout: GHOST_TIMEOUT_MS });
  const shownMs = Date.now() - started;
  // What an earlier key brought may be shown for a moment: wait until it stays.
  let ghost = '';
  for (let before; ghost.trim() === '' || ghost !== before;) {
    if (Date.now() - started > GHOST_TIMEOUT_MS) throw new Error(`the ghost text does not stay: ${JSON.stringify(ghost)}`);
    before = ghost;
    await page.waitForTimeout(1000);
    ghost = await page.evaluate(selector => [...document.querySelectorAll(selector)].map(part => part.textContent.replaceAll('\u00a0', ' ')).join('\n'), GHOST_LINES);
  }
  console.error(`[ui] ghost text ${shownMs} ms after the last key: ${JSON.stringify(ghost)}`);
  await page.screenshot({ path: path.join(out, 'ghost-text.png') });
  passed();

  step = 'the file is untouched while the ghost text is shown';
  if (fs.readFileSync(file, 'utf8') !== BEFORE) throw new Error('it was written');
  passed();

  step = 'the status bar has the latency';
  const text = await bar.first().innerText();
  if (!/Lacuna \d+(\.\d)? m?s/.test(text.replaceAll('\u00a0', ' '))) throw new Error(`it says ${JSON.stringify(text)}`);
  console.error(`[ui] status bar: ${text.trim()}`);
  passed();

  step = 'Tab accepts it and the saved file holds exactly that';
  const accepted = Date.now();
  await page.keyboard.press('Tab');
  await page.waitForTimeout(500);
  await page.keyboard.press('Control+S');
  const deadline = Date.now() + SAVE_TIMEOUT_MS;
  let saved = BEFORE;
  while (saved === BEFORE && Date.now() < deadline) {
    await page.waitForTimeout(100);
    saved = fs.readFileSync(file, 'utf8');
  }
  await page.screenshot({ path: path.join(out, 'accepted.png') });
  console.error(`[ui] saved ${Date.now() - accepted} ms after Tab: ${JSON.stringify(saved.slice(BEFORE.length))}`);
  const blanks = value => value.replace(/\s+/g, '');
  if (!saved.startsWith(BEFORE + TYPED)) throw new Error(`what was typed is not there: ${JSON.stringify(saved)}`);
  if (blanks(saved.slice((BEFORE + TYPED).length)) !== blanks(ghost)) throw new Error(`shown ${JSON.stringify(ghost)} but saved ${JSON.stringify(saved)}`);
  passed();

  step = 'the status bar opens a menu, and Explain Last Completion in it a document';
  await bar.first().click();
  const entry = page.locator('.quick-input-list .monaco-list-row', { hasText: 'Explain Last Completion' }).first();
  await entry.waitFor({ timeout: GHOST_TIMEOUT_MS });
  await page.screenshot({ path: path.join(out, 'menu.png') });
  await entry.click();
  await page.locator('.tab.active', { hasText: 'Last completion' }).first().waitFor({ timeout: GHOST_TIMEOUT_MS });
  await page.waitForTimeout(1000);
  await page.screenshot({ path: path.join(out, 'explain.png') });
  passed();
} catch (error) {
  await workbench?.page?.screenshot({ path: path.join(out, 'ui-failed.png') }).catch(() => undefined);
  report(`on the screen: ${step}`, error);
} finally {
  await workbench?.stop();
}
