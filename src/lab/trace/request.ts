/** Which packet is to be followed: what somebody wrote, and what the lab makes of it. */
import { type Address, type Family, familyOf, formatAddress, parseAddress } from '../../policy/address.ts';
import { LabError } from '../errors.ts';
import type { Lab } from '../lab.ts';
import type { ProbeProtocol } from '../prober/protocol.ts';
import { DEFAULT_PORTS, type LabPod } from '../topology.ts';
import type { TraceRequest } from './trace.ts';

/** What is left out is up to the lab. */
export interface TraceWish {
  /** Names as the lab has them, or addresses; both or neither. */
  readonly parties: readonly [from: string, to: string] | undefined;
  /** Port 0 with ICMP. */
  readonly service: { readonly protocol: ProbeProtocol; readonly port: number } | undefined;
}

const HINT = 'Write FROM,TO or FROM,TO,PORT/PROTOCOL, as in dev/client,dev/web,80/TCP or node/node-a,10.244.1.2,ICMP.';

/**
 * Reads `FROM,TO`, `FROM,TO,53/UDP`, `FROM,TO,ICMP`; empty: all is left out.
 * @throws LabError `LAB_TRACE` for anything else
 */
export function parseTraceWish(text: string): TraceWish {
  if (text === '') return { parties: undefined, service: undefined };
  const [from = '', to = '', service, ...more] = text.split(',').map((part) => part.trim());
  if (from === '' || to === '' || more.length > 0) throw wrong(`"${text}" names no packet to follow`);
  return { parties: [from, to], service: service === undefined ? undefined : parseService(service) };
}

function parseService(text: string): TraceWish['service'] {
  if (/^icmp$/iu.test(text)) return { protocol: 'ICMP', port: 0 };
  const [, digits, name] = /^([0-9]{1,5})\/(tcp|udp|sctp)$/iu.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || name === undefined || port < 1 || port > 65_535) throw wrong(`"${text}" is no port with a protocol`);
  return { protocol: name.toUpperCase() as ProbeProtocol, port };
}

function wrong(message: string, hint = HINT): LabError {
  return new LabError('LAB_TRACE', `--trace: ${message}`, { exitStatus: 2, hint });
}

/**
 * Refuses names that nobody has, so that it is said before the first step and not after the last one.
 * @param names of all that the lab has, or will have
 * @throws LabError `LAB_TRACE`
 */
export function checkTraceNames({ parties = ['', ''] }: TraceWish, names: Iterable<string>): void {
  const known = new Set(names);
  for (const name of parties) {
    if (name === '' || known.has(name) || parseAddress(name) !== undefined) continue;
    throw wrong(`there is no ${name} in the lab`, `There are: ${[...known].sort().join(', ')}.`);
  }
}

/**
 * The packet as the lab can send it now. Left out: from the first pod to the first on another node, TCP, the first port that the other
 * listens on. IPv4 where both have it, unless an address says otherwise.
 *
 * @param hostPorts what nodes and hosts outside listen on, where it is not what the lab does by itself
 * @throws LabError `LAB_TRACE` where somebody is not there (any more), or the two have no family in common
 */
export function resolveTrace(lab: Lab, wish: TraceWish, hostPorts: readonly number[] = DEFAULT_PORTS): TraceRequest {
  const [fromText, toText] = wish.parties ?? defaultParties(lab);
  const from = endOf(lab, fromText);
  const to = endOf(lab, toText);
  if (from.name === undefined) throw wrong(`nobody in the lab has the address ${fromText}`);
  const pairs = ([4, 6] as const).flatMap((family) => {
    const of = ({ addresses }: End): Address | undefined => addresses.find((each) => familyOf(each) === family);
    const [source, destination] = [of(from), of(to)];
    return source === undefined || destination === undefined ? [] : [{ source, destination }];
  });
  const [pair] = pairs;
  if (pair === undefined) throw wrong(`${fromText} (${familiesOf(from)}) and ${toText} (${familiesOf(to)}) have no family in common`);
  if (pair.source === pair.destination) throw wrong(`${fromText} and ${toText} have one address: such a packet leaves by no interface`);
  const pod = to.name === undefined ? undefined : lab.pods.find(({ key }) => key === to.name);
  const service = wish.service ?? { protocol: 'TCP', port: (pod?.ports ?? hostPorts)[0] ?? 80 };
  return { from: from.name, to: to.name, ...pair, ...service };
}

interface End {
  /** Undefined: an address that nobody has. */
  readonly name: string | undefined;
  readonly addresses: readonly Address[];
}

function familiesOf({ addresses }: End): string {
  return addresses.map((address) => `IPv${familyOf(address)}`).join(', ') || 'no address';
}

function endOf(lab: Lab, text: string): End {
  const address = parseAddress(text);
  if (address !== undefined) return { name: ownerOf(lab, address), addresses: [address] };
  try {
    return { name: text, addresses: lab.addresses(text) };
  } catch (error) {
    if (error instanceof LabError) throw wrong(error.message);
    throw error;
  }
}

function ownerOf(lab: Lab, address: Address): string | undefined {
  const has = ({ addresses }: { readonly addresses: readonly Address[] }): boolean => addresses.includes(address);
  const pod = lab.pods.find((each) => !each.hostNetwork && has(each))?.key;
  const node = lab.nodes.find(has)?.name;
  const host = [...lab.outside].find(([, addresses]) => has({ addresses }))?.[0];
  return pod ?? (node === undefined ? host : `node/${node}`);
}

/** @throws LabError `LAB_TRACE` where there are no two */
function defaultParties(lab: Lab): readonly [string, string] {
  const pods = lab.pods.filter(({ hostNetwork }) => !hostNetwork).toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const isReached = (from: LabPod, to: LabPod): boolean => families(from).some((family) => families(to).includes(family));
  for (const from of pods) {
    const to = pods.find((each) => each.node !== from.node && isReached(from, each));
    if (to !== undefined) return [from.key, to.key];
  }
  const [first, second] = pods;
  const [host] = lab.outside.keys();
  const other = second?.key ?? host;
  if (first === undefined || other === undefined) throw wrong('there are no two that a packet could go between', 'Name them: FROM,TO.');
  return [first.key, other];
}

function families({ addresses }: LabPod): readonly Family[] {
  return addresses.map(familyOf);
}

/** `TCP to 10.244.0.2 port 80`, for headings. */
export function describePacket({ destination, protocol, port }: TraceRequest): string {
  return protocol === 'ICMP'
    ? `ICMP echo request to ${formatAddress(destination)}`
    : `${protocol} to ${formatAddress(destination)} port ${port}`;
}
