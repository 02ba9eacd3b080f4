// Tests that run inside the extension host, in order, each leaving the server ready and the settings as they were.
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const vscode = require('vscode');

const { MOCK, MOCK_LOG, MESSAGES_LOG, TEST_BIN, TEST_WORKSPACE, RESULTS } = process.env;
const WAIT_MS = 30_000;

let api;
const manifest = () => vscode.extensions.getExtension('lacuna.lacuna').packageJSON;
const lines = file => fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map(line => JSON.parse(line));
const sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const messages = method => lines(MOCK_LOG).filter(entry => entry.method === method);
const starts = () => lines(MOCK_LOG).filter(entry => entry.event === 'start');
const serverPid = () => starts().at(-1).pid;

async function eventually(what, check) {
  const deadline = Date.now() + WAIT_MS;
  let last;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw last ?? new Error(`${what} did not come about; the status is ${JSON.stringify(api?.status())}`);
    await sleep(50);
  }
}

const state = wanted => eventually(`state ${wanted}`, () => api.status().state === wanted);
const set = (key, value) => vscode.workspace.getConfiguration('lacuna').update(key, value, vscode.ConfigurationTarget.Global);
const isAlive = pid => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function openPython(text) {
  const file = path.join(TEST_WORKSPACE, `case-${Date.now()}.py`);
  fs.writeFileSync(file, text);
  const editor = await vscode.window.showTextDocument(await vscode.workspace.openTextDocument(file));
  const end = editor.document.lineAt(editor.document.lineCount - 1).range.end;
  editor.selection = new vscode.Selection(end, end);
  return editor;
}

