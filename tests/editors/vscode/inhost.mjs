// Runs inhost/index.js inside the real extension host, with the packaged extension and the mock server.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { report, required, Workbench } from './workbench.mjs';

const TIMEOUT_MS = 480_000;
const here = path.dirname(fileURLToPath(import.meta.url));
const state = required('STATE');
const workspace = path.join(state, 'workspace');
const bin = path.join(state, 'bin');
const mock = path.join(here, 'mock/lacuna');
fs.mkdirSync(workspace, { recursive: true });
fs.mkdirSync(bin, { recursive: true });
fs.writeFileSync(path.join(workspace, 'add.py'), 'def add(a, b):\n    \n');
fs.writeFileSync(path.join(state, 'messages.log'), '');
fs.writeFileSync(path.join(state, 'mock.log'), '');

let workbench;
try {
  workbench = await Workbench.start({
    state,
    settings: { 'lacuna.serverPath': mock },
    env: {
      MOCK: mock,
      MOCK_LOG: path.join(state, 'mock.log'),
      MESSAGES_LOG: path.join(state, 'messages.log'),
      TEST_BIN: bin,
      TEST_WORKSPACE: workspace,
    },
  });
  const { page } = workbench;
  let finish;
  const finished = new Promise(done => { finish = done; });
  await page.exposeFunction('codeAutomationExit', finish);
  await page.exposeFunction('codeAutomationLog', (type, parts) => fs.appendFileSync(path.join(state, 'console.log'), `[${type}] ${(parts ?? []).join(' ')}\n`));
  // The messages that the user is shown, for the tests to read. With this driver they are shown in the notification
  // centre only, which a test opens.
  await page.exposeFunction('lacunaMessageShown', text => fs.appendFileSync(path.join(state, 'messages.log'), JSON.stringify(text) + '\n'));
  await page.addInitScript(() => {
    const seen = new WeakSet();
    setInterval(() => {
      for (const shown of document.querySelectorAll('.notification-list-item')) {
        const buttons = shown.querySelectorAll('.notification-list-item-buttons-container .monaco-button');
        if (!seen.has(shown) && shown.textContent) {
          seen.add(shown);
          const message = shown.querySelector('.notification-list-item-message')?.textContent ?? '';
          window.lacunaMessageShown({ message, buttons: [...buttons].map(button => button.textContent) });
        }
      }
    }, 100);
  });
  await workbench.open(workspace, [
    ['extensionDevelopmentPath', workbench.remote(required('UNPACKED'))],
    ['extensionTestsPath', workbench.remote(path.join(here, 'inhost'))],
  ]);
  const timer = setTimeout(() => finish('timeout'), TIMEOUT_MS);
  const code = await finished;
  clearTimeout(timer);
  if (code !== 0) {
    await page.screenshot({ path: path.join(required('OUT'), 'inhost-failed.png') }).catch(() => undefined);
    // Failed cases were reported one by one; this is for a run that broke down.
    const counted = fs.readFileSync(required('RESULTS'), 'utf8').includes('FAIL in the extension host');
    if (code === 'timeout') report('in the extension host', `the tests did not finish within ${TIMEOUT_MS / 1000} s`);
    else if (!counted) report('in the extension host', `the tests did not run (exit code ${code}); see ${path.join(state, 'console.log')}`);
  }
} catch (error) {
  report('in-host tests', error);
} finally {
  await workbench?.stop();
}
