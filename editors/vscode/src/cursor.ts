//! Tells the server where the cursor has come to rest, so that it can read the text there before a key is pressed.

import * as vscode from 'vscode';
import type { Server } from './server';
import { isEnabled } from './settings';

/** A cursor that has not moved for so long rests. */
const REST_MS = 150;

export class CursorWatch implements vscode.Disposable {
    private timer: NodeJS.Timeout | undefined;
    private readonly subscriptions: vscode.Disposable[];

    constructor(
        private readonly server: Server,
        private readonly log: vscode.LogOutputChannel,
    ) {
        this.subscriptions = [
            vscode.window.onDidChangeActiveTextEditor(editor => this.moved(editor)),
            vscode.window.onDidChangeTextEditorSelection(event => this.moved(event.textEditor)),
        ];
        this.moved(vscode.window.activeTextEditor);
    }

    dispose(): void {
        clearTimeout(this.timer);
        vscode.Disposable.from(...this.subscriptions).dispose();
    }

    private moved(editor: vscode.TextEditor | undefined): void {
        clearTimeout(this.timer);
        if (editor && ['file', 'untitled'].includes(editor.document.uri.scheme) && isEnabled(editor.document.languageId)) {
            this.timer = setTimeout(() => this.rests(editor), REST_MS);
        }
    }

    private rests(editor: vscode.TextEditor): void {
        if (editor === vscode.window.activeTextEditor) {
            this.server.sendCursor(editor.document, editor.selection.active).catch(error => this.log.error(error));
        }
    }
}
