//! The status bar item: what Lacuna is doing, and how long the last completion took.

import * as vscode from 'vscode';
import type { ServerStatus } from './protocol';

export interface StatusView {
    state: ServerStatus['state'];
    text: string;
    /** Markdown. */
    tooltip: string;
}

/** The icons have one width, so that the item does not move while typing. */
const ICONS: Record<ServerStatus['state'], string> = {
    loading: '$(loading~spin)',
    ready: '$(sparkle)',
    busy: '$(sync~spin)',
    error: '$(error)',
    disabled: '$(circle-slash)',
};

/**
 * @param disabledFor why the active document gets no completions although the server runs, if so
 */
export function statusView(status: ServerStatus, disabledFor: string | undefined, version: string | undefined): StatusView {
    const shown: ServerStatus =
        disabledFor !== undefined && (status.state === 'ready' || status.state === 'busy')
            ? { ...status, state: 'disabled', message: disabledFor }
            : status;
    const latency = shown.state === 'ready' || shown.state === 'busy' ? formatLatency(shown.lastLatencyMs) : undefined;
    const facts: [string, string | null | undefined][] = [
        ['State', shown.state],
        ['Model', shown.model],
        ['Device', shown.device],
        ['Last completion', formatLatency(shown.lastLatencyMs)],
        ['Server', version],
    ];
    const lines = facts.filter(([, value]) => value).map(([name, value]) => `${name}: ${escapeMarkdown(value as string)}`);
    if (shown.message) {
        lines.push(escapeMarkdown(shown.message));
    }
    return {
        state: shown.state,
        text: [`${ICONS[shown.state] ?? '$(question)'} Lacuna`, latency].filter(Boolean).join(' '),
        tooltip: lines.join('  \n'),
    };
}

export function formatLatency(milliseconds: number | null | undefined): string | undefined {
    if (typeof milliseconds !== 'number' || !Number.isFinite(milliseconds)) {
        return undefined;
    }
    return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export class StatusBar implements vscode.Disposable {
    private readonly item = vscode.window.createStatusBarItem('lacuna.status', vscode.StatusBarAlignment.Right, 100);

    constructor() {
        this.item.name = 'Lacuna';
        this.item.command = 'lacuna.openMenu';
    }

    show(view: StatusView): void {
        this.item.text = view.text;
        this.item.tooltip = new vscode.MarkdownString(view.tooltip);
        this.item.backgroundColor = view.state === 'error' ? new vscode.ThemeColor('statusBarItem.errorBackground') : undefined;
        this.item.accessibilityInformation = { label: `Lacuna, ${view.state}` };
        this.item.show();
    }

    dispose(): void {
        this.item.dispose();
    }
}

function escapeMarkdown(text: string): string {
    return text.replace(/[\\`*_{}[\]<>#|~]/g, '\\$&');
}
