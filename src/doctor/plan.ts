/**
 * What the node should have, worked out from what was read: by the same functions as the network daemon itself has it, so that what is
 * wanted is said in one place. Where leases cannot be read, subnet.env says which subnets are this node's, and nothing is known of peers.
 */
import { SluiceError } from '../errors.ts';
import { AllocBackend } from '../network/backends/alloc.ts';
import { type Backend, type NodeContext, nodeFamilies, type NodeFamily } from '../network/backends/backend.ts';
import { HostGatewayBackend } from '../network/backends/host-gw.ts';
import { IpipBackend } from '../network/backends/ipip.ts';
import { UdpBackend } from '../network/backends/udp.ts';
import { VxlanBackend, vxlanDeviceName } from '../network/backends/vxlan.ts';
import { WIREGUARD_DEVICE, WIREGUARD_DEVICE_V6, WIREGUARD_OVERHEAD } from '../network/backends/wireguard.ts';
import type { OverlayDevice, WireguardDevice } from '../network/devices.ts';
import { DesiredEntries, type Entry, keyOf } from '../network/entries.ts';
import { chooseInterface, type ExternalInterface } from '../network/external-interface.ts';
import { type FamilyLease, type Lease, publishedType, vxlanData } from '../network/lease.ts';
import type { Subnets } from '../network/lease-file.ts';
import type { WireguardConf } from '../network/net-conf.ts';
import { parseSubnetEnv } from '../network/subnet-env.ts';
import { type Address, type Family, parseAddress, type Prefix } from '../policy/address.ts';
import { refusalOf } from '../network/refusal.ts';
import type { Evidence, KernelTables, LeaseRecords, Reading } from './evidence.ts';

/** What a backend wants of the kernel; of udp and wireguard nothing of what they do themselves. */
export type PlannedBackend = Pick<Backend, 'mtu' | 'devices' | 'ownEntries' | 'entriesFor'>;

export interface Plan {
  readonly external: ExternalInterface;
  readonly families: readonly NodeFamily[];
  /** Where the node's subnets were read. */
  readonly subnetsFrom: string;
  readonly backend: PlannedBackend;
  readonly devices: readonly OverlayDevice[];
  /** The largest packet between nodes that the backend makes, bytes. */
  readonly outerMtu: number;
  readonly networks: readonly Prefix[];
}

/** A peer that is not followed, or only in part, and why. */
export interface PeerProblem {
  readonly code: 'PEER_BACKEND_DIFFERS' | 'PEER_ADDRESS_IS_OWN' | 'PEER_SUBNET_IS_OWN' | 'PEER_OUTSIDE_NETWORK' | 'PEER_UNREACHABLE';
  readonly node: string;
  readonly message: string;
}

export interface PeerPlan {
  /** What all peers and this node need. */
  readonly entries: DesiredEntries;
  /** Which node each entry is for, by its key; this node's own has none. */
  readonly owners: ReadonlyMap<string, string>;
  readonly problems: readonly PeerProblem[];
}

/** The interface that packets between nodes go through. @throws SluiceError `NO_INTERFACE` */
export function externalOf(evidence: Evidence, tables: KernelTables): ExternalInterface {
  const { settings, conf, leases } = evidence;
  const given = (family: Family): Address | undefined =>
    'seen' in leases ? parseAddress(leases.seen.own.given[family].text ?? '') : undefined;
  return chooseInterface(
    { ...tables, routeTo: (address) => tables.routesTo.get(address) },
    {
      ...settings.interfaces,
      ipv4: conf.enableIPv4,
      ipv6: conf.enableIPv6,
      publicIP: given(4) ?? settings.interfaces.publicIP,
      publicIPv6: given(6) ?? settings.interfaces.publicIPv6,
    },
  );
}

/** What the node itself should have; `blind`: what kept it from being worked out. */
export function planOf(evidence: Evidence): Reading<Plan> {
  const { tables, conf } = evidence;
  if ('blind' in tables) return tables;
  const own = ownSubnets(evidence);
  if ('blind' in own) return own;
  const { subnets, from } = own.seen;
  try {
    const external = externalOf(evidence, tables.seen);
    const families = nodeFamilies(conf, subnets, external, tables.seen.addresses);
    const backend = backendOf(evidence, tables.seen, { external, families });
    const { mtu } = external;
    return {
      seen: {
        external,
        families,
        subnetsFrom: from,
        backend,
        devices: backend.devices,
        // Of all backends the outer packet may be as large as the interface takes, but where net-conf.json says otherwise.
        outerMtu: 'mtu' in conf.backend ? Math.min(conf.backend.mtu ?? mtu, mtu) : mtu,
        networks: families.map(({ network }) => network),
      },
    };
  } catch (error) {
    if (error instanceof SluiceError) return { blind: error.message };
    throw error;
  }
}

