/**
 * Keeps the kernel as the network wants it: overlay devices, their addresses, and what peers need. One comparison of everything when it
 * starts and whenever somebody else has changed something that matters; one peer's entries alone when that peer changes.
 *
 * Events are not interpreted: one that contradicts what is wanted leads to a comparison, with everything read anew. So a lost event
 * (which the kernel tells of) or an order of events that surprises does no harm. What is as wanted is not touched.
 *
 * What counts as left over and is removed: permanent neighbours and forwarding entries of our own devices; routes into the cluster's
 * network through overlay devices, or through a gateway as flannel makes them; whatever stands beside a wanted route with its very
 * metric; overlay devices that carry an address of that network.
 */
import { NETLINK_ROUTE, NetlinkSocket, type Poller, readMessages } from 'nftables-js';
import { systemErrorCode, SluiceError } from '../errors.ts';
import { type Address, familyOf, formatAddress, type Prefix, widthOf } from '../policy/address.ts';
import { addAddress, deleteAddress, type InterfaceAddress, listAddresses, watchAddresses } from '../rtnetlink/addresses.ts';
import { addLink, changeLink, deleteLink, type Link, type LinkEvent, listLinks, readLinkEvent, watchLinks } from '../rtnetlink/links.ts';
import {
  deleteForwarding,
  deleteNeighbour,
  type ForwardingEntry as KernelForwarding,
  listForwarding,
  listNeighbours,
  type Neighbour,
  replaceForwarding,
  replaceNeighbour,
  watchNeighbours,
} from '../rtnetlink/neighbours.ts';
import {
  deleteRoute,
  listRoutes,
  replaceRoute,
  type Route,
  ROUTE_PROTOCOL,
  ROUTE_TABLE,
  routeTo,
  watchRoutes,
} from '../rtnetlink/routes.ts';
import { TimeSlices } from '../time-slices.ts';
import type { Tunnel } from './backends/backend.ts';
import { contains, hostPrefix, incompatibility, isOverlayName, linkChange, type OverlayDevice, strictlyInside } from './devices.ts';
import {
  type Conflict,
  DesiredEntries,
  describeEntry,
  type Entry,
  forwardingKey,
  keyOf,
  neighbourKey,
  routeKey,
  sameEntry,
} from './entries.ts';

export type KernelObject = 'link' | 'address' | 'neighbour' | 'forwarding' | 'route';

export interface KernelObserver {
  /**
   * Something was made, changed or removed.
   * @param cause `wanted`: the cluster changed, or the daemon starts; `repair`: somebody else had changed it; `stale`: it was left over
   */
  changed(object: KernelObject, what: string, cause: 'wanted' | 'repair' | 'stale'): void;
  /** The kernel refused something. Told once for each thing and reason; it is tried again. */
  failed(object: KernelObject, what: string, error: unknown): void;
  /** A comparison is over: everything that could be done is in the kernel. */
  compared(durationMs: number, changes: number): void;
}

export interface NetworkKernelOptions {
  readonly poller: Poller;
  readonly observer: KernelObserver;
  /** An interface, its addresses or a route outside of the cluster's networks has changed, or may have. */
  readonly onUnderlay: (event: UnderlayEvent) => void;
  /** A device has been made: for what cannot be said through netlink. */
  readonly onMade: (device: string) => void;
}

export type UnderlayEvent =
  /** Its name now, and an index that was or is its own. */
  | { readonly kind: 'link'; readonly name: string; readonly index: number }
  | { readonly kind: 'address'; readonly link: number }
  | { readonly kind: 'route' }
  /** Events were lost. */
  | { readonly kind: 'any' };

/** What is wanted of the devices; entries are told apart, peer by peer. */
export interface DesiredDevices {
  readonly devices: readonly OverlayDevice[];
  /** The cluster's. */
  readonly networks: readonly Prefix[];
  readonly tunnel?: Tunnel | undefined;
  /** Whether routes that are left over are removed: not where somebody else makes them. */
  readonly sweepsRoutes: boolean;
}

/** Several events of one cause are answered together. */
const SETTLE_MS = 10;
/** A comparison takes at most a quarter of the time, but nothing is left broken for long. */
const REST = { factor: 3, mostMs: 400 };
const RETRY_MS = { first: 100, most: 5_000 };
/** Room for the events of 10,000 peers that come at once. */
const EVENT_BYTES = 4 << 20;
/** What the kernel gives a route that says none; it lists 0 as none. */
const METRIC = { 4: 0, 6: 1024 } as const;
const GONE: ReadonlySet<string> = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']);

