import assert from 'node:assert/strict';
import { SluiceError } from '../../../src/errors.ts';
import { conflist, conflistBridge, type ConflistOptions, conflistText } from '../../../src/network/cni/conflist.ts';
import { parsePrefix, type Prefix } from '../../../src/policy/address.ts';

function prefix(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(text);
}

const NODE: ConflistOptions = {
  mtu: 1450,
  subnets: [prefix('10.244.1.0/24')],
  networks: [prefix('10.244.0.0/16')],
  ipMasq: true,
  bridge: 'cni0',
};

const PORTMAP = { type: 'portmap', capabilities: { portMappings: true } };

/** A list of flannel alone. */
function flannel(entry: object): unknown {
  return { name: 'cbr0', cniVersion: '0.3.1', plugins: [{ type: 'flannel', ...entry }] };
}

function firstPlugin(template: unknown): unknown {
  return conflist({ ...NODE, template }).plugins[0];
}

describe('the CNI configuration', () => {
  it('is what flannel’s plugin would delegate to, with portmap after it', () => {
    assert.deepEqual(conflist(NODE), {
      name: 'cbr0',
      cniVersion: '0.3.1',
      plugins: [
        {
          type: 'bridge',
          bridge: 'cni0',
          mtu: 1450,
          hairpinMode: true,
          isDefaultGateway: true,
          isGateway: true,
          ipMasq: false,
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '10.244.0.0/16' }] },
        },
        PORTMAP,
      ],
    });
  });

  it('has a range and a route for each family', () => {
    const { plugins } = conflist({
      ...NODE,
      mtu: 1430,
      subnets: [prefix('10.244.1.0/24'), prefix('fd00:10:244:1::/64')],
      networks: [prefix('10.244.0.0/16'), prefix('fd00:10:244::/48')],
    });
    assert.equal(plugins[0]?.['mtu'], 1430);
    assert.deepEqual(plugins[0]['ipam'], {
      type: 'host-local',
      ranges: [[{ subnet: '10.244.1.0/24' }], [{ subnet: 'fd00:10:244:1::/64' }]],
      routes: [{ dst: '10.244.0.0/16' }, { dst: 'fd00:10:244::/48' }],
    });
  });

  it('lets the bridge masquerade where the network daemon does not', () => {
    assert.equal(conflist({ ...NODE, ipMasq: false }).plugins[0]?.['ipMasq'], true);
  });

  it('of flannel’s own cni-conf.json is the same as without one', () => {
    const template = {
      name: 'cbr0',
      cniVersion: '0.3.1',
      plugins: [{ type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }, PORTMAP],
    };
    assert.deepEqual(conflist({ ...NODE, template }), conflist(NODE));
  });

  it('keeps what the template says of the list, and plugins that are not flannel', () => {
    const others = [
      { type: 'bandwidth', capabilities: { bandwidth: true } },
      { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
    ];
    const template = { name: 'pods', cniVersion: '1.0.0', disableCheck: true, plugins: [{ type: 'flannel' }, PORTMAP, ...others] };
    const { plugins, ...list } = conflist({ ...NODE, template });
    assert.deepEqual(list, { name: 'pods', cniVersion: '1.0.0', disableCheck: true });
    assert.deepEqual(plugins.slice(1), [PORTMAP, ...others]);
    assert.equal(plugins[0]?.type, 'bridge');
  });

  it('has for a flannel without delegate what flannel itself sets, and no more', () => {
    assert.deepEqual(firstPlugin(flannel({})), {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      mtu: 1450,
      ipMasq: false,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '10.244.0.0/16' }] },
    });
    assert.deepEqual(firstPlugin(flannel({ delegate: null })), firstPlugin(flannel({})));
  });

  it('lets the delegate of the template count before the values of the node', () => {
    const delegate = { bridge: 'mynet0', mtu: 1400, ipMasq: true, isGateway: false, promiscMode: true };
    const { ipam, ...plugin } = firstPlugin(flannel({ delegate })) as { ipam: unknown };
    assert.deepEqual(plugin, { type: 'bridge', ...delegate });
    assert.ok(ipam);
  });

  it('delegates to another plugin where the template says so, without what only a bridge has', () => {
    assert.deepEqual(firstPlugin(flannel({ delegate: { type: 'ipvlan', master: 'eth0' } })), {
      type: 'ipvlan',
      master: 'eth0',
      mtu: 1450,
      ipMasq: false,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '10.244.0.0/16' }] },
    });
  });

  it('adds subnets and routes of the node to an ipam of the template, its routes first', () => {
    const ipam = {
      type: 'host-local',
      dataDir: '/var/lib/pods',
      ranges: [[{ subnet: '192.0.2.0/24' }]],
      routes: [{ dst: '10.96.0.0/12' }],
    };
    assert.deepEqual((firstPlugin(flannel({ ipam })) as { ipam: unknown }).ipam, {
      type: 'host-local',
      dataDir: '/var/lib/pods',
      ranges: [[{ subnet: '10.244.1.0/24' }]],
      routes: [{ dst: '10.96.0.0/12' }, { dst: '10.244.0.0/16' }],
    });
  });

  it('hands to the delegate what the runtime may hand to flannel', () => {
    const capabilities = { mac: true };
    assert.deepEqual((firstPlugin(flannel({ capabilities })) as { capabilities: unknown }).capabilities, capabilities);
  });

  for (const [what, template, message] of [
    ['no object', 'cbr0', /: expected an object, not "cbr0"$/],
    ['no name', { plugins: [{ type: 'flannel' }] }, /: name: expected a text, not nothing$/],
    ['a name that is a path', { name: '../cbr0', plugins: [{ type: 'flannel' }] }, /: name: expected letters, .*, not "\.\.\/cbr0"$/],
    ['one plugin instead of a list', { name: 'cbr0', type: 'flannel' }, /: plugins: expected a list of plugins, not nothing$/],
    ['no plugins', { name: 'cbr0', plugins: [] }, /: plugins: expected at least one plugin, not a list$/],
    ['a version that is no text', { name: 'cbr0', cniVersion: 1, plugins: [{ type: 'flannel' }] }, /: cniVersion: expected a text, not 1$/],
    ['a plugin without type', { name: 'cbr0', plugins: [PORTMAP, {}] }, /: plugins\[1\]\.type: expected a text, not nothing$/],
    ['a delegate that is no object', flannel({ delegate: ['bridge'] }), /: plugins\[0\]\.delegate: expected an object, not a list$/],
    ['a delegate whose type is no text', flannel({ delegate: { type: 7 } }), /: plugins\[0\]\.delegate\.type: expected a text, not 7$/],
    [
      'a delegate with a name',
      flannel({ delegate: { name: 'x' } }),
      /: plugins\[0\]\.delegate\.name: must not be there: it is the name of the list$/,
    ],
    [
      'a delegate with an ipam',
      flannel({ delegate: { ipam: {} } }),
      /: plugins\[0\]\.delegate\.ipam: must not be there: it belongs beside delegate, /,
    ],
    [
      'an MTU that is no number',
      flannel({ delegate: { mtu: '1400' } }),
      /: plugins\[0\]\.delegate\.mtu: expected a number of bytes, not "1400"$/,
    ],
    [
      'a route without destination',
      flannel({ ipam: { routes: [{ gw: '10.0.0.1' }] } }),
      /: plugins\[0\]\.ipam\.routes\[0\]\.dst: expected a text, not nothing$/,
    ],
  ] as const) {
    it(`of a template with ${what} is refused, by the field that is wrong`, () => {
      assert.throws(
        () => conflist({ ...NODE, template }),
        (error) => error instanceof SluiceError && error.code === 'CNI_CONF_INVALID' && message.test(error.message),
      );
    });
  }
});