function ownSubnets({ leases, subnetFile, settings }: Evidence): Reading<{ subnets: Subnets; from: string }> {
  if ('seen' in leases) {
    const { own, origin } = leases.seen;
    if (own.subnets.v4 !== undefined || own.subnets.v6 !== undefined) return { seen: { subnets: own.subnets, from: origin } };
    return { blind: `node ${settings.node} has no subnet` };
  }
  const text = 'seen' in subnetFile ? subnetFile.seen : undefined;
  if (text === undefined) return { blind: `nothing says which subnet is this node's: ${leases.blind}` };
  const { v4, v6 } = parseSubnetEnv(text);
  const subnets: Subnets = {
    ...(v4.subnet === undefined ? {} : { v4: v4.subnet }),
    ...(v6.subnet === undefined ? {} : { v6: v6.subnet }),
  };
  return { seen: { subnets, from: settings.subnetFile ?? '' } };
}

/** @throws SluiceError where the backend cannot be on this node */
function backendOf({ conf, leases }: Evidence, { links }: KernelTables, node: NodeContext): PlannedBackend {
  const linkName = (index: number): string | undefined => links.find((link) => link.index === index)?.name;
  const { backend } = conf;
  switch (backend.type) {
    case 'vxlan': {
      // Peers have what was told; before anything was told, whatever the device has is right.
      const mac = (family: Family): string => {
        const name = vxlanDeviceName(family, backend.vni);
        return toldMac(leases, family) ?? links.find((link) => link.name === name)?.address ?? '';
      };
      return new VxlanBackend({ conf: backend, node, mac, linkName });
    }
    case 'host-gw':
      return new HostGatewayBackend(node);
    case 'ipip':
      return new IpipBackend({ directRouting: backend.directRouting, node, linkName });
    case 'udp':
      // Nothing of it is started.
      return new UdpBackend(node, backend.port, ignore, (action) => action());
    case 'alloc':
      return new AllocBackend(node);
    case 'wireguard':
      return wireguardPlan(backend, node);
  }
}

/** Of a WireguardBackend what can be said without this node's key, which making one would read, or make. */
function wireguardPlan({ mode, mtu }: WireguardConf, { external, families }: NodeContext): PlannedBackend {
  const nameOf = (family: Family): string => (family === 6 && mode === 'separate' ? WIREGUARD_DEVICE_V6 : WIREGUARD_DEVICE);
  const inner = (mtu ?? external.mtu) - WIREGUARD_OVERHEAD;
  const devices = [...Map.groupBy(families, ({ family }) => nameOf(family))].map(
    ([name, list]): WireguardDevice => ({
      kind: 'wireguard',
      name,
      mtu: inner,
      addresses: list.map(({ subnet }) => subnet.address),
      networks: list.map(({ network }) => network),
    }),
  );
  const ownEntries = families.map(
    ({ family, network }): Entry => ({ kind: 'route', destination: network, gateway: undefined, device: nameOf(family), onlink: false }),
  );
  return { mtu: inner, devices, ownEntries, entriesFor: () => ({ entries: [], problems: [] }) };
}

function ignore(): void {}

/** The hardware address of this node's VTEP, as it was told the peers. */
export function toldMac(leases: Reading<LeaseRecords>, family: Family): string | undefined {
  const text = 'seen' in leases ? leases.seen.own.data[family].text : undefined;
  return text === undefined ? undefined : vxlanData(parseJson(text))?.mac;
}

/** Undefined where it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What peers need in the kernel. */
export function peerPlanOf(plan: Plan, { conf }: Evidence, tables: KernelTables, { peers }: LeaseRecords): PeerPlan {
  const entries = new DesiredEntries();
  const owners = new Map<string, string>();
  const problems: PeerProblem[] = [];
  const { backend, families } = plan;
  entries.set('', backend.ownEntries);
  for (const lease of peers) {
    const refusal = refusalOf(lease, publishedType(conf.backend.type), families);
    if (refusal !== undefined) {
      problems.push({ ...refusal, node: lease.node });
      continue;
    }
    const wanted = backend.entriesFor(lease, (address) => tables.routesTo.get(address));
    entries.set(lease.node, wanted.entries);
    for (const entry of wanted.entries) {
      const key = keyOf(entry);
      const other = owners.get(key);
      // Of several that of the first name is made.
      if (other === undefined || lease.node < other) owners.set(key, lease.node);
    }
    for (const message of wanted.problems) problems.push({ code: 'PEER_UNREACHABLE', node: lease.node, message });
  }
  return { entries, owners, problems };
}

/** The families of a lease, with which one it is. */
export function* familiesOfLease(lease: Pick<Lease, 'v4' | 'v6'>): Generator<readonly [Family, FamilyLease]> {
  if (lease.v4 !== undefined) yield [4, lease.v4];
  if (lease.v6 !== undefined) yield [6, lease.v6];
}

/** The entries of one kind. */
export function ofKind<K extends Entry['kind']>(entries: readonly Entry[], kind: K): readonly Extract<Entry, { kind: K }>[] {
  return entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind);
}
