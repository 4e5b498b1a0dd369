/**
 * Ports (NetworkPolicyPort): reading them as untrusted data, matching them, and merging them for a ruleset. An entry that cannot
 * be read is left out, so that it matches nothing; a list of which nothing could be read is empty, and admits nothing.
 */
import { compact } from './compact.ts';
import type { Pod, PolicyProtocol, PortMatch, Protocol } from './objects.ts';
import { type Fields, isAbsent, isFields, problem, type Problems, quote, typeName, unknownFields } from './problems.ts';

/** As port numbers in a policy and in packets are bounded. */
export const PORT_MAX = 65_535;

const PROTOCOLS: readonly PolicyProtocol[] = ['TCP', 'UDP', 'SCTP'];

/** Inclusive. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** What a rule admits of one protocol. */
export interface PortGroup {
  readonly protocol: PolicyProtocol;
  /** Ascending, disjoint, and none directly follows another. 0 to 65535 is every port. */
  readonly ranges: readonly PortRange[];
  /** Sorted, each once; each means the destination pod's own numbers (row 15). */
  readonly names: readonly string[];
}

/**
 * Whether one entry of `ports` admits a packet of this protocol and destination port; `destination` is the pod that the
 * destination address belongs to (row 18: for egress as well, and after DNAT), undefined where it belongs to none.
 * Nothing but TCP, UDP and SCTP is ever admitted by an entry (row 32), and those have ports.
 */
export function portMatches(match: PortMatch, protocol: Protocol, port: number | undefined, destination: Pod | undefined): boolean {
  // Rows 16, 23, 24: another protocol is another port.
  if (match.protocol !== protocol || port === undefined) return false;
  if (match.kind === 'numbers') return match.first <= port && port <= match.last;
  // Row 17: never an external address.
  if (destination === undefined) return false;
  // Rows 15, 16: this pod's own numbers, and only those it declares for this protocol. One name may have several.
  for (const declared of destination.ports) {
    if (declared.name === match.name && declared.protocol === protocol && declared.port === port) return true;
  }
  return false;
}

/** Per protocol what the entries admit together. Undefined (every protocol and port) stays so; an empty list admits nothing. */
export function groupPorts(ports: readonly PortMatch[] | undefined): PortGroup[] | undefined {
  if (ports === undefined) return undefined;
  return PROTOCOLS.flatMap((protocol) => {
    const names = ports.flatMap((match) => (match.kind === 'name' && match.protocol === protocol ? [match.name] : []));
    const group: PortGroup = { protocol, ranges: numericRanges(ports, protocol), names: [...new Set(names)].sort() };
    return group.ranges.length + group.names.length > 0 ? [group] : [];
  });
}

/** The numbers of one protocol that the entries admit: ascending, disjoint, and none directly follows another. */
export function numericRanges(ports: readonly PortMatch[], protocol: PolicyProtocol): PortRange[] {
  const sorted = ports
    .flatMap((match) => (match.kind === 'numbers' && match.protocol === protocol ? [match] : []))
    .sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const { first, last } of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && first <= previous.last + 1) previous.last = Math.max(previous.last, last);
    else merged.push({ first, last });
  }
  return merged;
}

/** `ports` of a rule. Undefined: every protocol and port (row 3). */
export function readPorts(value: unknown, path: string, problems: Problems): PortMatch[] | undefined {
  if (isAbsent(value)) return undefined;
  if (!Array.isArray(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `ports is a list, not ${typeName(value)}; the rule admits nothing`));
    return [];
  }
  if (value.length === 0) return undefined;
  return compact(value.flatMap((entry: unknown, index) => readPort(entry, index, `${path}[${index}]`, problems) ?? []));
}

const NOTHING = 'this entry admits nothing';

function readPort(value: unknown, index: number, path: string, problems: Problems): PortMatch | undefined {
  if (!isFields(value)) {
    problems.push(problem(path, 'TYPE_INVALID', `an entry has protocol, port and endPort; this is ${typeName(value)}; ${NOTHING}`));
    return undefined;
  }
  const unknown = unknownFields(value, path, ['protocol', 'port', 'endPort'], NOTHING);
  problems.pushAll(unknown);
  const protocol = readProtocol(value['protocol'], `${path}.protocol`, problems);
  const numbers = readNumbers(value, path, problems);
  if (protocol === undefined || numbers === undefined || unknown.length > 0) return undefined;
  return 'name' in numbers ? { kind: 'name', index, protocol, name: numbers.name } : { kind: 'numbers', index, protocol, ...numbers };
}

function readProtocol(value: unknown, path: string, problems: Problems): PolicyProtocol | undefined {
  // Row 12.
  if (isAbsent(value)) return 'TCP';
  const protocol = PROTOCOLS.find((known) => known === value);
  if (protocol === undefined) {
    problems.push(problem(path, 'PROTOCOL_UNKNOWN', `the protocols are ${PROTOCOLS.join(', ')}, not ${quote(value)}; ${NOTHING}`));
  }
  return protocol;
}

function readNumbers({ port, endPort }: Fields, path: string, problems: Problems): PortRange | { readonly name: string } | undefined {
  const at = { port: `${path}.port`, endPort: `${path}.endPort` };
  if (isAbsent(port)) {
    // Row 13.
    if (isAbsent(endPort)) return { first: 0, last: PORT_MAX };
    problems.push(problem(at.endPort, 'END_PORT_INVALID', `an endPort needs a port to start from; ${NOTHING}`));
    return undefined;
  }
  if (typeof port === 'string') {
    const isName = isPortName(port);
    if (!isName) problems.push(problem(at.port, 'PORT_NAME_INVALID', portNameMessage(port)));
    if (isAbsent(endPort)) return isName ? { name: port } : undefined;
    // Row 14.
    problems.push(problem(at.endPort, 'END_PORT_INVALID', `an endPort goes with a numeric port only, not with ${quote(port)}; ${NOTHING}`));
    return undefined;
  }
  if (!isPortNumber(port)) {
    problems.push(problem(at.port, 'PORT_INVALID', `a port is a number from 1 to ${PORT_MAX} or a name, not ${quote(port)}; ${NOTHING}`));
    return undefined;
  }
  if (isAbsent(endPort)) return { first: port, last: port };
  if (!isPortNumber(endPort) || endPort < port) {
    const message = `an endPort is a number from port (${port}) to ${PORT_MAX}, not ${quote(endPort)}; ${NOTHING}`;
    problems.push(problem(at.endPort, 'END_PORT_INVALID', message));
    return undefined;
  }
  return { first: port, last: endPort };
}

function isPortNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= PORT_MAX;
}

/** RFC 6335 section 5.1 in lower case, as apimachinery's IsValidPortName: at most 15, a letter, no dash at an end or beside another. */
function isPortName(text: string): boolean {
  return /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/.test(text);
}

function portNameMessage(text: string): string {
  const isNumber = /^[0-9]+$/.test(text);
  const right = isNumber ? `Write the number without quotes: port: ${Number(text)}` : 'Right are http and metrics-2';
  return `${quote(text)} is text, and no name of a port; ${NOTHING}. ${right}`;
}
