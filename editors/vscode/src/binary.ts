//! Finds the `lacuna` program: the setting, then `PATH`, then cargo's `bin` directory.

import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

/** Why no program was found, and what to do about it. The text is shown to the user as it is. */
export class BinaryNotFound extends Error {}

const PROGRAM = process.platform === 'win32' ? 'lacuna.exe' : 'lacuna';

/**
 * @param configured the value of `lacuna.serverPath`; empty when not set
 * @throws BinaryNotFound
 */
export function findBinary(configured: string, environment: NodeJS.ProcessEnv = process.env): string {
    if (configured !== '') {
        return checkConfigured(expandHome(configured));
    }
    for (const directory of searchDirectories(environment)) {
        const candidate = path.join(directory, PROGRAM);
        if (isExecutableFile(candidate)) {
            return candidate;
        }
    }
    throw new BinaryNotFound(
        `The ${PROGRAM} program was not found on PATH or in cargo's bin directory. ` +
            'Install it with `cargo install --path lsp` in a checkout of Lacuna, or set lacuna.serverPath to where it is.',
    );
}

function checkConfigured(file: string): string {
    if (!path.isAbsolute(file)) {
        // A relative path would be resolved against whatever directory VS Code was started in.
        throw new BinaryNotFound(`lacuna.serverPath is "${file}", which is not an absolute path. Give the full path of the ${PROGRAM} program.`);
    }
    const found = fs.statSync(file, { throwIfNoEntry: false });
    if (!found) {
        throw new BinaryNotFound(`lacuna.serverPath is "${file}", which does not exist. Correct the setting, or clear it to search PATH.`);
    }
    if (found.isDirectory()) {
        throw new BinaryNotFound(`lacuna.serverPath is "${file}", which is a directory. Give the path of the ${PROGRAM} program itself.`);
    }
    if (!isExecutableFile(file)) {
        throw new BinaryNotFound(`lacuna.serverPath is "${file}", which is not executable. Run \`chmod +x "${file}"\`, or correct the setting.`);
    }
    return file;
}

function searchDirectories(environment: NodeJS.ProcessEnv): string[] {
    const searched = (environment['PATH'] ?? environment['Path'] ?? '').split(path.delimiter);
    // An editor started from a desktop menu often lacks what the shell's profile adds to PATH.
    searched.push(path.join(environment['CARGO_HOME'] || path.join(os.homedir(), '.cargo'), 'bin'));
    // Relative entries would run a program out of the opened workspace.
    return searched.filter(directory => path.isAbsolute(directory));
}

function expandHome(file: string): string {
    return /^~[/\\]/.test(file) ? path.join(os.homedir(), file.slice(2)) : file;
}

function isExecutableFile(file: string): boolean {
    try {
        fs.accessSync(file, fs.constants.X_OK);
        return fs.statSync(file).isFile();
    } catch {
        return false;
    }
}
