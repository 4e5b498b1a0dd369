/**
 * The network of one node, from leases to the kernel: waits until the node has a lease, chooses the interface, builds the backend, has the
 * kernel hold what that wants, tells the peers, and hands out what pods need (subnet.env, bridge, CNI configuration, masquerade).
 *
 * Whatever changes, {@link NodeNetwork} works out anew what is wanted, and only differences are made. What cannot be worked out (the
 * interface is gone, a lease is taken away) leaves everything as it is: packets go on, and it is said what is missing.
 */
import { randomBytes } from 'node:crypto';
import { NetlinkError, type Poller } from 'nftables-js';
import { SluiceError } from '../errors.ts';
import { type Address, type Family, formatAddress } from '../policy/address.ts';
import type { Link } from '../rtnetlink/links.ts';
import { AllocBackend } from './backends/alloc.ts';
import { type Backend, type NodeContext, nodeFamilies, type NodeFamily } from './backends/backend.ts';
import { HostGatewayBackend } from './backends/host-gw.ts';
import { IpipBackend } from './backends/ipip.ts';
import { UdpBackend } from './backends/udp.ts';
import { VxlanBackend, vxlanDeviceName } from './backends/vxlan.ts';
import { WireguardBackend } from './backends/wireguard.ts';
import { PodBridge, type PodBridgeOptions } from './cni/bridge.ts';
import { type Conflist, conflistBridge, conflistText } from './cni/conflist.ts';
import type { Entry } from './entries.ts';
import { chooseInterface, type ExternalInterface, type InterfaceOptions, isLinkLocal } from './external-interface.ts';
import { KeptFile } from './kept-file.ts';
import { type KernelObject, NetworkKernel, type UnderlayEvent } from './kernel.ts';
import type { Lease } from './lease.ts';
import type { Announcement, FamilyAnnouncement, LeaseSource, OwnLease } from './lease-source.ts';
import { Masquerade, removeMasquerade, type Spawn } from './masquerade/masquerade.ts';
import type { BackendConf, NetConf } from './net-conf.ts';
import { refusalOf } from './refusal.ts';
import { refuseAdvertisements } from './router-advertisements.ts';
import { formatSubnetEnv } from './subnet-env.ts';
import { WireguardControl } from './wireguard/control.ts';
import { keyFile } from './wireguard/keys.ts';

/** What was repaired or changed, for logs and metrics. */
export type NetworkObject = KernelObject | 'peer' | 'masquerade' | 'bridge' | 'subnet.env' | 'conflist' | 'announcement';

export interface NetworkObserver {
  changed(object: NetworkObject, what: string, cause: 'wanted' | 'repair' | 'stale'): void;
  /** Something could not be done; it is tried again. */
  failed(doing: string, error: unknown): void;
  /** What is wrong with a peer now; empty: nothing any more. */
  peerProblems(node: string, problems: readonly string[]): void;
  compared(durationMs: number, changes: number): void;
  /** Everything that is wanted is in the kernel, and peers have been told. Again after each new configuration. */
  ready(configuration: Configuration): void;
  /** Why it is not ready; undefined: it is. */
  waiting(why: string | undefined): void;
}

/** What a node's network has come to be. */
export interface Configuration {
  readonly backend: BackendConf['type'];
  readonly external: ExternalInterface;
  readonly families: readonly NodeFamily[];
  /** Of pods, bytes. */
  readonly mtu: number;
  readonly devices: readonly string[];
}

export interface NodeNetworkOptions {
  readonly node: string;
  readonly conf: NetConf;
  readonly leases: LeaseSource;
  readonly interfaces: InterfaceOptions;
  readonly poller: Poller;
  readonly observer: NetworkObserver;
  /** Where subnet.env is written; undefined: nowhere. */
  readonly subnetFile: string | undefined;
  /** What FLANNEL_IPMASQ says: whether what leaves the network is masqueraded. */
  readonly masquerade: boolean;
  /** Rules of masquerade and forwarding; undefined: somebody else sees to it. */
  readonly rules: RuleOptions | undefined;
  /** A route that refuses what is for pods of this node that are not there. */
  readonly blackholeRoute: boolean;
  /** Pods' bridge, made before the first pod, as the configuration for the runtime has it, if there is one; undefined: somebody else makes it. */
  readonly bridge: string | undefined;
  /** The file for the container runtime, and what it says; undefined: somebody else writes it. */
  readonly cni: { readonly file: string; readonly list: (configuration: Configuration) => Conflist } | undefined;
  /** Calls it with this thread in the node's network namespace. It must be synchronous. */
  readonly inNode: <T>(action: () => T) => T;
}

