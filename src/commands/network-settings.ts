/**
 * The settings of `sluice network`. Where flanneld has a flag for something it is called the same here, also in the environment
 * (FLANNELD_IP_MASQ), so that its DaemonSet's arguments can stay as they are.
 */
import type { Option } from 'commander';
import * as z from 'zod';
import { parseAddress } from '../policy/address.ts';
import { readPattern } from '../network/external-interface.ts';
import { DEFAULT_ANNOTATION_PREFIX } from '../network/node-lease.ts';
import { choice, file, flag, listenAddress, name, number, SettingTable, snake, texts, wrongSetting } from './settings.ts';

/** A path, or `off`: undefined. */
const fileOrOff = file.transform((path) => (path === 'off' ? undefined : path));
const nameOrOff = name.transform((text) => (text === 'off' ? undefined : text));

function address(family: 4 | 6) {
  return z.string().transform((text, context) => {
    const read = parseAddress(text);
    if (read !== undefined && (typeof read === 'number') === (family === 4)) return read;
    context.addIssue({ code: 'custom', message: `expected an IPv${family} address` });
    return z.NEVER;
  });
}

const pattern = z.string().transform((text, context) => {
  if (readPattern(text) instanceof RegExp) return text;
  context.addIssue({ code: 'custom', message: 'expected a regular expression' });
  return z.NEVER;
});

const SCHEMA = z.strictObject({
  netConfigPath: file,
  kubeconfigFile: file.optional(),
  kubeApiUrl: z.url({ error: 'expected a URL such as https://10.0.0.1:6443' }).optional(),
  kubeAnnotationPrefix: name,
  node: name.optional(),
  leaseDir: file.optional(),
  iface: texts,
  ifaceRegex: z.union([pattern.transform((text) => [text]), z.array(pattern)], { error: 'expected a regular expression' }),
  ifaceCanReach: name.optional(),
  publicIp: address(4).optional(),
  publicIpv6: address(6).optional(),
  ipMasq: flag,
  ipMasqFullyRandomDisable: flag,
  iptablesForwardRules: flag,
  iptablesResync: number('a number of seconds from 1', (value) => value >= 1),
  ipBlackholeRoute: flag,
  subnetFile: fileOrOff,
  bridge: nameOrOff,
  cniConfFile: fileOrOff,
  cniConfTemplate: file.optional(),
  setNodeNetworkUnavailable: flag,
  healthzIp: z.union([address(4), address(6)], { error: 'expected an IP address' }),
  healthzPort: number('a number from 0 to 65535', (value) => value >= 0 && value <= 65_535),
  metricsAddress: listenAddress,
  logLevel: choice(['debug', 'info', 'warn', 'error']),
  kubeSubnetMgr: flag,
});

export type NetworkSettings = z.output<typeof SCHEMA>;

const flanneld = (setting: string): { environment: readonly string[] } => ({
  environment: [`SLUICE_${snake(setting)}`, `FLANNELD_${snake(setting)}`],
});

