//! Turns the server's answers into documents to read.

import * as vscode from 'vscode';

export const REPORT_SCHEME = 'lacuna';

/** The text of each open report, by the path of its address. */
export class Reports implements vscode.TextDocumentContentProvider, vscode.Disposable {
    private readonly texts = new Map<string, string>();
    private readonly changed = new vscode.EventEmitter<vscode.Uri>();
    readonly onDidChange = this.changed.event;

    /** Opens, or brings up to date, the one report of this title. */
    async show(title: string, body: unknown): Promise<void> {
        const uri = vscode.Uri.from({ scheme: REPORT_SCHEME, path: `/${title}.md` });
        this.texts.set(uri.path, `# ${title}\n\n${toMarkdown(body).trim()}\n`);
        this.changed.fire(uri);
        const document = await vscode.workspace.openTextDocument(uri);
        await vscode.window.showTextDocument(document, { preview: true });
    }

    provideTextDocumentContent(uri: vscode.Uri): string {
        return this.texts.get(uri.path) ?? 'This report is no longer kept. Run the command again.\n';
    }

    dispose(): void {
        this.changed.dispose();
    }
}

/** A string is taken as Markdown; anything else is laid out by its structure. */
export function toMarkdown(value: unknown, depth = 2): string {
    if (typeof value === 'string') {
        return value;
    }
    if (value === null || value === undefined) {
        return 'There is nothing to report yet.';
    }
    if (typeof value !== 'object' || Array.isArray(value)) {
        return fenced(JSON.stringify(value, null, 2), 'json');
    }
    const facts: string[] = [];
    const sections: string[] = [];
    for (const [key, entry] of Object.entries(value)) {
        const title = heading(key);
        if (entry === null || (Array.isArray(entry) && entry.length === 0)) {
            facts.push(`- ${title}: none`);
        } else if (typeof entry === 'string' && entry.includes('\n')) {
            sections.push(`${'#'.repeat(depth)} ${title}\n\n${fenced(entry, '')}`);
        } else if (typeof entry !== 'object') {
            facts.push(/Bytes$/.test(key) && typeof entry === 'number' ? `- ${heading(key.slice(0, -5))}: ${megabytes(entry)}` : `- ${title}: ${scalar(entry)}`);
        } else if (Array.isArray(entry) && entry.every(item => typeof item === 'object' && item !== null)) {
            sections.push(`${'#'.repeat(depth)} ${title}\n\n${table(entry)}`);
        } else if (Array.isArray(entry)) {
            sections.push(`${'#'.repeat(depth)} ${title}\n\n${list(entry)}`);
        } else {
            sections.push(`${'#'.repeat(depth)} ${title}\n\n${toMarkdown(entry, Math.min(depth + 1, 6))}`);
        }
    }
    return [facts.join('\n'), ...sections].filter(Boolean).join('\n\n');
}

function table(rows: object[]): string {
    const columns = [...new Set(rows.flatMap(row => Object.keys(row)))];
    const cell = (value: unknown) => scalar(value).replace(/\|/g, '\\|').replace(/\r?\n/g, ' ⏎ ');
    return [
        `| ${columns.map(heading).join(' | ')} |`,
        `|${' --- |'.repeat(columns.length)}`,
        ...rows.map(row => `| ${columns.map(column => cell((row as Record<string, unknown>)[column])).join(' | ')} |`),
    ].join('\n');
}

function list(items: unknown[]): string {
    return items.map(item => (typeof item === 'string' && item.includes('\n') ? `\n${fenced(item, '')}\n` : `- ${scalar(item)}`)).join('\n').trim();
}

function megabytes(bytes: number): string {
    return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function scalar(value: unknown): string {
    if (value === null || value === undefined) {
        return '';
    }
    if (typeof value === 'number' && !Number.isInteger(value)) {
        return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
    }
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** `promptTokens` and `prompt_tokens` both read “Prompt tokens”. */
function heading(key: string): string {
    const words = key.replace(/_/g, ' ').replace(/([a-z0-9])([A-Z])/g, (_, end, start) => `${end} ${start.toLowerCase()}`);
    return words.charAt(0).toUpperCase() + words.slice(1);
}

function fenced(text: string, language: string): string {
    const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map(run => run.length));
    const fence = '`'.repeat(longest + 1);
    return `${fence}${language}\n${text}\n${fence}`;
}
