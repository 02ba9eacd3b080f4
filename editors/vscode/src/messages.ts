//! Messages that ask the user to do something, with the buttons that do it.

import * as vscode from 'vscode';

/** The program was not found. */
export async function offerSetup(message: string): Promise<void> {
    const choice = await vscode.window.showErrorMessage(`Lacuna: ${message}`, 'Choose Program…', 'Open Settings', 'Try Again');
    if (choice === 'Choose Program…') {
        const chosen = await vscode.window.showOpenDialog({ title: 'Choose the lacuna program', canSelectMany: false });
        if (chosen?.[0]) {
            // The changed setting starts the server.
            await vscode.workspace.getConfiguration('lacuna').update('serverPath', chosen[0].fsPath, vscode.ConfigurationTarget.Global);
        }
    } else if (choice === 'Open Settings') {
        await vscode.commands.executeCommand('workbench.action.openSettings', 'lacuna.serverPath');
    } else if (choice === 'Try Again') {
        await vscode.commands.executeCommand('lacuna.restart');
    }
}

/** The server does not start, or does not stay. */
export async function reportFailure(message: string): Promise<void> {
    const commands = { 'Show Log': 'lacuna.showLog', 'Run Doctor': 'lacuna.runDoctor', Restart: 'lacuna.restart' } as const;
    const labels = Object.keys(commands) as (keyof typeof commands)[];
    const choice = await vscode.window.showErrorMessage(`Lacuna: ${message}`, ...labels);
    if (choice) {
        await vscode.commands.executeCommand(commands[choice]);
    }
}