/** In the order of `sluice network --help`. */
const SETTINGS = new SettingTable(SCHEMA, {
  netConfigPath: {
    flags: '--net-config-path <file>',
    description: 'the network’s configuration, the same on all nodes: net-conf.json',
    standard: () => '/etc/kube-flannel/net-conf.json',
    ...flanneld('netConfigPath'),
  },
  kubeconfigFile: {
    flags: '--kubeconfig-file <file>',
    description: 'how to reach the API server; default: $KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in',
    ...flanneld('kubeconfigFile'),
  },
  kubeApiUrl: {
    flags: '--kube-api-url <url>',
    description: 'the API server, in place of the one that the kubeconfig names',
    ...flanneld('kubeApiUrl'),
  },
  kubeAnnotationPrefix: {
    flags: '--kube-annotation-prefix <prefix>',
    description: 'what the names of the annotations begin with',
    standard: () => DEFAULT_ANNOTATION_PREFIX,
    ...flanneld('kubeAnnotationPrefix'),
  },
  node: {
    flags: '--node <name>',
    description: 'name of this node',
    standardText: '$NODE_NAME, the node of the pod that this runs in ($POD_NAMESPACE, $POD_NAME), or the name of this host',
    environment: ['NODE_NAME'],
  },
  leaseDir: {
    flags: '--lease-dir <directory>',
    description:
      'without Kubernetes: a directory that all nodes share, with a file for each; subnets are chosen by SubnetLen, SubnetMin, SubnetMax',
  },
  iface: {
    flags: '--iface <name|address...>',
    description: 'interface for packets between nodes; of several the first that is there',
    standard: () => [],
    standardText: 'that of the default route',
    ...flanneld('iface'),
  },
  ifaceRegex: {
    flags: '--iface-regex <expression...>',
    description: 'the first interface that one of its addresses, or its name, matches; asked after --iface',
    standard: () => [],
    standardText: 'none',
    ...flanneld('ifaceRegex'),
  },
  ifaceCanReach: {
    flags: '--iface-can-reach <address>',
    description: 'the interface that packets to this address leave by; asked last',
    ...flanneld('ifaceCanReach'),
  },
  publicIp: {
    flags: '--public-ip <address>',
    description: 'what peers reach this node by, where it is not the interface’s address',
    ...flanneld('publicIp'),
  },
  publicIpv6: { flags: '--public-ipv6 <address>', description: 'the same for IPv6', ...flanneld('publicIpv6') },
  ipMasq: {
    flags: '--ip-masq [true|false]',
    description: 'masquerade what leaves the cluster’s network',
    standard: () => false,
    ...flanneld('ipMasq'),
  },
  ipMasqFullyRandomDisable: {
    flags: '--ip-masq-fully-random-disable [true|false]',
    description: 'masquerade with the sender’s port where it is free',
    standard: () => false,
    ...flanneld('ipMasqFullyRandomDisable'),
  },
  iptablesForwardRules: {
    flags: '--iptables-forward-rules [true|false]',
    description: 'let packets of the cluster’s network be forwarded',
    standard: () => true,
    ...flanneld('iptablesForwardRules'),
  },
  iptablesResync: {
    flags: '--iptables-resync <seconds>',
    description: 'how often iptables rules are looked at (those of nftables tell by themselves)',
    standard: () => 5,
    ...flanneld('iptablesResync'),
  },
  ipBlackholeRoute: {
    flags: '--ip-blackhole-route [true|false]',
    description: 'refuse what is for pods of this node that are not there, where there is no bridge',
    standard: () => false,
    ...flanneld('ipBlackholeRoute'),
  },
  subnetFile: {
    flags: '--subnet-file <file>',
    description: 'what this node has been given, for others to read; off: none',
    standard: () => '/run/flannel/subnet.env',
    ...flanneld('subnetFile'),
  },
  bridge: {
    flags: '--bridge <name>',
    description: 'the pods’ bridge, made before the first pod and kept; off: somebody else does',
    standard: () => 'cni0',
  },
  cniConfFile: {
    flags: '--cni-conf-file <file>',
    description: 'the container runtime’s network configuration; off: somebody else writes it',
    standard: () => '/etc/cni/net.d/10-flannel.conflist',
  },
  cniConfTemplate: {
    flags: '--cni-conf-template <file>',
    description: 'what it is made from: cni-conf.json as flannel has it',
    standardText: 'cni-conf.json beside net-conf.json, where there is one',
  },
  setNodeNetworkUnavailable: {
    flags: '--set-node-network-unavailable [true|false]',
    description: 'tell by the Node’s condition NetworkUnavailable=False that pods may come',
    standard: () => true,
    ...flanneld('setNodeNetworkUnavailable'),
  },
  healthzIp: {
    flags: '--healthz-ip <address>',
    description: 'where /healthz and /readyz are',
    standard: () => '0.0.0.0',
    ...flanneld('healthzIp'),
  },
  healthzPort: { flags: '--healthz-port <port>', description: '0: nowhere', standard: () => 0, ...flanneld('healthzPort') },
  metricsAddress: {
    flags: '--metrics-address <address>',
    description: 'where Prometheus finds /metrics, or off; every pod of the node reaches what is not on 127.0.0.1',
    standard: () => '127.0.0.1:9479',
    environment: ['SLUICE_NETWORK_METRICS_ADDRESS'],
  },
  logLevel: { flags: '--log-level <level>', description: 'least severity to log: debug, info, warn or error', standard: () => 'info' },
  kubeSubnetMgr: {
    flags: '--kube-subnet-mgr [true|false]',
    description: 'for flanneld’s sake: subnets come from Kubernetes, unless there is --lease-dir',
    standard: () => true,
    standardText: 'true',
    ...flanneld('kubeSubnetMgr'),
  },
});

/** The flags, without defaults. */
export function settingOptions(): Option[] {
  return SETTINGS.options();
}

/**
 * @param given the flags that were given
 * @throws SluiceError `SETTING_INVALID`, `CONFIG_UNREADABLE`
 */
export function readSettings(
  given: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  configFile: string | undefined,
): { readonly settings: NetworkSettings; readonly text: string } {
  const { settings, text, origins } = SETTINGS.read(given, environment, configFile);
  if (settings.leaseDir !== undefined && settings.kubeconfigFile !== undefined) {
    throw wrongSetting(`${origins.leaseDir} and ${origins.kubeconfigFile}`, 'leases come from a directory or from an API server');
  }
  if (!settings.kubeSubnetMgr && settings.leaseDir === undefined) {
    throw wrongSetting(
      origins.kubeSubnetMgr ?? '',
      'leases in etcd are not supported',
      'Subnets come from Kubernetes (the default), or from a directory: --lease-dir.',
    );
  }
  return { settings, text };
}
