//! One server process: started, its stderr forwarded to the log, ended.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as readline from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import * as vscode from 'vscode';

/** Lines of stderr kept for the message about a server that does not start. */
const LAST_LINES_MAX = 5;
const LAST_LINES_WAIT_MS = 500;
const EXIT_WAIT_MS = 1_000;

export class ServerProcess {
    private readonly lastLines: string[] = [];
    /** It has ended and its output has been read. */
    private closed = false;

    private constructor(readonly child: ChildProcess) {}

    /** @throws Error when the operating system cannot run the program */
    static async start(binary: string, environment: Record<string, string>, log: vscode.LogOutputChannel): Promise<ServerProcess> {
        const child = spawn(binary, ['lsp'], { cwd: workingDirectory(), env: { ...process.env, ...environment }, windowsHide: true });
        await new Promise<void>((started, failed) => {
            child.once('spawn', started);
            child.once('error', failed);
        });
        const server = new ServerProcess(child);
        child.on('error', error => log.error(error));
        child.on('exit', (code, signal) => log.info(`The server exited with ${signal ? `signal ${signal}` : `code ${code}`}`));
        child.on('close', () => {
            server.closed = true;
        });
        readline.createInterface({ input: child.stderr, crlfDelay: Infinity }).on('line', line => {
            log.info(line);
            server.lastLines.push(line);
            if (server.lastLines.length > LAST_LINES_MAX) {
                server.lastLines.shift();
            }
        });
        return server;
    }

    /** What the process wrote last to stderr, for a message; waits a moment for what is still under way. */
    async lastOutput(): Promise<string> {
        if (!this.closed) {
            await Promise.race([once(this.child, 'close'), delay(LAST_LINES_WAIT_MS)]);
        }
        return this.lastLines.join('\n').trim();
    }

    hasExited(): boolean {
        return this.child.exitCode !== null || this.child.signalCode !== null;
    }

    /** Lets a process that was told to exit do so, and ends it if it does not. */
    async end(): Promise<void> {
        if (!this.hasExited()) {
            await Promise.race([once(this.child, 'exit'), delay(EXIT_WAIT_MS)]);
            this.kill();
        }
    }

    kill(): void {
        if (!this.hasExited()) {
            this.child.kill('SIGKILL');
        }
    }
}

/** The first workspace folder where there is one, so that relative paths in settings mean what they seem to mean. */
function workingDirectory(): string | undefined {
    const folder = vscode.workspace.workspaceFolders?.find(({ uri }) => uri.scheme === 'file')?.uri.fsPath;
    return folder && fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? folder : undefined;
}
