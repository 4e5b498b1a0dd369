/**
 * The agent's settings: what each is called as a flag, in the environment and in the configuration file, what it may be, and what it is
 * where nobody says. A flag counts before the environment, the environment before the file, the file before the default.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Option } from 'commander';
import { parse as parseYaml, stringify } from 'yaml';
import * as z from 'zod';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { DEFAULT_LOG_GROUP } from './agent-defaults.ts';
import { nearest } from './nearest.ts';

const name = z.string().min(1, 'expected a name, not an empty text');
const file = z.string().min(1, 'expected a path, not an empty text');

/** Flags and environment give texts, the file whatever YAML has. */
const number = (wanted: string, check: (value: number) => boolean) =>
  z
    .union([z.number(), z.string().trim().min(1).transform(Number)], { error: `expected ${wanted}` })
    .refine((value) => Number.isInteger(value) && check(value), { error: `expected ${wanted}` });

const list = z
  .union([z.string().transform((text) => text.split(/[\s,]+/).filter((part) => part !== '')), z.array(name)], {
    error: 'expected a list of names',
  })
  .refine((names) => names.length > 0, { error: 'expected at least one name' });

const flag = z.union([z.boolean(), z.enum(['true', 'false']).transform((text) => text === 'true')], { error: 'expected true or false' });

const choice = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `expected one of ${values.join(', ')}` });

/** `address:port`, `[::1]:port`, `:port` for every address; undefined: `off`. */
const listenAddress = z.string({ error: 'expected an address and a port, such as 127.0.0.1:9477' }).transform((text, context) => {
  if (text === 'off') return undefined;
  const [, host = '', port = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)?.filter((part) => part !== undefined) ?? [];
  if (/^\d+$/.test(port) && Number(port) <= 65_535) return { host, port: Number(port) };
  context.addIssue({ code: 'custom', message: 'expected an address and a port, such as 127.0.0.1:9477, or off' });
  return z.NEVER;
});

const SCHEMA = z.strictObject({
  source: file.optional(),
  kubeconfig: file.optional(),
  context: name.optional(),
  node: name,
  bridge: list,
  ownership: choice(['auto', 'owned', 'shared']),
  logGroup: number('a number from 0 to 65535', (value) => value >= 0 && value <= 65_535),
  cutMark: number('a single bit of 32, such as 0x1000', (value) => value > 0 && value <= 0x8000_0000 && Number.isInteger(Math.log2(value))),
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
type Setting = keyof AgentSettings;

interface SettingEntry {
  /** `--log-group <number>`; its name in the environment and in the file follows from it, unless `environment` says another. */
  readonly flags: string;
  readonly description: string;
  /** Undefined: there is none, and the setting may be absent. */
  readonly standard?: () => unknown;
  /** What help says of it, where it is no plain value. */
  readonly standardText?: string;
  readonly environment?: string;
}

/** In the order of `sluice agent --help`. */
const SETTINGS: { readonly [S in Setting]: SettingEntry } = {
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
    environment: 'NODE_NAME',
  },
  bridge: {
    flags: '--bridge <name...>',
    description: 'bridges that pods are attached to; one that is not there yet is waited for',
    standard: () => ['cni0'],
    standardText: 'cni0',
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
  statusFile: { flags: '--status-file <file>', description: 'keep the agent’s state in this file, as JSON' },
  logLevel: { flags: '--log-level <level>', description: 'least severity to log: debug, info, warn or error', standard: () => 'info' },
};

const NAMES = Object.keys(SETTINGS) as Setting[];
const UNSET = Symbol('unset');

/** The flags, without defaults: whether one was given has to be seen. */
export function settingOptions(): Option[] {
  return NAMES.map((setting) => {
    const { flags, description, standard, standardText } = SETTINGS[setting];
    const option = new Option(flags, description);
    const text = standardText ?? (standard === undefined ? undefined : String(standard()));
    // What help says is not what is read: the value stays undefined.
    return text === undefined || text === 'false' ? option : option.default(UNSET, text);
  });
}

function environmentName(setting: Setting): string {
  return SETTINGS[setting].environment ?? `SLUICE_${setting.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function flagName(setting: Setting): string {
  return SETTINGS[setting].flags.split(' ')[0] ?? '';
}

export interface ReadSettings {
  readonly settings: AgentSettings;
  /** Each setting as YAML, with where it comes from: what `--print-config` prints. */
  readonly text: string;
}

/**
 * @param given what commander read, by setting
 * @throws SluiceError `SETTING_INVALID`, `CONFIG_UNREADABLE`: where it was said, and what would be right
 */
export function readSettings(
  given: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  configFile: string | undefined,
): ReadSettings {
  const inFile = configFile === undefined ? {} : readConfigFile(configFile);
  const values: Partial<Record<Setting, unknown>> = {};
  const origins: Partial<Record<Setting, string>> = {};
  for (const setting of NAMES) {
    const fromEnvironment = environment[environmentName(setting)];
    if (given[setting] !== undefined && given[setting] !== UNSET) [values[setting], origins[setting]] = [given[setting], flagName(setting)];
    else if (fromEnvironment !== undefined && fromEnvironment !== '')
      [values[setting], origins[setting]] = [fromEnvironment, `$${environmentName(setting)}`];
    else if (inFile[setting] !== undefined) [values[setting], origins[setting]] = [inFile[setting], `${configFile}: ${setting}`];
    else if (SETTINGS[setting].standard !== undefined) [values[setting], origins[setting]] = [SETTINGS[setting].standard(), 'default'];
  }
  const read = SCHEMA.safeParse(values);
  if (!read.success) {
    const [issue] = read.error.issues;
    const setting = issue?.path[0] as Setting;
    throw wrong(origins[setting] ?? setting, `${issue?.message ?? 'cannot be read'}, not ${JSON.stringify(values[setting])}`);
  }
  if (values.source !== undefined && values.kubeconfig !== undefined) {
    throw wrong(`${origins.source} and ${origins.kubeconfig}`, 'there is one source: a directory or an API server');
  }
  if (read.data.metricsAuthentication === 'token' && values.source !== undefined) {
    throw wrong(origins.metricsAuthentication ?? '', 'tokens are reviewed by an API server, and there is none with --source');
  }
  const text = NAMES.filter((setting) => values[setting] !== undefined)
    .map(
      (setting) =>
        `${stringify({ [setting]: values[setting] }, { flowCollectionPadding: false, collectionStyle: 'flow' }).replaceAll(/^\{|\}\n$/g, '')}  # ${origins[setting]}\n`,
    )
    .join('');
  return { settings: read.data, text };
}

function readConfigFile(path: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parseYaml(readFileSync(path, 'utf8'));
  } catch (cause) {
    const fault = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message.split('\n')[0] : String(cause));
    throw new SluiceError('CONFIG_UNREADABLE', `the configuration ${path} cannot be read: ${fault}`, { exitStatus: 2, cause });
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw wrong(path, 'expected settings, one a line: node: worker-1');
  const unknown = Object.keys(value).find((key) => !Object.hasOwn(SETTINGS, key));
  if (unknown !== undefined) {
    const meant = nearest(unknown, NAMES);
    throw wrong(
      `${path}: ${unknown}`,
      'there is no such setting',
      meant === undefined ? `There are: ${NAMES.join(', ')}.` : `Is ${meant} meant?`,
    );
  }
  return value as Readonly<Record<string, unknown>>;
}

function wrong(where: string, what: string, hint?: string): SluiceError {
  return new SluiceError('SETTING_INVALID', `${where}: ${what}`, { exitStatus: 2, hint });
}
