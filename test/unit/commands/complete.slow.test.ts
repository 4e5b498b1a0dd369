import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Argument, Command, Option } from 'commander';
import { complete, type Completable } from '../../../src/commands/complete.ts';
import type { InventoryFlags } from '../../../src/commands/inventory-options.ts';

const ROOT = join(import.meta.dirname, '../../..');

const COMMANDS: readonly Completable[] = [
  {
    name: 'explain',
    summary: 'say why',
    load: () =>
      Promise.resolve({
        command: () =>
          new Command('explain')
            .argument('<source>')
            .argument('<destination>')
            .option('-n, --namespace <name>', 'of names without one')
            .option('--source <dir>', 'manifests; watched')
            .option('--all', 'everything')
            .option('--node <name>', 'a node')
            .addOption(new Option('-o, --output <format>', 'how').choices(['text', 'json'])),
      }),
  },
  {
    name: 'lab',
    summary: 'a lab',
    load: () =>
      Promise.resolve({
        command: () => {
          const lab = new Command('lab');
          lab.command('run').description('runs it').argument('<dir>').option('--fast', 'at once');
          lab
            .command('matrix')
            .summary('shows it')
            .addArgument(new Argument('<kind>').choices(['a', 'b']));
          return lab;
        },
      }),
  },
];

const asked: InventoryFlags[] = [];

async function completed(...words: readonly string[]): Promise<readonly string[] | 'files'> {
  const completion = await complete(words, COMMANDS, (flags) => {
    asked.push(flags);
    return {
      namespaces: () => Promise.resolve(['default', 'dev', 'prod']),
      pods: (namespace) => Promise.resolve(namespace === 'prod' ? ['web-1', 'web-2', 'db-0'] : [`of-${namespace}`]),
      nodes: () => Promise.resolve(['node-a', 'node-b']),
    };
  });
  return completion.files ? 'files' : completion.candidates.map(({ text }) => text);
}

describe('completion', () => {
  it('is of commands first, also behind help', async () => {
    assert.deepEqual(await completed(''), ['explain', 'lab', 'help']);
    assert.deepEqual(await completed('--verbose', 'e'), ['explain']);
    assert.deepEqual(await completed('help', 'l'), ['lab']);
  });

  it('is of flags, once a dash is there', async () => {
    assert.deepEqual(await completed('explain', '--n'), ['--namespace', '--node']);
    assert.deepEqual(await completed('explain', 'a', '--'), ['--namespace', '--source', '--all', '--node', '--output', '--help']);
  });

  it('is of what a flag takes: choices, namespaces, nodes, files', async () => {
    assert.deepEqual(await completed('explain', '-o', ''), ['text', 'json']);
    assert.deepEqual(await completed('explain', '--output=j'), ['--output=json']);
    assert.deepEqual(await completed('explain', '-n', 'd'), ['default', 'dev']);
    assert.deepEqual(await completed('explain', '--node', ''), ['node-a', 'node-b']);
    assert.equal(await completed('explain', '--source', 'x'), 'files');
  });

  it('is of pods: those of the namespace that is given, and namespaces, and behind a slash the pods of that', async () => {
    assert.deepEqual(await completed('explain', ''), ['of-default', 'default/', 'dev/', 'prod/']);
    assert.deepEqual(await completed('explain', '-n', 'prod', 'w'), ['web-1', 'web-2']);
    assert.deepEqual(await completed('explain', 'dev/x', 'prod/w'), ['prod/web-1', 'prod/web-2']);
    assert.deepEqual(await completed('explain', '--all', 'dev/x', 'prod/d'), ['prod/db-0']);
  });

  it('ends where nothing more is taken', async () => {
    assert.deepEqual(await completed('explain', 'a', 'b', ''), []);
    assert.deepEqual(await completed('nothing', ''), []);
  });

  it('is of commands below a command', async () => {
    assert.deepEqual(await completed('lab', ''), ['run', 'matrix']);
    assert.deepEqual(await completed('lab', 'matrix', ''), ['a', 'b']);
    assert.deepEqual(await completed('lab', 'run', '--f'), ['--fast']);
    assert.equal(await completed('lab', 'run', ''), 'files');
  });

  it('looks for names where the other words say', async () => {
    asked.length = 0;
    await completed('explain', '--source', 'shop', 'a', '');
    assert.deepEqual(asked, [{ source: 'shop' }]);
  });
});

describe('completion in a shell', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-complete-'));
    writeFileSync(join(directory, 'pods.yaml'), 'kind: Pod\napiVersion: v1\nmetadata: { name: web-1, namespace: shop }\n');
    for (const name of ['sluice', 'kubectl_complete-sluice']) symlinkSync(join(ROOT, 'bin', `${name}.js`), join(directory, name));
  });
  after(() => rmSync(directory, { recursive: true }));

  const env = (): Record<string, string> => ({ PATH: `${directory}:${process.env['PATH']}`, HOME: directory });

  it('is what bash puts in', () => {
    const script = `source <(sluice completion bash)
      _try() { COMP_LINE="$1"; COMP_POINT=\${#1}; COMPREPLY=(); _sluice; printf '%s\\n' "\${COMPREPLY[@]}" --; }
      compopt() { echo "compopt $*"; }
      _try 'sluice expl'
      _try "sluice explain --source ${directory} shop/"
      _try 'sluice explain -o '
      _try "sluice explain --source ${directory} shop/web-1 sho"
      _try 'sluice explain --source '`;
    const answer = execFileSync('bash', ['-c', script], { encoding: 'utf8', env: env() });
    assert.deepEqual(
      answer.split('--\n').map((of) => of.trim().split('\n')),
      [['explain'], ['shop/web-1'], ['text', 'json', 'yaml'], ['compopt -o nospace', 'shop/'], ['compopt -o default'], ['']],
    );
  });

  it('is well-formed for zsh', function () {
    if (spawnSync('zsh', ['--version']).error !== undefined) this.skip();
    const script = execFileSync('node', [join(ROOT, 'bin/sluice.js'), 'completion', 'zsh'], { encoding: 'utf8' });
    execFileSync('zsh', ['-n', '-c', script]);
  });

  it('is what kubectl asks for', () => {
    const answer = execFileSync('kubectl_complete-sluice', ['explain', '--source', directory, ''], { encoding: 'utf8', env: env() });
    assert.equal(answer, 'shop/\n:4\n');
  });

  it('is what kubectl puts in', function () {
    if (spawnSync('kubectl', ['version', '--client']).error !== undefined) this.skip();
    // The name that kubectl looks for the plugin by.
    symlinkSync(join(ROOT, 'bin/kubectl-sluice.js'), join(directory, 'kubectl-sluice'));
    const words = ['__complete', 'sluice', 'explain', '--source', directory, 'shop/'];
    const { stdout } = spawnSync('kubectl', words, { encoding: 'utf8', env: env() });
    assert.equal(stdout, 'shop/web-1\n:4\n');
  });

  it('is nothing, and no error, where no cluster can be reached', () => {
    const { status, stdout, stderr } = spawnSync('kubectl_complete-sluice', ['explain', ''], { encoding: 'utf8', env: env() });
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: ':4\n', stderr: '' });
  });
});
