/** What `sluice observe` shows of real packets, and what agent and kernel may do to it meanwhile. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { PacketLog, Poller } from 'nftables-js';
import { parseAllDocuments } from 'yaml';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { formatAddress } from '../../../src/policy/address.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { AgentProcess, PROGRAM } from '../support/agent-process.ts';
import { eventually } from '../support/eventually.ts';
import { type KubernetesObject, peer, policyObject, tcp } from '../support/objects.ts';
import { ObserveProcess } from '../support/observe-process.ts';

const GROUP = 100;

describe('sluice observe', function () {
  this.timeout(60_000);
  let cluster: AgentLab;
  const observers: ObserveProcess[] = [];

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'web', node: 'n1' },
        { namespace: 'dev', name: 'far', node: 'n2' },
        { namespace: 'shop', name: 'db', node: 'n1' },
        { namespace: 'shop', name: 'mute', node: 'n1' },
        { namespace: 'shop', name: 'open', node: 'n1' },
      ],
      podLabels: {
        'dev/web': { app: 'web', 'pod-template-hash': 'abc' },
        'dev/far': { app: 'far' },
        'shop/db': { app: 'db' },
        'shop/mute': { app: 'mute' },
        'shop/open': { app: 'open' },
      },
      objects: [
        policyObject('shop', 'db-from-far', {
          podSelector: { matchLabels: { app: 'db' } },
          ingress: [{ from: [peer({ app: 'far' }, { 'kubernetes.io/metadata.name': 'dev' })], ports: tcp(80) }],
        }),
        policyObject('shop', 'db-closed', { podSelector: { matchLabels: { app: 'db' } } }),
        policyObject('shop', 'no-egress', { podSelector: { matchLabels: { app: 'mute' } }, policyTypes: ['Egress'] }),
      ],
      agents: false,
    });
    // One agent: what it sees of the other node's pods it knows from the cluster alone.
    cluster.start('n1');
    await cluster.settled();
  });

  afterEach(async () => {
    await Promise.all(observers.splice(0).map((observer) => observer.end('SIGKILL')));
  });

  after(() => cluster.close());

  function observe(...args: readonly string[]): ObserveProcess {
    const observer = new ObserveProcess(cluster.lab, 'n1', cluster.agent('n1').observeSocket, args);
    observers.push(observer);
    return observer;
  }

  /** Resolves when it reads what happens from now on: with everything that is remembered, that is seen by what comes of it. */
  async function observing(...args: readonly string[]): Promise<ObserveProcess> {
    const observer = observe('-o', 'json', ...args);
    const marker = { from: 'dev/web', to: 'shop/db', port: 81, protocols: ['TCP'] as const, families: [4] as const };
    await eventually(
      async () => {
        if (observer.records().length > 0) return true;
        await cluster.expect('denied', marker);
        return observer.records().length > 0;
      },
      () => `the first record\n${observer.stderr}`,
    );
    return observer;
  }

  function addressOf(pod: string, family: 4 | 6): string {
    const address = cluster.lab.addresses(pod).find((each) => typeof each === (family === 4 ? 'number' : 'bigint'));
    assert.ok(address !== undefined);
    return formatAddress(address);
  }

  it('names the pods, the port, the direction and the policies that isolate, of both families and directions', async () => {
    const observer = await observing();
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 80 }, { from: 'shop/mute', to: 'dev/far', port: 80 });
    const seen = (family: 4 | 6, protocol: string, direction: string) =>
      observer
        .denied()
        .find(
          (record) =>
            record.destination.port === 80 &&
            record.protocol === protocol &&
            record.direction === direction &&
            record.source.address === addressOf(direction === 'ingress' ? 'dev/web' : 'shop/mute', family),
        );
    const kinds = ([4, 6] as const).flatMap((family) =>
      ['TCP', 'UDP'].flatMap((protocol) => ['ingress', 'egress'].map((direction) => ({ family, protocol, direction }))),
    );
    await observer.until(
      () => kinds.every(({ family, protocol, direction }) => seen(family, protocol, direction) !== undefined),
      'a record of each kind',
    );
    for (const { family, protocol, direction } of kinds) {
      const { time, source, destination, ...rest } = seen(family, protocol, direction) ?? assert.fail();
      assert.ok(Math.abs(Date.parse(time) - Date.now()) < 30_000, time);
      const [from, to] = direction === 'ingress' ? ['dev/web', 'shop/db'] : ['shop/mute', 'dev/far'];
      assert.deepEqual(
        [source.address, `${source.namespace}/${source.pod}`, destination.address, `${destination.namespace}/${destination.pod}`],
        [addressOf(from ?? '', family), from, addressOf(to ?? '', family), to],
      );
      assert.deepEqual(rest, {
        kind: 'Denied',
        apiVersion: 'sluice.dev/v1',
        node: 'n1',
        protocol,
        protocolNumber: protocol === 'TCP' ? 6 : 17,
        direction,
        audited: false,
        policies: direction === 'ingress' ? ['shop/db-closed', 'shop/db-from-far'] : ['shop/no-egress'],
        reason: 'refused',
      });
    }
    await observer.endsWell();
  });

  it('tells what was refused before, with --since; and only that, with --no-follow', async () => {
    const since = new Date().toISOString();
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4711, protocols: ['UDP'], families: [4] });
    await eventually(async () => {
      const observer = observe('-o', 'json', '--since', since, '--no-follow');
      assert.deepEqual([await observer.ended(), observer.stderr], [0, '']);
      return observer.denied().some(({ destination }) => destination.port === 4711);
    }, 'the packet is remembered');
    const later = observe('-o', 'json', '--since', new Date(Date.now() + 60_000).toISOString(), '--no-follow');
    assert.deepEqual([await later.ended(), later.stdout, later.stderr], [0, '', '']);
  });

  it('shows several readers what each asked for', async () => {
    const all = await observing();
    const udp = await observing('--port', '81', '--port', '4712/UDP', '--from', addressOf('dev/web', 4));
    const mute = observe('-o', 'json', '--pod', 'shop/mute');
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4712 }, { from: 'shop/mute', to: 'dev/far', port: 4712 });
    await all.until(() => all.denied().filter(({ destination }) => destination.port === 4712).length >= 8, 'all are shown');
    // It may only now begin to read: nobody has waited for that.
    await eventually(
      async () => {
        await cluster.expect('denied', { from: 'shop/mute', to: 'dev/far', port: 4713 });
        return mute.denied().some(({ destination }) => destination.port === 4713);
      },
      () => `what concerns the pod\n${mute.stderr}`,
    );
    assert.deepEqual([...new Set(mute.denied().map(({ source }) => source.pod))], ['mute']);
    const seen = udp.denied().filter(({ destination }) => destination.port === 4712);
    assert.deepEqual([...new Set(seen.map(({ protocol, source }) => `${protocol} ${source.address}`))], [`UDP ${addressOf('dev/web', 4)}`]);
    for (const observer of [all, udp, mute]) await observer.endsWell();
  });

  it('says exactly how many refused packets it did not show', async () => {
    const observer = await observing('--to', 'shop/db');
    // From here on: what the counter says and what has been shown agree, once what was on its way has arrived.
    const sum = (): number => observer.denied().length + observer.dropped().reduce((total, { count = 0 }) => total + count, 0);
    let before = -1;
    await eventually(
      async () => {
        const dropped = await cluster.dropped('ingress', 'shop/db');
        const offset = dropped - sum();
        const isStable = offset === before;
        before = offset;
        return isStable;
      },
      'the counter stands still',
      { everyMs: 600 },
    );
    const stream = await cluster.lab.startStream(
      { from: 'dev/web', to: 'shop/db', port: 80, protocol: 'UDP' },
      { perSecond: 300, timeoutMs: 200 },
    );
    await observer.until(() => observer.dropped().length >= 2, 'some are not shown');
    await stream.stop();
    await eventually(
      async () => (await cluster.dropped('ingress', 'shop/db')) - sum() === before,
      () => `shown ${observer.denied().length}, ${JSON.stringify(observer.dropped())}, offset ${before}`,
    );
    assert.ok(observer.dropped().every(({ of, reason }) => of === 'Denied' && reason === 'rate'));
    assert.ok(observer.dropped().reduce((total, { count = 0 }) => total + count, 0) > 100);
    await observer.endsWell();
  });

  it('goes on for the others while a reader takes nothing', async () => {
    const stopped = await observing();
    const other = await observing();
    stopped.signal('SIGSTOP');
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4714, protocols: ['TCP'], families: [4] });
    await other.until(() => other.denied().some(({ destination }) => destination.port === 4714), 'the other sees it');
    stopped.signal('SIGCONT');
    await stopped.until(() => stopped.denied().some(({ destination }) => destination.port === 4714), 'it sees it afterwards');
    for (const observer of [stopped, other]) await observer.endsWell();
  });

  it('prints lines for people, repeats in one', async () => {
    const since = new Date().toISOString();
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4715, protocols: ['UDP'], families: [4] });
    const observer = observe('--since', since, '--port', '4715', '--limit', '1');
    assert.equal(await observer.ended(), 0);
    const [web, db] = [addressOf('dev/web', 4), addressOf('shop/db', 4)];
    assert.match(
      observer.stdout,
      new RegExp(
        `^\\d\\d:\\d\\d:\\d\\d\\.\\d{3}  ingress  dev/web \\(${web}\\) -> shop/db \\(${db}\\) UDP 4715  refused by shop/db-closed, shop/db-from-far(  x \\d+)?\\n$`,
      ),
    );
  });

  it('suggests a policy that admits the flow once it is applied', async () => {
    const flow = { from: 'dev/web', to: 'shop/db', port: 80, protocols: ['TCP'], families: [4] } as const;
    const since = new Date().toISOString();
    await cluster.expect('denied', flow);
    const observer = observe('--since', since, '--port', '80/TCP', '--limit', '1', '--suggest');
    assert.equal(await observer.ended(), 0);
    const [object] = parseAllDocuments(observer.stdout).map((document): KubernetesObject | null => document.toJS());
    assert.ok(object, observer.stdout);
    assert.equal(object.kind, 'NetworkPolicy');
    await cluster.apply(object);
    await cluster.expectAll([
      ['allowed', flow],
      ['denied', { ...flow, port: 81 }],
      ['denied', { ...flow, from: 'shop/open' }],
      ['allowed', { ...flow, to: 'shop/open' }],
    ]);
    await cluster.remove(object);
  });

  it('shows what is allowed, with --allowed, once a flow, and who admitted it', async () => {
    const observer = await observing('--allowed');
    const far = { from: 'dev/far', to: 'shop/db', port: 80, protocols: ['TCP'], families: [4, 6] } as const;
    await cluster.expect('allowed', far, { from: 'dev/web', to: 'shop/open', port: 80, protocols: ['UDP'], families: [4] });
    const named = (pod: string) => observer.allowed().filter(({ destination }) => destination.pod === pod && destination.port === 80);
    await observer.until(() => named('db').length >= 2 && named('open').length > 0, 'the flows');
    assert.deepEqual(named('db').map(({ protocol, egress, ingress, source }) => ({ protocol, source: source.pod, egress, ingress }))[0], {
      protocol: 'TCP',
      source: 'far',
      egress: { allowed: true, reason: 'not-isolated', policies: [], node: 'n2' },
      ingress: { allowed: true, reason: 'admitted', policies: ['shop/db-from-far'], place: 'ingress[0].from[0]' },
    });
    // A flow between two pods of the node is one flow.
    assert.deepEqual(
      named('open').map(({ source, egress, ingress }) => [source.pod, egress.reason, ingress.reason]),
      [['web', 'not-isolated', 'not-isolated']],
    );
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4716, protocols: ['TCP'], families: [4] });
    await observer.until(() => observer.denied().some(({ destination }) => destination.port === 4716), 'what is refused as well');
    await observer.endsWell();
  });

  it('says which name does not exist, and which is the nearest that does', async () => {
    for (const [args, message] of [
      [['--pod', 'shop/dbb'], 'sluice: there is no pod dbb in namespace shop\nDid you mean db?\n'],
      [['-n', 'shpo'], 'sluice: there is no namespace shpo\nDid you mean shop?\n'],
      [['--to', 'shpo/db'], 'sluice: there is no namespace shpo\nDid you mean shop?\n'],
    ] as const) {
      const observer = observe(...args);
      assert.deepEqual([await observer.ended(), observer.stdout, observer.stderr], [2, '', message]);
    }
  });

  it('says who is refused the socket, and why there may be none', async () => {
    const { observeSocket } = cluster.agent('n1');
    assert.equal(statSync(observeSocket).mode & 0o777, 0o600);
    // As somebody who is not its owner, whoever runs the test: root without the right to pass permissions by, before a closed directory.
    mkdirSync('/run/closed', { mode: 0 });
    const other = ['setpriv', '--bounding-set=-dac_override,-dac_read_search', process.execPath, PROGRAM, 'observe', '--socket'];
    const refused = await cluster.lab.exec('node/n1', [...other, '/run/closed/observe.sock'], { check: false });
    assert.deepEqual(
      [refused.status, refused.stderr],
      [1, 'sluice: opening /run/closed/observe.sock is not permitted\nIt is for root only: it tells who talks to whom.\n'],
    );
    const missing = await cluster.lab.exec('node/n1', [process.execPath, PROGRAM, 'observe', '--socket', '/run/none.sock'], {
      check: false,
    });
    assert.equal(missing.status, 1);
    assert.match(
      missing.stderr,
      /^sluice: no agent is running here: there is no \/run\/none\.sock\nAn agent holds this node; it has another --observe-socket/,
    );
    const bare = await cluster.lab.exec('outside', [process.execPath, PROGRAM, 'observe', '--socket', '/run/none.sock'], { check: false });
    assert.match(bare.stderr, /^sluice: no agent is running here: .*\nThis kernel has no table inet sluice either\. Start the agent/);
  });

  it('outlives the agent, and goes on with the next one', async () => {
    const observer = await observing();
    const first = cluster.agent('n1');
    await first.end('SIGTERM');
    assert.ok(!existsSync(first.observeSocket), 'the socket is gone with the agent');
    await observer.until(() => observer.stderr.includes('the agent has ended; waiting'), 'it says that the agent has ended');
    const stale = await cluster.lab.exec('node/n1', [process.execPath, PROGRAM, 'observe', '--socket', first.observeSocket], {
      check: false,
    });
    assert.match(stale.stderr, /The rules of an earlier agent are in force/);
    cluster.start('n1', { args: ['--observe-socket', first.observeSocket] });
    await cluster.settled(['n1']);
    await observer.until(() => observer.stderr.includes('the agent is back'), 'it says that it is back');
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4717, protocols: ['TCP'], families: [4] });
    await observer.until(() => observer.denied().some(({ destination }) => destination.port === 4717), 'it goes on');

    // Killed, an agent leaves its socket: the next one takes its place.
    await cluster.agent('n1').end('SIGKILL');
    assert.ok(existsSync(first.observeSocket));
    const nobody = await cluster.lab.exec('node/n1', [process.execPath, PROGRAM, 'observe', '--socket', first.observeSocket], {
      check: false,
    });
    assert.match(nobody.stderr, /nobody listens on/);
    cluster.start('n1', { args: ['--observe-socket', first.observeSocket] });
    await cluster.settled(['n1']);
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4718, protocols: ['TCP'], families: [4] });
    await observer.until(() => observer.denied().some(({ destination }) => destination.port === 4718), 'it goes on again');
    assert.equal(await observer.end(), 0);
    await cluster.agent('n1').end();
    cluster.start('n1');
    await cluster.settled(['n1']);
  });

  it('shows what rules refuse whose policies the agent does not know yet, and takes no name for wrong', async () => {
    await cluster.agent('n1').end();
    const kubeconfig = '/run/nowhere.kubeconfig';
    const nowhere = {
      clusters: [{ name: 'x', cluster: { server: 'http://127.0.0.1:1' } }],
      contexts: [{ name: 'x', context: { cluster: 'x' } }],
    };
    writeFileSync(kubeconfig, JSON.stringify({ apiVersion: 'v1', kind: 'Config', 'current-context': 'x', users: [], ...nowhere }));
    const agent = new AgentProcess(cluster.lab, 'n1', { source: ['--kubeconfig', kubeconfig], state: '/run', name: 'nowhere', args: [] });
    await eventually(
      () => existsSync(agent.observeSocket),
      () => JSON.stringify(agent.log()),
    );
    const observer = new ObserveProcess(cluster.lab, 'n1', agent.observeSocket, ['-o', 'json', '--pod', 'shop/db', '--since', '1m']);
    observers.push(observer);
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4720, protocols: ['TCP'], families: [4] });
    await observer.until(() => observer.denied().some(({ destination }) => destination.port === 4720), 'the record');
    const record = observer.denied().find(({ destination }) => destination.port === 4720);
    assert.deepEqual(
      [record?.destination.namespace, record?.destination.pod, record?.policies, record?.reason],
      ['shop', 'db', [], 'unknown'],
    );
    assert.deepEqual(observer.dropped(), [], 'what was counted before is not taken for new');
    await observer.endsWell();
    await agent.end('SIGKILL');
    cluster.start('n1');
    await cluster.settled(['n1']);
  });

  it('shows what an audited pod would refuse, and lets through', async () => {
    await cluster.agent('n1').end();
    cluster.start('n1', { args: ['--mode', 'audit'] });
    await cluster.settled(['n1']);
    const since = new Date().toISOString();
    const observer = observe('-o', 'json', '--since', since);
    await cluster.expect('allowed', { from: 'dev/web', to: 'shop/db', port: 80, protocols: ['TCP'], families: [4] });
    await observer.until(() => observer.denied().length > 0, 'the record');
    const [record] = observer.denied();
    assert.deepEqual([record?.audited, record?.direction, record?.policies], [true, 'ingress', ['shop/db-closed', 'shop/db-from-far']]);
    await observer.endsWell();
    await cluster.agent('n1').end();
    cluster.start('n1');
    await cluster.settled(['n1']);
  });

  it('does not take a socket that another process listens on, and enforces all the same', async () => {
    await cluster.agent('n1').end();
    const path = `/run/taken.sock`;
    const other = createServer();
    await new Promise<void>((resolve) => {
      other.listen(path, resolve);
    });
    const agent = cluster.start('n1', { args: ['--observe-socket', path] });
    await cluster.settled(['n1']);
    await eventually(() => agent.log().some(({ code }) => code === 'OBSERVE_SOCKET_TAKEN'), 'it says so');
    await cluster.expect('denied', { from: 'dev/web', to: 'shop/db' });
    await new Promise((resolve) => {
      other.close(resolve);
    });
    await eventually(async () => {
      const observer = new ObserveProcess(cluster.lab, 'n1', path, ['--since', '1m', '--no-follow', '-o', 'json']);
      return (await observer.ended()) === 0 && observer.denied().length > 0;
    }, 'it takes it when it is free');
    assert.equal(agent.log().filter(({ code }) => code === 'OBSERVE_SOCKET_TAKEN').length, 1);
    await agent.end();
    cluster.start('n1');
    await cluster.settled(['n1']);
  });

  it('says that another program reads the log group, and goes on when it has ended', async () => {
    await cluster.agent('n1').end();
    const poller = new Poller();
    const taken = inNamespace(cluster.lab.netns('node/n1'), () => PacketLog.open({ poller, group: GROUP, onEvent: () => undefined }));
    const agent = cluster.start('n1');
    await cluster.settled(['n1']);
    assert.equal(agent.log().filter(({ code }) => code === 'LOG_GROUP_TAKEN').length, 1);
    const observer = observe('-o', 'json');
    await observer.until(() => observer.stderr.includes('another program reads log group 100'), 'it says so');
    taken.close();
    poller.close();
    await eventually(
      async () => {
        await cluster.expect('denied', { from: 'dev/web', to: 'shop/db', port: 4719, protocols: ['TCP'], families: [4] });
        return observer.denied().length > 0;
      },
      'it is read again',
      { withinMs: 30_000 },
    );
    assert.equal(await observer.end(), 0);
  });
});
