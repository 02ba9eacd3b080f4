//! The quick menu behind the status bar item.

import * as vscode from 'vscode';
import { isEnabled } from './settings';
import type { StatusView } from './statusBar';

interface Entry extends vscode.QuickPickItem {
    run?: () => Thenable<unknown>;
}

export async function openMenu(view: StatusView): Promise<void> {
    const entry = (label: string, command: string, ...args: unknown[]): Entry => ({
        label,
        run: () => vscode.commands.executeCommand(command, ...args),
    });
    const entries: Entry[] = [
        entry('$(info) Show Status', 'lacuna.showStatus'),
        entry('$(question) Explain Last Completion', 'lacuna.explainLastCompletion'),
        entry(isEnabled() ? '$(circle-slash) Disable' : '$(check) Enable', 'lacuna.toggle'),
    ];
    const languageId = vscode.window.activeTextEditor?.document.languageId;
    if (languageId !== undefined) {
        entries.push(entry(isEnabled(languageId) ? `$(circle-slash) Disable for ${languageId}` : `$(check) Enable for ${languageId}`, 'lacuna.toggleLanguage'));
    }
    if (!vscode.workspace.getConfiguration('editor').get<boolean>('inlineSuggest.enabled', true)) {
        entries.unshift({
            label: '$(warning) Turn on Inline Suggestions',
            description: 'editor.inlineSuggest.enabled is off, so VS Code shows no ghost text',
            run: () => vscode.workspace.getConfiguration('editor').update('inlineSuggest.enabled', true, vscode.ConfigurationTarget.Global),
        });
    }
    entries.push(
        { label: '', kind: vscode.QuickPickItemKind.Separator },
        entry('$(debug-restart) Restart', 'lacuna.restart'),
        entry('$(output) Show Log', 'lacuna.showLog'),
        entry('$(pulse) Run Doctor', 'lacuna.runDoctor'),
        entry('$(gear) Open Settings', 'workbench.action.openSettings', 'lacuna'),
    );
    const chosen = await vscode.window.showQuickPick(entries, { title: `Lacuna: ${view.state}` });
    await chosen?.run?.();
}
