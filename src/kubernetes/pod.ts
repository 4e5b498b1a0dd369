/**
 * v1 Pod, projected. Refused where its name, labels, node, hostNetwork or phase cannot be read: each decides whether the pod is a
 * subject or a peer at all. An address or a port that cannot be read is left out, which admits nothing: no packet carries such an
 * address, and ports of a destination only ever widen what a rule allows.
 */
import { type Address, isSpecial, parseAddress } from '../policy/address.ts';
import { TOO_MANY_LABELS } from '../policy/labels.ts';
import type { NamedPort, Pod, PolicyProtocol } from '../policy/objects.ts';
import { type Fields, isAbsent, isFields, quote } from '../policy/problems.ts';
import { readCreatedAt, readLabels, readMetadata, readName, readNamespace } from './metadata.ts';
import { found, noString, type PathTo, type Report } from './report.ts';
import { type DeclaredPort, NO_PORTS, type Sharing } from './sharing.ts';

export function projectPod(object: Fields, report: Report, sharing: Sharing): Pod {
  const metadata = readMetadata(object, report);
  const spec = report.neededFields(object, 'spec', 'spec');
  const status = report.neededFields(object, 'status', 'status');
  const phase = report.neededString(status, 'phase', 'status.phase', '');
  const { ports, declaredPorts } = readPorts(spec, report);
  const labels = readLabels(metadata, report, sharing);
  return {
    namespace: readNamespace(metadata, report, sharing),
    name: readName(metadata, report),
    uid: report.neededString(metadata, 'uid', 'metadata.uid', ''),
    node: sharing.string(report.neededString(spec, 'nodeName', 'spec.nodeName', '')),
    labels,
    addresses: readAddresses(status, report),
    hostNetwork: report.neededBoolean(spec, 'hostNetwork', 'spec.hostNetwork'),
    terminal: phase === 'Succeeded' || phase === 'Failed',
    createdAt: readCreatedAt(metadata, report),
    // A rule without peers would lead to its ports, which is in no group.
    ports: labels === TOO_MANY_LABELS ? NO_PORTS : sharing.ports(ports),
    declaredPorts: sharing.declaredPorts(declaredPorts),
  };
}

/** status.podIPs in their order, then status.podIP where it is not among them (row 36: all of them count). */
function readAddresses(status: Fields, report: Report): Address[] {
  const addresses: Address[] = [];
  const add = (text: unknown, path: PathTo): void => {
    if (isAbsent(text) || text === '') return;
    const address = typeof text === 'string' ? parseAddress(text) : undefined;
    if (address === undefined) {
      report.leaveOut(path, 'ADDRESS_INVALID', `${quote(text)} is no IPv4 or IPv6 address`, 'the pod is known without it');
    } else if (isSpecial(address)) {
      report.leaveOut(path, 'ADDRESS_SPECIAL', `${quote(text)} is no address that a pod can have`, 'the pod is known without it');
    } else if (!addresses.includes(address)) {
      addresses.push(address);
    }
  };
  const list = report.list(status, 'podIPs', 'status.podIPs', 'none of the addresses in it is known');
  for (let i = 0; i < list.length; i++) {
    const entry = list[i];
    if (isFields(entry)) add(entry['ip'], () => `status.podIPs[${i}].ip`);
    else if (!isAbsent(entry)) {
      report.leaveOut(`status.podIPs[${i}]`, 'TYPE_INVALID', `expected an object, not ${found(entry)}`, 'the pod is known without it');
    }
  }
  add(status['podIP'], 'status.podIP');
  // A copy, because an array that was pushed to has room for seventeen elements.
  return addresses.slice();
}

/**
 * So many ports of a pod are known, in their order. A pod may declare some ten thousand, each agent would hold them, and a set of somebody else's
 * policy with a named port would have an element for each.
 */
export const POD_PORTS = 1_000;