export interface RuleOptions {
  /** Whether packets of the cluster's network are accepted where they are forwarded. */
  readonly forward: boolean;
  readonly randomFully: boolean;
  readonly iptablesResyncSeconds: number;
  /** Starts programs (iptables) in the node's network namespace, where that is not this process's. */
  readonly spawn?: Spawn | undefined;
}

/** The claims of the node itself: no node has this name, and it sorts before all that have one. */
const OWN = '';
const UNDERLAY_MS = 50;
/** Asking for the ways to all peers anew takes a quarter of the time at most. */
const UNDERLAY_REST = 3;
/** Conflicts that come together are told together. */
const CONFLICTS_MS = 50;
/** So many of those who share something are named. */
const NAMED = 3;
/** What could not be handed out is tried again so often. */
const AGAIN_MS = 5_000;

export class NodeNetwork {
  readonly #options: NodeNetworkOptions;
  readonly #kernel: NetworkKernel;
  readonly #leases = new Map<string, Lease>();
  /** What is wrong with each peer: with its lease, and with what follows from it. */
  readonly #leaseProblems = new Map<string, readonly string[]>();
  readonly #told = new Map<string, string>();
  /** Who has told a public address. */
  readonly #publicAddresses = new Map<Address, Set<string>>();
  readonly #macs = new Map<Family, string>();
  #own: OwnLease | { readonly waiting: string } = { waiting: 'nothing has been heard of this node yet' };
  #synced = false;
  #current: { readonly signature: string; readonly backend: Backend; readonly configuration: Configuration } | undefined;
  #outputs: Outputs | undefined;
  #handingOut: Promise<void> = Promise.resolve();
  #underlayTimer: NodeJS.Timeout | undefined;
  #underlayNotBefore = 0;
  #conflictsTimer: NodeJS.Timeout | undefined;
  #againTimer: NodeJS.Timeout | undefined;
  #stopped = false;
  #waiting: string | undefined;
  #readyWaiters: (() => void)[] = [];
  #comparedWaiters: (() => void)[] = [];
  #isReady = false;

  private constructor(options: NodeNetworkOptions) {
    this.#options = options;
    const { observer, poller, inNode } = options;
    this.#kernel = inNode(() =>
      NetworkKernel.open({
        poller,
        onMade: (device) => refuse(device, options),
        observer: {
          changed: (object, what, cause) => observer.changed(object, what, cause),
          failed: (_object, what, error) => observer.failed(what, error),
          compared: (durationMs, changes) => {
            for (const resolve of this.#comparedWaiters.splice(0)) resolve();
            this.#tellConflicts();
            observer.compared(durationMs, changes);
          },
        },
        onUnderlay: (event) => this.#underlay(event),
      }),
    );
  }

  /** Begins; what cannot be done yet is waited for. */
  static start(options: NodeNetworkOptions): NodeNetwork {
    const network = new NodeNetwork(options);
    options.leases.start({
      upsert: (lease) => network.#upsert(lease),
      remove: (node) => network.#remove(node),
      synced: () => {
        network.#synced = true;
        network.#configure();
      },
      problems: (node, problems) => {
        if (problems.length === 0) network.#leaseProblems.delete(node);
        else network.#leaseProblems.set(node, problems);
        network.#tellProblems(node);
      },
      own: (lease) => {
        network.#own = lease;
        network.#configure();
      },
      failed: (doing, error) => options.observer.failed(doing, error),
    });
    return network;
  }

  /** Ends watching; packets go on as they do (udp: they stop, for they pass through here). */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of [this.#underlayTimer, this.#againTimer, this.#conflictsTimer]) clearTimeout(timer);
    await this.#options.leases.stop();
    this.#outputs?.close();
    await this.#handingOut;
    await this.#kernel.close();
    await this.#current?.backend.tunnel?.close();
  }

