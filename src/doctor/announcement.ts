/** What this node has told its peers, against what it has: they send to what was told. */
import { publishedType, vxlanData } from '../network/lease.ts';
import { annotationNames } from '../network/node-lease.ts';
import { type Address, type Family, formatAddress, parseAddress } from '../policy/address.ts';
import type { Evidence, KernelTables, LeaseRecords, NodeSettings, Told } from './evidence.ts';
import { parseJson, type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { lines, word } from './shell-text.ts';

type Field = 'backend-type' | 'backend-data' | 'backend-v6-data' | 'public-ip' | 'public-ipv6';

const FIELDS: Readonly<Record<Field, { readonly file: string; readonly isText: boolean }>> = {
  'backend-type': { file: 'backendType', isText: true },
  'backend-data': { file: 'backendData', isText: false },
  'backend-v6-data': { file: 'backendV6Data', isText: false },
  'public-ip': { file: 'publicIP', isText: true },
  'public-ipv6': { file: 'publicIPv6', isText: true },
};

export function checkAnnouncement(evidence: Evidence): CheckOutcome {
  const { leases, tables, conf, settings } = evidence;
  if ('blind' in leases) return blind(leases.blind);
  if ('blind' in tables) return blind(tables.blind);
  const { own } = leases.seen;
  if (!own.isPublished) return idle('nothing has been told of this node');
  const findings: Finding[] = [];
  const type = publishedType(conf.backend.type);
  if ((own.backendType.text ?? '') !== type) {
    findings.push({
      code: 'BACKEND_TYPE_DIFFERS',
      severity: 'error',
      subject: settings.node,
      message: `peers are told that its backend is ${own.backendType.text || 'none'}, and net-conf.json says ${conf.backend.type}`,
      evidence: [evidenceOf(own.backendType), `${settings.netConfigPath}: Backend.Type ${conf.backend.type}`],
      remedy: lines(
        '# The daemon was started with another net-conf.json: start it again, here or on the other nodes. By hand:',
        tell(leases.seen, settings, 'backend-type', type),
      ),
    });
    return foundBy(findings);
  }
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  for (const { family } of plan.seen.families) {
    const address = publicAddress(family, plan.seen, tables.seen, leases.seen, settings);
    if (address !== undefined) findings.push(address);
    const data = vtep(family, plan.seen, tables.seen, leases.seen, evidence);
    if (data !== undefined) findings.push(data);
  }
  return foundBy(findings);
}

function publicAddress(
  family: Family,
  { external }: Plan,
  tables: KernelTables,
  leases: LeaseRecords,
  settings: NodeSettings,
): Finding | undefined {
  const told = leases.own.publicAddress[family];
  const overwrite = leases.own.overwrite[family].text;
  const of = family === 4 ? external.v4 : external.v6;
  const wanted = overwrite ?? (of === undefined ? undefined : formatAddress(of.public));
  if (told.text === undefined || wanted === undefined || told.text === wanted) return undefined;
  const address = parseAddress(told.text);
  if (address !== undefined && address === parseAddress(wanted)) return undefined;
  const holder = linkWith(tables, address);
  return {
    code: 'PUBLIC_ADDRESS_DIFFERS',
    severity: 'error',
    subject: settings.node,
    message:
      holder === undefined
        ? `peers are told to send to ${told.text}, and no interface of this node has that address`
        : `peers are told to send to ${told.text}, the address of ${holder}, and packets go through ${external.name} (${wanted})`,
    evidence: [evidenceOf(told), `link ${external.name}: ${of === undefined ? 'no address' : formatAddress(of.own)}`],
    remedy: lines(
      '# Where the daemon was started with --iface or --public-ip, say the same here. The daemon tells the right one when it starts. By hand:',
      tell(leases, settings, family === 4 ? 'public-ip' : 'public-ipv6', wanted),
    ),
  };
}

function linkWith({ links, addresses }: KernelTables, address: Address | undefined): string | undefined {
  const index = addresses.find((each) => each.address === address)?.link;
  return links.find((link) => link.index === index)?.name;
}

/** Of the backend vxlan: VNI and hardware address. */
function vtep(
  family: Family,
  { devices }: Plan,
  tables: KernelTables,
  leases: LeaseRecords,
  { conf, settings }: Evidence,
): Finding | undefined {
  const { backend } = conf;
  if (backend.type !== 'vxlan') return undefined;
  const told = leases.own.data[family];
  const device = devices.find((each) => each.kind === 'vxlan' && (typeof each.local === 'number') === (family === 4));
  const link = tables.links.find(({ name }) => name === device?.name);
  const data = told.text === undefined ? undefined : vxlanData(parseJson(told.text));
  const field: Field = family === 4 ? 'backend-data' : 'backend-v6-data';
  const mac = data?.mac ?? link?.address;
  const right = mac === undefined ? undefined : tell(leases, settings, field, JSON.stringify({ VNI: backend.vni, VtepMAC: mac }));
  if (data === undefined) {
    return {
      code: 'BACKEND_DATA_INVALID',
      severity: 'error',
      subject: settings.node,
      message: `what peers are told of its IPv${family} VTEP is no VTEP: they have no way to it`,
      evidence: [evidenceOf(told)],
      remedy: lines('# The daemon tells it anew when it starts. By hand:', right),
    };
  }
  if (data.vni !== backend.vni) {
    return {
      code: 'VNI_DIFFERS',
      severity: 'error',
      subject: settings.node,
      message: `peers are told that its VNI is ${data.vni}, and net-conf.json says ${backend.vni}`,
      evidence: [evidenceOf(told), `${settings.netConfigPath}: Backend.VNI ${backend.vni}`],
      remedy: lines('# The daemon was started with another net-conf.json: start it again. By hand:', right),
    };
  }
  if (link?.address === undefined || link.address === data.mac) return undefined;
  return {
    code: 'VTEP_MAC_DIFFERS',
    severity: 'error',
    subject: link.name,
    message: `its hardware address is ${link.address}, and peers are told ${data.mac}: what they send is thrown away`,
    evidence: [`link ${link.name}: address ${link.address}`, evidenceOf(told)],
    remedy: `ip link set dev ${word(link.name)} address ${data.mac}`,
  };
}

function evidenceOf({ where, text }: Told): string {
  return `${where}: ${text ?? 'not there'}`;
}

/** The command that tells the peers something of this node. @param value of data: JSON */
export function tell(
  { kind, origin }: LeaseRecords,
  { node, annotationPrefix, kubectl }: NodeSettings,
  field: Field,
  value: string,
): string {
  if (kind === 'kubernetes')
    return `${kubectl} annotate node ${word(node)} --overwrite ${word(`${annotationNames(annotationPrefix)[field]}=${value}`)}`;
  const { file, isText } = FIELDS[field];
  const path = `${origin}/${node}.json`;
  const fresh = `${origin}/.${node}.json.new`;
  return `jq ${word(`.${file} = ${isText ? JSON.stringify(value) : value}`)} ${word(path)} > ${word(fresh)} && mv ${word(fresh)} ${word(path)}`;
}
