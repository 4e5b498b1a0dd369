import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { namespaceNames } from '../../src/lab/namespaces.ts';
import { playScenario, type Stage } from '../../src/lab/run-scenario.ts';
import { readScenario } from '../../src/lab/scenario.ts';
import { isAsExpected, type VerdictRecord } from '../../src/lab/verdicts.ts';
import { plain } from '../../src/output/colour.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SCENARIOS = join(ROOT, 'fixtures/scenarios');

const pod = (key: string, extra = ''): string => {
  const [namespace, name] = key.split('/');
  return `apiVersion: v1\nkind: Pod\nmetadata: { namespace: ${namespace}, name: ${name}, labels: { app: ${name} } }\n${extra}`;
};

const DENY_INGRESS = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: dev, name: deny }
spec: { podSelector: {}, policyTypes: [Ingress] }
`;

/** A row a pair, so that differences can be read. */
function describeRecords(records: readonly VerdictRecord[]): string[] {
  return records.map(({ source, destination, port, protocol, family, expected, predicted, measured }) => {
    return `${source} -> ${destination} ${port}/${protocol} IPv${family}: expected ${expected}, predicted ${predicted}, measured ${measured}`;
  });
}

describe('scenarios in the lab', function () {
  this.timeout(120_000);
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const write = (files: Readonly<Record<string, string>>): string => {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(directory, 'scenario', dirname(path)), { recursive: true });
      writeFileSync(join(directory, 'scenario', path), text);
    }
    return join(directory, 'scenario');
  };

  const play = (scenario: string, options: { readonly agents?: boolean; readonly settleMs?: number } = {}): Promise<Stage> =>
    playScenario(readScenario(scenario), {
      state: join(directory, 'state'),
      agents: options.agents ?? false,
      settleMs: options.settleMs ?? 0,
      stepDone: () => undefined,
      progress: () => undefined,
      paint: plain,
    });

  for (const name of readdirSync(SCENARIOS)) {
    it(`${name}: packets, evaluator and people agree on every probe of every step`, async () => {
      const stage = await play(join(SCENARIOS, name), { agents: true, settleMs: 10_000 });
      try {
        for (const { records, step } of stage.reports) {
          assert.deepEqual(describeRecords(records.filter((record) => !isAsExpected(record))), [], step);
          assert.ok(records.length > 0, step);
        }
        const records = stage.reports.flatMap((report) => report.records);
        for (const measured of ['allowed', 'denied']) assert.ok(records.some((record) => record.measured === measured));
      } finally {
        await stage.close();
      }
      assert.deepEqual(namespaceNames(), [], 'nothing is left over');
    });
  }

  it('tell apart what packets do, what the evaluator says, and what somebody expects', async () => {
    // Nothing enforces here: the evaluator says denied, every packet passes.
    const scenario = write({
      'scenario.yaml': 'probe: { protocols: [TCP], ports: [80], families: [IPv4] }\n',
      'cluster/pods.yaml': `${pod('dev/a')}---\n${pod('prod/b')}`,
      '1-no-expectation/policy.yaml': DENY_INGRESS,
      '2-expects-the-same/expect.yaml': 'rows: [deny any -> dev/a]\n',
      '3-expects-otherwise/expect.yaml': 'default: allow\n',
    });
    const stage = await play(scenario);
    await stage.close();
    const of = (step: number): string[] =>
      describeRecords(stage.reports[step]?.records.filter((record) => record.source === 'prod/b' && record.destination === 'dev/a') ?? []);
    assert.deepEqual(of(0), ['prod/b -> dev/a 80/TCP IPv4: expected allowed, predicted allowed, measured allowed']);
    assert.deepEqual(of(1), ['prod/b -> dev/a 80/TCP IPv4: expected denied, predicted denied, measured allowed']);
    assert.deepEqual(of(2), ['prod/b -> dev/a 80/TCP IPv4: expected denied, predicted denied, measured allowed']);
    assert.deepEqual(of(3), ['prod/b -> dev/a 80/TCP IPv4: expected allowed, predicted denied, measured allowed']);
    assert.deepEqual(
      stage.reports.map(({ records }) => records.filter((record) => !isAsExpected(record)).length),
      [0, 2, 2, 2],
      'the two ways into dev/a, each time',
    );
  });

  it('probe the ports that pods declare, otherwise 80 and 81, both families, and nothing twice', async () => {
    const ports = 'spec: { containers: [{ name: c, ports: [{ containerPort: 8080 }, { containerPort: 53, protocol: UDP }] }] }\n';
    const stage = await play(write({ 'cluster/pods.yaml': `${pod('dev/a', ports)}---\n${pod('dev/b')}` }));
    await stage.close();
    const records = stage.reports[0]?.records ?? [];
    const probed = (destination: string): string[] =>
      records
        .filter((record) => record.destination === destination)
        .map(({ source, port, protocol, family }) => `${source} ${port}/${protocol}/${family}`);
    const expected = (sources: readonly string[], numbers: readonly number[]): string[] =>
      sources.flatMap((source) =>
        [4, 6].flatMap((family) =>
          ['TCP', 'UDP', 'SCTP'].flatMap((protocol) => numbers.map((port) => `${source} ${port}/${protocol}/${family}`)),
        ),
      );
    assert.deepEqual(new Set(probed('dev/a')), new Set(expected(['dev/b', 'outside'], [8080, 53])));
    assert.deepEqual(new Set(probed('dev/b')), new Set(expected(['dev/a', 'outside'], [80, 81])));
    assert.equal(new Set(describeRecords(records)).size, records.length);
    assert.ok(records.every(isAsExpected));
  });

  it('fill in what an author leaves open: nodes, a node for each pod, addresses; and keep it when the pod is applied anew', async () => {
    const stage = await play(
      write({
        'scenario.yaml': 'nodes: [left, right]\nprobe: { protocols: [TCP] }\n',
        'cluster/pods.yaml': `${pod('dev/a')}---\n${pod('dev/b')}`,
        '1-relabel/a.yaml': pod('dev/a').replace('app: a', 'app: other'),
        '2-third/c.yaml': pod('dev/c'),
      }),
    );
    try {
      assert.deepEqual(
        stage.cluster.lab.nodes.map((node) => node.name),
        ['left', 'right'],
      );
      const { pods, nodes } = stage.cluster.contents;
      assert.deepEqual(
        pods.map((each) => [each.name, each.labels.get('app'), each.addresses.length]),
        [
          ['a', 'other', 2],
          ['b', 'b', 2],
          ['c', 'c', 2],
        ],
      );
      assert.deepEqual(new Set(pods.slice(0, 2).map((each) => each.node)), new Set(['left', 'right']));
      assert.deepEqual(
        nodes.map((node) => [node.name, node.addresses.length, node.podCIDRs.length]),
        [
          ['left', 2, 2],
          ['right', 2, 2],
        ],
      );
      assert.deepEqual(pods.find((each) => each.name === 'a')?.addresses, stage.cluster.lab.pod('dev/a').addresses);
      assert.ok(stage.reports.every(({ records }) => records.length > 0 && records.every(isAsExpected)));
    } finally {
      await stage.close();
    }
  });

  it('follow what somebody writes into the directory', async () => {
    const stage = await play(write({ 'cluster/pods.yaml': pod('dev/a') }));
    try {
      const { cluster } = stage;
      assert.equal(await cluster.adopt(), false, 'nothing was written');
      writeFileSync(join(cluster.directory, 'mine.yaml'), `${pod('dev/late')}---\n${DENY_INGRESS}`);
      assert.equal(await cluster.adopt(), true);
      const { addresses } = cluster.lab.pod('dev/late');
      assert.deepEqual(cluster.contents.pods.find((each) => each.name === 'late')?.addresses, addresses);
      assert.equal(cluster.contents.policies.length, 1);
      assert.equal(await cluster.adopt(), false, 'what was filled in is no edit');
      const file = readdirSync(cluster.directory, { recursive: true })
        .map(String)
        .find((each) => each.endsWith('pod-late.yaml'));
      rmSync(join(cluster.directory, file ?? assert.fail('the pod has a file of its own')));
      assert.equal(await cluster.adopt(), true);
      assert.throws(() => cluster.lab.pod('dev/late'), /there is no pod/);
    } finally {
      await stage.close();
    }
  });

  it('name the place of an object that the lab cannot build', async () => {
    const node = 'kind: Node\nmetadata: { name: n1 }\nspec: { podCIDRs: [10.244.0.0/24] }\n';
    for (const [files, message] of [
      [
        { 'cluster/a.yaml': `${node}---\n${pod('dev/a', 'spec: { nodeName: n2 }\n')}` },
        /a\.yaml:5: Pod dev\/a: spec\.nodeName: there is no node n2/,
      ],
      [
        { 'cluster/a.yaml': node, '1-x/b.yaml': pod('dev/a', 'status: { podIP: 10.9.0.1 }\n') },
        /b\.yaml:1: pod dev\/a: 10\.9\.0\.1 is in no podCIDR of node n1/,
      ],
      [{ 'cluster/a.yaml': `${node}---\nkind: Pod\nmetadata: { name: a, labels: 3 }\n` }, /a\.yaml:5: Pod default\/a: metadata\.labels/],
    ] as const) {
      await assert.rejects(play(write(files)), message);
      rmSync(join(directory, 'scenario'), { recursive: true });
    }
    assert.deepEqual(namespaceNames(), []);
  });
});

describe('sluice lab run', function () {
  this.timeout(60_000);
  const SMALL = {
    'scenario.yaml': 'probe: { protocols: [TCP], ports: [80] }\n',
    'cluster/pods.yaml': `${pod('dev/a')}---\n${pod('dev/b')}`,
    'cluster/expect.yaml': 'default: allow\n',
  };
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    for (const [path, text] of Object.entries(SMALL)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  /** Outside of this test's sandbox in the program's eyes: it makes one of its own. */
  const start = (...args: readonly string[]): ChildProcess => {
    const { SLUICE_SANDBOX: _, ...env } = process.env;
    return spawn(process.execPath, [join(ROOT, 'bin/sluice.js'), 'lab', 'run', directory, '--no-agents', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  };

  const end = async (
    child: ChildProcess,
  ): Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }> => {
    const output = { stdout: '', stderr: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
    const status = await new Promise<number | null>((done) => {
      child.once('close', done);
    });
    return { status, ...output };
  };

  it('ends with the count and status 0 where everything was as expected, 1 where something was not', async () => {
    const right = await end(start());
    assert.equal(right.status, 0, right.stderr);
    assert.match(right.stdout, /^1 dev\/a +\+ +\+$/m);
    assert.match(right.stdout, /\n12 probes, 12 as expected\n$/);
    assert.equal(right.stdout.includes('\u001B'), false, 'plain in a pipe');
    writeFileSync(join(directory, 'cluster/expect.yaml'), 'rows: [deny dev/a -> dev/b over IPv6]\n');
    const wrong = await end(start('-o', 'json'));
    assert.equal(wrong.status, 1);
    const records = JSON.parse(wrong.stdout) as VerdictRecord[];
    assert.equal(records.length, 12);
    assert.deepEqual(
      records.find((record) => record.expected === 'denied'),
      {
        step: 'cluster',
        source: 'dev/a',
        destination: 'dev/b',
        family: 6,
        port: 80,
        protocol: 'TCP',
        expected: 'denied',
        predicted: 'allowed',
        measured: 'allowed',
      },
    );
    assert.match(wrong.stderr, /12 probes, 11 as expected/);
  });

  it('says what is wrong with a scenario before it sets anything up', async () => {
    writeFileSync(join(directory, 'cluster/expect.yaml'), 'rows:\n  - nobody knows\n');
    const { status, stderr, stdout } = await end(start());
    assert.equal(status, 2);
    assert.match(stderr, /cluster\/expect\.yaml:2: rows\.0: "nobody knows" is no row\n.*A row is/s);
    assert.equal(stdout, '');
  });

  it('leaves neither processes nor networks behind, however it is ended while it is kept up', async () => {
    const interfaces = readFileSync('/proc/net/dev', 'utf8').split('\n').length;
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const child = start('--keep');
      let printed = '';
      await new Promise<void>((done, fail) => {
        child.stdout?.setEncoding('utf8').on('data', (text: string) => {
          printed += text;
          if (printed.includes('Namespaces of the lab')) done();
        });
        child.once('exit', () => fail(new Error(`it ended: ${printed}`)));
      });
      const pid = /nsenter -t (\d+) -a ip netns exec/.exec(printed)?.[1] ?? assert.fail(printed);
      assert.match(readFileSync(`/proc/${pid}/root/run/sluice-lab/cluster/dev/pod-a.yaml`, 'utf8'), /name: a/);
      child.removeAllListeners('exit');
      const ended = new Promise((done) => {
        child.once('exit', done);
      });
      child.kill(signal);
      await ended;
      // Process 1 of the sandbox; the kernel ends everything else with it.
      for (let attempt = 0; isAlive(Number(pid)); attempt++) {
        assert.ok(attempt < 500, `process ${pid} lives on after ${signal}`);
        await new Promise((done) => {
          setTimeout(done, 10);
        });
      }
    }
    assert.equal(readFileSync('/proc/net/dev', 'utf8').split('\n').length, interfaces);
  });

  it('needs nothing but what the directory says: the scenario is left as it was', async () => {
    const copy = join(directory, '..', `${directory.split('/').at(-1)}-copy`);
    cpSync(directory, copy, { recursive: true });
    try {
      await end(start());
      for (const path of Object.keys(SMALL))
        assert.equal(readFileSync(join(directory, path), 'utf8'), readFileSync(join(copy, path), 'utf8'));
      assert.deepEqual(readdirSync(directory), readdirSync(copy));
    } finally {
      rmSync(copy, { recursive: true });
    }
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
