//! The language server's life: start, stop, restart, crash, and what it says it is doing.

import * as vscode from 'vscode';
import {
    CloseAction,
    DidChangeConfigurationNotification,
    ErrorAction,
    LanguageClient,
    RevealOutputChannelOn,
} from 'vscode-languageclient/node';
import { BinaryNotFound, findBinary } from './binary';
import { offerSetup, reportFailure } from './messages';
import { ServerProcess } from './process';
import { cursorMovedNotification, executeCommand, statusNotification, type ServerCommand, type ServerStatus } from './protocol';
import { isEnabled, isEnabledAnywhere, startSettings, type ServerSettings } from './settings';

/** A server that crashes more often than this within the period stays stopped. */
const CRASHES_MAX = 4;
const CRASH_PERIOD_MS = 3 * 60_000;
/** The server answers `initialize` before it loads a model or reads the workspace. */
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 2_000;

/** A client and the process it speaks to. Neither is used again after a stop or a crash. */
interface Running {
    client: LanguageClient;
    process: ServerProcess;
    /** Why the process was ended before it answered, if it was. */
    givenUp?: 'restart' | 'timeout';
}

export class Server implements vscode.Disposable {
    private running: Running | undefined;
    private status: ServerStatus = { state: 'disabled' };
    private binary: string | undefined;
    private crashes: number[] = [];
    /** Starts and stops run one after another, in the order they were asked for. */
    private queue: Promise<void> = Promise.resolve();
    private readonly statusChanged = new vscode.EventEmitter<ServerStatus>();
    readonly onStatusChanged = this.statusChanged.event;

    constructor(
        private readonly settings: ServerSettings,
        private readonly log: vscode.LogOutputChannel,
    ) {}

    currentStatus(): ServerStatus {
        return this.status;
    }

    /** Name and version as the running server gave them. */
    version(): string | undefined {
        const info = this.running?.client.initializeResult?.serverInfo;
        return info && [info.name, info.version].filter(Boolean).join(' ');
    }

    /** The program found at the last start. */
    binaryPath(): string | undefined {
        return this.binary;
    }

    /** Runs the server if any language is enabled, and stops it otherwise. */
    followEnabled(): Promise<void> {
        return this.enqueue(() => (isEnabledAnywhere() ? this.startNow() : this.stopNow()));
    }

    restart(): Promise<void> {
        if (this.running && !this.running.client.isRunning()) {
            // A start that hangs would hold up the queue.
            giveUp(this.running, 'restart');
        }
        return this.enqueue(async () => {
            await this.stopNow();
            this.crashes = [];
            await this.startNow();
        });
    }

    stop(): Promise<void> {
        return this.enqueue(() => this.stopNow());
    }

    async sendSettings(): Promise<void> {
        // A server that is still starting reads them from its initialization options.
        if (this.running?.client.isRunning()) {
            await this.running.client.sendNotification(DidChangeConfigurationNotification.type, {
                settings: { lacuna: this.settings.read() },
            });
        }
    }

    /** Does nothing while the server is starting or stopped. */
    async sendCursor(document: vscode.TextDocument, position: vscode.Position): Promise<void> {
        const client = this.running?.client;
        if (client?.isRunning()) {
            const at = client.code2ProtocolConverter.asTextDocumentPositionParams(document, position);
            await client.sendNotification(cursorMovedNotification, at);
        }
    }

    /** @throws Error when the server is not running or refuses; the message is fit for the user */
    async execute(command: ServerCommand, ...args: unknown[]): Promise<unknown> {
        if (!this.running?.client.isRunning()) {
            throw new Error(this.status.message || 'The server is not running. “Lacuna: Restart” starts it.');
        }
        return executeCommand(this.running.client, command, ...args);
    }

    dispose(): void {
        this.running?.process.kill();
        this.statusChanged.dispose();
    }

    private enqueue(step: () => Promise<void>): Promise<void> {
        this.queue = this.queue.then(step).catch(error => this.log.error(error));
        return this.queue;
    }

    private setStatus(status: ServerStatus): void {
        this.status = status;
        this.statusChanged.fire(status);
    }

