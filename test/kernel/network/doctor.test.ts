/**
 * `sluice doctor` as a process on a node in a namespace, which the network daemon has made and left: it is broken in one way after the
 * other by `ip`, `bridge`, `nft` and `iptables`; each is found, and gone once the commands have been run that the doctor prints.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import type { DoctorReport, Finding } from '../../../src/doctor/report.ts';
import { run, setSysctls, spawnIn } from '../../../src/lab/namespaces.ts';
import { conflist } from '../../../src/network/cni/conflist.ts';
import { LeaseDirectory } from '../../../src/network/lease-directory.ts';
import { parseNetConf } from '../../../src/network/net-conf.ts';
import { eventually } from '../support/eventually.ts';
import { NetworkNode } from './support/network-node.ts';

const PROGRAM = join(import.meta.dirname, '../../../bin/sluice.js');
const CONF = {
  Network: '10.244.0.0/16',
  EnableIPv6: true,
  IPv6Network: 'fd00:10:244::/48',
  EnableNFTables: true,
  Backend: { Type: 'vxlan' },
};
const OWN = { subnet: '10.244.100.0/24', ipv6Subnet: 'fd00:10:244:100::/64' };

interface Examination {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly report: DoctorReport;
}

class Patient {
  readonly node = new NetworkNode();
  readonly directory = mkdtempSync(join(tmpdir(), 'sluice-doctor-'));
  #conf: object = CONF;

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Made by the network daemon, which has ended; nobody repairs anything. */
  async make(conf: object = {}): Promise<void> {
    this.#conf = { ...CONF, ...conf };
    for (const name of ['leases', 'net.d', 'bin']) mkdirSync(this.path(name));
    for (const name of ['bridge', 'host-local', 'portmap']) writeFileSync(this.path(`bin/${name}`), '');
    writeFileSync(this.path('net-conf.json'), JSON.stringify(this.#conf));
    this.writeLease('self', OWN);
    for (const number of [1, 2]) this.writePeer(number);
    const { netns } = this.node;
    setSysctls(netns, {
      'net.ipv4.ip_forward': '1',
      'net.ipv6.conf.all.forwarding': '1',
      'net.ipv4.conf.all.rp_filter': '0',
      'net.ipv4.conf.default.rp_filter': '0',
      'net.bridge.bridge-nf-call-iptables': '0',
      'net.bridge.bridge-nf-call-ip6tables': '0',
    });
    const parsed = parseNetConf(JSON.stringify(this.#conf), 'net-conf.json');
    const leases = new LeaseDirectory({
      directory: this.path('leases'),
      node: 'self',
      conf: parsed,
      subnetFile: undefined,
      onRepair: () => undefined,
    });
    const network = this.node.start(leases, this.#conf, {
      subnetFile: this.path('subnet.env'),
      masquerade: true,
      rules: { forward: true, randomFully: true, iptablesResyncSeconds: 60, spawn: (argv, options) => spawnIn(netns, argv, options) },
      bridge: 'cni0',
      cni: {
        file: this.path('net.d/10-flannel.conflist'),
        list: ({ mtu, families }) =>
          conflist({
            mtu,
            subnets: families.map(({ subnet }) => subnet),
            networks: families.map((family) => family.network),
            ipMasq: true,
            bridge: 'cni0',
          }),
      },
    });
    await network.settled();
    assert.deepEqual(this.node.failures, []);
    await eventually(() => existsSync(this.path('net.d/10-flannel.conflist')), 'the configuration of the runtime');
    await this.node.stop();
  }

  async close(): Promise<void> {
    await this.node.close();
    rmSync(this.directory, { recursive: true });
  }

  writeLease(node: string, fields: object): void {
    writeFileSync(this.path(`leases/${node}.json`), JSON.stringify(fields));
  }

  writePeer(number: number, fields: object = {}): void {
    this.writeLease(`peer-${number}`, {
      subnet: `10.244.${number}.0/24`,
      ipv6Subnet: `fd00:10:244:${number}::/64`,
      publicIP: `172.18.0.10${number}`,
      publicIPv6: `fd00:172:18::10${number}`,
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: `0e:04:00:00:00:0${number}` },
      backendV6Data: { VNI: 1, VtepMAC: `0e:06:00:00:00:0${number}` },
      ...fields,
    });
  }

  /** Changes this node's own file, as somebody with an editor would. */
  changeLease(fields: object): void {
    const before = JSON.parse(readFileSync(this.path('leases/self.json'), 'utf8')) as object;
    this.writeLease('self', { ...before, ...fields });
  }

  flags(): string[] {
    const flags = {
      '--net-config-path': this.path('net-conf.json'),
      '--lease-dir': this.path('leases'),
      '--node': 'self',
      '--subnet-file': this.path('subnet.env'),
      '--cni-conf-file': this.path('net.d/10-flannel.conflist'),
      '--cni-bin-dir': this.path('bin'),
    };
    return Object.entries(flags).flat();
  }

  async examine(...more: readonly string[]): Promise<Examination> {
    const argv = [process.execPath, PROGRAM, 'doctor', ...this.flags(), '-o', 'json', ...more];
    const { status, stdout, stderr } = await run(this.node.netns, argv, { check: false });
    return { status, stdout, stderr, report: JSON.parse(stdout) as DoctorReport };
  }

  /** Runs what a finding says, as it says it. */
  async mend({ remedy }: Finding): Promise<void> {
    await run(this.node.netns, ['env', `HOME=${this.directory}`, 'sh', '-ec', remedy]);
  }

  async nft(...rules: readonly string[]): Promise<void> {
    await run(this.node.netns, ['nft', '-f', '-'], { input: rules.join('\n') });
  }

  async in(...argv: readonly string[]): Promise<void> {
    await run(this.node.netns, argv);
  }
}

function codesOf({ report }: Examination): string[] {
  return report.findings.map(({ code }) => code);
}

describe('sluice doctor', function () {
  this.timeout(120_000);
  let patient: Patient | undefined;

  before(function () {
    onlyInSandbox(this);
  });
  after(() => patient?.close());

  /** The node of the tests before, unless it was given up. */
  const healthy = async (): Promise<Patient> => {
    if (patient === undefined) {
      patient = new Patient();
      await patient.make();
    }
    return patient;
  };
  const giveUp = async (): Promise<void> => {
    await patient?.close();
    patient = undefined;
  };
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') await giveUp();
  });

  it('finds nothing on a healthy node, and says so as JSON and nothing else', async () => {
    const { status, stderr, report } = await (await healthy()).examine();
    assert.deepEqual([report.findings, stderr, status], [[], '', 0]);
    assert.deepEqual([report.apiVersion, report.kind], ['sluice/v1', 'DoctorReport']);
    const skipped = report.checks.filter(({ result }) => result !== 'ok').map(({ name, blind }) => [name, blind]);
    // What is left out on a newer kernel, and what has to be asked for.
    assert.deepEqual(skipped, [
      ['path-probe', undefined],
      ['checksum-offload', undefined],
    ]);
  });

  it('changes nothing, of the kernel and of files', async () => {
    const of = await healthy();
    // The bridge has no ports: the kernel says so a moment after it was made.
    await eventually(() => /cni0 .*linkdown/.test(of.node.state()), 'a bridge without carrier');
    const read = async (...argv: readonly string[]): Promise<string> => (await run(of.node.netns, argv)).stdout;
    // Nor is it the kernel's end of looking for duplicates that counts as a change.
    await eventually(async () => !(await read('ip', '-o', 'address')).includes('tentative'), 'addresses that are settled');
    const look = async (): Promise<string[]> => {
      return [
        of.node.state(),
        await read('ip', '-o', 'address'),
        await read('nft', '-a', 'list', 'ruleset'),
        await read('cat', '/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'),
        await read('sysctl', '-a', '-r', '^net.ipv[46].(conf|ip_forward)'),
        await read('ls', '-lR', '--time-style=full-iso', of.directory),
      ];
    };
    const before = await look();
    await of.examine();
    assert.deepEqual(await look(), before);
  });

  type Damage = (patient: Patient) => void | Promise<void>;
  const ip =
    (...argv: readonly string[]): Damage =>
    ({ node }) =>
      void node.ip(...argv);
  const all =
    (...damages: readonly Damage[]): Damage =>
    async (of) => {
      for (const damage of damages) await damage(of);
    };
  const sysctl =
    (...values: readonly string[]): Damage =>
    (of) =>
      of.in('sysctl', '-qw', ...values);
  const nft =
    (...rules: readonly string[]): Damage =>
    (of) =>
      of.nft(...rules);
  const VTEP = '0e:04:00:00:00:01';

  /** Damages that the printed commands mend, with what is found: all of it, in its order. */
  const mendable: readonly (readonly [what: string, codes: readonly string[], damage: Damage])[] = [
    ['IPv4 forwarding that is off', ['FORWARDING_OFF'], sysctl('net.ipv4.ip_forward=0')],
    ['IPv6 forwarding that is off', ['FORWARDING_OFF'], sysctl('net.ipv6.conf.all.forwarding=0')],
    ['an interface whose packets are not forwarded', ['FORWARDING_OFF'], sysctl('net/ipv4/conf/flannel.1/forwarding=0')],
    [
      'a bridge that filters nothing',
      ['BRIDGE_FILTERING_OFF', 'BRIDGE_FILTERING_OFF'],
      ip('link', 'set', 'dev', 'cni0', 'type', 'bridge', 'nf_call_iptables', '0', 'nf_call_ip6tables', '0'),
    ],
    ['a bridge that is down', ['BRIDGE_DOWN', 'BRIDGE_ADDRESS'], ip('link', 'set', 'dev', 'cni0', 'down')],
    [
      'a bridge with the address of another subnet',
      ['BRIDGE_ADDRESS'],
      all(ip('address', 'del', '10.244.100.1/24', 'dev', 'cni0'), ip('address', 'add', '10.244.9.1/24', 'dev', 'cni0')),
    ],
    ['a device that is gone, and then what it had', ['DEVICE_MISSING'], ip('link', 'del', 'flannel.1')],
    [
      'a device that is down, and what went with it',
      ['DEVICE_DOWN', 'NEIGHBOUR_MISSING', 'ROUTE_MISSING'],
      ip('link', 'set', 'dev', 'flannel.1', 'down'),
    ],
    [
      'a device of another VNI by the same name',
      ['DEVICE_WRONG', 'NEIGHBOUR_MISSING', 'FORWARDING_MISSING', 'ROUTE_MISSING'],
      all(
        ip('link', 'del', 'flannel.1'),
        ip(...'link add flannel.1 mtu 1450 type vxlan id 7 dev eth0 local 172.18.0.1 dstport 8472 nolearning'.split(' ')),
        // Its hardware address has to be the one that was told, or that is found too.
        async (of) => {
          const told = JSON.parse(readFileSync(of.path('leases/self.json'), 'utf8')) as { backendData: { VtepMAC: string } };
          await of.in('ip', 'link', 'set', 'dev', 'flannel.1', 'address', told.backendData.VtepMAC, 'up');
        },
      ),
    ],
    ['a device that learns', ['DEVICE_LEARNING'], ip('link', 'set', 'dev', 'flannel.1', 'type', 'vxlan', 'learning')],
    [
      'addresses of a device that are missing and left over',
      ['DEVICE_ADDRESS', 'DEVICE_ADDRESS_LEFT_OVER'],
      all(ip('address', 'add', '10.244.9.0/32', 'dev', 'flannel.1'), ip('address', 'del', '10.244.100.0/32', 'dev', 'flannel.1')),
    ],
    [
      'another hardware address, as udev gives it',
      ['VTEP_MAC_DIFFERS', 'NEIGHBOUR_MISSING'],
      ip('link', 'set', 'dev', 'flannel.1', 'address', '02:00:00:00:00:99'),
    ],
    [
      'a device of another VNI with this node’s address',
      ['DEVICE_LEFT_OVER'],
      all(
        ip(...'link add flannel.42 type vxlan id 42 dev eth0 local 172.18.0.1 dstport 8472 nolearning'.split(' ')),
        ip('address', 'add', '10.244.100.0/32', 'dev', 'flannel.42'),
      ),
    ],
    ['a device of another VNI', ['DEVICE_FOREIGN'], ip(...'link add flannel.42 type vxlan id 42 dev eth0 dstport 8472'.split(' '))],
    ['a neighbour that is missing', ['NEIGHBOUR_MISSING'], ip('neigh', 'del', '10.244.1.0', 'dev', 'flannel.1')],
    [
      'neighbours that are wrong and left over',
      ['NEIGHBOUR_WRONG', 'NEIGHBOUR_LEFT_OVER'],
      all(
        ip('neigh', 'replace', '10.244.1.0', 'lladdr', '02:00:00:00:00:01', 'dev', 'flannel.1', 'nud', 'permanent'),
        ip('neigh', 'replace', '10.244.9.0', 'lladdr', '02:00:00:00:00:09', 'dev', 'flannel.1', 'nud', 'permanent'),
      ),
    ],
    [
      'forwarding entries that are gone, of both families',
      ['FORWARDING_MISSING', 'FORWARDING_MISSING'],
      ({ node }) => {
        node.bridge('fdb', 'del', VTEP, 'dev', 'flannel.1', 'self');
        node.bridge('fdb', 'del', '0e:06:00:00:00:01', 'dev', 'flannel-v6.1', 'self');
      },
    ],
    [
      'a forwarding entry that leads elsewhere, and one of a node that is gone',
      ['FORWARDING_WRONG', 'FORWARDING_LEFT_OVER'],
      ({ node }) => {
        node.bridge('fdb', 'replace', VTEP, 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.200');
        node.bridge('fdb', 'append', '0e:04:00:00:00:09', 'dev', 'flannel.1', 'self', 'permanent', 'dst', '172.18.0.109');
      },
    ],
    [
      'routes that are missing, of both families',
      ['ROUTE_MISSING'],
      all(ip('route', 'del', '10.244.1.0/24'), ip('-6', 'route', 'del', 'fd00:10:244:1::/64')),
    ],
    [
      'routes that lead elsewhere and are left over',
      ['ROUTE_WRONG', 'ROUTE_LEFT_OVER'],
      all(
        ip('route', 'replace', '10.244.1.0/24', 'via', '172.18.0.254'),
        ip('route', 'add', '10.244.9.0/24', 'via', '10.244.9.0', 'dev', 'flannel.1', 'onlink'),
      ),
    ],
    [
      'an interface that became smaller',
      ['MTU_DEVICE', 'MTU_DEVICE', 'MTU_BRIDGE', 'MTU_SUBNET_FILE', 'CNI_MTU'],
      ip('link', 'set', 'dev', 'eth0', 'mtu', '1400'),
    ],
    [
      'a pod with too large packets',
      ['MTU_POD'],
      all(
        ip('link', 'add', 'veth0', 'mtu', '1500', 'type', 'veth', 'peer', 'name', 'pod0'),
        ip('link', 'set', 'dev', 'veth0', 'master', 'cni0'),
      ),
    ],
    ['subnet.env that is gone', ['SUBNET_FILE_MISSING'], (of) => rmSync(of.path('subnet.env'))],
    [
      'subnet.env of another subnet',
      ['SUBNET_FILE_WRONG'],
      (of) => {
        const text = readFileSync(of.path('subnet.env'), 'utf8');
        writeFileSync(of.path('subnet.env'), text.replace('FLANNEL_SUBNET=10.244.100.1', 'FLANNEL_SUBNET=10.244.9.1'));
      },
    ],
    ['a configuration of the runtime that is gone', ['CNI_CONF_MISSING'], (of) => rmSync(of.path('net.d/10-flannel.conflist'))],
    [
      'a configuration that another one hides',
      ['CNI_CONF_SHADOWED'],
      (of) => writeFileSync(of.path('net.d/05-x.conf'), '{"type":"portmap"}'),
    ],
    [
      'a configuration that is cut short',
      ['CNI_CONF_INVALID'],
      (of) => writeFileSync(of.path('net.d/10-flannel.conflist'), '{"name":"cbr0",'),
    ],
    [
      'a configuration of another subnet that masquerades too',
      ['CNI_SUBNET', 'CNI_MASQUERADES_TOO'],
      (of) => {
        const text = readFileSync(of.path('net.d/10-flannel.conflist'), 'utf8');
        writeFileSync(
          of.path('net.d/10-flannel.conflist'),
          text.replace('10.244.100.0/24', '10.244.9.0/24').replace('"ipMasq": false', '"ipMasq": true'),
        );
      },
    ],
    [
      'masquerade rules that are gone',
      ['MASQUERADE_MISSING', 'MASQUERADE_MISSING'],
      nft('delete table ip flannel-ipv4', 'delete table ip6 flannel-ipv6'),
    ],
    [
      'what peers are told of another VNI',
      ['VNI_DIFFERS'],
      (of) => of.changeLease({ backendData: { VNI: 7, VtepMAC: '0e:04:00:00:00:99' } }),
    ],
    ['what peers are told of another address', ['PUBLIC_ADDRESS_DIFFERS'], (of) => of.changeLease({ publicIP: '172.18.0.99' })],
    ['what peers are told of another backend', ['BACKEND_TYPE_DIFFERS'], (of) => of.changeLease({ backendType: 'host-gw' })],
    ['a lease of a peer that is no JSON', ['PEER_LEASE_UNREADABLE'], (of) => writeFileSync(of.path('leases/peer-3.json'), '{')],
    [
      'a peer with the hardware address of another',
      ['VTEP_MAC_DUPLICATE'],
      (of) => of.writePeer(3, { ipv6Subnet: undefined, publicIPv6: undefined, backendData: { VNI: 1, VtepMAC: VTEP } }),
    ],
    [
      'a peer with the public address of another',
      ['PUBLIC_ADDRESS_DUPLICATE'],
      (of) => of.writePeer(3, { ipv6Subnet: undefined, publicIPv6: undefined, publicIP: '172.18.0.101' }),
    ],
    [
      'a peer with this node’s public address',
      ['PEER_ADDRESS_IS_OWN'],
      (of) => of.writePeer(3, { ipv6Subnet: undefined, publicIPv6: undefined, publicIP: '172.18.0.1' }),
    ],
    [
      'peers whose subnets overlap',
      ['SUBNETS_OVERLAP'],
      (of) => of.writePeer(3, { ipv6Subnet: undefined, publicIPv6: undefined, subnet: '10.244.1.128/25' }),
    ],
    ['a peer with a subnet outside of the network', ['PEER_OUTSIDE_NETWORK'], (of) => of.writePeer(3, { subnet: '10.9.0.0/24' })],
    ['a peer with another VNI', ['PEER_UNREACHABLE'], (of) => of.writePeer(3, { backendData: { VNI: 9, VtepMAC: '0e:04:00:00:00:03' } })],
    [
      'a rule that drops the overlay’s port',
      ['FIREWALL_DROPS_OVERLAY', 'FIREWALL_DROPS_OVERLAY'],
      nft('table inet fw { chain in { type filter hook input priority 0; udp dport 8472 drop; }; }'),
    ],
    [
      'a policy that drops whatever no rule accepts',
      ['FIREWALL_DROPS_OVERLAY'],
      nft(
        'table ip fw {',
        'set admins { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }',
        'chain in { type filter hook input priority 0; policy drop;',
        'ct state vmap { established : accept, related : accept, invalid : drop }',
        'iifname "lo" accept; tcp dport { 22, 6443 } accept; ip saddr @admins accept; ip protocol icmp accept; jump more; }',
        'chain more { ip saddr 172.18.0.0/16 tcp dport 10250 accept; udp dport 53-5353 accept; }',
        '}',
      ),
    ],
    [
      'a chain that drops what pods send each other',
      ['FIREWALL_DROPS_PODS', 'FIREWALL_DROPS_PODS'],
      nft('table inet docker { chain f { type filter hook forward priority 0; policy drop; oifname "docker0" accept; }; }'),
    ],
    [
      'rules of iptables that drop the overlay’s port',
      ['FIREWALL_DROPS_OVERLAY'],
      async (of) => {
        await of.in('iptables', '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT');
        await of.in('iptables', '-A', 'INPUT', '-p', 'udp', '--dport', '53', '-j', 'ACCEPT');
        await of.in('iptables', '-A', 'INPUT', '-m', 'comment', '--comment', 'the rest', '-j', 'REJECT');
      },
    ],
    [
      'the policy of FORWARD that Docker sets, in iptables',
      ['FIREWALL_DROPS_PODS'],
      async (of) => {
        await of.in('iptables', '-P', 'FORWARD', 'DROP');
        await of.in('iptables', '-A', 'FORWARD', '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT');
        await of.in('iptables', '-A', 'FORWARD', '-i', 'docker0', '-j', 'ACCEPT');
      },
    ],
    [
      'rules of both forms of iptables',
      ['IPTABLES_MIXED'],
      async (of) => {
        await of.in('iptables', '-A', 'INPUT', '-s', '192.0.2.1', '-j', 'ACCEPT');
        await of.in('iptables-legacy', '-A', 'INPUT', '-s', '192.0.2.1', '-j', 'ACCEPT');
      },
    ],
    [
      'a policy of the older form of iptables',
      ['FIREWALL_DROPS_OVERLAY'],
      async (of) => {
        // Rules of both forms are a fault of their own.
        await of.nft('delete table ip filter');
        await of.in('iptables-legacy', '-P', 'INPUT', 'DROP');
        await of.in('iptables-legacy', '-A', 'INPUT', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT');
      },
    ],
    ['strict filtering by the reverse path', ['REVERSE_PATH_STRICT'], sysctl('net/ipv4/conf/flannel.1/rp_filter=1')],
    [
      'an address of the network on another interface',
      ['NODE_ADDRESS_IN_NETWORK'],
      ip('address', 'add', '10.244.77.5/32', 'dev', 'segment'),
    ],
    [
      'a route of a VPN into the network',
      ['ROUTE_IN_NETWORK'],
      ip('route', 'add', '10.244.77.0/24', 'via', '172.18.0.254', 'proto', 'static'),
    ],
  ];

  for (const [what, codes, damage] of mendable) {
    it(`finds ${what}, and says what mends it`, async () => {
      const of = await healthy();
      await damage(of);
      const found = await of.examine();
      // Of a peer that has just come nothing is in the kernel: only its lease is meant here.
      const told = codesOf(found).filter((code) => !what.includes('peer') || !code.endsWith('_MISSING'));
      assert.deepEqual(told, codes, JSON.stringify(found.report.findings, undefined, 1));
      assert.equal(found.status, codes.every((code) => code === 'REVERSE_PATH_STRICT') ? 0 : 1);
      for (const { evidence, message, subject } of found.report.findings)
        assert.ok(evidence.length > 0 && message !== '' && subject !== '');
      // What hangs on something else is told once that is there.
      let { report } = found;
      for (let round = 0; round < 3 && report.findings.length > 0; round++) {
        for (const finding of report.findings) await of.mend(finding);
        ({ report } = await of.examine());
      }
      assert.deepEqual(report.findings, []);
      assert.equal(report.checks.filter(({ result }) => result === 'findings').length, 0);
    });
  }

  describe('finds what no command on this node mends:', () => {
    afterEach(giveUp);

    const found = async (code: string, damage: Damage): Promise<Examination> => {
      const of = await healthy();
      await damage(of);
      const examination = await of.examine();
      assert.ok(codesOf(examination).includes(code), codesOf(examination).join());
      assert.equal(examination.status, 1);
      return examination;
    };

    it('no interface, and then says what could not be looked at', async () => {
      const { report } = await found('NO_INTERFACE', ip('route', 'flush', 'default'));
      const blind = report.checks.filter((check) => check.blind === true);
      assert.ok(blind.some(({ name, result, reason }) => name === 'devices' && result === 'skipped' && /default route/.test(reason ?? '')));
      // With the interface named, all of it can be.
      const named = await (await healthy()).examine('--iface', 'eth0');
      assert.deepEqual([codesOf(named), named.status], [[], 0]);
    });

    it('an interface that nothing is connected to', async () => {
      await found('INTERFACE_DOWN', ip('link', 'set', 'dev', 'segment', 'down'));
    });

    it('a peer with another backend', async () => {
      await found('PEER_BACKEND_DIFFERS', (of) => of.writePeer(3, { backendType: 'host-gw' }));
    });

    it('no lease', async () => {
      await found('LEASE_MISSING', (of) => rmSync(of.path('leases/self.json')));
    });

    it('a lease that nobody has told of', async () => {
      await found('NOT_ANNOUNCED', (of) => of.writeLease('self', OWN));
    });

    it('a lease outside of the network, and one that is no JSON', async () => {
      await found('LEASE_OUTSIDE_NETWORK', (of) => of.changeLease({ subnet: '10.9.0.0/24' }));
      await found('LEASE_UNREADABLE', (of) => writeFileSync(of.path('leases/self.json'), '{'));
    });

    it('a plugin that is missing', async () => {
      await found('CNI_PLUGIN_MISSING', (of) => rmSync(of.path('bin/host-local')));
    });

    it('a peer whose address is of the pod network', async () => {
      await found('PUBLIC_ADDRESS_IN_NETWORK', (of) => of.writePeer(1, { publicIP: '10.244.1.0' }));
    });

    it('a network that is a part of the segment', async () => {
      await found('NETWORK_IN_UNDERLAY', ip('address', 'add', '10.1.2.3/8', 'dev', 'segment'));
    });

    it('a rule that leads packets for pods into another table', async () => {
      const { report } = await found(
        'ROUTE_OVERRULED',
        all(
          ip('rule', 'add', 'to', '10.244.1.0/24', 'lookup', '100'),
          ip('route', 'add', 'default', 'via', '172.18.0.254', 'table', '100'),
        ),
      );
      assert.match(report.findings[0]?.evidence[0] ?? '', /via 172\.18\.0\.254 dev eth0, table 100$/);
    });
  });

  describe('looks at the way to peers', () => {
    afterEach(giveUp);

    it('by what the kernel knows of it, and sends nothing', async () => {
      const of = await healthy();
      of.node.ip('route', 'add', '172.18.0.101/32', 'dev', 'eth0', 'mtu', '1300');
      const before = of.node.ip('-s', 'neigh', 'show', 'dev', 'eth0');
      const examination = await of.examine();
      assert.deepEqual(codesOf(examination), ['PATH_MTU_SMALL']);
      assert.match(examination.report.findings[0]?.evidence[0] ?? '', /path to peer-1, 172\.18\.0\.101: MTU 1300/);
      // Nobody's hardware address was asked for.
      assert.equal(of.node.ip('-s', 'neigh', 'show', 'dev', 'eth0'), before);
    });

    it('by echo requests, and tells a way that loses large packets from one that answers nothing', async () => {
      const of = await healthy();
      of.writePeer(2, { publicIPv6: undefined, ipv6Subnet: undefined });
      const other = `${of.node.netns}-peer`;
      execFileSync('ip', ['netns', 'add', other]);
      try {
        // The other end of eth0 is in this namespace until now.
        of.node.ip('link', 'set', 'segment', 'netns', other);
        const peer = (...argv: string[]): void => void execFileSync('ip', ['-n', other, ...argv]);
        peer('addr', 'add', '172.18.0.101/24', 'dev', 'segment');
        peer('addr', 'add', 'fd00:172:18::101/64', 'dev', 'segment', 'nodad');
        peer('link', 'set', 'segment', 'up');
        const probe = async (): Promise<DoctorReport> => {
          const { report, stderr } = await of.examine('--probe');
          assert.match(stderr, /sending echo requests to 2 peers …/);
          return report;
        };
        await eventually(async () => {
          const check = (await probe()).checks.find(({ name }) => name === 'path-probe');
          // peer-2 is nobody.
          return check?.blind === true && (check.reason ?? '').startsWith('no answer to any echo request from peer-2 (172.18.0.102):');
        }, 'answers of peer-1 over both families');
        // A link that takes no more than 1400 bytes, and throws larger packets away without a word.
        peer('link', 'set', 'segment', 'mtu', '1400');
        const holes = (await probe()).findings.filter(({ code }) => code === 'PATH_MTU_BLACK_HOLE');
        assert.deepEqual([...new Set(holes.map(({ subject }) => subject))], ['peer-1']);
        assert.equal(holes.length, 2);
      } finally {
        execFileSync('ip', ['netns', 'del', other]);
      }
    });
  });

  it('works on a node with the backend host-gw, and masquerade in iptables', async () => {
    await giveUp();
    const of = new Patient();
    try {
      await of.make({ EnableIPv6: false, IPv6Network: undefined, EnableNFTables: false, Backend: { Type: 'host-gw' } });
      for (const number of [1, 2])
        of.writePeer(number, {
          backendType: 'host-gw',
          backendData: undefined,
          ipv6Subnet: undefined,
          publicIPv6: undefined,
          backendV6Data: undefined,
        });
      const fresh = await of.examine();
      assert.deepEqual(codesOf(fresh), ['ROUTE_MISSING']);
      for (const finding of fresh.report.findings) await of.mend(finding);
      assert.deepEqual(codesOf(await of.examine()), []);
      await of.in('iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
      const without = await of.examine();
      assert.deepEqual(codesOf(without), ['MASQUERADE_MISSING']);
      for (const finding of without.report.findings) await of.mend(finding);
      const again = await of.examine();
      assert.deepEqual([codesOf(again), again.status], [[], 0]);
    } finally {
      await of.close();
    }
  });

  it('says what an ordinary user may not look at, and does not take it for in order', async () => {
    const of = await healthy();
    const argv = ['setpriv', '--bounding-set', '-all', '--inh-caps', '-all', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    execFileSync('chmod', ['-R', 'a+rX', of.directory]);
    const { status, stdout } = await run(of.node.netns, [...argv, process.execPath, PROGRAM, 'doctor', ...of.flags(), '-o', 'json'], {
      check: false,
    });
    const { findings, checks } = JSON.parse(stdout) as DoctorReport;
    assert.deepEqual([findings, status], [[], 1]);
    const firewall = checks.find(({ name }) => name === 'overlay-firewall');
    assert.deepEqual([firewall?.result, firewall?.blind], ['skipped', true]);
    assert.match(firewall?.reason ?? '', /CAP_NET_ADMIN is needed/);
    assert.ok(checks.find(({ name }) => name === 'entries')?.result === 'ok');
  });

  it('says what cannot be looked at without a cluster, and looks at the rest', async () => {
    const of = await healthy();
    const flags = of.flags();
    flags.splice(flags.indexOf('--lease-dir'), 2);
    const environment = ['env', '-u', 'KUBECONFIG', `HOME=${of.directory}`];
    const bare = await run(of.node.netns, [...environment, process.execPath, PROGRAM, 'doctor', ...flags, '-o', 'json'], { check: false });
    const { findings, checks } = JSON.parse(bare.stdout) as DoctorReport;
    // What takes longer than a second says how far it is.
    const said = bare.stderr.split('\n').filter((line) => line !== '' && !line.endsWith(' …'));
    assert.deepEqual([findings, bare.status, said], [[], 1, []]);
    assert.match(checks.find(({ name }) => name === 'peers')?.reason ?? '', /there is no kubeconfig/);
    // subnet.env says what the node should have.
    assert.equal(checks.find(({ name }) => name === 'devices')?.result, 'ok');
    const cluster = { cluster: { server: 'http://127.0.0.1:1' }, name: 'c' };
    writeFileSync(
      of.path('config'),
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [cluster],
        contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
        'current-context': 'c',
        users: [{ name: 'u', user: {} }],
      }),
    );
    const argv = [process.execPath, PROGRAM, 'doctor', ...flags, '--kubeconfig-file', of.path('config')];
    const table = await run(of.node.netns, [...environment, ...argv], { check: false });
    rmSync(of.path('config'));
    assert.equal(table.status, 1);
    assert.match(table.stdout, /^Could not be made$[^]*ECONNREFUSED/m);
  });

  it('prints for people in 80 columns, without colours where there is no terminal', async () => {
    const of = await healthy();
    of.node.ip('neigh', 'del', '10.244.1.0', 'dev', 'flannel.1');
    const { status, stdout, stderr } = await run(of.node.netns, [process.execPath, PROGRAM, 'doctor', ...of.flags()], { check: false });
    assert.deepEqual([status, stderr], [1, '']);
    // A command stands at the beginning of its line, and is copied from there.
    const command = stdout.split('\n').find((line) => line.startsWith('ip neigh'));
    assert.equal(command, 'ip neigh replace 10.244.1.0 lladdr 0e:04:00:00:00:01 dev flannel.1 nud permanent');
    assert.deepEqual(
      stdout.split('\n').filter((line) => line.length > 80 && !line.startsWith('ip ')),
      [],
    );
    assert.ok(!stdout.includes('\u001b'));
    await of.in('sh', '-c', command);
    assert.equal((await of.examine()).status, 0);
  });

  it('says how it was called wrongly', async () => {
    const of = await healthy();
    const call = async (...argv: string[]) => await run(of.node.netns, [process.execPath, PROGRAM, 'doctor', ...argv], { check: false });
    const missing = await call('--net-config-path', of.path('nowhere.json'));
    assert.equal(missing.status, 2);
    assert.match(missing.stderr, /nowhere\.json cannot be read: ENOENT\n.*--net-config-path.*\nkubectl -n kube-flannel get configmap/);
    const both = await call(...of.flags(), '--kubeconfig-file', of.path('config'));
    assert.deepEqual([both.status, /--lease-dir and --kubeconfig-file/.test(both.stderr)], [2, true]);
    const flags = of.flags().filter((flag) => flag !== '--lease-dir' && flag !== of.path('leases'));
    const config = await call(...flags, '--kubeconfig-file', of.path('config'));
    assert.deepEqual([config.status, config.stdout], [2, '']);
    renameSync(of.path('net-conf.json'), of.path('other.json'));
    writeFileSync(of.path('net-conf.json'), '{');
    const broken = await call(...of.flags());
    renameSync(of.path('other.json'), of.path('net-conf.json'));
    assert.deepEqual([broken.status, /it is no JSON/.test(broken.stderr)], [2, true]);
  });
});
