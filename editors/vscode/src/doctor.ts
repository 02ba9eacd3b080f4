//! Runs `lacuna doctor` and shows what it says.

import { execFile } from 'node:child_process';
import * as vscode from 'vscode';
import type { Reports } from './report';
import { startSettings } from './settings';

const DOCTOR_TIMEOUT_MS = 120_000;
const OUTPUT_MAX_BYTES = 1 << 20;

/** @throws Error when the program cannot be run; a check that fails is part of the report */
export async function runDoctor(binary: string, reports: Reports): Promise<void> {
    const environment = { ...process.env, ...startSettings().serverEnvironment };
    const progress = { location: vscode.ProgressLocation.Notification, title: 'Lacuna: running `lacuna doctor`', cancellable: true };
    const output = await vscode.window.withProgress(progress, (_, token) => {
        return new Promise<string | undefined>((done, failed) => {
            const options = { env: environment, timeout: DOCTOR_TIMEOUT_MS, maxBuffer: OUTPUT_MAX_BYTES, windowsHide: true };
            const child = execFile(binary, ['doctor'], options, (error, stdout, stderr) => {
                if (token.isCancellationRequested) {
                    done(undefined);
                } else if (error?.killed) {
                    failed(new Error(`${binary} doctor did not finish within ${DOCTOR_TIMEOUT_MS / 1000} s`));
                } else if (error && typeof error.code !== 'number') {
                    failed(error);
                } else {
                    done(`${stdout}${stderr}`);
                }
            });
            token.onCancellationRequested(() => child.kill());
        });
    });
    if (output !== undefined) {
        await reports.show('Lacuna doctor', `\`\`\`text\n${output.trimEnd()}\n\`\`\``);
    }
}
