//! Reads the settings: the few that are the extension's own, and those that belong to the server.

import * as vscode from 'vscode';

export const SECTION = 'lacuna';

/** Settings that the server process is started with, so that a change needs a new process. */
const START_SETTINGS = [`${SECTION}.serverPath`, `${SECTION}.serverEnvironment`];

export interface StartSettings {
    serverPath: string;
    serverEnvironment: Record<string, string>;
}

export function startSettings(): StartSettings {
    const configuration = vscode.workspace.getConfiguration(SECTION);
    return {
        serverPath: configuration.get<string>('serverPath', '').trim(),
        serverEnvironment: configuration.get<Record<string, string>>('serverEnvironment', {}),
    };
}

export function needsNewProcess(event: vscode.ConfigurationChangeEvent): boolean {
    return START_SETTINGS.some(setting => event.affectsConfiguration(setting));
}

/** The server's own settings. Their names come from the manifest, which is generated from the server's schema. */
export class ServerSettings {
    private readonly keys: string[];

    constructor(manifest: { contributes: { configuration: { title: string; properties: Record<string, unknown> }[] } }) {
        const generated = manifest.contributes.configuration.find(section => section.title === 'Completion');
        this.keys = Object.keys(generated?.properties ?? {}).map(name => name.slice(SECTION.length + 1));
    }

    /**
     * Every key with its value: a key left out would mean its default. The server warns about keys it does not know, so
     * no others are sent.
     */
    read(): Record<string, unknown> {
        const configuration = vscode.workspace.getConfiguration(SECTION);
        const settings: Record<string, unknown> = { statusNotifications: true };
        for (const key of this.keys) {
            const steps = key.split('.');
            const last = steps.pop() as string;
            let parent = settings;
            for (const step of steps) {
                parent = (parent[step] ??= {}) as Record<string, unknown>;
            }
            parent[last] = configuration.get(key);
        }
        return settings;
    }

    affectedBy(event: vscode.ConfigurationChangeEvent): boolean {
        return this.keys.some(key => event.affectsConfiguration(`${SECTION}.${key}`));
    }
}

/** Whether completions are wanted in a document of this language; without one, in general. */
export function isEnabled(languageId?: string): boolean {
    const scope = languageId === undefined ? undefined : { languageId };
    return vscode.workspace.getConfiguration(SECTION, scope).get<boolean>('enabled', true);
}

/** Whether any language may ask for completions; if none does there is no reason to run the server. */
export function isEnabledAnywhere(): boolean {
    const overridden = vscode.workspace.getConfiguration(SECTION).inspect<boolean>('enabled')?.languageIds ?? [];
    return isEnabled() || overridden.some(isEnabled);
}

/** Turns completions on or off, for one language or in general, where the user last decided it. */
export async function setEnabled(enabled: boolean, languageId?: string): Promise<void> {
    const scope = languageId === undefined ? undefined : { languageId };
    const configuration = vscode.workspace.getConfiguration(SECTION, scope);
    const current = configuration.inspect<boolean>('enabled');
    const inWorkspace = languageId === undefined ? current?.workspaceValue : current?.workspaceLanguageValue;
    const target = inWorkspace === undefined ? vscode.ConfigurationTarget.Global : vscode.ConfigurationTarget.Workspace;
    // A language set to what holds in general would not follow it later, so its own value is taken away instead.
    const inherited = languageId === undefined ? current?.defaultValue : isEnabled();
    const value = inWorkspace === undefined && enabled === inherited ? undefined : enabled;
    await configuration.update('enabled', value, target, languageId !== undefined);
}
