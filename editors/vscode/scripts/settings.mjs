// Generates the server's settings in package.json from what `lacuna config schema` prints.
//
//   node scripts/settings.mjs [--check] [--server PROGRAM | --schema FILE]
//
// Without --server or --schema the program is $LACUNA_BIN, or the checkout's release build. With --check nothing is
// written, and the exit code is 1 when package.json is not what would be generated.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const EXTENSION = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const MANIFEST = path.join(EXTENSION, 'package.json');
const SECTION_TITLE = 'Completion'; // src/settings.ts finds the section by it

// Set by the extension itself.
const INTERNAL = new Set(['statusNotifications']);
// A workspace that is not trusted must not choose the file that is loaded or what of the machine is used.
const RESTRICTED = new Set(['model', 'draftModel', 'device', 'threads']);

const COPIED = [
  'type', 'enum', 'default', 'minimum', 'maximum', 'items', 'pattern', 'minItems', 'maxItems', 'uniqueItems',
  'minLength', 'maxLength', 'additionalProperties',
];
const UNDERSTOOD = new Set([...COPIED, 'description', 'title', 'format', 'deprecated']);

class Problem extends Error {}

function readSchema({ server, schema }) {
  if (schema) return parse(fs.readFileSync(schema, 'utf8'), schema);
  const program = server ?? process.env.LACUNA_BIN ?? path.join(EXTENSION, '../../target/release/lacuna');
  if (!fs.existsSync(program)) {
    throw new Problem(`${program} does not exist; build it with \`cargo build --release\`, or name another with --server or LACUNA_BIN`);
  }
  return parse(execFileSync(program, ['config', 'schema'], { encoding: 'utf8' }), `${program} config schema`);
}

function parse(text, source) {
  const schema = JSON.parse(text);
  if (schema?.type !== 'object' || typeof schema.properties !== 'object') {
    throw new Problem(`${source}: expected a JSON Schema of type "object" with "properties"`);
  }
  return schema;
}

function toSetting(key, property, order) {
  const unknown = Object.keys(property).filter(name => !UNDERSTOOD.has(name));
  if (unknown.length) throw new Problem(`${key}: no translation to VS Code's settings for ${unknown.join(', ')}`);
  for (const needed of ['type', 'default', 'description']) {
    if (!(needed in property)) throw new Problem(`${key}: the schema lacks "${needed}"`);
  }
  const setting = Object.fromEntries(COPIED.filter(name => name in property).map(name => [name, property[name]]));
  setting.order = order;
  setting.scope = RESTRICTED.has(key) ? 'machine-overridable' : 'window';
  setting.markdownDescription = property.description;
  if (property.deprecated) setting.markdownDeprecationMessage = 'No longer used.';
  return setting;
}

function generate(manifest, schema) {
  const result = structuredClone(manifest);
  const keys = Object.keys(schema.properties).filter(key => !INTERNAL.has(key));
  const properties = {};
  keys.forEach((key, order) => { properties[`lacuna.${key}`] = toSetting(key, schema.properties[key], order); });
  const others = result.contributes.configuration.filter(section => section.title !== SECTION_TITLE);
  for (const section of others) {
    const clash = Object.keys(section.properties).find(name => name in properties);
    if (clash) throw new Problem(`${clash} is a setting of both the extension and the server`);
  }
  result.contributes.configuration = [...others, { title: SECTION_TITLE, order: others.length, properties }];
  result.capabilities.untrustedWorkspaces.restrictedConfigurations = keys.filter(key => RESTRICTED.has(key)).map(key => `lacuna.${key}`);
  return result;
}

function differences(before, after) {
  const settings = manifest => Object.assign({}, ...manifest.contributes.configuration.map(section => section.properties));
  const [old, wanted] = [settings(before), settings(after)];
  return [...new Set([...Object.keys(old), ...Object.keys(wanted)])]
    .filter(name => JSON.stringify(old[name]) !== JSON.stringify(wanted[name]))
    .map(name => `  ${name}: ${name in old ? (name in wanted ? 'differs' : 'is no longer a setting') : 'is missing'}`);
}

try {
  const { values } = parseArgs({ options: { check: { type: 'boolean' }, server: { type: 'string' }, schema: { type: 'string' } } });
  const text = fs.readFileSync(MANIFEST, 'utf8');
  const manifest = JSON.parse(text);
  const generated = generate(manifest, readSchema(values));
  const wanted = JSON.stringify(generated, null, 2) + '\n';
  if (wanted === text) {
    console.log('package.json agrees with the server\'s settings');
  } else if (values.check) {
    const found = differences(manifest, generated);
    console.error(['package.json does not agree with the server\'s settings:', ...(found.length ? found : ['  formatting']),
      'Run `npm run settings` in editors/vscode and commit the result.'].join('\n'));
    process.exitCode = 1;
  } else {
    fs.writeFileSync(MANIFEST, wanted);
    console.log('package.json written');
  }
} catch (error) {
  if (!(error instanceof Problem) && error.code !== 'ENOENT' && !String(error.code).startsWith('ERR_PARSE_ARGS')) throw error;
  console.error(`settings: ${error.message}`);
  process.exitCode = 2;
}