export class NetworkKernel {
  readonly #options: NetworkKernelOptions;
  readonly #requests: NetlinkSocket;
  readonly #events: readonly NetlinkSocket[];
  readonly #linkEvents: NetlinkSocket;
  readonly #stops: readonly (() => void)[];
  readonly #entries = new DesiredEntries();
  #wanted: DesiredDevices | undefined;
  /** The tunnel that has made its device. */
  #created: Tunnel | undefined;
  /** Index of each wanted device that is there, and its name. */
  readonly #indexes = new Map<string, number>();
  readonly #names = new Map<number, string>();
  /** Index of every link by its name, and the other way round. */
  readonly #linkIndexes = new Map<string, number>();
  readonly #linkNames = new Map<number, string>();
  /** What the kernel refuses, by what it was: as the last comparison found it, and single changes since. */
  #refused = new Map<string, Refusal>();
  /** The same, of the comparison that is under way. */
  #found: Map<string, Refusal> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #running: Promise<void> | undefined;
  /** Something happened since the last comparison began. */
  #dirty = false;
  #comparedOnce = false;
  /** The devices of {@link want} have been made as far as possible: what changes from then on is done at once. */
  #hasDevices = false;
  #notBefore = 0;
  #retryMs = RETRY_MS.first;
  #closed = false;
  #settled: (() => void)[] = [];

  private constructor(options: NetworkKernelOptions) {
    this.#options = options;
    const { poller } = options;
    this.#requests = NetlinkSocket.open(NETLINK_ROUTE);
    const listening = (): NetlinkSocket => NetlinkSocket.open(NETLINK_ROUTE, { receiveBytes: EVENT_BYTES });
    const [links, addresses, routes, neighbours] = [listening(), listening(), listening(), listening()];
    this.#events = [links, addresses, routes, neighbours];
    this.#linkEvents = links;
    this.#stops = [
      watchLinks(poller, links, (event) => this.#linkEvent(event)),
      watchAddresses(poller, addresses, (event) => {
        if (event.event === 'overrun') this.#lost();
        else this.#addressSeen(event.event, event.address);
      }),
      watchRoutes(poller, routes, (event) => {
        if (event.event === 'overrun') this.#lost();
        else this.#routeSeen(event.event, event.route);
      }),
      watchNeighbours(poller, neighbours, (event) => {
        if (event.event === 'overrun') this.#look();
        else if ('entry' in event) this.#forwardingSeen(event.event, event.entry);
        else this.#neighbourSeen(event.event, event.neighbour);
      }),
    ];
    this.#rememberLinks(listLinks(this.#requests));
  }

  /** Opens its sockets in this thread's network namespace, and listens. Nothing is changed before {@link want}. */
  static open(options: NetworkKernelOptions): NetworkKernel {
    return new NetworkKernel(options);
  }

  /** Leaves everything as it is. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const stop of this.#stops) stop();
    await this.#running;
    for (const socket of [this.#requests, ...this.#events]) socket.close();
  }

  // --- what is there

  links(): Link[] {
    return listLinks(this.#requests);
  }

  addresses(): InterfaceAddress[] {
    return listAddresses(this.#requests);
  }

  routes(): Route[] {
    return listRoutes(this.#requests);
  }

  /** The name of a link, undefined where there is none of this index. */
  linkName(index: number): string | undefined {
    return this.#linkNames.get(index);
  }

