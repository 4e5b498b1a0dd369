import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { documents, podYaml, policyYaml } from './sources/manifests.ts';

const ROOT = join(import.meta.dirname, '../..');
const PROGRAM = join(ROOT, 'bin/sluice.js');

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function sluice(args: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ...env },
  });
  return { status, stdout, stderr };
}

describe('the program sluice', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

  it('says its version, in less than 150 ms', () => {
    // The best of some runs: others use the machine too.
    const times = Array.from({ length: 5 }, () => {
      const start = performance.now();
      assert.deepEqual(sluice(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' });
      return performance.now() - start;
    });
    assert.ok(Math.min(...times) <= 150, times.map(Math.round).join(', '));
  });

  it('lists its commands', () => {
    const { status, stdout } = sluice(['--help']);
    assert.equal(status, 0);
    for (const name of ['agent', 'cleanup', 'matrix', 'dump', 'lab']) assert.match(stdout, new RegExp(`^  ${name} .*\\w`, 'mu'));
  });

  it('shows how a command is called, asked either way', () => {
    for (const args of [
      ['matrix', '--help'],
      ['help', 'matrix'],
    ]) {
      const { status, stdout } = sluice(args);
      assert.equal(status, 0);
      assert.match(stdout, /^Usage: sluice matrix \[options\][^]*--from <name>/u);
    }
  });

  const misuses: [string, string[], RegExp][] = [
    ['nothing to do', [], /^Usage: sluice/u],
    ['an unknown command', ['matirx'], /unknown command 'matirx'[^]*Did you mean matrix\?/u],
    ['an unknown option', ['matrix', '--source', '.', '--outptu', 'json'], /unknown option '--outptu'[^]*Did you mean --output\?/u],
    ['an option that is needed and missing', ['diff'], /required option '-f, --filename <path>'/u],
    ['a port that is none', ['matrix', '--source', '.', '--port', '80/ICMP'], /TCP, UDP and SCTP/u],
    ['a format that is none', ['matrix', '--source', '.', '-o', 'pdf'], /Allowed choices are table, json/u],
  ];
  for (const [what, args, expected] of misuses) {
    it(`ends with status 2 for ${what}`, () => {
      const { status, stdout, stderr } = sluice(args);
      assert.deepEqual([status, stdout], [2, '']);
      assert.match(stderr, expected);
    });
  }

  it('prints an error as a message and what to do, and its stack only if asked', () => {
    const args = ['matrix', '--source', '/nowhere/at/all'];
    const expected =
      'sluice: the source directory /nowhere/at/all does not exist\nCreate it, or name the directory that holds the manifests with --source.\n';
    assert.deepEqual(sluice(args), { status: 1, stdout: '', stderr: expected });
    assert.match(sluice([...args, '--verbose']).stderr, /\n +at /u);
    assert.match(sluice(args, { SLUICE_DEBUG: '1' }).stderr, /\n +at /u);
  });

  describe('matrix', () => {
    let directory: string;

    before(() => {
      directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
      const pods = Array.from({ length: 40 }, (_, i) => {
        return `${podYaml(`pod-${i}`)}spec: {containers: [{ports: [{containerPort: 80}]}]}\nstatus: {podIP: 10.0.0.${i + 1}}\n`;
      });
      writeFileSync(join(directory, 'a.yaml'), documents(...pods));
    });

    after(() => rmSync(directory, { recursive: true }));

    it('prints JSON that can be read, and nothing else', () => {
      const asked = ['matrix', '--source', directory, '-o', 'json', '--by', 'pod', '--no-external'];
      const { status, stdout, stderr } = sluice([...asked, '--to', 'dev/pod-3']);
      const { flows } = JSON.parse(stdout) as { flows: { destination: string; allowed: boolean }[] };
      assert.deepEqual([status, stderr, flows.length], [0, '', 39]);
      assert.ok(flows.every(({ destination, allowed }) => destination === 'dev/pod-3' && allowed));
      // The pods have no IPv6.
      assert.match(sluice([...asked, '--from', 'fd00::1']).stdout, /"flows": \[\]\n/u);
    });

    it('has colour only on terminals, or where it is asked for', () => {
      const hasColour = (env: Record<string, string>): boolean => sluice(['matrix', '--source', directory], env).stdout.includes('\u001b[');
      assert.deepEqual([hasColour({}), hasColour({ FORCE_COLOR: '1' }), hasColour({ NO_COLOR: '1' })], [false, true, false]);
    });

    it('says what is wrong with the manifests, and answers all the same, with status 1', () => {
      writeFileSync(join(directory, 'b.yaml'), policyYaml('p', '10.0.0.0/99'));
      try {
        const { status, stdout, stderr } = sluice(['matrix', '--source', directory, '--to', 'dev/pod-3', '--no-external']);
        assert.match(
          stderr,
          /^b\.yaml:8: error: NetworkPolicy dev\/p: spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr: .* \[CIDR_INVALID\]\n$/u,
        );
        assert.deepEqual([status, stdout.split('\n').at(-2)], [1, '39 flows: 0 allowed, 39 denied']);
      } finally {
        rmSync(join(directory, 'b.yaml'));
      }
    });

    it('asks about a port of an address that is named', () => {
      const asked = sluice(['matrix', '--source', directory, '--from', 'dev/pod-1', '--to', '192.0.2.1', '--port', '53/udp']);
      assert.deepEqual([asked.status, asked.stdout.split('\n')[1]], [0, '  53/UDP  allowed  dev/pod-1']);
    });

    it('ends quietly when nobody reads on', async () => {
      const child = spawn(process.execPath, [PROGRAM, 'matrix', '--source', directory, '-o', 'json', '--by', 'pod'], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let stderr = '';
      child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
      child.stdout.once('data', () => child.stdout.destroy());
      const { promise, resolve } = Promise.withResolvers<number | null>();
      child.on('close', resolve);
      assert.deepEqual([await promise, stderr], [0, '']);
    });

    it('says what is wrong, and without a stack, where its output cannot be written', () => {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'matrix', '--source', directory], {
        encoding: 'utf8',
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      assert.deepEqual([status, stderr], [1, 'sluice: standard output cannot be written: ENOSPC\n']);
    });

    it('writes a bundle that only its owner can read, over a file that everybody could; and no half of one', () => {
      const file = join(directory, 'bundle.json.gz');
      writeFileSync(file, 'an older one', { mode: 0o644 });
      const args = ['bundle', '--source', directory, '-o', file];
      assert.equal(sluice(args).status, 0);
      assert.equal(statSync(file).mode & 0o777, 0o600);
      // A file may not grow: as on a disk that is full (RLIMIT_FSIZE, in blocks of 512 bytes).
      const limited = spawnSync('sh', ['-c', 'trap "" XFSZ; ulimit -f 0; exec "$@"', 'sh', process.execPath, PROGRAM, ...args], {
        encoding: 'utf8',
      });
      assert.equal(limited.status, 1);
      assert.match(limited.stderr, /^sluice: the bundle .* cannot be written: EFBIG$/mu);
      assert.ok(!existsSync(file));
    });
  });
});

describe('bin/sluice.js', () => {
  it('is for any Node: without imports, and with the version asked for first', () => {
    const text = readFileSync(PROGRAM, 'utf8');
    assert.doesNotMatch(text, /^\s*(?:import|export)\s+[\w{*'"]/mu);
    const { status, stderr } = spawnSync(process.execPath, ['-e', oldNode('20.19.0')], { encoding: 'utf8' });
    assert.equal(status, 2);
    assert.match(stderr, /^sluice: needs Node 24 or newer, and this is 20\.19\.0; .*\n$/u);
  });

  /** A program that runs bin/sluice.js as if its Node were an old one. */
  function oldNode(version: string): string {
    return `Object.defineProperty(process.versions, 'node', { value: '${version}' }); import(${JSON.stringify(PROGRAM)});`;
  }
});
