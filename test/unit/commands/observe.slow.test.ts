/** The program against an agent of a test: what it asks, what it prints, how it ends. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSince } from '../../../src/commands/observe-options.ts';
import { OBSERVE_REQUEST, type ObservedRecord, type ObserveRequest } from '../../../src/observability/observed-flow.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import { allowed, DB, denied, dropped, observing, WEB } from './observed-records.ts';

const PROGRAM = join(import.meta.dirname, '../../../bin/sluice.js');
const LIVE: ObservedRecord = { kind: 'Live', apiVersion: 'sluice.dev/v1', time: '2020-01-02T12:03:05.000Z' };
const SUGGESTION = {
  direction: 'ingress' as const,
  policy: {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'allow-x', namespace: 'shop' },
    spec: { podSelector: { matchLabels: { app: 'db' } } },
  },
  admits: 'TCP 5432 into pods app=db of shop, from pods app=web of shop',
  notes: ['A note.'],
};

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe('the command observe', () => {
  let directory: string;
  let path: string;
  let server: Server | undefined;
  let requests: ObserveRequest[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-observe-'));
    path = join(directory, 'observe.sock');
    requests = [];
  });
  afterEach(async () => {
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
    server = undefined;
    rmSync(directory, { recursive: true });
  });

  /** An agent that answers a request with these lines. */
  async function agent(
    lines: readonly (ObservedRecord | string)[],
    then: (socket: Socket) => void = (socket) => socket.end(),
  ): Promise<void> {
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', (text) => {
        requests.push(OBSERVE_REQUEST.parse(JSON.parse(String(text))));
        for (const line of lines) socket.write(`${typeof line === 'string' ? line : JSON.stringify(line)}\n`);
        then(socket);
      });
    });
    await new Promise<void>((resolve) => {
      server?.listen(path, resolve);
    });
  }

  function run(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): { readonly ran: Promise<Ran>; kill(signal: NodeJS.Signals): void; seen(text: RegExp): Promise<void> } {
    const child = spawn(process.execPath, [PROGRAM, 'observe', '--socket', path, ...args], {
      env: { PATH: process.env['PATH'], TZ: 'UTC', ...env },
    });
    let [stdout, stderr] = ['', ''];
    let look = (): void => undefined;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      look();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      look();
    });
    return {
      ran: new Promise((resolve) => {
        child.once('close', (status) => resolve({ status, stdout, stderr }));
      }),
      kill: (signal) => child.kill(signal),
      seen: (text) =>
        new Promise((resolve) => {
          look = () => {
            if (text.test(stdout) || text.test(stderr)) resolve();
          };
          look();
        }),
    };
  }

  it('prints a line a connection, repeats united, and what is not shown', async () => {
    await agent([observing(), denied(), denied({ source: { ...WEB, port: 40_001 } }), allowed(), dropped(), LIVE]);
    const { status, stdout, stderr } = await run(['--no-follow', '--allowed']).ran;
    assert.deepEqual([status, stderr], [0, '']);
    assert.equal(
      stdout,
      `2020-01-02 12:03:05.000  11,832 more refused packets are not shown: more than are logged and described in a second
2020-01-02 12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/db-only-from-api, shop/default-deny  x 2
2020-01-02 12:03:04.123  allowed  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  admitted by shop/db-only-from-api ingress[0].from[0]
`,
    );
    assert.deepEqual(requests, [
      {
        kind: 'Observe',
        apiVersion: 'sluice.dev/v1',
        allowed: true,
        suggest: false,
        since: '1970-01-01T00:00:00.000Z',
        follow: false,
        filter: {},
      },
    ]);
  });

  it('prints with -o json what the agent says, a record a line', async () => {
    const later = JSON.stringify({ ...denied(), later: 'a field of a later version' });
    await agent([observing(), denied(), dropped(), later, JSON.stringify({ kind: 'Novelty' }), LIVE]);
    const { status, stdout, stderr } = await run(['--no-follow', '-o', 'json']).ran;
    assert.deepEqual([status, stderr], [0, '']);
    assert.equal(
      stdout,
      `{"kind":"Denied","apiVersion":"sluice.dev/v1","time":"2020-01-02T12:03:04.123Z","node":"n1","source":{"address":"10.244.1.5","namespace":"shop","pod":"web-1","port":40000},"destination":{"address":"10.244.2.7","namespace":"shop","pod":"db-0","port":5432},"protocol":"TCP","protocolNumber":6,"direction":"ingress","audited":false,"policies":["shop/db-only-from-api","shop/default-deny"],"reason":"refused"}
{"kind":"Dropped","apiVersion":"sluice.dev/v1","time":"2020-01-02T12:03:05.000Z","node":"n1","of":"Denied","reason":"rate","count":11832}
${later}
`,
    );
  });

  it('prints with --suggest each policy once, and the rest as comments, so that the whole is YAML', async () => {
    await agent([
      observing(),
      denied({ suggestions: [SUGGESTION] }),
      denied({ destination: { ...DB, port: 80 }, suggestions: [SUGGESTION] }),
      LIVE,
    ]);
    const { stdout } = await run(['--no-follow', '--suggest']).ran;
    assert.equal(
      stdout,
      `# 2020-01-02 12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/db-only-from-api, shop/default-deny
# This would admit TCP 5432 into pods app=db of shop, from pods app=web of shop.
# A note.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: allow-x
  namespace: shop
spec:
  podSelector:
    matchLabels:
      app: db
---
# 2020-01-02 12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 80  refused by shop/db-only-from-api, shop/default-deny
`,
    );
  });

  it('does not remember every policy that it has ever printed', async () => {
    const named = (name: string) => ({ ...SUGGESTION, policy: { ...SUGGESTION.policy, metadata: { name, namespace: 'shop' } } });
    const records = Array.from({ length: 1_001 }, (_, port) =>
      denied({ destination: { ...DB, port }, suggestions: [named(`allow-${port}`)] }),
    );
    await agent([observing(), ...records, denied({ destination: { ...DB, port: 1_001 }, suggestions: [named('allow-0')] }), LIVE]);
    const { stdout } = await run(['--no-follow', '--suggest']).ran;
    assert.equal(stdout.match(/^ {2}name: allow-0$/gm)?.length, 2);
    assert.equal(stdout.match(/^ {2}name: allow-/gm)?.length, 1_002);
  });

  it('asks for what the flags say', async () => {
    await agent([LIVE]);
    const flags = [
      '--no-follow',
      '--since',
      '2020-01-02T03:04:05+01:00',
      '-n',
      'shop',
      '--pod',
      'db-0',
      '--from',
      'dev',
      '--from',
      '10.0.0.0/8',
      '--to',
      'shop/db-0',
    ];
    await run([...flags, '--port', '53/udp', '--port', '80', '--direction', 'egress']).ran;
    assert.deepEqual(requests, [
      {
        kind: 'Observe',
        apiVersion: 'sluice.dev/v1',
        allowed: false,
        suggest: false,
        since: '2020-01-02T02:04:05.000Z',
        follow: false,
        filter: {
          pods: ['shop/db-0'],
          from: ['dev', '10.0.0.0/8'],
          to: ['shop/db-0'],
          ports: [{ port: 53, protocol: 'UDP' }, { port: 80 }],
          direction: 'egress',
        },
      },
    ]);
  });

  it('goes on until it is told to stop, and ends at SIGINT with what it held back and status 0', async () => {
    await agent([observing(), LIVE, denied(), denied(), denied()], () => undefined);
    const observe = run([]);
    await observe.seen(/refused by/);
    observe.kill('SIGINT');
    const { status, stdout } = await observe.ran;
    assert.equal(status, 0);
    assert.deepEqual(
      stdout.split('\n').map((line) => / {2}x \d$|default-deny$/.exec(line)?.[0]),
      ['default-deny', '  x 2', undefined],
    );
  });

  it('ends after so many lines', async () => {
    await agent(
      [observing(), LIVE, denied(), denied({ destination: { ...DB, port: 80 } }), denied({ destination: { ...DB, port: 81 } })],
      () => undefined,
    );
    const { status, stdout } = await run(['--limit', '2']).ran;
    assert.deepEqual([status, stdout.split('\n').length], [0, 3]);
  });

  it('ends after so many lines when all of them have been taken, however slowly', async () => {
    const many = Array.from({ length: 2_000 }, (_, port) => denied({ destination: { ...DB, port } }));
    await agent([observing(), ...many, LIVE], () => undefined);
    for (const args of ['-o json', '']) {
      const child = spawn(
        'sh',
        ['-c', `"${process.execPath}" "${PROGRAM}" observe --socket "${path}" --since 1m --limit 1500 ${args} | (sleep 1; wc -l)`],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let stdout = '';
      child.stdout.on('data', (text) => {
        stdout += String(text);
      });
      await new Promise((resolve) => child.once('close', resolve));
      assert.equal(Number(stdout), 1_500, args);
    }
  });

  it('takes no more from the agent than who reads it takes, and ends all the same when told to', async () => {
    let isHeld = (): boolean => false;
    const text = `${JSON.stringify(denied())}\n`.repeat(1_000);
    await agent([observing(), LIVE], (socket) => {
      const fill = (): void => {
        while (socket.write(text));
      };
      socket.on('drain', fill);
      fill();
      // Nothing has left for a while: neither the program nor the kernel takes more.
      let [taken, since] = [-1, 0];
      isHeld = () => {
        const now = socket.bytesWritten - socket.writableLength;
        if (now !== taken) [taken, since] = [now, performance.now()];
        return performance.now() - since > 1_000;
      };
    });
    const child = spawn(process.execPath, [PROGRAM, 'observe', '--socket', path, '-o', 'json'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdout.pause();
    await eventually(() => isHeld(), 'it takes no more');
    child.kill('SIGINT');
    await new Promise((resolve) => child.once('exit', resolve));
    assert.deepEqual([child.exitCode, child.signalCode], [0, null]);
    child.stdout.resume();
    await ended;
  });

  it('says what keeps the agent from telling all', async () => {
    await agent([
      observing({ denied: 'busy', allowed: 'unavailable' }),
      observing({ denied: 'busy', allowed: 'unavailable' }),
      observing({ denied: 'off' }),
      LIVE,
    ]);
    const { stderr } = await run(['--no-follow']).ran;
    assert.equal(
      stderr,
      `sluice: another program reads log group 100 (see /proc/net/netfilter/nfnetlink_log); until it ends, nothing that is refused is seen
sluice: the kernel tells of no new connections; set net.netfilter.nf_conntrack_events to 2
sluice: this agent logs no refused packets (--log-group 0): only what is allowed is seen
`,
    );
  });

  it('says what the agent refuses', async () => {
    const failed = (code: string, more: object = {}): string =>
      JSON.stringify({ kind: 'Failed', apiVersion: 'sluice.dev/v1', code, message: 'it is so', ...more });
    for (const [line, status, stderr] of [
      [failed('NAME_UNKNOWN', { name: 'shpo', known: ['dev', 'shop'] }), 2, 'sluice: it is so\nDid you mean shop?\n'],
      [failed('NAME_UNKNOWN', { name: 'x', known: ['production'] }), 2, 'sluice: it is so\nkubectl get pods -A shows what there is.\n'],
      [failed('LOG_GROUP_OFF'), 1, 'sluice: it is so\nStart it with --log-group 100, or look at what is allowed with --allowed.\n'],
    ] as const) {
      await agent([line]);
      assert.deepEqual(await run([]).ran, { status, stdout: '', stderr });
      await new Promise((resolve) => server?.close(resolve));
    }
  });

  it('waits for an agent that ends, and asks the next one for what happened meanwhile', async () => {
    await agent([observing(), LIVE]);
    const observe = run([]);
    await observe.seen(/waiting for it to come back[^]*is back/);
    observe.kill('SIGTERM');
    assert.equal((await observe.ran).status, 0);
    const [first, second] = requests;
    assert.equal(first?.since, undefined);
    assert.ok(Math.abs(Date.parse(second?.since ?? '') - Date.now()) < 30_000);
  });

  it('says that what it has asked is no agent, and that an agent ended before it had told all', async () => {
    for (const [lines, args, message] of [
      [
        ['HTTP/1.1 400 Bad Request'],
        [],
        /^sluice: what listens on .* has ended the connection, and said nothing that an agent says\nName the/,
      ],
      [[], ['--no-follow'], /^sluice: what listens on /],
      [[observing(), denied()], ['--no-follow'], /^sluice: the agent has ended before it had told all that it remembers\n/],
    ] as const) {
      await agent(lines);
      const { status, stdout, stderr } = await run(args).ran;
      assert.deepEqual([status, stdout.split('\n').length - 1], [1, lines.length < 2 ? 0 : 1], 'what it has told is shown');
      assert.match(stderr, message);
      await new Promise((resolve) => server?.close(resolve));
    }
  });

  it('ends quietly with who reads it', async () => {
    await agent([observing(), ...Array.from({ length: 4_000 }, (_, port) => denied({ destination: { ...DB, port } })), LIVE]);
    const child = spawn('sh', ['-c', `"${process.execPath}" "${PROGRAM}" observe --socket "${path}" --no-follow | head -n 1`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (text) => {
      stderr += String(text);
    });
    await new Promise((resolve) => child.once('close', resolve));
    assert.equal(stderr, '');
  });

  it('says what is wrong with a flag', async () => {
    for (const [args, stderr] of [
      [['--since', 'yesterday'], /'yesterday' is invalid\. It is a time before now, such as 90s/],
      [['--port', '0'], /A port is a number from 1 to 65535/],
      [['--port', '80/ICMP'], /The protocols are TCP, UDP and SCTP/],
      [['--limit', '0'], /It is a number from 1 on/],
      [['--direction', 'in'], /Allowed choices are ingress, egress/],
      [['--from', '10.0.0.300'], /^sluice: --from: "10\.0\.0\.300" is no name, address or CIDR\nName namespace\/pod/],
      [Array.from({ length: 101 }, () => ['--port', '80']).flat(), /^sluice: a flag is given more than 100 times\n/],
      [['--pod', 'web'], /^sluice: --pod: "web" is no pod\nWrite --pod namespace\/name, or --namespace beside it\./],
    ] as const) {
      const ran = await run(args).ran;
      assert.equal(ran.status, 2, args.join(' '));
      assert.match(ran.stderr, stderr);
    }
  });

  it('says that there is no agent', async () => {
    const { status, stderr } = await run([]).ran;
    assert.equal(status, 1);
    assert.match(stderr, /^sluice: no agent is running here: there is no .*\n.*Start the agent/);
  });
});

describe('a time to look back to', () => {
  const NOW = Date.UTC(2020, 0, 2, 12);

  it('is so long ago, or a time with its zone', () => {
    for (const [text, wanted] of [
      ['90s', '2020-01-02T11:58:30.000Z'],
      ['1h30m', '2020-01-02T10:30:00.000Z'],
      ['2d', '2019-12-31T12:00:00.000Z'],
      ['1.5h', '2020-01-02T10:30:00.000Z'],
      ['500ms', '2020-01-02T11:59:59.500Z'],
      ['2020-01-02T12:00:00Z', '2020-01-02T12:00:00.000Z'],
      ['2020-01-02 12:00:00.25+02:00', '2020-01-02T10:00:00.250Z'],
      ['1000000d', '1970-01-01T00:00:00.000Z'],
      [`${'9'.repeat(400)}d`, '1970-01-01T00:00:00.000Z'],
      ['0000-01-01T00:00:00+01:00', '1970-01-01T00:00:00.000Z'],
    ] as const)
      assert.equal(parseSince(text, NOW), wanted, text);
  });

  it('is nothing else', () => {
    for (const text of ['', '5', 'm', '5 m', '-5m', '5m!', 'yesterday', '2020-01-02', '2020-01-02T12:00:00', '2020-13-02T12:00:00Z'])
      assert.throws(() => parseSince(text, NOW), /time before now/, text);
  });
});
