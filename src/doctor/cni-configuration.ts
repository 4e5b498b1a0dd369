/** The container runtime's network configuration: the one that it takes, and whether it says what this node has. */
import { basename, join } from 'node:path';
import { conflist, conflistText } from '../network/cni/conflist.ts';
import { parseSubnetEnv } from '../network/subnet-env.ts';
import { formatPrefix, parsePrefix } from '../policy/address.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import type { CniFiles, Evidence } from './evidence.ts';
import { parseJson, type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, type FindingCode, foundBy, idle } from './report.ts';
import { lines, word, writeFileCommand } from './shell-text.ts';

export function checkCniConfiguration(evidence: Evidence): CheckOutcome {
  const { settings, cni } = evidence;
  const { cniConfFile: path } = settings;
  if (path === undefined) return idle('somebody else writes it (--cni-conf-file off)');
  if ('blind' in cni) return blind(cni.blind);
  const plan = planOf(evidence);
  const text = 'seen' in plan ? wantedText(plan.seen, evidence) : undefined;
  const write = text === undefined ? '# The network daemon writes it once the node has a subnet.' : writeFileCommand(path, text);
  const file = cni.seen.files.find(({ name }) => name === basename(path));
  const names = cni.seen.files.map(({ name }) => name);
  const listing = `${cni.seen.directory}: ${names.length === 0 ? 'no configuration' : names.join(', ')}`;
  if (file === undefined) {
    const [first] = names;
    return foundBy([
      {
        code: 'CNI_CONF_MISSING',
        severity: 'error',
        subject: path,
        message:
          first === undefined
            ? 'it is not there, nor any other: the runtime makes no pods, and the node is not Ready (“cni plugin not initialized”)'
            : `it is not there, and the runtime takes ${first}`,
        evidence: [listing],
        remedy: lines('# The network daemon writes it, and keeps it. By hand:', write),
      },
    ]);
  }
  const findings: Finding[] = [];
  const [first] = names;
  if (first !== undefined && first !== file.name) {
    const other = join(cni.seen.directory, first);
    findings.push({
      code: 'CNI_CONF_SHADOWED',
      severity: 'error',
      subject: path,
      message: `the runtime takes ${first}, which sorts before it: new pods get another network`,
      evidence: [listing],
      remedy: `mv ${word(other)} ${word(`${other}.disabled`)}`,
    });
  }
  const plugins = pluginsOf(file.text);
  if (typeof plugins === 'string') {
    findings.push({
      code: 'CNI_CONF_INVALID',
      severity: 'error',
      subject: path,
      message: `${plugins}: the runtime makes no pods with it`,
      evidence: [`${path}: ${file.text.trim().slice(0, 200)}`],
      remedy: write,
    });
    return foundBy(findings);
  }
  if ('blind' in plan) return { findings, blind: plan.blind };
  return foundBy([...findings, ...contents(path, plugins, plan.seen, evidence, write)]);
}

function contents(path: string, plugins: readonly Plugin[], plan: Plan, { subnetFile }: Evidence, write: string): Finding[] {
  const findings: Finding[] = [];
  const found = (code: FindingCode, severity: Finding['severity'], message: string, evidence: readonly string[]): void =>
    void findings.push({
      code,
      severity,
      subject: path,
      message,
      evidence,
      remedy: lines('# New pods go by it; the daemon writes it anew when it starts. By hand:', write),
    });
  const text = 'seen' in subnetFile ? subnetFile.seen : undefined;
  const ipMasq = text === undefined ? undefined : parseSubnetEnv(text).ipMasq;
  const { mtu } = plan.backend;
  for (const { type, fields } of plugins) {
    const bridge = bridgeFields(type, fields);
    if (bridge === undefined) continue;
    const { mtu: told } = bridge;
    if (typeof told === 'number' && told > mtu) {
      found(
        'CNI_MTU',
        'warning',
        `it makes pods with an MTU of ${told}, and no more than ${mtu} bytes get to other nodes of both families`,
        [`${path}: plugin ${type}, mtu ${told}`],
      );
    }
    const subnets = subnetsOf(fields);
    const wanted = plan.families.map(({ subnet }) => formatPrefix(subnet));
    if (type === 'bridge' && subnets.length > 0 && subnets.toSorted().join(' ') !== wanted.toSorted().join(' ')) {
      found('CNI_SUBNET', 'error', `it gives pods addresses of ${subnets.join(', ')}, and this node’s subnet is ${wanted.join(', ')}`, [
        `${path}: plugin ${type}, subnets ${subnets.join(', ')}`,
        `${plan.subnetsFrom}: ${wanted.join(', ')}`,
      ]);
    }
    if (bridge['ipMasq'] === true && ipMasq === true) {
      found(
        'CNI_MASQUERADES_TOO',
        'warning',
        'it has the plugin masquerade as well as the network daemon: pods are seen with the node’s address by pods of other nodes',
        [`${path}: plugin ${type}, ipMasq true`, 'subnet.env: FLANNEL_IPMASQ=true'],
      );
    }
  }
  return findings;
}

