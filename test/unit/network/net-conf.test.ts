/** Expected values: flannel v0.28.4 (ParseConfig, and each backend's own parsing) with the same texts, where it does not say otherwise. */
import assert from 'node:assert/strict';
import { SluiceError } from '../../../src/errors.ts';
import { familiesOf, type NetConf, parseNetConf } from '../../../src/network/net-conf.ts';
import { formatAddress, formatPrefix } from '../../../src/policy/address.ts';

const V4 = '"Network":"10.244.0.0/16"';
const V6 = '"EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"';

function parse(text: string): NetConf {
  return parseNetConf(text, 'net-conf.json');
}

function withBackend(backend: string, rest = V4): NetConf {
  return parse(`{${rest},"Backend":${backend}}`);
}

/** The error's message behind the file's name. */
function fault(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof SluiceError, String(error));
    assert.equal(error.code, 'NET_CONF_INVALID');
    assert.equal(error.exitStatus, 2);
    const start = 'reading the network configuration net-conf.json: ';
    assert.ok(error.message.startsWith(start), error.message);
    return error.message.slice(start.length);
  }
  return assert.fail(`nothing wrong with ${text}`);
}

describe('net-conf.json', () => {
  it('is read as the manifest of flannel has it', () => {
    const text = '{ "Network": "10.244.0.0/16", "EnableNFTables": false, "Backend": { "Type": "vxlan" } }';
    assert.deepEqual(parse(text), {
      enableIPv4: true,
      enableIPv6: false,
      enableNFTables: false,
      network: { address: 0x0af4_0000, length: 16 },
      ipv6Network: undefined,
      subnetLen: undefined,
      subnetMin: undefined,
      subnetMax: undefined,
      ipv6SubnetLen: undefined,
      ipv6SubnetMin: undefined,
      ipv6SubnetMax: undefined,
      backend: { type: 'vxlan', vni: 1, port: 8472, mtu: undefined, gbp: false, learning: false, directRouting: false },
      warnings: [],
    });
  });

  it('has names in any case, and of several for one field the last', () => {
    const networkOf = (text: string): string => formatPrefix(parse(text).network ?? assert.fail());
    assert.equal(networkOf('{"network":"10.3.0.0/16"}'), '10.3.0.0/16');
    assert.equal(networkOf('{"Network":"10.1.0.0/16","network":"10.2.0.0/16","Network":"10.3.0.0/16"}'), '10.3.0.0/16');
    assert.equal(networkOf('{"Network":"10.3.0.0/16","networK":"10.4.0.0/16"}'), '10.4.0.0/16');
    assert.equal(parse(`{${V4},"Backend":{"Type":"vxlan"},"backend":{"type":"host-gw"}}`).backend.type, 'host-gw');
  });

  it('has null for what is absent', () => {
    assert.equal(parse(`{${V4},"EnableIPv6":null,"SubnetLen":null,"IPv6SubnetMin":null}`).enableIPv6, false);
    assert.equal(parse(`{${V4},${V6},"EnableIPv6":null}`).enableIPv6, true);
    assert.equal(withBackend('{"Type":"vxlan","type":null,"vni":null}').backend.type, 'vxlan');
  });

  it('gives both families in order', () => {
    const conf = withBackend('{"Type":"vxlan"}', `${V4},${V6}`);
    assert.deepEqual(
      familiesOf(conf).map(({ family, key, network }) => [family, key, formatPrefix(network)]),
      [
        [4, 'v4', '10.244.0.0/16'],
        [6, 'v6', 'fd00:10:244::/56'],
      ],
    );
    // A network of a family that is switched off is not one.
    assert.deepEqual(
      familiesOf(withBackend('{"Type":"vxlan"}', `"EnableIPv4":false,${V4},${V6}`)).map(({ family }) => family),
      [6],
    );
  });

  it('masks the bits after the prefix', () => {
    assert.equal(formatPrefix(parse('{"Network":"10.3.5.0/16"}').network ?? assert.fail()), '10.3.0.0/16');
  });

  it('takes how subnets are cut, and zeros for nothing', () => {
    const conf = parse(`{${V4},"SubnetLen":28,"SubnetMin":"10.244.5.0","subnetmax":"10.244.8.0"}`);
    assert.deepEqual(
      [conf.subnetLen, formatAddress(conf.subnetMin ?? assert.fail()), formatAddress(conf.subnetMax ?? assert.fail())],
      [28, '10.244.5.0', '10.244.8.0'],
    );
    const zeros = parse(`{${V4},${V6},"SubnetLen":0,"SubnetMin":"0.0.0.0","IPv6SubnetLen":0,"IPv6SubnetMin":"::"}`);
    assert.deepEqual([zeros.subnetLen, zeros.subnetMin, zeros.ipv6SubnetLen, zeros.ipv6SubnetMin], Array(4).fill(undefined));
  });

  describe('names the field of what is wrong', () => {
    const cases: readonly (readonly [text: string, expected: RegExp])[] = [
      ['', /^it is no JSON: /],
      ['{"Network":"10.0.0.0/8",}', /^it is no JSON: /],
      ['[]', /^expected an object, such as /],
      ['null', /^expected an object, such as /],
      ['{}', /^Network: is missing, and IPv4 is enabled \(EnableIPv4\)$/],
      ['{"Network":null}', /^Network: is missing/],
      [`{${V4},"EnableIPv6":true}`, /^IPv6Network: is missing, and IPv6 is enabled \(EnableIPv6\)$/],
      ['{"EnableIPv4":false}', /^EnableIPv4, EnableIPv6: one of them has to be true$/],
      [`{${V4},"EnableIPv6":"true"}`, /^EnableIPv6: expected true or false, not "true"$/],
      ['{"Network":""}', /^Network: expected a block of IPv4 addresses such as "10\.244\.0\.0\/16", not ""$/],
      ['{"Network":10}', /^Network: expected a block of IPv4 addresses .*, not 10$/],
      ['{"Network":{}}', /^Network: .*, not an object$/],
      ['{"Network":"010.3.0.0/16"}', /^Network: expected a block of IPv4 addresses/],
      ['{"Network":"0.0.0.0/0"}', /^Network: .*, not all addresses, not "0\.0\.0\.0\/0"$/],
      ['{"Network":"fd00::/48"}', /^Network: expected a block of IPv4 addresses/],
      ['{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"10.0.0.0/8"}', /^IPv6Network: expected a block of IPv6 addresses/],
      [`{${V4},"SubnetLen":"24"}`, /^SubnetLen: expected a number from 0 to 32, not "24"$/],
      [`{${V4},"SubnetLen":24.5}`, /^SubnetLen: expected a number from 0 to 32, not 24\.5$/],
      [`{${V4},"SubnetMin":"fd00::"}`, /^SubnetMin: expected an IPv4 address, not "fd00::"$/],
      [`{${V4},"IPv6SubnetMax":"10.0.0.0"}`, /^IPv6SubnetMax: expected an IPv6 address, not "10\.0\.0\.0"$/],
      [`{${V4},"Backend":null}`, /^Backend: expected an object, not nothing$/],
      [`{${V4},"Backend":"vxlan"}`, /^Backend: expected an object, not "vxlan"$/],
      [`{${V4},"Backend":{}}`, /^Backend\.Type: is missing; expected one of vxlan, host-gw, udp, ipip, wireguard, alloc$/],
      [`{${V4},"Backend":{"Type":1}}`, /^Backend\.Type: expected a text, not 1$/],
      [`{${V4},"Backend":{"Type":"hostgw"}}`, /^Backend\.Type: expected one of vxlan, host-gw, .*, not "hostgw"$/],
      [`{${V4},"Backend":{"Type":"constructor"}}`, /^Backend\.Type: expected one of /],
      [`{${V4},"Backend":{"Type":"IPsec"}}`, /^Backend\.Type: Sluice has no backend ipsec: .*wireguard/],
      [`{${V4},"Backend":{"Type":"extension"}}`, /^Backend\.Type: Sluice has no backend extension: /],
      [`{${V4},"Backend":{"Type":"tencent-vpc"}}`, /^Backend\.Type: Sluice has no backend tencent-vpc: .*alloc/],
      [`{${V4},"Backend":{"Type":"vxlan","VNI":"x"}}`, /^Backend\.VNI: expected a number from 1 to 16777215, not "x"$/],
      [`{${V4},"Backend":{"Type":"vxlan","vni":16777216}}`, /^Backend\.VNI: expected a number from 1 to 16777215, not 16777216$/],
      [`{${V4},"Backend":{"Type":"vxlan","VNI":0}}`, /^Backend\.VNI: /],
      [`{${V4},"Backend":{"Type":"vxlan","Port":65536}}`, /^Backend\.Port: expected a number from 0 to 65535, not 65536$/],
      [`{${V4},"Backend":{"Type":"vxlan","GBP":1}}`, /^Backend\.GBP: expected true or false, not 1$/],
      [`{${V4},"Backend":{"Type":"vxlan","MTU":117}}`, /^Backend\.MTU: expected a number from 118 to 65535 .*, not 117$/],
      [`{${V4},${V6},"Backend":{"Type":"vxlan","MTU":1349}}`, /^Backend\.MTU: expected a number from 1350 to 65535 \(IPv6 needs 1280 /],
      [`{${V4},"Backend":{"Type":"udp","Port":0}}`, /^Backend\.Port: expected a number from 1 to 65535, not 0$/],
      [`{"EnableIPv4":false,${V6},"Backend":{"Type":"udp"}}`, /^Backend\.Type: udp carries IPv4 alone, and IPv4 is not enabled/],
      [`{"EnableIPv4":false,${V6},"Backend":{"Type":"ipip"}}`, /^Backend\.Type: ipip carries IPv4 alone/],
      [`{${V4},"Backend":{"Type":"wireguard","ListenPort":0}}`, /^Backend\.ListenPort: /],
      [`{${V4},"Backend":{"Type":"wireguard","Mode":"IPv4"}}`, /^Backend\.Mode: expected one of separate, auto, ipv4, ipv6, not "IPv4"$/],
      [`{${V4},"Backend":{"Type":"wireguard","PersistentKeepaliveInterval":-1}}`, /^Backend\.PersistentKeepaliveInterval: /],
    ];
    for (const [text, expected] of cases) it(text === '' ? 'an empty file' : text, () => assert.match(fault(text), expected));

    it('but shows no secret', () => {
      const message = fault(`{${V4},"Backend":{"Type":"wireguard","PSK":"c2VjcmV0"}}`);
      assert.match(message, /^Backend\.PSK: expected a key of 32 bytes in base64/);
      assert.ok(!message.includes('c2VjcmV0'));
    });
  });

  describe('of the backend', () => {
    it('has the type in any case', () => {
      assert.equal(withBackend('{"Type":"VXLAN"}').backend.type, 'vxlan');
      assert.equal(withBackend('{"tYPE":"Host-GW"}').backend.type, 'host-gw');
    });

    it('takes udp where there is none, and says so', () => {
      const { backend, warnings } = parse(`{${V4}}`);
      assert.deepEqual(backend, { type: 'udp', port: 8285 });
      assert.match(warnings.join(), /^Backend: is missing, which means udp/);
    });

    it('vxlan has all of its settings, and the kernel’s port for 0', () => {
      const text = '{"Type":"vxlan","vni":4096,"port":4789,"mtu":9000,"gbp":true,"learning":true,"directRouting":true}';
      const all = { type: 'vxlan', vni: 4096, port: 4789, mtu: 9000, gbp: true, learning: true, directRouting: true };
      assert.deepEqual(withBackend(text).backend, all);
      assert.deepEqual(withBackend('{"Type":"vxlan","Port":0}').backend, withBackend('{"Type":"vxlan","Port":8472}').backend);
    });

    it('wireguard has its defaults and its settings', () => {
      const standard = {
        type: 'wireguard',
        listenPort: 51_820,
        listenPortV6: 51_821,
        mtu: undefined,
        psk: undefined,
        persistentKeepaliveInterval: 0,
        mode: 'separate',
      };
      assert.deepEqual(withBackend('{"Type":"wireguard","PSK":""}').backend, standard);
      const psk = Buffer.alloc(32, 7).toString('base64');
      const text = JSON.stringify({
        Type: 'wireguard',
        listenport: 1,
        ListenPortV6: 2,
        MTU: 1420,
        PSK: psk,
        PersistentKeepaliveInterval: 25,
        Mode: 'auto',
      });
      const all = { type: 'wireguard', listenPort: 1, listenPortV6: 2, mtu: 1420, psk, persistentKeepaliveInterval: 25, mode: 'auto' };
      assert.deepEqual(withBackend(text).backend, all);
    });

    it('udp, ipip, host-gw and alloc have theirs', () => {
      assert.deepEqual(withBackend('{"Type":"udp","port":9000}').backend, { type: 'udp', port: 9000 });
      assert.deepEqual(withBackend('{"Type":"ipip"}').backend, { type: 'ipip', directRouting: false });
      assert.deepEqual(withBackend('{"Type":"ipip","DirectRouting":true}').backend, { type: 'ipip', directRouting: true });
      assert.deepEqual(withBackend('{"Type":"host-gw"}').backend, { type: 'host-gw' });
      assert.deepEqual(withBackend('{"Type":"alloc"}').backend, { type: 'alloc' });
    });

    it('warns where a family has no way to the other nodes', () => {
      for (const type of ['udp', 'ipip']) {
        assert.match(withBackend(`{"Type":"${type}"}`, `${V4},${V6}`).warnings.join(), new RegExp(`${type} carries IPv4 alone`));
      }
    });
  });

  it('tells of settings that nobody reads', () => {
    const { warnings } = parse(`{${V4},"Netwrok":1,"Backend":{"Type":"host-gw","Port":1,"x\\ny":2}}`);
    assert.equal(warnings.length, 3);
    assert.match(warnings[0] ?? '', /^Netwrok: there is no such setting, and it is ignored; known: .*Network/);
    assert.match(warnings[1] ?? '', /^Backend\.Port: there is no such setting of host-gw, and it is ignored; known: Type$/);
    assert.ok(!(warnings[2] ?? '').includes('\n'));
  });
});