  /** Resolves when it is ready and the kernel holds everything that is wanted now. */
  async settled(): Promise<void> {
    if (!this.#isReady) {
      await new Promise<void>((resolve) => {
        this.#readyWaiters.push(resolve);
      });
    }
    await this.#kernel.settled();
  }

  get configuration(): Configuration | undefined {
    return this.#current?.configuration;
  }

  get leases(): ReadonlyMap<string, Lease> {
    return this.#leases;
  }

  /** Why it is not ready, or what is not as it should be. */
  get unready(): readonly string[] {
    return [...(this.#waiting === undefined ? [] : [this.#waiting]), ...this.#kernel.refused];
  }

  /** How many things the kernel refuses. */
  get refusals(): number {
    return this.#kernel.refused.length;
  }

  get entryCount(): number {
    return this.#kernel.entryCount;
  }

  // --- leases

  #upsert(lease: Lease): void {
    const before = this.#leases.get(lease.node);
    this.#leases.set(lease.node, lease);
    this.#setPublicAddresses(lease.node, before, lease);
    this.#apply(lease);
  }

  #remove(node: string): void {
    const lease = this.#leases.get(node);
    if (lease === undefined) return;
    this.#leases.delete(node);
    this.#setPublicAddresses(node, lease, undefined);
    this.#leaseProblems.delete(node);
    if (this.#current !== undefined) {
      this.#setEntries(node, []);
      this.#current.backend.tunnel?.removePeer(lease);
    }
    this.#tellProblems(node);
  }

