//! What Lacuna's server offers beyond the language server protocol.

import {
    ExecuteCommandRequest,
    NotificationType,
    type BaseLanguageClient,
    type TextDocumentPositionParams,
} from 'vscode-languageclient/node';

export interface ServerStatus {
    state: 'loading' | 'ready' | 'busy' | 'error' | 'disabled';
    /** What the state means in words: what is being loaded, or what went wrong and what to do. */
    message?: string | null;
    model?: string | null;
    device?: string | null;
    lastLatencyMs?: number | null;
}

/** Sent by the server at each change once `statusNotifications` is set in the initialization options. */
export const statusNotification = new NotificationType<ServerStatus>('lacuna/status');

/** Sent to the server when the cursor has come to rest somewhere. */
export const cursorMovedNotification = new NotificationType<TextDocumentPositionParams>('lacuna/cursorMoved');

/**
 * The server's commands. vscode-languageclient registers these ids itself, so the extension's own commands have
 * other ids.
 */
export type ServerCommand = 'lacuna.explain' | 'lacuna.status' | 'lacuna.restartEngine';

export function executeCommand(client: BaseLanguageClient, command: ServerCommand, ...args: unknown[]): Promise<unknown> {
    return client.sendRequest(ExecuteCommandRequest.type, { command, arguments: args });
}