/** What has been read of a pod, each once. */
class DeclaredPorts {
  readonly ports: NamedPort[] = [];
  readonly declaredPorts: DeclaredPort[] = [];
  readonly #known = new Set<string>();

  /** False where there is no room for it. @param name empty: it has none */
  add(name: string, protocol: PolicyProtocol, port: number): boolean {
    const number = `${protocol} ${port}`;
    if (!this.#known.has(number)) {
      if (this.declaredPorts.length >= POD_PORTS) return false;
      this.#known.add(number);
      this.declaredPorts.push({ protocol, port });
    }
    // One name with two numbers in a pod: both (either may be meant).
    const named = `${number} ${name}`;
    if (name === '' || this.#known.has(named)) return true;
    if (this.ports.length >= POD_PORTS) return false;
    this.#known.add(named);
    this.ports.push({ name, protocol, port });
    return true;
  }
}

/** Containers declare ports, and of the init containers those with restartPolicy Always (sidecars): they run beside them. */
function readPorts(spec: Fields, report: Report): DeclaredPorts {
  const ports = new DeclaredPorts();
  for (const field of ['containers', 'initContainers'] as const) {
    const containers = report.list(spec, field, `spec.${field}`, NO_PORTS_OF_THEM);
    for (let i = 0; i < containers.length; i++) {
      const container = containers[i];
      if (!isFields(container)) {
        report.leaveOut(`spec.${field}[${i}]`, 'TYPE_INVALID', `expected an object, not ${found(container)}`, NO_PORTS_OF_THEM);
      } else if (field === 'containers' || container['restartPolicy'] === 'Always') {
        if (!readContainerPorts(container, () => `spec.${field}[${i}].ports`, report, ports)) return ports;
      }
    }
  }
  return ports;
}

const NO_PORTS_OF_THEM = 'no port that is declared there is known, and no named port leads to it';
const PORT_LEFT_OUT = 'the port counts as not declared';

/** False where there is no room for more, which is reported. */
function readContainerPorts(container: Fields, path: () => string, report: Report, into: DeclaredPorts): boolean {
  const list = report.list(container, 'ports', path, NO_PORTS_OF_THEM);
  for (let i = 0; i < list.length; i++) {
    const entry = list[i];
    if (!isFields(entry)) {
      report.leaveOut(`${path()}[${i}]`, 'TYPE_INVALID', `expected an object, not ${found(entry)}`, PORT_LEFT_OUT);
      continue;
    }
    const port = entry['containerPort'];
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535) {
      report.leaveOut(`${path()}[${i}].containerPort`, 'PORT_INVALID', `${quote(port)} is no port from 1 to 65535`, PORT_LEFT_OUT);
      continue;
    }
    const protocol = readProtocol(entry['protocol']);
    if (protocol === undefined) {
      const fault = `${quote(entry['protocol'])} is none of TCP, UDP and SCTP`;
      report.leaveOut(`${path()}[${i}].protocol`, 'PROTOCOL_UNKNOWN', fault, PORT_LEFT_OUT);
      continue;
    }
    const name = entry['name'];
    const isNamed = typeof name === 'string';
    if (!isNamed && !isAbsent(name)) report.leaveOut(`${path()}[${i}].name`, 'TYPE_INVALID', noString(name), 'the port has no name');
    if (into.add(isNamed ? name : '', protocol, port)) continue;
    const fault = `the pod declares more than the ${POD_PORTS} ports that are known of one`;
    report.leaveOut(
      `${path()}[${i}]`,
      'PORTS_TOO_MANY',
      fault,
      'this one and those after it count as not declared, and no named port leads to them',
    );
    return false;
  }
  return true;
}

/** TCP where it is absent (API defaulting). */
function readProtocol(value: unknown): PolicyProtocol | undefined {
  if (isAbsent(value)) return 'TCP';
  return value === 'TCP' || value === 'UDP' || value === 'SCTP' ? value : undefined;
}
