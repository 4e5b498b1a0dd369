/** The agent's settings. */
import { hostname } from 'node:os';
import type { Option } from 'commander';
import * as z from 'zod';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';
import { MODE_ANNOTATION, MODES } from '../policy/mode.ts';
import { DEFAULT_LOG_GROUP, DEFAULT_OBSERVE_SOCKET } from './agent-defaults.ts';
import { choice, file, fileOrOff, flag, list, listenAddress, name, number, SettingTable, wrongSetting } from './settings.ts';

const SCHEMA = z.strictObject({
  source: file.optional(),
  kubeconfig: file.optional(),
  context: name.optional(),
  node: name,
  bridge: list,
  mode: choice(MODES),
  auditNamespaces: flag,
  ownership: choice(['auto', 'owned', 'shared']),
  logGroup: number('a number from 0 to 65535', (value) => value >= 0 && value <= 65_535),
  cutMark: number('a single bit of 32, such as 0x1000', (value) => value > 0 && value <= 0x8000_0000 && Number.isInteger(Math.log2(value))),
  observeSocket: fileOrOff,
  statusFile: file.optional(),
  logLevel: choice(['debug', 'info', 'warn', 'error']),
  policyEvents: flag,
  startupTaint: name.optional(),
  metricsAddress: listenAddress,
  metricsAuthentication: choice(['none', 'token']),
  metricsByRule: flag,
  healthAddress: listenAddress,
});

export type AgentSettings = z.output<typeof SCHEMA>;
/** In the order of `sluice agent --help`. */
const SETTINGS = new SettingTable(SCHEMA, {
  kubeconfig: {
    flags: '--kubeconfig <file>',
    description: 'how to reach the API server; default: $KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in',
  },
  context: { flags: '--context <name>', description: 'context of the kubeconfig; default: its current one' },
  source: {
    flags: '--source <directory>',
    description:
      'instead of an API server, a directory of Kubernetes YAML or JSON that is watched: Pods, Namespaces, Nodes, NetworkPolicies',
  },
  node: {
    flags: '--node <name>',
    description: 'name of the node whose pods are enforced',
    standard: hostname,
    standardText: '$NODE_NAME, or the name of this host',
    environment: ['NODE_NAME'],
  },
  bridge: {
    flags: '--bridge <name...>',
    description: 'bridges that pods are attached to; one that is not there yet is waited for',
    standard: () => ['cni0'],
    standardText: 'cni0',
  },
  mode: {
    flags: '--mode <mode>',
    description: 'enforce, or audit: nothing is enforced, and what would be refused is counted and logged',
    standard: () => 'enforce',
  },
  auditNamespaces: {
    flags: '--audit-namespaces',
    description: `audit the pods of namespaces with the annotation ${MODE_ANNOTATION}: audit; whoever may edit a Namespace can then switch its policies off`,
    standard: () => false,
  },
  ownership: {
    flags: '--ownership <mode>',
    description:
      'auto, owned or shared: whether the kernel keeps others from changing the rules (needs Linux 6.9); shared: changes are noticed and repaired',
    standard: () => 'auto',
  },
  logGroup: {
    flags: '--log-group <number>',
    description: 'NFLOG group that refused packets are sent to; 0: none',
    standard: () => DEFAULT_LOG_GROUP,
  },
  cutMark: {
    flags: '--cut-mark <bit>',
    description: 'bit of the ct mark that cuts flows older than the first rule',
    standard: () => DEFAULT_CUT_MARK,
    standardText: `0x${DEFAULT_CUT_MARK.toString(16)}`,
  },
  policyEvents: {
    flags: '--policy-events <true|false>',
    description: 'whether to tell the authors of policies by Kubernetes Events what is wrong with them',
    standard: () => true,
  },
  startupTaint: {
    flags: '--startup-taint <key>',
    description: 'a taint of the node that is taken away when everything is in force for the first time; needs to get and patch nodes',
  },
  metricsAddress: {
    flags: '--metrics-address <address>',
    description: 'where Prometheus finds /metrics, or off; every pod of the node reaches what is not on 127.0.0.1',
    standard: () => '127.0.0.1:9477',
  },
  metricsAuthentication: {
    flags: '--metrics-authentication <how>',
    description:
      'none, or token: /metrics only for bearer tokens that the API server knows and lets read it (TokenReview, SubjectAccessReview)',
    standard: () => 'none',
  },
  metricsByRule: {
    flags: '--metrics-by-rule',
    description: 'also count admitted connections by policy and rule: as many series as there are rules',
    standard: () => false,
  },
  healthAddress: {
    flags: '--health-address <address>',
    description: 'where /healthz and /readyz are, or off',
    standard: () => '127.0.0.1:9478',
  },
  observeSocket: {
    flags: '--observe-socket <file>',
    description: 'where sluice observe finds this agent, or off; only root may open it',
    standard: () => DEFAULT_OBSERVE_SOCKET,
  },
  statusFile: { flags: '--status-file <file>', description: 'keep the agent’s state in this file, as JSON' },
  logLevel: { flags: '--log-level <level>', description: 'least severity to log: debug, info, warn or error', standard: () => 'info' },
});

/** The flags, without defaults: whether one was given has to be seen. */
export function settingOptions(): Option[] {
  return SETTINGS.options();
}

export interface ReadSettings {
  readonly settings: AgentSettings;
  /** As YAML, a setting a line, with where it comes from. */
  readonly text: string;
}

/**
 * @param given the flags that were given
 * @throws SluiceError `SETTING_INVALID` with where the value comes from, `CONFIG_UNREADABLE`
 */
export function readSettings(
  given: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  configFile: string | undefined,
): ReadSettings {
  const { settings, text, origins } = SETTINGS.read(given, environment, configFile);
  if (settings.source !== undefined && settings.kubeconfig !== undefined) {
    throw wrongSetting(`${origins.source} and ${origins.kubeconfig}`, 'there is one source: a directory or an API server');
  }
  if (settings.metricsAuthentication === 'token' && settings.source !== undefined) {
    throw wrongSetting(origins.metricsAuthentication ?? '', 'tokens are reviewed by an API server, and there is none with --source');
  }
  return { settings, text };
}
