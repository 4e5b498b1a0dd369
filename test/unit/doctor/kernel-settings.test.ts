import assert from 'node:assert/strict';
import { checkConntrackTable } from '../../../src/doctor/conntrack-table.ts';
import { checkForwarding } from '../../../src/doctor/forwarding.ts';
import { checkReversePath } from '../../../src/doctor/reverse-path.ts';
import { codesOf, conf, HEALTHY, node, onlyIPv4, sysctls, theFinding } from './healthy-node.ts';

describe('the check forwarding', () => {
  const withSysctls = (changes: Record<string, string | undefined>) => node({ sysctls: sysctls(changes) });

  it('finds nothing where everything is forwarded', () => {
    assert.deepEqual(checkForwarding(HEALTHY), { findings: [] });
  });

  it('finds that nothing of a family is forwarded, and says it once', () => {
    const off = { 'net/ipv4/ip_forward': '0', 'net/ipv4/conf/eth0/forwarding': '0', 'net/ipv4/conf/cni0/forwarding': '0' };
    const finding = theFinding(checkForwarding(withSysctls(off)), 'FORWARDING_OFF');
    assert.equal(finding.subject, 'net/ipv4/ip_forward');
    assert.deepEqual(finding.evidence, ['/proc/sys/net/ipv4/ip_forward: 0']);
    assert.match(finding.remedy, /^sysctl -w net\.ipv4\.ip_forward=1$/m);
    assert.equal(
      theFinding(checkForwarding(withSysctls({ 'net/ipv6/conf/all/forwarding': '0' })), 'FORWARDING_OFF').subject,
      'net/ipv6/conf/all/forwarding',
    );
  });

  it('finds an interface whose packets are not forwarded, and writes its name so that sysctl understands it', () => {
    const finding = theFinding(checkForwarding(withSysctls({ 'net/ipv4/conf/flannel.1/forwarding': '0' })), 'FORWARDING_OFF');
    assert.match(finding.remedy, /^sysctl -w net\/ipv4\/conf\/flannel\.1\/forwarding=1$/m);
  });

  it('leaves alone a family that the network does not have, and interfaces that have nothing to do with pods', () => {
    assert.deepEqual(codesOf(checkForwarding(onlyIPv4(withSysctls({ 'net/ipv6/conf/all/forwarding': '0' })))), []);
    assert.deepEqual(codesOf(checkForwarding(withSysctls({ 'net/ipv4/conf/eth7/forwarding': '0' }))), []);
  });

  it('knows that IPv6 forwarding can be forced for single interfaces', () => {
    const forced = Object.fromEntries(
      ['eth0', 'flannel.1', 'flannel-v6.1', 'cni0'].map((name) => [`net/ipv6/conf/${name}/force_forwarding`, '1']),
    );
    assert.deepEqual(codesOf(checkForwarding(withSysctls({ 'net/ipv6/conf/all/forwarding': '0', ...forced }))), []);
  });
});

describe('the check reverse-path', () => {
  it('finds nothing where it is off, or loose', () => {
    assert.deepEqual(checkReversePath(HEALTHY), { findings: [] });
    // The larger of the two counts.
    const loose = sysctls({
      'net/ipv4/conf/all/rp_filter': '1',
      'net/ipv4/conf/flannel.1/rp_filter': '2',
      'net/ipv4/conf/flannel-v6.1/rp_filter': '2',
    });
    assert.deepEqual(checkReversePath(node({ sysctls: loose })), { findings: [] });
  });

  it('finds it strict, by the setting of all or of the device, as worth knowing', () => {
    const finding = theFinding(
      checkReversePath(node({ sysctls: sysctls({ 'net/ipv4/conf/flannel.1/rp_filter': '1' }) })),
      'REVERSE_PATH_STRICT',
    );
    assert.deepEqual([finding.subject, finding.severity], ['flannel.1', 'notice']);
    assert.match(finding.remedy, /^sysctl -w net\/ipv4\/conf\/flannel\.1\/rp_filter=2$/m);
    const all = checkReversePath(onlyIPv4(node({ sysctls: sysctls({ 'net/ipv4/conf/all/rp_filter': '1' }) })));
    assert.deepEqual(codesOf(all), ['REVERSE_PATH_STRICT']);
  });

  it('finds it dangerous where some packets go directly, on the interface too', () => {
    const evidence = onlyIPv4(node({ sysctls: sysctls({ 'net/ipv4/conf/eth0/rp_filter': '1' }) }), { Type: 'vxlan', DirectRouting: true });
    const finding = theFinding(checkReversePath(evidence), 'REVERSE_PATH_STRICT');
    assert.deepEqual([finding.subject, finding.severity], ['eth0', 'warning']);
    assert.match(checkReversePath(node({ conf: conf({ Backend: { Type: 'alloc' } }) })).idle ?? '', /no overlay device/);
  });
});

describe('the check connection-table', () => {
  const filled = (count: string, max = '1000') => {
    return checkConntrackTable(
      node({ sysctls: sysctls({ 'net/netfilter/nf_conntrack_count': count, 'net/netfilter/nf_conntrack_max': max }) }),
    );
  };

  it('finds nothing while there is room, and where there is no limit', () => {
    assert.deepEqual(filled('899'), { findings: [] });
    assert.match(filled('899', '0').idle ?? '', /without a limit/);
  });

  it('finds it nearly full, and full', () => {
    assert.equal(theFinding(filled('900'), 'CONNTRACK_NEARLY_FULL').severity, 'warning');
    const full = theFinding(filled('1000'), 'CONNTRACK_FULL');
    assert.equal(full.severity, 'error');
    assert.match(full.remedy, /nf_conntrack_max=2000$/m);
  });
});