  /** As `ip route get`; undefined where there is no way. */
  routeTo(address: Address): Route | undefined {
    return routeTo(this.#requests, address);
  }

  // --- what is wanted

  /** What is wanted of the devices from now on. */
  want(devices: DesiredDevices): void {
    this.#wanted = devices;
    this.#indexes.clear();
    this.#names.clear();
    this.#comparedOnce = false;
    this.#hasDevices = false;
    this.#look();
  }

  /** What a node needs from now on; nothing: it is gone. Done when it returns, once the devices are there. */
  setEntries(node: string, entries: readonly Entry[]): void {
    for (const { before, after } of this.#entries.set(node, entries)) {
      // Until the devices are there, the comparison that makes them makes these as well; but it knows no more of what is to go.
      if (after !== undefined) {
        if (this.#hasDevices) this.#make(after, 'wanted');
      } else if (before !== undefined) this.#remove(before, 'wanted');
    }
  }

  conflicts(): readonly Conflict[] {
    return this.#entries.conflicts();
  }

  get entryCount(): number {
    return this.#entries.size;
  }

  /** What the kernel refuses, as texts. */
  get refused(): readonly string[] {
    return [...this.#refused].map(([what, { why }]) => `${what}: ${why}`);
  }

  /** Whether a device could not be made as it should be, as far as the last comparison knows. */
  get lacksDevices(): boolean {
    return [...this.#refused.values()].some(({ object }) => object === 'link' || object === 'address');
  }

  /** Resolves when the kernel has been compared after this call, and nothing is left to do. */
  settled(): Promise<void> {
    const promise = new Promise<void>((resolve) => {
      this.#settled.push(resolve);
    });
    this.#look();
    return promise;
  }

  // --- events

  /** Events of links, addresses or routes were lost: also of what this does not look at. */
  #lost(): void {
    this.#look();
    this.#options.onUnderlay({ kind: 'any' });
  }

  #linkEvent(event: LinkEvent): void {
    if (event.event === 'overrun') this.#lost();
    else if (event.event === 'gone') this.#linkGone(event);
    else this.#linkSeen(event.link);
  }

  #linkSeen(link: Link): void {
    const { name, index } = link;
    const before = this.#linkNames.get(index);
    this.#rememberLink(link);
    const ours = this.#names.get(index);
    // Somebody has given it another name.
    if (ours !== undefined && ours !== name) this.#look();
    const device = this.#device(name);
    if (device === undefined) {
      if (isOverlayName(name)) return;
      // IPv4 routes go silently with a link that is set down.
      if (this.#entries.uses(name) || (before !== undefined && this.#entries.uses(before))) this.#look();
      this.#options.onUnderlay({ kind: 'link', name, index });
      return;
    }
    if (
      this.#indexes.get(link.name) !== link.index ||
      incompatibility(device, link) !== undefined ||
      linkChange(device, link) !== undefined
    )
      this.#look();
  }

  #linkGone({ name, index }: { readonly name: string; readonly index: number }): void {
    // One of the same name may have come already.
    if (this.#linkIndexes.get(name) === index) this.#linkIndexes.delete(name);
    this.#linkNames.delete(index);
    if (this.#device(name) !== undefined || this.#names.has(index)) this.#look();
    else this.#options.onUnderlay({ kind: 'link', name, index });
  }

  #rememberLink({ name, index }: Pick<Link, 'name' | 'index'>): void {
    const before = this.#linkNames.get(index);
    if (before !== undefined && this.#linkIndexes.get(before) === index) this.#linkIndexes.delete(before);
    this.#linkIndexes.set(name, index);
    this.#linkNames.set(index, name);
  }

  #rememberLinks(links: readonly Link[]): void {
    this.#linkIndexes.clear();
    this.#linkNames.clear();
    for (const link of links) this.#rememberLink(link);
  }

  #addressSeen(event: 'address' | 'gone', { link, address, prefixLength, family }: InterfaceAddress): void {
    const device = this.#device(this.#names.get(link) ?? '');
    if (device === undefined) {
      // IPv4 routes go silently with the last address of their link; what was refused for want of one can be done now.
      if ((event === 'gone' || this.#refused.size > 0) && this.#entries.uses(this.#linkNames.get(link) ?? '')) this.#look();
      this.#options.onUnderlay({ kind: 'address', link });
      return;
    }
    const isWanted = device.addresses.includes(address) && prefixLength === widthOf(family);
    if (isWanted ? event === 'gone' : event === 'address' && device.networks.some((network) => contains(network, address))) this.#look();
  }

  #neighbourSeen(event: 'neighbour' | 'gone', { link, address, mac, permanent }: Neighbour): void {
    const device = this.#names.get(link);
    if (device === undefined) return;
    const wanted = this.#entries.get(neighbourKey(device, address));
    const isThere = event === 'neighbour' && permanent;
    if (isThere !== (wanted !== undefined) || (isThere && wanted?.kind === 'neighbour' && wanted.mac !== mac)) this.#look();
  }

  #forwardingSeen(event: 'forwarding' | 'forwarding-gone', entry: KernelForwarding): void {
    const device = this.#names.get(entry.link);
    if (device === undefined) return;
    const wanted = this.#entries.get(forwardingKey(device, entry.mac));
    const isThere = event === 'forwarding' && entry.permanent;
    if (isThere !== (wanted !== undefined) || (isThere && !isForwarding(wanted, entry))) this.#look();
  }

  #routeSeen(event: 'route' | 'gone', route: Route): void {
    if (route.table !== ROUTE_TABLE.main) return;
    const networks = this.#wanted?.networks ?? [];
    if (!networks.some((network) => within(network, route.destination))) {
      this.#options.onUnderlay({ kind: 'route' });
      return;
    }
    const wanted = this.#entries.get(routeKey(route.destination));
    const isWanted = wanted !== undefined && this.#isRoute(wanted, route);
    if (event === 'gone' ? isWanted : !isWanted && this.#isInTheWay(wanted, route)) this.#look();
  }

  // --- comparison

  /** Compares soon. */
  #look(): void {
    this.#dirty = true;
    this.#schedule(SETTLE_MS);
  }

