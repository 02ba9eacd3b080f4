//! Entry point: connects VS Code's events and commands to the server's life and the status bar.

import * as vscode from 'vscode';
import { runDoctor } from './doctor';
import { findBinary } from './binary';
import { CursorWatch } from './cursor';
import { openMenu } from './menu';
import { REPORT_SCHEME, Reports } from './report';
import { Server } from './server';
import { isEnabled, needsNewProcess, ServerSettings, setEnabled, startSettings } from './settings';
import { StatusBar, statusView, type StatusView } from './statusBar';

/** What other extensions may use, and the tests do. */
export interface LacunaApi {
    /** What the status bar shows. */
    status(): StatusView;
    readonly onStatusChanged: vscode.Event<StatusView>;
}

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): LacunaApi {
    const log = vscode.window.createOutputChannel('Lacuna', { log: true });
    const settings = new ServerSettings(context.extension.packageJSON);
    const running = new Server(settings, log);
    server = running;
    const statusBar = new StatusBar();
    const reports = new Reports();
    const viewChanged = new vscode.EventEmitter<StatusView>();

    const view = () => statusView(running.currentStatus(), whyDisabled(), running.version());
    const refresh = () => {
        const current = view();
        statusBar.show(current);
        viewChanged.fire(current);
    };

    const commands: Record<string, () => unknown> = {
        'lacuna.openMenu': () => openMenu(view()),
        'lacuna.showStatus': async () => reports.show('Lacuna status', await statusReport(running)),
        'lacuna.explainLastCompletion': async () => reports.show('Last completion', await running.execute('lacuna.explain', activeDocument())),
        'lacuna.restart': () => running.restart(),
        'lacuna.showLog': () => log.show(true),
        'lacuna.runDoctor': () => runDoctor(findBinary(startSettings().serverPath), reports),
        'lacuna.toggle': () => setEnabled(!isEnabled()),
        'lacuna.toggleLanguage': () => toggleLanguage(),
    };
    for (const [id, run] of Object.entries(commands)) {
        context.subscriptions.push(vscode.commands.registerCommand(id, () => reportErrors(run, log)));
    }

    context.subscriptions.push(
        log,
        running,
        statusBar,
        reports,
        viewChanged,
        new CursorWatch(running, log),
        vscode.workspace.registerTextDocumentContentProvider(REPORT_SCHEME, reports),
        running.onStatusChanged(refresh),
        vscode.window.onDidChangeActiveTextEditor(refresh),
        vscode.workspace.onDidOpenTextDocument(refresh), // also comes when a document's language changes
        vscode.workspace.onDidChangeConfiguration(event => {
            if (!event.affectsConfiguration('lacuna') && !event.affectsConfiguration('editor.inlineSuggest')) {
                return;
            }
            if (needsNewProcess(event)) {
                void running.restart();
            } else if (event.affectsConfiguration('lacuna.enabled')) {
                void running.followEnabled();
            }
            if (settings.affectedBy(event)) {
                running.sendSettings().catch(error => log.error(error));
            }
            refresh();
        }),
        // What the workspace is not trusted to set takes effect now.
        vscode.workspace.onDidGrantWorkspaceTrust(() => running.sendSettings().catch(error => log.error(error))),
    );
    refresh();
    void running.followEnabled();
    return { status: view, onStatusChanged: viewChanged.event };
}

export async function deactivate(): Promise<void> {
    await server?.stop();
}

/** Why the active document gets no completions, if it gets none. */
function whyDisabled(): string | undefined {
    const languageId = vscode.window.activeTextEditor?.document.languageId;
    if (languageId !== undefined && !isEnabled(languageId)) {
        return `Disabled for ${languageId} by lacuna.enabled`;
    }
    if (languageId === undefined && !isEnabled()) {
        return 'Disabled by lacuna.enabled';
    }
    if (!vscode.workspace.getConfiguration('editor').get<boolean>('inlineSuggest.enabled', true)) {
        return 'VS Code shows no ghost text because editor.inlineSuggest.enabled is off';
    }
    return undefined;
}

async function statusReport(running: Server): Promise<unknown> {
    const { state, message } = running.currentStatus();
    const client = { program: running.binaryPath() ?? 'not found', version: running.version() ?? 'not running', state, message: message ?? null };
    if (state === 'error' || state === 'disabled' || running.version() === undefined) {
        return client;
    }
    const answer = await running.execute('lacuna.status');
    return typeof answer === 'object' && answer !== null ? { program: client.program, version: client.version, ...answer } : answer;
}

function activeDocument(): { uri: string } | undefined {
    const uri = vscode.window.activeTextEditor?.document.uri;
    return uri && uri.scheme !== REPORT_SCHEME ? { uri: uri.toString() } : undefined;
}

async function toggleLanguage(): Promise<void> {
    const languageId = vscode.window.activeTextEditor?.document.languageId;
    if (languageId === undefined) {
        throw new Error('Open a file first: the command applies to the language of the active editor.');
    }
    await setEnabled(!isEnabled(languageId), languageId);
}

async function reportErrors(run: () => unknown, log: vscode.LogOutputChannel): Promise<void> {
    try {
        await run();
    } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        log.error(message);
        void vscode.window.showErrorMessage(`Lacuna: ${message}`);
    }
}
