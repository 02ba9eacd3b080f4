// A real VS Code workbench: the server on loopback with a fresh state directory, and chromium to show it.
import { spawn, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

// Generous, for a machine that is busy with builds.
const START_TIMEOUT_MS = 120_000;
const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
// Nothing reaches out, nothing pops up, and what is shown is Lacuna's.
const QUIET_SETTINGS = {
  'telemetry.telemetryLevel': 'off', 'workbench.startupEditor': 'none', 'chat.disableAIFeatures': true,
  'workbench.enableExperiments': false, 'extensions.autoUpdate': false, 'extensions.autoCheckUpdates': false,
  'git.enabled': false, 'files.hotExit': 'off', 'files.autoSave': 'off', 'window.restoreWindows': 'none',
  'editor.inlineSuggest.enabled': true, 'editor.minimap.enabled': false, 'editor.wordBasedSuggestions': 'off',
  'editor.quickSuggestions': { other: false, comments: false, strings: false },
  'workbench.colorTheme': 'Default Dark Modern', 'workbench.secondarySideBar.defaultVisibility': 'hidden',
};

/** Variables that `run` sets. */
export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; these tests are started by tests/editors/vscode/run`);
  return value;
}

export class Workbench {
  #server;
  #browser;

  /** @param settings the machine's settings beside the quiet ones; @param env further variables for VS Code */
  static async start({ state, settings = {}, vsix, env = {}, size = { width: 1100, height: 600 } }) {
    const workbench = new Workbench();
    const vscode = path.join(required('VSCODE'), 'package/lib/vscode/out/server-main.js');
    const data = path.join(state, 'server-data');
    const extensions = path.join(state, 'extensions');
    for (const directory of [path.join(state, 'home'), extensions, path.join(data, 'data/Machine'), path.join(data, 'data/User')]) {
      fs.mkdirSync(directory, { recursive: true });
    }
    fs.writeFileSync(path.join(data, 'data/Machine/settings.json'), JSON.stringify({ ...QUIET_SETTINGS, ...settings }, null, 2));
    const environment = {
      ...process.env,
      HOME: path.join(state, 'home'),
      EXTENSIONS_GALLERY: '{"serviceUrl":"","itemUrl":"","resourceUrlTemplate":"","controlUrl":"","nlsBaseUrl":""}',
      ...env,
    };
    const common = ['--server-data-dir', data, '--extensions-dir', extensions, '--accept-server-license-terms'];
    if (vsix) execFileSync(process.execPath, [vscode, '--install-extension', vsix, ...common], { env: environment, stdio: 'pipe' });

    const log = fs.openSync(path.join(state, 'vscode-server.log'), 'w');
    workbench.#server = spawn(process.execPath, [vscode, '--host', '127.0.0.1', '--port', '0', '--without-connection-token',
      '--telemetry-level', 'off', '--disable-telemetry', '--disable-workspace-trust', '--disable-getting-started-override',
      '--enable-smoke-test-driver', ...common], { env: environment, stdio: ['ignore', log, log] });
    workbench.port = await workbench.#waitForPort(path.join(state, 'vscode-server.log'));
    const { chromium } = createRequire(path.join(required('PLAYWRIGHT'), 'package.json'))('playwright-core');
    workbench.#browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_FLAGS });
    workbench.page = await workbench.#browser.newPage({ viewport: size });
    return workbench;
  }

  remote(file) {
    return `vscode-remote://127.0.0.1:${this.port}${file}`;
  }

  /** @param payload pairs of option and value, as the workbench takes them in its address */
  async open(folder, payload) {
    const address = `http://127.0.0.1:${this.port}/?folder=${encodeURIComponent(folder)}&payload=${encodeURIComponent(JSON.stringify(payload))}`;
    await this.page.goto(address, { waitUntil: 'domcontentloaded', timeout: START_TIMEOUT_MS });
    await this.page.waitForSelector('.monaco-workbench .part.statusbar', { timeout: START_TIMEOUT_MS });
  }

  async stop() {
    await this.#browser?.close().catch(() => undefined);
    if (this.#server && this.#server.exitCode === null) {
      const ended = new Promise(done => this.#server.once('exit', done));
      this.#server.kill('SIGTERM');
      const timer = setTimeout(() => this.#server.kill('SIGKILL'), 5_000);
      await ended;
      clearTimeout(timer);
    }
  }

  async #waitForPort(log) {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline) {
      const found = /Extension host agent listening on (\d+)/.exec(fs.readFileSync(log, 'utf8'));
      if (found) return Number(found[1]);
      if (this.#server.exitCode !== null) break;
      await new Promise(done => setTimeout(done, 100));
    }
    this.#server.kill('SIGKILL');
    throw new Error(`VS Code's server did not start:\n${fs.readFileSync(log, 'utf8')}`);
  }
}

/** Appends outcomes to $RESULTS, which `run` counts. */
export function report(name, error) {
  const line = error ? `FAIL ${name}: ${String(error.message ?? error).split('\n').join('\n     ')}` : `ok   ${name}`;
  fs.appendFileSync(required('RESULTS'), line + '\n');
}
