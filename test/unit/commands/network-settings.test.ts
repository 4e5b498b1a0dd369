import assert from 'node:assert/strict';
import { readSettings } from '../../../src/commands/network-settings.ts';
import { SluiceError } from '../../../src/errors.ts';

describe('settings of the network', () => {
  const of = (given: Readonly<Record<string, unknown>>, environment: Record<string, string> = {}) =>
    readSettings(given, environment, undefined).settings;

  function refused(given: Readonly<Record<string, unknown>>, environment: Record<string, string> = {}): string {
    try {
      readSettings(given, environment, undefined);
    } catch (error) {
      assert.ok(error instanceof SluiceError);
      assert.equal(error.exitStatus, 2);
      return error.message;
    }
    return assert.fail('nothing was refused');
  }

  it('are flanneld’s where nobody says anything', () => {
    const settings = of({});
    assert.equal(settings.netConfigPath, '/etc/kube-flannel/net-conf.json');
    assert.equal(settings.subnetFile, '/run/flannel/subnet.env');
    assert.equal(settings.kubeAnnotationPrefix, 'flannel.alpha.coreos.com');
    assert.deepEqual(
      [settings.ipMasq, settings.iptablesForwardRules, settings.healthzPort, settings.setNodeNetworkUnavailable],
      [false, true, 0, true],
    );
    assert.deepEqual(settings.iface, []);
  });

  it('can be given as flags without a value, with one, and in flanneld’s environment', () => {
    assert.equal(of({ ipMasq: true }).ipMasq, true);
    assert.equal(of({ ipMasq: 'false' }).ipMasq, false);
    assert.equal(of({}, { FLANNELD_IP_MASQ: 'true' }).ipMasq, true);
    assert.equal(of({}, { FLANNELD_IP_MASQ: 'true', SLUICE_IP_MASQ: 'false' }).ipMasq, false);
    assert.deepEqual(of({}, { FLANNELD_IFACE: 'eth1' }).iface, ['eth1']);
  });

  it('are true and false in every way that flanneld takes them', () => {
    for (const text of ['1', 't', 'T', 'true', 'True', 'TRUE']) assert.equal(of({}, { FLANNELD_IP_MASQ: text }).ipMasq, true, text);
    for (const text of ['0', 'f', 'F', 'false', 'False', 'FALSE'])
      assert.equal(of({ iptablesForwardRules: text }).iptablesForwardRules, false);
  });

  it('take a regular expression with flags for the whole of it, as Go does', () => {
    assert.deepEqual(of({ ifaceRegex: ['(?i)ETH'] }).ifaceRegex, ['(?i)ETH']);
    assert.deepEqual(of({}, { FLANNELD_IFACE_REGEX: '^(?P<kind>eth)\\d' }).ifaceRegex, ['^(?P<kind>eth)\\d']);
    assert.match(refused({ ifaceRegex: ['eth('] }), /^--iface-regex: expected a regular expression/);
  });

  it('take several interfaces, and none of a file that is off', () => {
    assert.deepEqual(of({ iface: ['eth0', '192.0.2.1'], ifaceRegex: ['^eth'] }).iface, ['eth0', '192.0.2.1']);
    const { subnetFile, cniConfFile, bridge, metricsAddress } = of({
      subnetFile: 'off',
      cniConfFile: 'off',
      bridge: 'off',
      metricsAddress: 'off',
    });
    assert.deepEqual([subnetFile, cniConfFile, bridge, metricsAddress], [undefined, undefined, undefined, undefined]);
  });

  it('that are wrong are refused with their place and what would be right', () => {
    assert.match(refused({ publicIp: '::1' }), /^--public-ip: expected an IPv4 address, not "::1"$/);
    assert.match(refused({}, { FLANNELD_PUBLIC_IPV6: 'x' }), /^\$FLANNELD_PUBLIC_IPV6: expected an IPv6 address, not "x"$/);
    assert.match(refused({ healthzPort: '70000' }), /^--healthz-port: expected a number from 0 to 65535/);
    assert.match(refused({ ipMasq: 'yes' }), /^--ip-masq: expected true or false, not "yes"$/);
    assert.match(
      refused({ leaseDir: 'x', kubeconfigFile: 'y' }),
      /^--lease-dir and --kubeconfig-file: leases come from a directory or from an API server/,
    );
    assert.match(refused({ kubeSubnetMgr: 'false' }), /leases in etcd are not supported/);
  });
});
