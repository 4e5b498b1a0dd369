import assert from 'node:assert/strict';
import { checkMtu } from '../../../src/doctor/mtu.ts';
import { checkPathMtu, checkPathProbe } from '../../../src/doctor/path-mtu.ts';
import { internetChecksum, type PathProbe } from '../../../src/doctor/path-probe.ts';
import { address, codesOf, HEALTHY, node, nodeWithLinks, onlyIPv4, SUBNET_FILE, theFinding } from './healthy-node.ts';

describe('the check mtu', () => {
  it('finds nothing where every size fits into the next', () => {
    assert.deepEqual(checkMtu(HEALTHY), { findings: [] });
  });

  it('finds a device that is too large, as when the interface has become smaller, and all that follows', () => {
    const outcome = checkMtu(onlyIPv4(nodeWithLinks({ eth0: { mtu: 1400 } })));
    assert.deepEqual(codesOf(outcome), ['MTU_DEVICE', 'MTU_BRIDGE', 'MTU_POD', 'MTU_SUBNET_FILE']);
    const [device, bridge, pod, file] = outcome.findings;
    assert.equal(device?.severity, 'error');
    assert.equal(device?.remedy, 'ip link set dev flannel.1 mtu 1350');
    assert.equal(bridge?.remedy, 'ip link set dev cni0 mtu 1350');
    assert.match(pod?.remedy ?? '', /^ip link set dev veth1 mtu 1350$/m);
    assert.match(file?.remedy ?? '', /^sed -i 's\/\^FLANNEL_MTU=\.\*\/FLANNEL_MTU=1350\/' \/run\/flannel\/subnet\.env$/m);
  });

  it('finds a device that is smaller than it has to be', () => {
    assert.equal(theFinding(checkMtu(nodeWithLinks({ 'flannel.1': { mtu: 1200 } })), 'MTU_DEVICE').severity, 'warning');
  });

  it('finds what flanneld tells pods of two families: the size of IPv4 alone', () => {
    const evidence = node({ subnetFile: { seen: SUBNET_FILE.replace('1430', '1450') } });
    const finding = theFinding(checkMtu(evidence), 'MTU_SUBNET_FILE');
    assert.match(finding.message, /up to 1450 bytes, more than the 1430 that get to other nodes over IPv6/);
    // What does not fit is refused on this very node.
    assert.equal(finding.severity, 'notice');
    assert.equal(
      theFinding(checkMtu(node({ subnetFile: { seen: SUBNET_FILE.replace('1430', '1451') } })), 'MTU_SUBNET_FILE').severity,
      'warning',
    );
  });

  it('finds what wastes room, as worth knowing, and a bridge that is smaller than its ports', () => {
    assert.equal(
      theFinding(checkMtu(node({ subnetFile: { seen: SUBNET_FILE.replace('1430', '1400') } })), 'MTU_SUBNET_FILE').severity,
      'notice',
    );
    assert.match(theFinding(checkMtu(nodeWithLinks({ cni0: { mtu: 1400 } })), 'MTU_BRIDGE').message, /less than that of 1 of its ports/);
    assert.deepEqual(codesOf(checkMtu(nodeWithLinks({ cni0: { mtu: 1400 }, veth1: { mtu: 1400 } }))), []);
  });

  it('finds the pods that are too large, and not those that are smaller', () => {
    const finding = theFinding(checkMtu(nodeWithLinks({ veth1: { mtu: 1500 } })), 'MTU_POD');
    assert.match(finding.message, /^1 of 1 have/);
    assert.deepEqual(codesOf(checkMtu(nodeWithLinks({ veth1: { mtu: 1300 } }))), []);
  });
});

describe('the checks path-mtu and path-probe', () => {
  const paths = (probe: PathProbe) => node({ paths: { seen: new Map([[address('172.18.0.101'), probe]]) } });
  const echo = (smallAnswered: boolean, largeAnswered: boolean) => ({ size: 1500, smallAnswered, largeAnswered });

  it('find nothing where packets of the full size get there', () => {
    assert.deepEqual(checkPathMtu(HEALTHY), { findings: [] });
    assert.deepEqual(checkPathProbe(paths({ mtu: 1500, echo: echo(true, true) })), { findings: [], blind: undefined });
  });

  it('find a path that is too small, as a router has told it', () => {
    const finding = theFinding(checkPathMtu(paths({ mtu: 1400, echo: undefined })), 'PATH_MTU_SMALL');
    assert.equal(finding.subject, 'peer-1');
    assert.deepEqual(finding.evidence, ['path to peer-1, 172.18.0.101: MTU 1400', 'link eth0: mtu 1500']);
    assert.match(finding.remedy, /"MTU": 1400/);
    // It is told once.
    assert.deepEqual(codesOf(checkPathProbe(paths({ mtu: 1400, echo: echo(true, false) }))), []);
  });

  it('find that large packets vanish', () => {
    const finding = theFinding(checkPathProbe(paths({ mtu: 1500, echo: echo(true, false) })), 'PATH_MTU_BLACK_HOLE');
    assert.deepEqual([finding.severity, finding.subject], ['error', 'peer-1']);
  });

  it('say that they cannot tell where a peer answers nothing', () => {
    const outcome = checkPathProbe(paths({ mtu: 1500, echo: echo(false, false) }));
    assert.deepEqual(outcome.findings, []);
    assert.match(outcome.blind ?? '', /no answer to any echo request from peer-1 \(172\.18\.0\.101\)/);
  });

  it('ask for no more than net-conf.json does', () => {
    const evidence = onlyIPv4(paths({ mtu: 1400, echo: undefined }), { Type: 'vxlan', MTU: 1400 });
    assert.deepEqual(codesOf(checkPathMtu(evidence)), []);
  });
});

describe('the checksum of an echo request', () => {
  it('is that of RFC 1071, section 3', () => {
    // 0001 + f203 + f4f5 + f6f7 = 2ddf0, folded ddf2; its complement.
    assert.equal(internetChecksum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)), 0xffff - 0xddf2);
    assert.equal(internetChecksum(Uint8Array.of(0x01)), 0xffff - 0x0100);
  });
});