    private async startNow(): Promise<void> {
        if (this.running || !isEnabledAnywhere()) {
            return;
        }
        const { serverPath, serverEnvironment } = startSettings();
        this.binary = undefined;
        try {
            this.binary = findBinary(serverPath);
        } catch (error) {
            if (!(error instanceof BinaryNotFound)) {
                throw error;
            }
            this.log.error(error.message);
            this.setStatus({ state: 'error', message: error.message });
            void offerSetup(error.message);
            return;
        }

        this.log.info(`Starting ${this.binary} lsp`);
        this.setStatus({ state: 'loading', message: 'Starting the server' });
        let running: Running | undefined;
        let timer: NodeJS.Timeout | undefined;
        try {
            const process = await ServerProcess.start(this.binary, serverEnvironment, this.log);
            const starting: Running = { client: this.createClient(process), process };
            running = this.running = starting;
            timer = setTimeout(() => giveUp(starting, 'timeout'), START_TIMEOUT_MS);
            await starting.client.start();
            // From here on the state is what the server says it is.
        } catch (error) {
            this.running = undefined;
            running?.process.kill();
            if (running?.givenUp === 'restart') {
                return;
            }
            const reason =
                running?.givenUp === 'timeout'
                    ? `it did not answer within ${START_TIMEOUT_MS / 1000} s`
                    : (await running?.process.lastOutput()) || (error instanceof Error ? error.message : String(error));
            this.fail(`${this.binary} did not start as a language server: ${reason}`);
        } finally {
            clearTimeout(timer);
        }
    }

    private async stopNow(): Promise<void> {
        const running = this.running;
        this.running = undefined;
        if (running) {
            await running.client.dispose(STOP_TIMEOUT_MS).catch(error => this.log.warn(`The server did not stop cleanly: ${error}`));
            await running.process.end();
        }
        this.setStatus({ state: 'disabled' });
    }

    private createClient(process: ServerProcess): LanguageClient {
        const client: LanguageClient = new LanguageClient('lacuna', 'Lacuna', async () => process.child, {
            documentSelector: [{ scheme: 'file' }, { scheme: 'untitled' }],
            outputChannel: this.log,
            traceOutputChannel: this.log,
            revealOutputChannelOn: RevealOutputChannelOn.Never,
            // `ServerProcess` forwards stderr.
            stdioOptions: { stdout: () => undefined, stderr: () => undefined },
            initializationOptions: () => this.settings.read(),
            // `startNow` reports it.
            initializationFailedHandler: () => false,
            errorHandler: {
                error: () => ({ action: ErrorAction.Continue, handled: true }),
                closed: () => {
                    this.onClosed(client);
                    return { action: CloseAction.DoNotRestart, message: 'The connection to the server ended', handled: true };
                },
            },
            middleware: {
                provideInlineCompletionItems: (document, position, context, token, next) =>
                    isEnabled(document.languageId) ? next(document, position, context, token) : undefined,
                workspace: {
                    // The server's part of the section alone: it warns about keys that are not its own.
                    configuration: ({ items }) => items.map(() => this.settings.read()),
                    // Changes are sent by `sendSettings`.
                    didChangeConfiguration: async () => undefined,
                },
            },
        });
        client.onNotification(statusNotification, status => {
            if (this.running?.client === client) {
                this.setStatus(status);
            }
        });
        return client;
    }

    /** The connection ended although nobody asked for it. */
    private onClosed(client: LanguageClient): void {
        if (this.running?.client !== client || !client.isRunning()) {
            // Stopped by us, or never started, which `startNow` reports.
            return;
        }
        this.running = undefined;
        const now = Date.now();
        this.crashes = this.crashes.filter(at => now - at < CRASH_PERIOD_MS);
        this.crashes.push(now);
        if (this.crashes.length > CRASHES_MAX) {
            this.fail(`The server crashed ${this.crashes.length} times within ${CRASH_PERIOD_MS / 60_000} minutes and stays stopped.`);
            return;
        }
        this.log.warn('The server ended unexpectedly and is started again');
        // The client cleans up after itself before a new process can have answered.
        void this.enqueue(() => this.startNow());
    }

    private fail(message: string): void {
        this.log.error(message);
        this.setStatus({ state: 'error', message });
        void reportFailure(message);
    }
}

/** Ends a process that has not answered, which makes its start fail. */
function giveUp(running: Running, reason: Running['givenUp']): void {
    running.givenUp = reason;
    running.process.kill();
}
