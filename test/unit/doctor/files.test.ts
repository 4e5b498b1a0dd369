import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkChecksumOffload, isCorrected } from '../../../src/doctor/checksum-offload.ts';
import { checkCniConfiguration } from '../../../src/doctor/cni-configuration.ts';
import { checkCniPlugins } from '../../../src/doctor/cni-plugins.ts';
import { readCniFiles, readLinkFiles, readText } from '../../../src/doctor/collect-files.ts';
import type { CniFiles } from '../../../src/doctor/evidence.ts';
import { checkLinkPolicy } from '../../../src/doctor/link-policy.ts';
import { checkSubnetFile } from '../../../src/doctor/subnet-file.ts';
import { codesOf, CONFLIST, HEALTHY, node, nodeWithLinks, SETTINGS, SUBNET_FILE, theFinding } from './healthy-node.ts';

describe('the check subnet-file', () => {
  const withFile = (text: string | undefined) => checkSubnetFile(node({ subnetFile: { seen: text } }));

  it('finds nothing where it is of this node', () => {
    assert.deepEqual(checkSubnetFile(HEALTHY), { findings: [] });
    assert.match(checkSubnetFile(node({ settings: { ...SETTINGS, subnetFile: undefined } })).idle ?? '', /--subnet-file off/);
  });

  it('finds that it is missing, as after a reboot, and says what it should hold', () => {
    const finding = theFinding(withFile(undefined), 'SUBNET_FILE_MISSING');
    assert.equal(finding.remedy, `mkdir -p /run/flannel\ncat > /run/flannel/subnet.env <<'END'\n${SUBNET_FILE}END`);
  });

  it('finds that it is of another subnet or network, each by its line', () => {
    const finding = theFinding(
      withFile(SUBNET_FILE.replace('10.244.0.1/24', '10.244.9.1/24').replace('fd00:10:244::/48', 'fd00:9::/48')),
      'SUBNET_FILE_WRONG',
    );
    assert.match(
      finding.message,
      /FLANNEL_SUBNET is of 10\.244\.9\.0\/24, and the node’s subnet is 10\.244\.0\.0\/24; FLANNEL_IPV6_NETWORK is of fd00:9::\/48/,
    );
    assert.ok(finding.evidence.includes('/run/flannel/subnet.env: FLANNEL_SUBNET=10.244.9.1/24'));
  });

  it('finds what cannot be read, and keeps what could', () => {
    const finding = theFinding(
      withFile(SUBNET_FILE.replace('FLANNEL_MTU=1430', 'FLANNEL_MTU=').replace('true', 'false')),
      'SUBNET_FILE_WRONG',
    );
    assert.match(finding.message, /^FLANNEL_MTU is missing/);
    assert.match(finding.remedy, /^FLANNEL_IPMASQ=false$/m);
  });
});