describe('the bridge of a CNI configuration', () => {
  const bridge = (delegate: object) => conflistBridge(conflist({ ...NODE, template: flannel({ delegate }) }));

  it('is the one that the plugin would make', () => {
    assert.deepEqual(conflistBridge(conflist(NODE)), { name: 'cni0', mtu: 1450, hairpin: true, gateway: true });
    assert.deepEqual(bridge({ bridge: 'mynet0', mtu: 1400 }), { name: 'mynet0', mtu: 1400, hairpin: false, gateway: true });
    assert.deepEqual(bridge({ isGateway: false, mtu: 0 }), { name: 'cni0', mtu: 1500, hairpin: false, gateway: false });
    assert.equal(bridge({ isGateway: false, isDefaultGateway: true })?.gateway, true);
  });

  it('is none where pods have no bridge, or one with VLANs, which the plugin has to make itself', () => {
    assert.equal(bridge({ type: 'ipvlan', master: 'eth0' }), undefined);
    assert.equal(bridge({ vlan: 100 }), undefined);
    assert.equal(bridge({ vlanTrunk: [{ id: 7 }] }), undefined);
  });
});

describe('the text of a CNI configuration', () => {
  it('is JSON for people, and the same for the same node', () => {
    const text = conflistText(conflist(NODE));
    assert.deepEqual(JSON.parse(text), conflist(NODE));
    assert.match(text, /^\{\n {2}"name": "cbr0",\n {2}"cniVersion": "0\.3\.1",\n/);
    assert.equal(conflistText(conflist({ ...NODE })), text);
  });
});