const cases = {
  async 'activates by itself and becomes ready'() {
    const extension = vscode.extensions.getExtension('lacuna.lacuna');
    assert.ok(extension, 'the extension is not installed');
    await eventually('activation', () => extension.isActive);
    api = extension.exports;
    await state('ready');
    assert.equal(api.status().text, '$(sparkle) Lacuna');
    assert.match(api.status().tooltip, /Model: mock-1m/);
    assert.match(api.status().tooltip, /Server: lacuna 0\.0\.0-mock/);
  },

  async 'the server is told where the cursor has come to rest'() {
    const editor = await openPython('a = 1\nb = 2\n');
    editor.selection = new vscode.Selection(1, 3, 1, 3);
    const rested = ({ params }) => params.textDocument.uri === editor.document.uri.toString() && params.position.line === 1 && params.position.character === 3;
    await eventually('the notification', () => messages('lacuna/cursorMoved').some(rested));
  },

  async 'every command of the manifest exists, beside the server\'s own'() {
    const known = new Set(await vscode.commands.getCommands(true));
    const wanted = manifest().contributes.commands.map(({ command }) => command);
    assert.deepEqual(wanted.filter(command => !known.has(command)), []);
    for (const command of ['lacuna.explain', 'lacuna.status', 'lacuna.restartEngine']) assert.ok(known.has(command), command);
  },

  'initialize carries exactly the server\'s settings, and asks for status notifications'() {
    const { initializationOptions: options, capabilities } = messages('initialize').at(-1).params;
    const generated = manifest().contributes.configuration.find(({ title }) => title === 'Completion').properties;
    const expected = Object.fromEntries(Object.entries(generated).map(([name, { default: value }]) => [name.replace('lacuna.', ''), value]));
    assert.deepEqual(options, { ...expected, statusNotifications: true });
    assert.ok(Object.keys(expected).length >= 10);
    assert.equal(capabilities.textDocument.inlineCompletion.dynamicRegistration, true);
  },

  'the server is started in the workspace'() {
    assert.equal(starts().at(-1).cwd, fs.realpathSync(TEST_WORKSPACE));
  },

  async 'a server setting is sent to the running server'() {
    const pid = serverPid();
    await set('maxTokens', 17);
    const sent = await eventually('didChangeConfiguration', () => {
      const last = messages('workspace/didChangeConfiguration').at(-1);
      return last?.params.settings.lacuna.maxTokens === 17 && last;
    });
    assert.equal(sent.params.settings.lacuna.statusNotifications, true);
    assert.ok(!('serverPath' in sent.params.settings.lacuna) && !('enabled' in sent.params.settings.lacuna));
    await set('maxTokens', undefined);
    await eventually('the default again', () => messages('workspace/didChangeConfiguration').at(-1).params.settings.lacuna.maxTokens !== 17);
    assert.equal(serverPid(), pid);
    assert.ok(isAlive(pid));
  },

  async 'how the server is started needs a new process'() {
    const pid = serverPid();
    await set('serverEnvironment', { MOCK_MARK: 'fresh' });
    await eventually('a new process', () => serverPid() !== pid && starts().at(-1).environment === 'fresh');
    await state('ready');
    await eventually('the end of the old process', () => !isAlive(pid));
    await set('serverEnvironment', undefined);
    await eventually('a third process', () => starts().at(-1).environment === undefined);
    await state('ready');
  },

  async 'an inline completion is shown, accepted, and its latency is in the status bar'() {
    const editor = await openPython('def add(a, b):\n    ret');
    await eventually('the accepted text', async () => {
      await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
      await sleep(500);
      await vscode.commands.executeCommand('editor.action.inlineSuggest.commit');
      return editor.document.getText() === 'def add(a, b):\n    return a + b  # mock\n    # second line';
    });
    await eventually('the latency', () => api.status().text === '$(sparkle) Lacuna 84 ms');
    await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
  },

  async 'busy and errors of the server are shown'() {
    await set('model', 'mock:busy');
    await eventually('busy', () => api.status().text === '$(sync~spin) Lacuna 1.2 s');
    await set('model', 'mock:error');
    await state('error');
    assert.match(api.status().tooltip, /the model file is damaged: download it again/);
    await set('model', undefined);
    await state('ready');
  },

  async 'a language can be disabled: the server is not asked'() {
    const editor = await openPython('ret');
    await vscode.commands.executeCommand('lacuna.toggleLanguage');
    await state('disabled');
    assert.match(api.status().tooltip, /Disabled for python/);
    const asked = messages('textDocument/inlineCompletion').length;
    await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
    await sleep(1000);
    assert.equal(messages('textDocument/inlineCompletion').length, asked);
    assert.equal(editor.document.getText(), 'ret');
    await vscode.commands.executeCommand('lacuna.toggleLanguage');
    await state('ready');
    await vscode.commands.executeCommand('type', { text: 'u' }); // an unchanged text is not asked about twice
    await eventually('a request', () => messages('textDocument/inlineCompletion').length > asked);
    await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
  },

  async 'disabled everywhere, the process is ended; enabled, it is started'() {
    const pid = serverPid();
    await vscode.commands.executeCommand('lacuna.toggle');
    await state('disabled');
    await eventually('the end of the process', () => !isAlive(pid));
    assert.deepEqual(lines(MOCK_LOG).filter(entry => entry.pid === pid).slice(-2).map(entry => entry.method), ['shutdown', 'exit']);
    await vscode.commands.executeCommand('lacuna.toggle');
    await state('ready');
    assert.notEqual(serverPid(), pid);
  },

  async 'Explain Last Completion opens a document to read'() {
    const editor = await openPython('x = 1\n');
    const asked = editor.document.uri.toString();
    await vscode.commands.executeCommand('lacuna.explainLastCompletion');
    const { document } = await eventually('the document', () => {
      const active = vscode.window.activeTextEditor;
      return active?.document.uri.scheme === 'lacuna' && active;
    });
    assert.equal(document.languageId, 'markdown');
    assert.equal(document.getText(), [
      '# Last completion', '', `- Document given: ${asked}`, '- Prompt tokens: 123', '- Process: 205 MB', '',
      '## Milliseconds', '', '- Prefill: 12.3', '- Total: 123', '',
      '## Texts', '', '- one', '', '```', 'two', 'lines', '```', '',
      '## Context', '', '| File | Why |', '| --- | --- |', '| a.py | imported \\| used |', '',
      '## Prompt', '', '```', 'def add(a, b):', '    ', '```', '',
    ].join('\n'));
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  },

  async 'Show Status and Run Doctor open documents to read'() {
    await vscode.commands.executeCommand('lacuna.showStatus');
    const active = wanted => eventually(wanted, () => vscode.window.activeTextEditor?.document.uri.path === `/${wanted}.md` && vscode.window.activeTextEditor.document.getText());
    assert.match(await active('Lacuna status'), new RegExp(`- Program: ${MOCK}\n- Version: lacuna 0.0.0-mock\n- State: ready\n- Model: mock-1m`));
    await vscode.commands.executeCommand('lacuna.runDoctor');
    assert.match(await active('Lacuna doctor'), /failure {2}everything {3}this is a mock; use the real program/);
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  },

  async 'a crashed server is started again, but not for ever'() {
    for (let crash = 1; crash <= 4; crash++) {
      const pid = serverPid();
      process.kill(pid, 'SIGKILL');
      await eventually(`start ${crash} after a crash`, () => serverPid() !== pid);
      await state('ready');
    }
    const last = serverPid();
    process.kill(last, 'SIGKILL');
    await state('error');
    assert.match(api.status().tooltip, /crashed 5 times within 3 minutes and stays stopped/);
    await sleep(1000);
    assert.equal(serverPid(), last);
    await vscode.commands.executeCommand('lacuna.restart');
    await state('ready');
  },

  async 'a server that hangs at the start does not hold up a restart'() {
    await set('serverEnvironment', { MOCK_HANG: '1' });
    await state('loading');
    const hanging = await eventually('the hanging process', () => messages('initialize').at(-1).pid === serverPid() && serverPid());
    await sleep(300);
    await set('serverEnvironment', undefined);
    await state('ready');
    await eventually('the end of the hanging process', () => !isAlive(hanging));
  },

  async 'a program that is no language server is reported with what it said'() {
    await set('serverPath', '/bin/true');
    await state('error');
    assert.match(api.status().tooltip, /\/bin\/true did not start as a language server/);
    const wrong = path.join(TEST_BIN, 'wrong');
    fs.writeFileSync(wrong, '#!/bin/sh\necho "error: unrecognized subcommand" >&2\nexit 2\n', { mode: 0o755 });
    await set('serverPath', wrong);
    await eventually('its last words', () => /did not start as a language server: error: unrecognized subcommand/.test(api.status().tooltip));
    await set('serverPath', MOCK);
    await state('ready');
  },

  async 'a missing program is reported, with what to do, and its appearance is enough'() {
    const wrong = [
      ['/nowhere/lacuna', /"\/nowhere\/lacuna", which does not exist/],
      ['relative/lacuna', /not an absolute path/],
      [TEST_WORKSPACE, /which is a directory/],
      [path.join(TEST_WORKSPACE, 'add.py'), /which is not executable/],
    ];
    const unescaped = () => api.status().tooltip.replace(/\\(?=[^\w\s])/g, '');
    for (const [value, expected] of wrong) {
      await set('serverPath', value);
      await eventually(`the message for ${value}`, () => expected.test(unescaped()));
      assert.equal(api.status().state, 'error');
    }
    const { PATH, CARGO_HOME } = process.env;
    const cargo = path.join(TEST_WORKSPACE, 'cargo');
    process.env.PATH = [TEST_BIN, path.dirname(process.execPath), '/usr/bin', '/bin'].join(':');
    process.env.CARGO_HOME = cargo;
    await set('serverPath', '');
    await eventually('the message for PATH', () => /was not found on PATH/.test(unescaped()));
    await vscode.commands.executeCommand('notifications.showList');
    const shown = await eventually('the message on the screen', () => lines(MESSAGES_LOG).find(({ message }) => message.includes('was not found on PATH')));
    assert.match(shown.message, /cargo install --path lsp/);
    assert.deepEqual(shown.buttons, ['Choose Program…', 'Open Settings', 'Try Again']);
    await vscode.commands.executeCommand('notifications.clearAll');
    await vscode.commands.executeCommand('lacuna.explainLastCompletion');
    const runs = async program => {
      await vscode.commands.executeCommand('lacuna.restart');
      await state('ready');
      await vscode.commands.executeCommand('lacuna.showStatus');
      await eventually(program, () => vscode.window.activeTextEditor.document.getText().includes(`- Program: ${program}\n`));
      await vscode.commands.executeCommand('workbench.action.closeAllEditors');
    };
    fs.mkdirSync(path.join(cargo, 'bin'), { recursive: true });
    fs.symlinkSync(MOCK, path.join(cargo, 'bin/lacuna'));
    await runs(path.join(cargo, 'bin/lacuna'));
    fs.symlinkSync(MOCK, path.join(TEST_BIN, 'lacuna'));
    await runs(path.join(TEST_BIN, 'lacuna'));
    Object.assign(process.env, { PATH });
    delete process.env.CARGO_HOME;
    if (CARGO_HOME !== undefined) process.env.CARGO_HOME = CARGO_HOME;
    const pid = serverPid();
    await set('serverPath', MOCK);
    await eventually('a new process', () => serverPid() !== pid);
    await state('ready');
  },

  async 'when VS Code shows no ghost text the status bar says why'() {
    const editor = vscode.workspace.getConfiguration('editor');
    await editor.update('inlineSuggest.enabled', false, vscode.ConfigurationTarget.Global);
    await state('disabled');
    assert.match(api.status().tooltip, /editor.inlineSuggest.enabled is off/);
    await editor.update('inlineSuggest.enabled', true, vscode.ConfigurationTarget.Global);
    await state('ready');
  },
};

/** What a failed case left behind must not fail those after it. */
async function reset() {
  await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  for (const key of ['model', 'maxTokens', 'serverEnvironment', 'enabled']) await set(key, undefined);
  const python = vscode.workspace.getConfiguration('lacuna', { languageId: 'python' });
  await python.update('enabled', undefined, vscode.ConfigurationTarget.Global, true);
  await vscode.workspace.getConfiguration('editor').update('inlineSuggest.enabled', true, vscode.ConfigurationTarget.Global);
  await set('serverPath', MOCK);
  await vscode.commands.executeCommand('lacuna.restart');
  await state('ready');
}

exports.run = async () => {
  let failed = 0;
  for (const [name, test] of Object.entries(cases)) {
    const started = Date.now();
    try {
      await test();
      fs.appendFileSync(RESULTS, `ok   in the extension host: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)\n`);
    } catch (error) {
      failed++;
      fs.appendFileSync(RESULTS, `FAIL in the extension host: ${name}: ${error.stack.split('\n').join('\n     ')}\n`);
      await reset().catch(() => undefined);
    }
  }
  if (failed) throw new Error(`${failed} failed`);
};