describe('the checks cni-configuration and cni-plugins', () => {
  const seen = 'seen' in HEALTHY.cni ? HEALTHY.cni.seen : assert.fail();
  const withCni = (changes: Partial<CniFiles>) => node({ cni: { seen: { ...seen, ...changes } } });
  const list = (plugin: object) =>
    withCni({ files: [{ name: '10-flannel.conflist', text: JSON.stringify({ name: 'cbr0', plugins: [plugin] }) }] });

  it('find nothing where the runtime takes the right one, and its programs are there', () => {
    assert.deepEqual(checkCniConfiguration(HEALTHY), { findings: [] });
    assert.deepEqual(checkCniPlugins(HEALTHY), { findings: [] });
  });

  it('find that there is none, or another one alone', () => {
    assert.match(theFinding(checkCniConfiguration(withCni({ files: [] })), 'CNI_CONF_MISSING').message, /nor any other/);
    const other = withCni({ files: [{ name: '05-calico.conflist', text: CONFLIST }] });
    assert.match(theFinding(checkCniConfiguration(other), 'CNI_CONF_MISSING').message, /the runtime takes 05-calico\.conflist/);
    assert.match(checkCniPlugins(withCni({ files: [] })).idle ?? '', /no configuration/);
  });

  it('find another one that sorts before it', () => {
    const both = withCni({ files: [{ name: '05-x.conf', text: '{"type":"ptp"}' }, ...seen.files] });
    const finding = theFinding(checkCniConfiguration(both), 'CNI_CONF_SHADOWED');
    assert.equal(finding.remedy, 'mv /etc/cni/net.d/05-x.conf /etc/cni/net.d/05-x.conf.disabled');
    assert.match(theFinding(checkCniPlugins(both), 'CNI_PLUGIN_MISSING').message, /this plugin is not there/);
  });

  it('find one that is no JSON, or has no plugins', () => {
    for (const text of ['{', '[]', '{"plugins":[]}', '{"plugins":[{}]}'])
      theFinding(checkCniConfiguration(withCni({ files: [{ name: '10-flannel.conflist', text }] })), 'CNI_CONF_INVALID');
  });

  it('find sizes, subnets and masquerading that are not this node’s', () => {
    theFinding(checkCniConfiguration(list({ type: 'bridge', mtu: 1500 })), 'CNI_MTU');
    theFinding(checkCniConfiguration(list({ type: 'flannel', delegate: { mtu: 1500 } })), 'CNI_MTU');
    const ranges = [[{ subnet: '10.244.9.0/24' }], [{ subnet: 'fd00:10:244::/64' }]];
    const subnet = theFinding(checkCniConfiguration(list({ type: 'bridge', ipam: { type: 'host-local', ranges } })), 'CNI_SUBNET');
    assert.match(subnet.message, /of 10\.244\.9\.0\/24, fd00:10:244::\/64, and this node’s subnet is 10\.244\.0\.0\/24, fd00:10:244::\/64/);
    assert.match(subnet.remedy, /"subnet": "10\.244\.0\.0\/24"/);
    theFinding(checkCniConfiguration(list({ type: 'bridge', ipMasq: true })), 'CNI_MASQUERADES_TOO');
    const apart = { ...list({ type: 'bridge', ipMasq: true }), subnetFile: { seen: SUBNET_FILE.replace('true', 'false') } };
    assert.deepEqual(codesOf(checkCniConfiguration(apart)), []);
  });

  it('find the programs that are missing, those behind the plugin flannel too', () => {
    const finding = theFinding(checkCniPlugins(withCni({ plugins: new Map([['/usr/lib/cni', ['portmap']]]) })), 'CNI_PLUGIN_MISSING');
    assert.equal(finding.subject, 'flannel, bridge, host-local');
    assert.deepEqual(finding.evidence.slice(1), ['/opt/cni/bin: not there', '/usr/lib/cni: portmap']);
    assert.match(finding.remedy, /^kubectl -n kube-flannel rollout restart/m);
  });

  it('read configurations in the order of the runtime, and no other files', () => {
    const directory = mkdtempSync(join(tmpdir(), 'doctor-'));
    try {
      for (const name of ['b.conflist', '10-b.conf', '9.json', 'B.conf', 'a.conf.disabled', 'x.txt'])
        writeFileSync(join(directory, name), '{}');
      const cni = readCniFiles(directory, [join(directory, 'none'), directory]);
      assert.ok('seen' in cni);
      assert.deepEqual(
        cni.seen.files.map(({ name }) => name),
        ['10-b.conf', '9.json', 'B.conf', 'b.conflist'],
      );
      assert.deepEqual([...cni.seen.plugins.keys()], [directory]);
      const none = readCniFiles(join(directory, 'none'), []);
      assert.ok('seen' in none && none.seen.files.length === 0);
      assert.ok('blind' in readText(directory), 'a directory is no file');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('the check link-policy', () => {
  const changed = nodeWithLinks({ 'flannel.1': { address: '02:00:00:00:00:99' } });
  const policy = (match: string, value = 'persistent', path = '/etc/systemd/network/1.link') => ({
    path,
    text: `[Match]\n${match}\n\n[Link]\nMACAddressPolicy=${value}\n`,
  });

  it('finds nothing while the hardware address is the one that peers know', () => {
    assert.deepEqual(checkLinkPolicy(HEALTHY), { findings: [] });
  });

  it('says that udev may have changed it', () => {
    const finding = theFinding(checkLinkPolicy(changed), 'MAC_ADDRESS_POLICY');
    assert.equal(finding.severity, 'notice');
    assert.equal(finding.evidence[0], '/usr/lib/systemd/network/99-default.link: MACAddressPolicy=persistent');
    assert.match(finding.remedy, /^OriginalName=flannel\*$/m);
  });

  it('goes by the first file that is for the device', () => {
    const files = (...list: readonly { path: string; text: string }[]) =>
      codesOf(checkLinkPolicy({ ...changed, linkFiles: { seen: list } }));
    assert.deepEqual(files(policy('OriginalName=flannel*', 'none'), policy('OriginalName=*')), []);
    assert.deepEqual(files(policy('OriginalName=eth* flannel.?')), ['MAC_ADDRESS_POLICY']);
    assert.deepEqual(files(policy('OriginalName=eth*')), []);
    assert.deepEqual(files(policy('Driver=vxlan')), ['MAC_ADDRESS_POLICY']);
    assert.deepEqual(files(policy('MACAddress=00:11:22:33:44:55')), []);
  });

  it('reads the files of systemd as it ranks them', () => {
    const root = mkdtempSync(join(tmpdir(), 'doctor-'));
    try {
      const directories = ['etc', 'lib'].map((name) => join(root, name));
      for (const directory of directories) mkdirSync(directory);
      writeFileSync(join(root, 'etc/99-default.link'), 'mine');
      writeFileSync(join(root, 'lib/99-default.link'), 'theirs');
      writeFileSync(join(root, 'lib/10-x.link'), 'x');
      const files = readLinkFiles([...directories, join(root, 'none')]);
      assert.ok('seen' in files);
      assert.deepEqual(
        files.seen.map(({ text }) => text),
        ['x', 'mine'],
      );
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});

describe('the check checksum-offload', () => {
  it('knows which kernels have the fault', () => {
    // The correction is in 5.7, and in the stable releases 5.6.13, 5.4.41, 4.19.123 and 4.14.181.
    for (const release of ['5.7.0', '6.1.0-13-amd64', '5.6.13', '5.4.41-generic', '4.19.123', '4.14.181', '5.15.0-91-generic', 'unknown'])
      assert.ok(isCorrected(release), release);
    for (const release of ['5.6.12', '5.5.19', '5.4.40', '4.19.122', '4.18.0-553.el8.x86_64', '4.14.180', '3.10.0-1160.el7'])
      assert.ok(!isCorrected(release), release);
  });

  it('tells of it where checksums are left to the device, and nowhere else', () => {
    const old = node({ kernelRelease: '5.4.0-42-generic' });
    const outcome = checkChecksumOffload(old);
    assert.deepEqual(codesOf(outcome), ['CHECKSUM_OFFLOAD', 'CHECKSUM_OFFLOAD']);
    assert.equal(outcome.findings[0]?.remedy, 'ethtool -K flannel.1 tx-checksum-ip-generic off');
    assert.ok(outcome.findings.every(({ severity }) => severity === 'notice'));
    const off = new Map([['flannel.1', { seen: false }] as const]);
    assert.deepEqual(checkChecksumOffload({ ...old, checksumOffload: off }), { findings: [] });
    assert.match(checkChecksumOffload(HEALTHY).idle ?? '', /does not have the fault/);
    const blind = new Map([['flannel.1', { blind: 'asking flannel.1: EPERM' }] as const]);
    assert.equal(checkChecksumOffload({ ...old, checksumOffload: blind }).blind, 'asking flannel.1: EPERM');
  });
});