  #schedule(delayMs: number): void {
    if (this.#closed || this.#running !== undefined || this.#wanted === undefined) return;
    const now = performance.now();
    const at = Math.max(now + delayMs, this.#notBefore);
    if (this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#start(), at - now);
  }

  #start(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#running = this.#compare().finally(() => {
      this.#running = undefined;
      if (this.#closed) return;
      if (this.#dirty) this.#schedule(SETTLE_MS);
      else if (this.#refused.size > 0) {
        this.#schedule(this.#retryMs);
        this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS.most);
      } else this.#retryMs = RETRY_MS.first;
      if (!this.#dirty) for (const resolve of this.#settled.splice(0)) resolve();
    });
  }

  async #compare(): Promise<void> {
    const { observer } = this.#options;
    const wanted = this.#wanted;
    if (wanted === undefined) return;
    const startedAt = performance.now();
    this.#dirty = false;
    const cause = this.#comparedOnce ? 'repair' : 'wanted';
    const slices = new TimeSlices();
    let changes = 0;
    this.#found = new Map();
    try {
      changes += await this.#makeTunnel(wanted, cause);
      if (this.#closed || this.#wanted !== wanted) return;
      changes += this.#compareDevices(wanted, cause);
      if (changes > 0) this.#skipOwnEvents(wanted);
      changes += this.#compareAddresses(wanted, cause);
      this.#hasDevices = true;
      for (const step of this.#differences(wanted, cause)) {
        // Whoever is told of a peer's change meanwhile is done with it at once: each step looks again at what is wanted.
        changes += step();
        if (slices.isOver) await slices.pause();
        if (this.#closed || this.#wanted !== wanted) return;
      }
      this.#comparedOnce = true;
    } catch (error) {
      this.#refuse('link', 'reading what the kernel has', error);
    } finally {
      // What has not been refused again is over, or not wanted any more.
      this.#refused = this.#found;
      this.#found = undefined;
    }
    const tookMs = performance.now() - startedAt;
    this.#notBefore = performance.now() + Math.min(tookMs * REST.factor, REST.mostMs);
    observer.compared(tookMs, changes);
  }

  /** A device that a process holds open: making it may have to wait for the end of the one before. */
  async #makeTunnel({ devices, tunnel }: DesiredDevices, cause: 'wanted' | 'repair'): Promise<number> {
    const device = devices.find(({ kind }) => kind === 'tun');
    if (device === undefined || tunnel?.create === undefined) return 0;
    const { name } = device;
    const link = listLinks(this.#requests).find((each) => each.name === name);
    // One of that name which somebody else has made carries nothing.
    if (link !== undefined && tunnel === this.#created && link.index === this.#indexes.get(name)) return 0;
    const what = `device ${name}`;
    try {
      await tunnel.create();
      // It has been ended meanwhile.
      if (this.#wanted?.tunnel !== tunnel) return 0;
      this.#created = tunnel;
      this.#options.onMade(name);
      this.#options.observer.changed('link', `${name} made`, cause);
      return 1;
    } catch (error) {
      this.#refuse('link', what, error);
      return 0;
    }
  }

  #compareDevices({ devices, networks, tunnel }: DesiredDevices, cause: 'wanted' | 'repair'): number {
    let changes = 0;
    const done = (what: string, why: 'wanted' | 'repair' | 'stale' = cause): void => {
      changes++;
      this.#options.observer.changed('link', what, why);
    };
    let all = listLinks(this.#requests);
    const strays = all.filter((link) => this.#isStray(link, devices));
    for (const link of strays) {
      this.#attempt('link', `device ${link.name}`, () => {
        deleteLink(this.#requests, link);
        done(`${link.name} removed: it is in the place of ${this.#names.get(link.index) ?? 'a device'} under another name`);
      });
    }
    if (strays.length > 0) all = listLinks(this.#requests);
    this.#rememberLinks(all);
    const links = new Map(all.map((link) => [link.name, link]));
    for (const device of devices) {
      const { name } = device;
      // Why it could not be made has been said.
      if (device.kind === 'tun' && !links.has(name)) {
        this.#forgetIndex(name);
        continue;
      }
      this.#attempt('link', `device ${name}`, () => {
        let link = links.get(name);
        const reason = link === undefined ? undefined : incompatibility(device, link);
        const isNew = link === undefined || reason !== undefined;
        if (isNew) this.#forgetIndex(name);
        if (link !== undefined && reason !== undefined) {
          deleteLink(this.#requests, link);
          done(`${name} is made anew: ${reason}`);
        }
        if (isNew) {
          this.#makeDevice(device);
          done(`${name} made`);
          link = listLinks(this.#requests).find((each) => each.name === name);
          if (link === undefined) throw new SluiceError('DEVICE_GONE', `${name} was removed while it was being made`);
          this.#options.onMade(name);
        }
        if (link === undefined) return;
        // Also where something of it cannot be put right: entries need no more than that it is there.
        this.#setIndex(name, link.index);
        tunnel?.configure?.(name, cause);
        const change = linkChange(device, link);
        if (change === undefined) return;
        changeLink(this.#requests, link, change);
        // Before it is set up it has to have all that it is made of; setting it up is part of making it.
        if (!isNew) done(`${name}: ${describeChange(change)}`);
      });
    }
    // What an earlier backend or VNI left; its address would be a second way to this node's subnet.
    const left = [...links.values()].filter((link) => isOverlayName(link.name) && !devices.some(({ name }) => name === link.name));
    if (left.length > 0 && this.#wanted?.sweepsRoutes === true) {
      const addresses = listAddresses(this.#requests);
      for (const link of left) {
        const isOurs = addresses.some((each) => each.link === link.index && networks.some((network) => contains(network, each.address)));
        if (!isOurs || link.kind === 'tun') continue;
        this.#attempt('link', `device ${link.name}`, () => {
          deleteLink(this.#requests, link);
          done(`${link.name} removed: it belongs to no backend that is in use`, 'stale');
        });
      }
    }
    return changes;
  }

  /** Whether it is one of the devices that are wanted, by another name: while it is there, the kernel makes no second one like it. */
  #isStray(link: Link, devices: readonly OverlayDevice[]): boolean {
    const name = this.#names.get(link.index);
    if (name !== undefined) return name !== link.name && this.#device(name)?.kind === link.kind;
    const { vxlan } = link;
    // From before this daemon was started: it still has one of the addresses that it was given.
    return devices.some(
      (device) =>
        device.kind === 'vxlan' &&
        device.name !== link.name &&
        vxlan?.vni === device.vni &&
        vxlan.port === device.port &&
        vxlan.local !== undefined &&
        familyOf(vxlan.local) === familyOf(device.local) &&
        (link.address === device.mac ||
          listAddresses(this.#requests).some(
            (each) => each.link === link.index && device.networks.some((network) => contains(network, each.address)),
          )),
    );
  }

  /**
   * Making a device tells of it in several states. Those events are not news: everything else is read after them, and whether somebody
   * else interfered is seen by looking at the devices once more.
   */
  #skipOwnEvents({ devices }: DesiredDevices): void {
    try {
      for (let datagram = this.#linkEvents.receive(); datagram !== undefined; datagram = this.#linkEvents.receive()) {
        for (const message of readMessages(datagram)) {
          const event = readLinkEvent(message);
          const name = event?.event === 'link' ? event.link.name : event?.event === 'gone' ? event.name : undefined;
          // Others are still news.
          if (event !== undefined && (name === undefined || this.#device(name) === undefined)) this.#linkEvent(event);
        }
      }
    } catch {
      this.#lost();
    }
    const links = listLinks(this.#requests);
    this.#rememberLinks(links);
    for (const device of devices) {
      const link = links.find((each) => each.name === device.name);
      if (link === undefined || this.#indexes.get(device.name) !== link.index || linkChange(device, link) !== undefined) this.#dirty = true;
    }
  }

  #setIndex(name: string, index: number): void {
    if (this.#indexes.get(name) === index) return;
    this.#forgetIndex(name);
    this.#indexes.set(name, index);
    this.#names.set(index, name);
  }

  #forgetIndex(name: string): void {
    const index = this.#indexes.get(name);
    this.#indexes.delete(name);
    if (index !== undefined) this.#names.delete(index);
  }

  #makeDevice(device: OverlayDevice): void {
    const { name, mtu } = device;
    try {
      if (device.kind === 'tun') throw new SluiceError('DEVICE_GONE', `nobody holds ${name} open`);
      if (device.kind === 'vxlan') {
        const { mac, vni, port, local, underlay, learning, gbp } = device;
        addLink(this.#requests, { name, kind: 'vxlan', mtu, address: mac, vxlan: { vni, port, local, underlay, learning, gbp } });
      } else if (device.kind === 'ipip') addLink(this.#requests, { name, kind: 'ipip', local: device.local, mtu });
      else addLink(this.#requests, { name, kind: 'wireguard', mtu });
    } catch (error) {
      if (systemErrorCode(error) !== 'EOPNOTSUPP') throw error;
      throw new SluiceError('MODULE_MISSING', `the kernel has no ${device.kind} devices, and ${name} cannot be made`, {
        hint: `Load the module (modprobe ${device.kind}), or choose another backend in net-conf.json.`,
        cause: error,
      });
    }
  }

  #compareAddresses({ devices }: DesiredDevices, cause: 'wanted' | 'repair'): number {
    let changes = 0;
    if (devices.length === 0) return changes;
    const all = listAddresses(this.#requests);
    for (const { name, addresses, networks } of devices) {
      const index = this.#indexes.get(name);
      if (index === undefined) continue;
      const there = all.filter((each) => each.link === index);
      // First: an IPv6 address can be there once alone, whatever its length.
      for (const each of there) {
        if (addresses.includes(each.address) && each.prefixLength === widthOf(each.family)) continue;
        if (!networks.some((network) => contains(network, each.address))) continue;
        const what = `address ${formatAddress(each.address)}/${each.prefixLength} of ${name}`;
        changes += this.#attempt('address', what, () => {
          deleteAddress(this.#requests, { link: index, address: each.address, prefixLength: each.prefixLength });
          this.#options.observer.changed('address', `${what} removed`, 'stale');
        });
      }
      for (const address of addresses) {
        const { length } = hostPrefix(address);
        if (there.some((each) => each.address === address && each.prefixLength === length)) continue;
        const what = `address ${formatAddress(address)} of ${name}`;
        changes += this.#attempt('address', what, () => {
          addAddress(this.#requests, { link: index, address, prefixLength: length, noDuplicateDetection: familyOf(address) === 6 });
          this.#options.observer.changed('address', `${what} added`, cause);
        });
      }
    }
    return changes;
  }

  /** One step for each entry that is missing, other than wanted, or left over. */
  #differences(wanted: DesiredDevices, cause: 'wanted' | 'repair'): (() => 0 | 1)[] {
    const { neighbours, forwarding, routes } = this.#read(wanted);
    const steps: (() => 0 | 1)[] = [];
    const left: (() => 0 | 1)[] = [];
    for (const entry of this.#entries.all()) {
      if (this.#isThere(entry, neighbours, forwarding, routes)) continue;
      steps.push(() => (sameEntry(this.#entries.get(keyOf(entry)), entry) ? this.#make(entry, cause) : 0));
    }
    for (const each of neighbours.values()) {
      const device = this.#names.get(each.link) ?? '';
      const key = neighbourKey(device, each.address);
      if (this.#entries.get(key) !== undefined) continue;
      const entry: Entry = { kind: 'neighbour', device, address: each.address, mac: each.mac ?? '' };
      left.push(() => (this.#entries.get(key) === undefined ? this.#remove(entry, 'stale') : 0));
    }
    for (const [key, list] of forwarding) {
      for (const each of list) {
        if (each.destination === undefined) continue;
        const device = this.#names.get(each.link) ?? '';
        const entry: Entry = { kind: 'forwarding', device, mac: each.mac, destination: each.destination };
        if (!isPlain(each)) {
          left.push(() => this.#clear(key, entry, cause));
          // With all that its hardware address has.
          break;
        }
        // A second destination of one that is wanted sends every packet twice.
        left.push(() => (isForwarding(this.#entries.get(key), each) || this.#isReplaced(key, list) ? 0 : this.#remove(entry, 'stale')));
      }
    }
    for (const [key, list] of routes) {
      for (const route of list) {
        const entry = this.#entries.get(key);
        if ((entry !== undefined && this.#isRoute(entry, route)) || !this.#isInTheWay(entry, route)) continue;
        left.push(() => (sameEntry(this.#entries.get(key), entry) ? this.#removeRoute(route) : 0));
      }
    }
    return [...steps, ...left];
  }

  /** Whether the only entry of a key had another destination: making the wanted one has replaced it already. */
  #isReplaced(key: string, list: readonly KernelForwarding[]): boolean {
    return list.length === 1 && this.#entries.get(key) !== undefined;
  }

  /** Takes away every destination of a hardware address, and makes the one that is wanted, if any: one alone cannot be told by its port. */
  #clear(key: string, entry: Extract<Entry, { kind: 'forwarding' }>, cause: 'wanted' | 'repair'): 0 | 1 {
    const { device, mac } = entry;
    const removed = this.#attempt('forwarding', `removing ${describeEntry(entry)}`, () => {
      deleteForwarding(this.#requests, { link: this.#needIndex(device), mac, destination: undefined });
    });
    const wanted = this.#entries.get(key);
    if (wanted !== undefined) return this.#make(wanted, cause);
    if (removed === 1) this.#options.observer.changed('forwarding', `${describeEntry(entry)} removed`, 'stale');
    return removed;
  }

  #read({ networks }: DesiredDevices): Tables {
    const neighbours = new Map<string, Neighbour>();
    const forwarding = new Map<string, KernelForwarding[]>();
    if (this.#names.size > 0) {
      for (const each of listNeighbours(this.#requests)) {
        const device = this.#names.get(each.link);
        if (device !== undefined && each.permanent) neighbours.set(neighbourKey(device, each.address), each);
      }
      for (const each of listForwarding(this.#requests)) {
        const device = this.#names.get(each.link);
        if (device === undefined || !each.permanent || !each.self) continue;
        pushTo(forwarding, forwardingKey(device, each.mac), each);
      }
    }
    const routes = new Map<string, Route[]>();
    for (const route of listRoutes(this.#requests)) {
      if (networks.some((network) => within(network, route.destination))) pushTo(routes, routeKey(route.destination), route);
    }
    return { neighbours, forwarding, routes };
  }

  #isThere(entry: Entry, neighbours: Tables['neighbours'], forwarding: Tables['forwarding'], routes: Tables['routes']): boolean {
    const key = keyOf(entry);
    if (entry.kind === 'neighbour') return neighbours.get(key)?.mac === entry.mac;
    if (entry.kind === 'forwarding') return (forwarding.get(key) ?? []).some((each) => isForwarding(entry, each));
    return (routes.get(key) ?? []).some((route) => this.#isRoute(entry, route));
  }

  #isRoute(entry: Entry, route: Route): boolean {
    if (entry.kind !== 'route' || route.protocol !== ROUTE_PROTOCOL.boot || metricOf(route) !== METRIC[route.family]) return false;
    if (entry.blackhole === true) return route.type === 'blackhole';
    return (
      route.type === 'unicast' &&
      route.gateway === entry.gateway &&
      route.hops === 1 &&
      route.link === this.#linkIndex(entry.device) &&
      route.onlink === entry.onlink &&
      route.source === undefined
    );
  }

  /**
   * Whether a route that is not the wanted one to its destination has to go. Of two with one metric the kernel takes the first; those of
   * other metrics are left alone where they do not look like this daemon's.
   */
  #isInTheWay(wanted: Entry | undefined, route: Route): boolean {
    if (this.#isLeftOver(route)) return true;
    // Those of the kernel itself follow from addresses, and come after those that were there.
    return wanted !== undefined && metricOf(route) === METRIC[route.family] && route.protocol !== ROUTE_PROTOCOL.kernel;
  }

  /** Whether a route is one that flannel, or this daemon, once made. */
  #isLeftOver(route: Route): boolean {
    const { networks = [], sweepsRoutes = false } = this.#wanted ?? {};
    if (!sweepsRoutes || route.type !== 'unicast' || route.protocol !== ROUTE_PROTOCOL.boot) return false;
    if (!networks.some((network) => strictlyInside(network, route.destination))) return false;
    return route.gateway !== undefined || (route.link !== undefined && this.#names.has(route.link));
  }

  // --- changes

  #make(entry: Entry, cause: 'wanted' | 'repair'): 0 | 1 {
    // Why the device is not there has been said, and it comes with all its entries.
    if (this.#device(entry.device) !== undefined && !this.#indexes.has(entry.device)) return 0;
    return this.#attempt(entry.kind, describeEntry(entry), () => {
      if (entry.kind === 'route') {
        const { destination, gateway, device, onlink } = entry;
        if (entry.blackhole === true) replaceRoute(this.#requests, { destination, type: 'blackhole' });
        else
          replaceRoute(this.#requests, {
            destination,
            link: this.#needIndex(device),
            onlink,
            ...(gateway === undefined ? {} : { gateway }),
          });
      } else if (entry.kind === 'neighbour') {
        const { device, address, mac } = entry;
        replaceNeighbour(this.#requests, { link: this.#needIndex(device), address, mac });
      } else {
        const { device, mac, destination } = entry;
        replaceForwarding(this.#requests, { link: this.#needIndex(device), mac, destination });
      }
      this.#options.observer.changed(entry.kind, `${describeEntry(entry)} set`, cause);
    });
  }

  #remove(entry: Entry, cause: 'wanted' | 'stale'): 0 | 1 {
    const what = describeEntry(entry);
    this.#refused.delete(what);
    return this.#attempt(entry.kind, `removing ${what}`, () => {
      try {
        if (entry.kind === 'route') {
          const { destination, gateway, device } = entry;
          const link = this.#linkIndex(device);
          deleteRoute(this.#requests, {
            destination,
            type: entry.blackhole === true ? 'blackhole' : 'unicast',
            protocol: ROUTE_PROTOCOL.boot,
            metric: METRIC[familyOf(destination.address)],
            ...(gateway === undefined ? {} : { gateway }),
            ...(link === undefined ? {} : { link }),
          });
        } else if (entry.kind === 'neighbour') {
          deleteNeighbour(this.#requests, { link: this.#needIndex(entry.device), address: entry.address });
        } else {
          deleteForwarding(this.#requests, { link: this.#needIndex(entry.device), mac: entry.mac, destination: entry.destination });
        }
      } catch (error) {
        // It is gone, with its device or by another hand: that is what was wanted.
        if (!isGone(error)) throw error;
        return;
      }
      this.#options.observer.changed(entry.kind, `${what} removed`, cause);
    });
  }

  #removeRoute(route: Route): 0 | 1 {
    const { destination, gateway, link, type, protocol, metric, source, hops } = route;
    const what = describeEntry({
      kind: 'route',
      destination,
      gateway,
      device: this.#linkNames.get(link ?? 0) ?? `number ${link ?? 'none'}`,
      onlink: route.onlink,
      ...(type === 'blackhole' ? { blackhole: true } : {}),
    });
    return this.#attempt('route', `removing ${what}`, () => {
      try {
        deleteRoute(this.#requests, {
          destination,
          protocol,
          ...(metric === undefined ? {} : { metric }),
          ...(source === undefined ? {} : { source }),
          ...(type === 'unicast' || type === 'blackhole' ? { type } : {}),
          // Of several hops the kernel would remove that one alone.
          ...(gateway === undefined || hops > 1 ? {} : { gateway }),
          ...(link === undefined || hops > 1 ? {} : { link }),
        });
      } catch (error) {
        if (!isGone(error)) throw error;
        return;
      }
      this.#options.observer.changed('route', `${what} removed`, 'stale');
    });
  }

  #device(name: string): OverlayDevice | undefined {
    return this.#wanted?.devices.find((device) => device.name === name);
  }

  /** Of an overlay device or any other link. */
  #linkIndex(name: string): number | undefined {
    return this.#indexes.get(name) ?? (this.#device(name) === undefined ? this.#linkIndexes.get(name) : undefined);
  }

  #needIndex(name: string): number {
    const index = this.#linkIndex(name);
    if (index === undefined) throw new SluiceError('DEVICE_GONE', `${name} is not there`);
    return index;
  }

  /** Does it; 1 if that worked. A refusal is told once, and tried again later. */
  #attempt(object: KernelObject, what: string, action: () => void): 0 | 1 {
    try {
      action();
      this.#refused.delete(what);
      return 1;
    } catch (error) {
      this.#refuse(object, what, error);
      return 0;
    }
  }

  #refuse(object: KernelObject, what: string, error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    const isNew = this.#refused.get(what)?.why !== text;
    (this.#found ?? this.#refused).set(what, { object, why: text });
    if (isNew) this.#options.observer.failed(object, what, error);
    // A device that has just gone tells so itself; everything else is tried again.
    this.#schedule(this.#retryMs);
  }
}

interface Refusal {
  readonly object: KernelObject;
  readonly why: string;
}

interface Tables {
  readonly neighbours: ReadonlyMap<string, Neighbour>;
  readonly forwarding: ReadonlyMap<string, readonly KernelForwarding[]>;
  /** Those into the cluster's networks. */
  readonly routes: ReadonlyMap<string, readonly Route[]>;
}

function pushTo<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

/** Without a port or a VNI of its own. */
function isPlain({ port, vni }: KernelForwarding): boolean {
  return port === undefined && vni === undefined;
}

function isForwarding(wanted: Entry | undefined, entry: KernelForwarding): boolean {
  return wanted?.kind === 'forwarding' && wanted.destination === entry.destination && isPlain(entry);
}

function metricOf({ metric = 0 }: Route): number {
  return metric;
}

/** Whether `inner` lies in `outer` or is the same. */
function within(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && contains(outer, inner.address);
}

function isGone(error: unknown): boolean {
  const code = systemErrorCode(error);
  return (code !== undefined && GONE.has(code)) || (error instanceof SluiceError && error.code === 'DEVICE_GONE');
}

function describeChange(change: { mtu?: number; address?: string; up?: boolean; learning?: boolean }): string {
  return Object.entries(change)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ');
}