  #setEntries(node: string, entries: readonly Entry[]): void {
    this.#kernel.setEntries(node, entries);
    this.#conflictsTimer ??= setTimeout(() => {
      this.#conflictsTimer = undefined;
      this.#tellConflicts();
    }, CONFLICTS_MS);
  }

  #setPublicAddresses(node: string, before: Lease | undefined, after: Lease | undefined): void {
    const others = new Set<string>();
    for (const each of [before?.v4, before?.v6]) {
      if (each === undefined) continue;
      const nodes = this.#publicAddresses.get(each.publicAddress);
      nodes?.delete(node);
      for (const other of nodes ?? []) others.add(other);
      if (nodes?.size === 0) this.#publicAddresses.delete(each.publicAddress);
    }
    for (const each of [after?.v4, after?.v6]) {
      if (each === undefined) continue;
      const nodes = this.#publicAddresses.get(each.publicAddress) ?? new Set();
      for (const other of nodes) others.add(other);
      nodes.add(node);
      this.#publicAddresses.set(each.publicAddress, nodes);
    }
    for (const other of others) this.#tellProblems(other);
  }

  /** What a peer needs, into the kernel. */
  #apply(lease: Lease): void {
    const { node } = lease;
    const current = this.#current;
    if (current === undefined) return;
    const { backend, configuration } = current;
    const problem = refusalOf(lease, backend.type, configuration.families);
    if (problem !== undefined) {
      this.#setEntries(node, []);
      backend.tunnel?.removePeer(lease);
      this.#tellProblems(node, [problem.message]);
      return;
    }
    try {
      const { entries, problems } = backend.entriesFor(lease, (address) => this.#kernel.routeTo(address));
      this.#setEntries(node, entries);
      backend.tunnel?.setPeer(lease);
      this.#tellProblems(node, problems);
    } catch (error) {
      // What the kernel does not say now leaves what there is.
      if (!(error instanceof NetlinkError)) throw error;
      this.#tellProblems(node, [`the way to it is not known: ${error.message}`]);
      this.#followAgain();
    }
  }

  /** Two nodes with one public address: whoever has it gets the packets of both. */
  #sharedAddresses(lease: Lease): string[] {
    const problems: string[] = [];
    for (const each of [lease.v4, lease.v6]) {
      if (each === undefined) continue;
      const others: string[] = [];
      for (const node of this.#publicAddresses.get(each.publicAddress) ?? []) {
        if (node !== lease.node) others.push(node);
        // A whole cluster may be behind one address, and each node of it is told of.
        if (others.length > NAMED) break;
      }
      if (others.length === 0) continue;
      const names = others.length > NAMED ? `${others.slice(0, NAMED).join(', ')} and others` : others.join(', ');
      problems.push(`its public address ${formatAddress(each.publicAddress)} is also that of ${names}`);
    }
    return problems;
  }

  readonly #entryProblems = new Map<string, readonly string[]>();

  #tellProblems(node: string, ofEntries?: readonly string[]): void {
    if (ofEntries !== undefined) this.#entryProblems.set(node, ofEntries);
    if (!this.#leases.has(node) && ofEntries === undefined) this.#entryProblems.delete(node);
    const lease = this.#leases.get(node);
    const problems = [
      ...(this.#leaseProblems.get(node) ?? []),
      ...(this.#entryProblems.get(node) ?? []),
      ...(lease === undefined ? [] : this.#sharedAddresses(lease)),
    ];
    const text = problems.join('\n');
    if ((this.#told.get(node) ?? '') === text) return;
    if (text === '') this.#told.delete(node);
    else this.#told.set(node, text);
    this.#options.observer.peerProblems(node, problems);
  }

  /** Peers with something wrong. */
  get troubledPeers(): number {
    return this.#told.size;
  }

  /** What several nodes want, as it was told. */
  #conflicts: ReadonlySet<string> = new Set();

  #tellConflicts(): void {
    if (this.#stopped) return;
    const conflicts = new Set<string>();
    for (const { key, winner, losers } of this.#kernel.conflicts()) {
      const names = [winner, ...losers.slice(0, NAMED), ...(losers.length > NAMED ? ['others'] : [])];
      conflicts.add(`${names.join(' and ')} have the same ${key}: ${winner} gets it`);
    }
    for (const text of conflicts) {
      if (this.#conflicts.has(text)) continue;
      this.#options.observer.failed('working out what peers need', new SluiceError('LEASES_CONFLICT', text));
    }
    this.#conflicts = conflicts;
  }

  // --- configuration

  #underlay(event: UnderlayEvent): void {
    if (this.#stopped) return;
    const external = this.#current?.configuration.external;
    if (external !== undefined) {
      if (event.kind === 'link' && event.name !== external.name && event.index !== external.index) return;
      if (event.kind === 'address' && event.link !== external.index) return;
      if (event.kind === 'route' && this.#current?.backend.followsRoutes !== true) return;
    }
    this.#underlayTimer ??= setTimeout(
      () => {
        this.#underlayTimer = undefined;
        this.#followUnderlay();
      },
      Math.max(UNDERLAY_MS, this.#underlayNotBefore - performance.now()),
    );
  }

  #followUnderlay(): void {
    const startedAt = performance.now();
    this.#configure();
    if (this.#current?.backend.followsRoutes === true) for (const lease of this.#leases.values()) this.#apply(lease);
    const endedAt = performance.now();
    this.#underlayNotBefore = endedAt + (endedAt - startedAt) * UNDERLAY_REST;
  }

  /** For what nobody tells of when it comes. */
  #followAgain(): void {
    clearTimeout(this.#againTimer);
    if (!this.#stopped) this.#againTimer = setTimeout(() => this.#followUnderlay(), AGAIN_MS);
  }

  #wait(why: string | undefined): void {
    if (this.#waiting === why) return;
    this.#waiting = why;
    this.#options.observer.waiting(why);
  }

  /** Works out what is wanted, and has it made where it is another than before. */
  #configure(): void {
    if (this.#stopped) return;
    const { observer } = this.#options;
    const own = this.#own;
    if ('waiting' in own) {
      this.#wait(own.waiting);
      return;
    }
    if (!this.#synced) {
      this.#wait('the leases of the other nodes have not been read yet');
      return;
    }
    try {
      const context = this.#context(own);
      const signature = signatureOf(context);
      if (this.#current?.signature === signature) {
        if (this.#isReady) this.#wait(undefined);
        return;
      }
      const links = this.#kernel.links();
      const backend = this.#backend(context, own, links);
      const before = this.#current?.backend;
      const configuration: Configuration = {
        backend: this.#options.conf.backend.type,
        external: context.external,
        families: context.families,
        mtu: backend.mtu,
        devices: backend.devices.map(({ name }) => name),
      };
      this.#current = { signature, backend, configuration };
      this.#establish(before).catch((error: unknown) => {
        // What is under way when it is told to stop ends with an error.
        if (!this.#stopped) observer.failed('bringing the network about', error);
      });
    } catch (error) {
      // What the kernel does not say now it may say later.
      if (!(error instanceof SluiceError || error instanceof NetlinkError)) throw error;
      const hint = error instanceof SluiceError ? error.hint : undefined;
      this.#wait(hint === undefined ? error.message : `${error.message}. ${hint}`);
      // Of most that can be missing something tells when it comes; not of a module, or a key file.
      this.#followAgain();
    }
  }

  #context(own: OwnLease): NodeContext {
    const { conf, interfaces } = this.#options;
    const [ipv4, ipv6] = [conf.enableIPv4 && own.v4 !== undefined, conf.enableIPv6 && own.v6 !== undefined];
    const external = this.#interface({
      ...interfaces,
      ipv4,
      ipv6,
      publicIP: own.publicAddress[4] ?? interfaces.publicIP,
      publicIPv6: own.publicAddress[6] ?? interfaces.publicIPv6,
    });
    return { external, families: nodeFamilies(conf, own, external, this.#kernel.addresses()) };
  }

  /** The interface that is in use, while it has its addresses: a default route that comes and goes moves nothing. */
  #interface(options: InterfaceOptions): ExternalInterface {
    const [links, addresses] = [this.#kernel.links(), this.#kernel.addresses()];
    const current = this.#current?.configuration.external;
    const link = links.find(({ index, name }) => index === current?.index && name === current.name);
    const has = (address: Address | undefined): boolean =>
      address === undefined || (!isLinkLocal(address) && addresses.some((each) => each.link === link?.index && each.address === address));
    const isSame = options.ipv4 === (current?.v4 !== undefined) && options.ipv6 === (current?.v6 !== undefined);
    const arePublic =
      (options.publicIP ?? current?.v4?.own) === current?.v4?.public && (options.publicIPv6 ?? current?.v6?.own) === current?.v6?.public;
    if (current !== undefined && link !== undefined && isSame && arePublic && has(current.v4?.own) && has(current.v6?.own))
      return { ...current, mtu: link.mtu };
    const routeTo = (address: Address) => this.#kernel.routeTo(address);
    const chosen = chooseInterface({ links, addresses, routes: this.#kernel.routes(), routeTo }, options);
    // After a link has come back its link-local address is there first: to tell the peers of that would cut them off.
    for (const [was, is] of [[current?.v4?.own, chosen.v4?.own] as const, [current?.v6?.own, chosen.v6?.own] as const]) {
      if (was === undefined || is === undefined || isLinkLocal(was) || !isLinkLocal(is)) continue;
      throw new SluiceError(
        'ADDRESS_LOST',
        `interface ${chosen.name} has no address any more but ${formatAddress(is)}, which is link-local`,
        {
          hint: `It had ${formatAddress(was)}, and is waited for until it has that or another one.`,
        },
      );
    }
    return chosen;
  }

  #backend(node: NodeContext, own: OwnLease, links: readonly Link[]): Backend {
    const { conf, observer } = this.#options;
    const linkName = (index: number): string | undefined => this.#kernel.linkName(index);
    const { backend } = conf;
    switch (backend.type) {
      case 'vxlan': {
        const mac = (family: Family): string => {
          const known = this.#macs.get(family) ?? own.vtep[family] ?? macOf(links, vxlanDeviceName(family, backend.vni)) ?? randomMac();
          this.#macs.set(family, known);
          return known;
        };
        return new VxlanBackend({ conf: backend, node, mac, linkName });
      }
      case 'host-gw':
        return new HostGatewayBackend(node);
      case 'ipip':
        return new IpipBackend({ directRouting: backend.directRouting, node, linkName });
      case 'udp':
        return new UdpBackend(node, backend.port, (error) => observer.failed('carrying packets', error), this.#options.inNode);
      case 'alloc':
        return new AllocBackend(node);
      case 'wireguard':
        return new WireguardBackend({
          conf: backend,
          node,
          keyFile: keyFile(process.env),
          openControl: () => this.#options.inNode(() => WireguardControl.open()),
          onChange: (what, cause) => observer.changed('peer', what, cause),
          onError: (error) => observer.failed('keeping the WireGuard peers', error),
        });
    }
  }

  /** Has the kernel hold it, tells the peers, and then those who wait for pods. */
  async #establish(before: Backend | undefined): Promise<void> {
    const { current, options } = { current: this.#current, options: this.#options };
    if (current === undefined) return;
    const { backend, configuration } = current;
    this.#isReady = false;
    this.#wait('the kernel does not hold everything yet');
    await before?.tunnel?.close().catch((error: unknown) => options.observer.failed('ending the tunnel before', error));
    if (this.#current !== current || this.#stopped) return;
    const networks = configuration.families.map(({ network }) => network);
    this.#kernel.want({ devices: backend.devices, networks, tunnel: backend.tunnel, sweepsRoutes: options.conf.backend.type !== 'alloc' });
    const blackholes: Entry[] = options.blackholeRoute
      ? configuration.families.map(({ subnet }) => ({
          kind: 'route',
          destination: subnet,
          gateway: undefined,
          device: '',
          onlink: false,
          blackhole: true,
        }))
      : [];
    this.#setEntries(OWN, [...backend.ownEntries, ...blackholes]);
    for (const lease of this.#leases.values()) this.#apply(lease);
    await this.#kernel.settled();
    // A node that tells of itself without its devices is sent packets, and given pods, for nothing.
    while (this.#kernel.lacksDevices && this.#current === current && !this.#stopped) {
      await new Promise<void>((resolve) => {
        this.#comparedWaiters.push(resolve);
      });
    }
    if (this.#current !== current || this.#stopped) return;
    await this.#handOut(configuration);
    this.#wait('the peers have not been told yet');
    await options.leases.announce(announcement(backend, configuration));
    await options.leases.available();
    if (this.#current !== current || this.#stopped) return;
    this.#isReady = true;
    // What has come to be missing meanwhile still is.
    this.#configure();
    if (this.#current !== current) return;
    options.observer.ready(configuration);
    for (const resolve of this.#readyWaiters.splice(0)) resolve();
  }

  /** What pods and others on the node go by. One after the other: they are the same files and rules. */
  #handOut(configuration: Configuration): Promise<void> {
    const handing = this.#handingOut.then(async () => {
      this.#outputs?.close();
      this.#outputs = undefined;
      const isCurrent = (): boolean => !this.#stopped && this.#current?.configuration === configuration;
      if (!isCurrent()) return;
      const outputs = await Outputs.start(this.#options, configuration);
      if (this.#stopped) outputs.close();
      else this.#outputs = outputs;
    });
    // What fails for one configuration is none of the next one's.
    this.#handingOut = handing.catch(() => undefined);
    return handing;
  }
}

function announcement(backend: Backend, { families, backend: type }: Configuration): Announcement {
  const of = (wanted: Family): FamilyAnnouncement | undefined => {
    const family = families.find((each) => each.family === wanted);
    return family === undefined ? undefined : { subnet: family.subnet, publicAddress: family.public, data: backend.data(wanted) };
  };
  return { backend: type, v4: of(4), v6: of(6) };
}

/** Changes whenever something that the configuration is made of does. */
function signatureOf({ external, families }: NodeContext): string {
  return JSON.stringify([external, families], (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
}

function macOf(links: readonly Link[], name: string): string | undefined {
  return links.find((link) => link.name === name && link.kind === 'vxlan')?.address;
}

/** Locally administered, of one interface (IEEE 802, section 8.2). */
function randomMac(): string {
  const octets = randomBytes(6);
  octets[0] = ((octets[0] ?? 0) & 0xfc) | 0x02;
  return [...octets].map((octet) => octet.toString(16).padStart(2, '0')).join(':');
}

/** The pods' bridge as the runtime's configuration has it; without one, as the node's own settings do. */
function bridgeOf(
  { bridge: name }: NodeNetworkOptions,
  { families, mtu }: Configuration,
  list: Conflist | undefined,
): Pick<PodBridgeOptions, 'name' | 'subnets' | 'mtu' | 'hairpin'> | undefined {
  if (name === undefined) return undefined;
  const subnets = families.map(({ subnet }) => subnet);
  if (list === undefined) return { name, subnets, mtu };
  const bridge = conflistBridge(list);
  if (bridge === undefined) return undefined;
  return { name: bridge.name, mtu: bridge.mtu, hairpin: bridge.hairpin, subnets: bridge.gateway ? subnets : [] };
}

function refuse(device: string, { inNode, observer }: NodeNetworkOptions): void {
  const problem = inNode(() => refuseAdvertisements(device));
  if (problem !== undefined) observer.failed(`making ${device}`, new SluiceError('ADVERTISEMENTS_ACCEPTED', problem));
}

/** What is handed out for one configuration, and kept as it is. */
class Outputs {
  readonly #closes: (() => void)[] = [];
  readonly #again = new Set<NodeJS.Timeout>();
  #closed = false;

  static async start(options: NodeNetworkOptions, configuration: Configuration): Promise<Outputs> {
    const outputs = new Outputs();
    const { conf, observer, poller, inNode, masquerade } = options;
    const { families, mtu } = configuration;
    const attempt = async (doing: string, action: () => Promise<() => void> | (() => void)): Promise<void> => {
      try {
        const close = await action();
        if (outputs.#closed) close();
        else outputs.#closes.push(close);
      } catch (error) {
        observer.failed(doing, error);
        // Programs may be installed, modules loaded, file systems mounted.
        if (outputs.#closed) return;
        const timer = setTimeout(() => {
          outputs.#again.delete(timer);
          void attempt(doing, action);
        }, AGAIN_MS);
        outputs.#again.add(timer);
      }
    };
    const { rules } = options;
    if (rules !== undefined && families.length > 0) {
      const [mode, other] = conf.enableNFTables ? (['nftables', 'iptables'] as const) : (['iptables', 'nftables'] as const);
      await attempt('setting up masquerade and forward rules', async () => {
        const started = await inNode(() =>
          Masquerade.start({
            mode,
            families: families.map(({ family, network, subnet }) => ({ family, network, subnet })),
            masquerade: options.masquerade,
            forward: rules.forward,
            randomFully: rules.randomFully,
            poller,
            resyncSeconds: rules.iptablesResyncSeconds,
            onRepair: (what) => observer.changed('masquerade', what, 'repair'),
            onError: (error) => observer.failed('keeping the masquerade and forward rules', error),
            spawn: rules.spawn,
          }),
        );
        for (const what of await inNode(() => removeMasquerade([other], { spawn: rules.spawn })).catch(() => [])) {
          observer.changed('masquerade', `${what} removed: the mode is ${mode}`, 'stale');
        }
        return () => started.close();
      });
    }
    const { cni, subnetFile } = options;
    const list = cni?.list(configuration);
    const bridge = bridgeOf(options, configuration, list);
    if (bridge !== undefined) {
      await attempt(`making the bridge ${bridge.name}`, () => {
        const started = inNode(() =>
          PodBridge.start({
            poller,
            ...bridge,
            onMade: () => refuse(bridge.name, options),
            onRepair: (what) => observer.changed('bridge', what, 'repair'),
            onProblem: (text) => observer.failed(`keeping the bridge ${bridge.name}`, new SluiceError('BRIDGE', text)),
          }),
        );
        return () => started.close();
      });
    }
    const keep = (path: string, content: string, object: 'subnet.env' | 'conflist') =>
      attempt(`writing ${path}`, () => {
        const file = new KeptFile({
          path,
          onRepair: (what) => observer.changed(object, what, 'repair'),
          onProblem: (text) => observer.failed(`writing ${path}`, new SluiceError('FILE_UNWRITABLE', text)),
        });
        file.keep(content);
        return () => file.close();
      });
    if (subnetFile !== undefined) {
      const of = (wanted: Family) => families.find((each) => each.family === wanted);
      await keep(subnetFile, formatSubnetEnv({ v4: of(4), v6: of(6), mtu, ipMasq: masquerade }), 'subnet.env');
    }
    // Last: from then on the runtime makes pods.
    if (cni !== undefined && list !== undefined) await keep(cni.file, conflistText(list), 'conflist');
    return outputs;
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#again) clearTimeout(timer);
    for (const close of this.#closes.toReversed()) close();
  }
}
