/**
 * The network configuration list that container runtimes read from /etc/cni/net.d, with the plugin flannel already resolved: what it
 * would hand to the plugin bridge is written down once, so that no plugin of flannel's is needed on the node.
 *
 * Network name and address ranges are those that flannel's plugin uses too. The plugin host-local keeps its records below that name, so
 * addresses that are in use stay taken when one network daemon replaces the other.
 */
import * as z from 'zod';
import { SluiceError } from '../../errors.ts';
import { formatPrefix, type Prefix } from '../../policy/address.ts';
import { quote } from '../../policy/problems.ts';

export interface ConflistOptions {
  /** Bytes; the largest packet that fits into every overlay of the node, of both families. */
  readonly mtu: number;
  /** This node's, one a family. */
  readonly subnets: readonly Prefix[];
  /** The cluster's: what pods have routes to beside the default one. */
  readonly networks: readonly Prefix[];
  /** FLANNEL_IPMASQ: whether the network daemon masquerades. Where it does not, the plugin bridge is told to. */
  readonly ipMasq: boolean;
  /** Name of the bridge, where the template does not say. */
  readonly bridge: string;
  /** `cni-conf.json`, parsed; undefined: that of flannel's own manifest. */
  readonly template?: unknown;
}

/** One plugin of a list: its `type`, and whatever it understands. */
export type PluginConf = Readonly<Record<string, unknown>> & { readonly type: string };

export interface Conflist {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly PluginConf[];
  /** What else the template has. */
  readonly [field: string]: unknown;
}

/** The bridge of a list, as far as whoever makes it before the plugin does has to know. */
export interface ConflistBridge {
  readonly name: string;
  readonly mtu: number;
  /** Whether packets may leave by the port that they came in by. */
  readonly hairpin: boolean;
  /** Whether it has the first address of each subnet. */
  readonly gateway: boolean;
}

const TEXT = 'expected a text';
const OBJECT = 'expected an object';
const route = z.looseObject({ dst: z.string(TEXT) }, OBJECT);
const plugin = z.looseObject({ type: z.string(TEXT).min(1, TEXT) }, OBJECT);

/** The rules of github.com/containernetworking/cni (libcni) for a list. Its tools read `null` as absent. */
const TEMPLATE = z.looseObject(
  {
    name: z.string(TEXT).regex(/^[a-zA-Z0-9][\w.-]*$/, 'expected letters, digits, and after the first also _ . -'),
    cniVersion: z.string(TEXT).nullish(),
    plugins: z.array(plugin, 'expected a list of plugins').min(1, 'expected at least one plugin'),
  },
  OBJECT,
);

/** The rules of github.com/flannel-io/cni-plugin: name and ipam of the delegate are its own, and nobody else's. */
const FLANNEL = z.looseObject({
  delegate: z
    .looseObject(
      {
        type: z.string(TEXT).min(1, TEXT).optional(),
        name: z.undefined('must not be there: it is the name of the list').optional(),
        ipam: z.undefined('must not be there: it belongs beside delegate, and gets its subnets from the node').optional(),
        bridge: z.string(TEXT).min(1, TEXT).optional(),
        mtu: z.int('expected a number of bytes').min(0, 'expected a number of bytes').optional(),
      },
      OBJECT,
    )
    .nullish(),
  ipam: z.looseObject({ type: z.string(TEXT).optional(), routes: z.array(route, 'expected a list of routes').nullish() }, OBJECT).nullish(),
});

/** As in flannel's own manifest. */
const STANDARD_TEMPLATE = {
  name: 'cbr0',
  cniVersion: '0.3.1',
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};

/** What the kernel gives a veth that nobody gives an MTU. */
const ETHERNET_MTU = 1500;

/**
 * The list for this node: the template, with every plugin flannel replaced by what it would delegate to.
 * @throws SluiceError `CNI_CONF_INVALID`: the field of the template, and what is wrong with it
 */
export function conflist(options: ConflistOptions): Conflist {
  const template = check(TEMPLATE, options.template ?? STANDARD_TEMPLATE, '');
  return {
    ...template,
    cniVersion: template.cniVersion ?? STANDARD_TEMPLATE.cniVersion,
    plugins: template.plugins.map((entry, index) => (entry.type === 'flannel' ? delegate(entry, `plugins[${index}]`, options) : entry)),
  };
}

/**
 * What the plugin flannel makes of its own entry: its `delegate` counts before the node's values, its `ipam` is extended by the node's
 * subnets and by routes to the networks, and what the runtime may hand to flannel (`capabilities`) is handed to the delegate.
 */
function delegate(entry: PluginConf, path: string, { mtu, subnets, networks, ipMasq, bridge }: ConflistOptions): PluginConf {
  const conf = check(FLANNEL, entry, path);
  const { type = 'bridge', ...given } = conf.delegate ?? {};
  return {
    type,
    ...(type === 'bridge' ? { bridge, isGateway: true } : {}),
    mtu,
    ipMasq: !ipMasq,
    ...given,
    ...('capabilities' in entry ? { capabilities: entry['capabilities'] } : {}),
    ipam: {
      type: 'host-local',
      ...conf.ipam,
      ranges: subnets.map((subnet) => [{ subnet: formatPrefix(subnet) }]),
      routes: [...(conf.ipam?.routes ?? []), ...networks.map((network) => ({ dst: formatPrefix(network) }))],
    },
  };
}

/**
 * The bridge that the pods of a list are attached to, for whoever makes it first. Undefined: there is none, or it is more than a plain
 * bridge (VLANs), and left to the plugin.
 */
export function conflistBridge({ plugins }: Conflist): ConflistBridge | undefined {
  const conf = plugins.find(({ type }) => type === 'bridge');
  if (conf === undefined || Boolean(conf['vlan']) || Boolean(conf['vlanTrunk'])) return undefined;
  const { bridge, mtu } = conf;
  return {
    name: typeof bridge === 'string' ? bridge : 'cni0',
    mtu: typeof mtu === 'number' && mtu > 0 ? mtu : ETHERNET_MTU,
    hairpin: conf['hairpinMode'] === true,
    gateway: conf['isGateway'] === true || conf['isDefaultGateway'] === true,
  };
}

/** The text of the file, the same for the same list: runtimes load it anew whenever it is written, and so it is only where it differs. */
export function conflistText(list: Conflist): string {
  return `${JSON.stringify(list, undefined, 2)}\n`;
}

function check<T>(schema: z.ZodType<T>, value: unknown, path: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const segments = issue?.path ?? [];
  const field = segments.reduce<string>(
    (path, segment) => (typeof segment === 'number' ? `${path}[${segment}]` : path === '' ? String(segment) : `${path}.${String(segment)}`),
    path,
  );
  const found = segments.reduce<unknown>((value, segment) => (value as Record<PropertyKey, unknown>)[segment], value);
  const message = issue?.message ?? 'cannot be read';
  const fault = message.startsWith('expected') ? `${message}, not ${found === undefined ? 'nothing' : quote(found)}` : message;
  throw new SluiceError('CNI_CONF_INVALID', `reading the template of the CNI configuration: ${field === '' ? '' : `${field}: `}${fault}`, {
    exitStatus: 2,
    hint: 'It is cni-conf.json of the ConfigMap kube-flannel-cfg; without it, that of flannel’s own manifest is used.',
  });
}
