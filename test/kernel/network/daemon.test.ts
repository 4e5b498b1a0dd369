/** `sluice network` as a program: real processes with leases in a directory, real packets between pods of different nodes. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { run } from '../../../src/lab/namespaces.ts';
import { eventually } from '../support/eventually.ts';
import { DaemonNodes } from './support/daemon-nodes.ts';

/** Bytes of an ICMP echo's headers. */
const HEADERS = 28;

describe('sluice network', function () {
  this.timeout(90_000);
  let nodes: DaemonNodes | undefined;

  before(function () {
    onlyInSandbox(this);
  });
  afterEach(async () => {
    await nodes?.close();
    nodes = undefined;
  });

  const create = async (names: readonly string[], conf: object): Promise<DaemonNodes> => {
    nodes = await DaemonNodes.create(names, conf);
    for (const name of names) nodes.start(name);
    await Promise.all(names.map((name) => created().ready(name)));
    return nodes;
  };
  const created = (): DaemonNodes => nodes ?? assert.fail('no nodes');
  const subnet = (of: DaemonNodes, node: string): string =>
    /FLANNEL_SUBNET=(.*)/.exec(readFileSync(of.file(node, 'subnet.env'), 'utf8'))?.[1] ?? '';
  const mtu = (of: DaemonNodes, node: string): number =>
    Number(/FLANNEL_MTU=(\d+)/.exec(readFileSync(of.file(node, 'subnet.env'), 'utf8'))?.[1]);
  const echo = async (of: DaemonNodes, from: string, to: string, size: number, count = 2): Promise<string> => {
    const argv = ['ping', '-n', '-c', String(count), '-i', '0.1', '-W', '2', '-M', 'do', '-s', String(size - HEADERS), to];
    return (await run(of.netns(from), argv, { check: false })).stdout;
  };
  const route = (of: DaemonNodes, node: string): Promise<string> => of.exec(node, 'ip', 'route');

  for (const [backend, ways] of [
    [{ Type: 'vxlan' }, 'flannel.1'],
    [{ Type: 'vxlan', DirectRouting: true }, 'eth0'],
    [{ Type: 'host-gw' }, 'eth0'],
    [{ Type: 'udp' }, 'flannel0'],
  ] as const) {
    it(`carries the largest packets between the pods of three nodes: ${JSON.stringify(backend)}`, async () => {
      const names = ['a', 'b', 'c'];
      const of = await create(names, { Backend: backend });
      assert.deepEqual(new Set(names.map((name) => subnet(of, name))), new Set(['10.244.1.1/24', '10.244.2.1/24', '10.244.3.1/24']));
      const pods = await Promise.all(names.map((name) => of.addPod(name)));
      for (const from of pods) {
        for (const to of pods) {
          if (from === to) continue;
          // The first packet may come before the peer is known.
          await eventually(
            async () => /bytes from/.test(await echo(of, from.name, to.address, 100, 1)),
            `${from.name} reaching ${to.name}`,
          );
          const largest = mtu(of, from.name.charAt(0));
          assert.match(await echo(of, from.name, to.address, largest), / 0% packet loss/);
        }
      }
      assert.match(await route(of, 'a'), new RegExp(`^10\\.244\\..* dev ${ways}`, 'm'));
    });
  }

  it('gives a node back the subnet that it had, and loses no packet when it is killed and started again', async () => {
    const of = await create(['a', 'b'], { Backend: { Type: 'vxlan' } });
    const [from, to] = [await of.addPod('a'), await of.addPod('b')];
    await eventually(async () => /bytes from/.test(await echo(of, from.name, to.address, 100, 1)), 'the pods reaching each other');
    const [before, index] = [subnet(of, 'a'), await of.exec('a', 'cat', '/sys/class/net/flannel.1/ifindex').catch(() => '')];
    const pinging = run(of.netns(from.name), ['ping', '-n', '-c', '150', '-i', '0.02', '-W', '2', to.address], { check: false });
    for (const [round, signal] of (['SIGKILL', 'SIGTERM'] as const).entries()) {
      await of.stop('a', signal);
      of.start('a');
      await of.ready('a', round + 2);
    }
    assert.match((await pinging).stdout, /150 packets transmitted, 150 received/);
    assert.equal(subnet(of, 'a'), before);
    assert.equal(await of.exec('a', 'cat', '/sys/class/net/flannel.1/ifindex').catch(() => ''), index);
    const log = of.log('a').split('"message":"waiting"').at(-1) ?? '';
    assert.doesNotMatch(log, /flannel\.1 made|"object":"(route|neighbour|forwarding)"/);
  });

  it('writes what others read again, within a second of its being removed', async () => {
    const of = await create(['a'], { Backend: { Type: 'vxlan' } });
    for (const [directory, name] of [
      [join(of.state, 'a'), 'subnet.env'],
      [join(of.state, 'a'), '10-flannel.conflist'],
      [of.leases, 'a.json'],
    ] as const) {
      const file = join(directory, name);
      const text = readFileSync(file, 'utf8');
      rmSync(file);
      const at = performance.now();
      await eventually(() => existsSync(file), `${name} being written again`);
      assert.ok(performance.now() - at < 1000, `${name} took ${performance.now() - at} ms`);
      assert.equal(readFileSync(file, 'utf8'), text);
    }
    await eventually(() => (of.log('a').match(/"cause":"repair"/g) ?? []).length >= 3, 'the repairs being logged');
  });

  it('takes up a node that comes and lets go of one that leaves, in milliseconds of its lease', async () => {
    const of = await create(['a', 'b'], { Backend: { Type: 'vxlan' } });
    const lease = {
      subnet: '10.244.77.0/24',
      publicIP: '172.18.0.77',
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: '0e:04:00:00:00:77' },
    };
    writeFileSync(join(of.leases, '.new'), JSON.stringify(lease));
    await run(undefined, ['mv', join(of.leases, '.new'), join(of.leases, 'guest.json')]);
    await eventually(
      async () => /10\.244\.77\.0\/24 via 10\.244\.77\.0 dev flannel\.1 onlink/.test(await route(of, 'a')),
      'the route of the guest',
    );
    const forwarding = (): Promise<string> => of.exec('b', 'bridge', 'fdb', 'show', 'dev', 'flannel.1');
    await eventually(async () => /0e:04:00:00:00:77 dst 172\.18\.0\.77/.test(await forwarding()), 'the forwarding entry at the other node');
    rmSync(join(of.leases, 'guest.json'));
    await eventually(async () => !/10\.244\.77/.test(await route(of, 'a')), 'the route being removed');
    assert.doesNotMatch(await of.exec('a', 'ip', 'neigh', 'show', 'dev', 'flannel.1'), /10\.244\.77/);
  });

  it('says what it is waiting for, on its page and in its log, and what it has done, in its metrics', async () => {
    nodes = await DaemonNodes.create(['a'], { Backend: { Type: 'vxlan' } });
    const of = created();
    await of.ip('a', ['link set eth0 down', 'addr flush dev eth0']);
    of.start('a', ['--healthz-port', '9999', '--iface', 'eth0']);
    const page = (path: string, port: number): Promise<string> =>
      run(
        of.netns('a'),
        [process.execPath, '-e', `fetch('http://127.0.0.1:${port}${path}').then(async (r) => console.log(r.status, await r.text()))`],
        {
          check: false,
        },
      ).then(({ stdout }) => stdout);
    await eventually(
      async () => /^503 .*eth0/.test(await page('/readyz', 9999)),
      () => of.log('a'),
      { everyMs: 100 },
    );
    assert.match(await page('/healthz', 9999), /^200 ok/);
    await of.ip('a', ['link set eth0 up', 'addr add 172.18.0.2/16 dev eth0']);
    await of.ready('a');
    assert.match(await page('/readyz', 9999), /^200 ok/);
    await of.ip('a', ['link del flannel.1']);
    await eventually(
      async () => /sluice_network_changes_total\{object="link",cause="repair"\} 1/.test(await page('/metrics', 9479)),
      () => of.log('a'),
      {
        everyMs: 100,
      },
    );
    const metrics = await page('/metrics', 9479);
    assert.match(metrics, /^sluice_network_ready 1$/m);
    assert.match(metrics, /^sluice_network_peers 0$/m);
  });

  it('has its devices and the pods’ bridge ignore router advertisements, before they are up and whenever they are made again', async () => {
    const of = await create(['a'], { Backend: { Type: 'vxlan' } });
    const accepts = (device: string): Promise<string> => of.exec('a', 'sysctl', '-n', `net.ipv6.conf.${device}.accept_ra`).catch(() => '');
    for (const device of ['flannel/1', 'cni0']) {
      assert.equal(await accepts(device), '0\n');
      await of.ip('a', [`link del ${device.replace('/', '.')}`]);
      await eventually(async () => (await accepts(device)) === '0\n', `${device} being made again`);
    }
  });

  it('makes the bridge that the template of the runtime’s configuration names, with its MTU', async () => {
    nodes = await DaemonNodes.create(['a'], { Backend: { Type: 'vxlan' } });
    const of = created();
    const delegate = { bridge: 'br-pods', mtu: 1300, hairpinMode: true, isDefaultGateway: true };
    writeFileSync(
      join(of.state, 'cni-conf.json'),
      JSON.stringify({ name: 'cbr0', cniVersion: '0.3.1', plugins: [{ type: 'flannel', delegate }] }),
    );
    of.start('a');
    await of.ready('a');
    assert.match(await of.exec('a', 'ip', 'link', 'show', 'dev', 'br-pods'), /mtu 1300 /);
    assert.match(readFileSync(of.file('a', '10-flannel.conflist'), 'utf8'), /"bridge": "br-pods"/);
    assert.doesNotMatch(await of.exec('a', 'ip', 'link'), /cni0/);
  });

  it('ends on SIGTERM with status 0, and leaves everything as it is', async () => {
    const of = await create(['a', 'b'], { Backend: { Type: 'vxlan' } });
    await eventually(async () => / onlink/.test(await route(of, 'a')), 'the peer');
    const before = await route(of, 'a');
    await of.stop('a');
    assert.equal(await route(of, 'a'), before);
    assert.match(of.log('a'), /stopped; packets go on as they do/);
    assert.deepEqual(
      readdirSync(of.leases).filter((name) => name.endsWith('.json')),
      ['a.json', 'b.json'],
    );
  });

  it('says what is wrong with its configuration, by its field, and does nothing', async () => {
    nodes = await DaemonNodes.create(['a'], { Backend: { Type: 'vxlan', VNI: 'x' } });
    const of = created();
    of.start('a');
    await eventually(() => !of.running('a'), 'the end');
    assert.match(of.log('a'), /net-conf\.json: Backend\.VNI: expected a number from 1 to 16777215, not "x"/);
    assert.doesNotMatch(of.log('a'), / at .*\.ts:/);
    assert.doesNotMatch(await of.exec('a', 'ip', 'link'), /flannel/);
  });
});