interface Plugin {
  readonly type: string;
  readonly fields: Fields;
}

/** Of a list, or of a single plugin (.conf). A text says what is wrong with it. */
export function pluginsOf(text: string): readonly Plugin[] | string {
  const value = parseJson(text);
  if (!isFields(value)) return 'it is no JSON object';
  const list: readonly unknown[] = Array.isArray(value['plugins']) ? (value['plugins'] as unknown[]) : [value];
  const plugins: Plugin[] = [];
  for (const each of list) {
    const type = isFields(each) ? each['type'] : undefined;
    if (!isFields(each) || typeof type !== 'string') return 'a plugin in it has no type';
    plugins.push({ type, fields: each });
  }
  return plugins.length === 0 ? 'it has no plugins' : plugins;
}

/** What the plugin bridge gets to hear: by itself, or from the plugin flannel. */
function bridgeFields(type: string, fields: Fields): Fields | undefined {
  if (type === 'bridge') return fields;
  if (type !== 'flannel') return undefined;
  const { delegate } = fields;
  return isFields(delegate) ? delegate : {};
}

function subnetsOf({ ipam }: Fields): string[] {
  const ranges = isFields(ipam) ? ipam['ranges'] : undefined;
  if (!Array.isArray(ranges)) return [];
  return (ranges as readonly unknown[]).flat().flatMap((range) => {
    const subnet = isFields(range) ? range['subnet'] : undefined;
    const prefix = typeof subnet === 'string' ? parsePrefix(subnet) : undefined;
    return prefix === undefined ? [] : [formatPrefix(prefix)];
  });
}

/** As the daemon writes it with flannel's own template. */
function wantedText({ backend, families }: Plan, { settings, subnetFile }: Evidence): string {
  const text = 'seen' in subnetFile ? subnetFile.seen : undefined;
  return conflistText(
    conflist({
      mtu: backend.mtu,
      subnets: families.map(({ subnet }) => subnet),
      networks: families.map(({ network }) => network),
      ipMasq: text === undefined ? true : (parseSubnetEnv(text).ipMasq ?? true),
      bridge: settings.bridge ?? 'cni0',
    }),
  );
}

/** The plugins that a configuration names, by their programs. */
export function programsOf(plugins: readonly Plugin[]): string[] {
  const names = new Set<string>();
  const add = (value: unknown): void => {
    if (typeof value === 'string' && value !== '') names.add(value);
  };
  for (const { type, fields } of plugins) {
    add(type);
    const { ipam, delegate } = fields;
    if (isFields(ipam)) add(ipam['type']);
    if (type !== 'flannel') continue;
    add((isFields(delegate) ? delegate['type'] : undefined) ?? 'bridge');
    add((isFields(ipam) ? ipam['type'] : undefined) ?? 'host-local');
  }
  return [...names];
}

/** The configuration that the runtime takes: the first. */
export function configurationInUse({ files }: CniFiles): CniFiles['files'][number] | undefined {
  return files[0];
}
