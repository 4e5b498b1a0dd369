/**
 * The bridge that the pods of this node are attached to (`cni0`): made before the first pod, as the plugin bridge would leave it after
 * the first one, and kept so. From its first moment on packets between pods pass through the inet hooks, where policy is.
 *
 * One that is there already is adopted: its hardware address, its other addresses and its ports stay. When it is deleted with pods on
 * it, it is made again with the hardware address that they know, and those that were its ports become ports again.
 *
 * Events are not interpreted, but for which ports come and go: whatever happens to the bridge leads to a look at all of it.
 */
import { createHash } from 'node:crypto';
import { NETLINK_ROUTE, NetlinkSocket, type Poller } from 'nftables-js';
import { systemErrorCode } from '../../errors.ts';
import {
  type Address,
  addressBytes,
  familyOf,
  formatAddress,
  ipv4,
  ipv6,
  networkAddress,
  type Prefix,
  widthOf,
} from '../../policy/address.ts';
import { addAddress, type InterfaceAddress, listAddresses, watchAddresses } from '../../rtnetlink/addresses.ts';
import {
  addLink,
  bridgeFilteringAvailable,
  changeLink,
  type Link,
  type LinkEvent,
  listLinks,
  setBridgeFiltering,
  watchLinks,
} from '../../rtnetlink/links.ts';
import { attachPort } from './bridge-port.ts';

export interface PodBridgeOptions {
  readonly poller: Poller;
  readonly name: string;
  /** This node's. The bridge has the first address of each: the pods' gateway. */
  readonly subnets: readonly Prefix[];
  /** Bytes. */
  readonly mtu: number;
  /** Whether ports that are attached again get hairpin mode: what the CNI configuration says of it. Default: true. */
  readonly hairpin?: boolean;
  /** Where /proc/sys is mounted. */
  readonly sysctlDirectory?: string;
  /** It has been made, and is not up yet: for what cannot be said through netlink. */
  readonly onMade?: () => void;
  /** Somebody had changed something, and it is as it should be again. A sentence. */
  readonly onRepair: (what: string) => void;
  /** What is wrong, and cannot be put right now. Told once for as long as it lasts; it is tried again. */
  readonly onProblem: (text: string) => void;
}

/** The bridge's own address in a subnet: the gateway of the pods in it. */
interface Gateway {
  readonly address: Address;
  /** The subnet's. */
  readonly prefixLength: number;
}

interface Port {
  /** When it was seen to leave a bridge that was still there; ms of the monotonic clock. */
  leftAt: number | undefined;
  /** Its bridge is gone: it has to be attached to the next one. */
  lost: boolean;
}

/** Where nothing is heard. */
const LOOK_EVERY_MS = 30_000;
/** While something is wrong: of a module that is loaded, or of an error that is over, nobody tells. */
const LOOK_AGAIN_MS = 1_000;
/** Between two repairs, so that somebody who insists on something else costs little. */
const REPAIR_GAP_MS = 500;
/** A bridge that is deleted lets go of its ports first, one after the other: of those it had until then. */
const LEFT_WITH_BRIDGE_MS = 2_000;
/** Room for the events of all pods of a node that come at once. */
const EVENT_BYTES = 1 << 20;

export class PodBridge {
  readonly #options: PodBridgeOptions;
  readonly #gateways: readonly Gateway[];
  readonly #requests: NetlinkSocket;
  readonly #events: readonly NetlinkSocket[];
  readonly #stops: readonly (() => void)[];
  /** Of the bridge that was looked at last; undefined: it is gone, or there was none yet. */
  #index: number | undefined;
  /** Of the bridge that is gone. */
  #formerIndex: number | undefined;
  /** Of the bridge whose hardware address has been set. */
  #settledIndex: number | undefined;
  /** The hardware address that pods know their gateway by; undefined before there was a bridge. */
  #mac: string | undefined;
  /** Links that are ports of the bridge, or were when it went; by index. */
  readonly #ports = new Map<number, Port>();
  /** There was a bridge: what is not right afterwards is somebody else's doing. */
  #wasThere = false;
  #problems: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #repairedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  private constructor(options: PodBridgeOptions) {
    this.#options = options;
    this.#gateways = options.subnets.map(gatewayOf);
    const { poller } = options;
    const listening = (): NetlinkSocket => NetlinkSocket.open(NETLINK_ROUTE, { receiveBytes: EVENT_BYTES });
    this.#requests = NetlinkSocket.open(NETLINK_ROUTE);
    const [links, addresses] = [listening(), listening()];
    this.#events = [links, addresses];
    // Watch first and list then, so that nothing is missed in between.
    this.#stops = [
      watchLinks(poller, links, (event) => this.#linkSeen(event)),
      watchAddresses(poller, addresses, (event) => {
        if (event.event === 'overrun' || event.address.link === this.#index) this.#lookIn(0);
      }),
    ];
  }

  /**
   * Makes the bridge, or adopts it, and watches over it until {@link close}. All its sockets belong to the network namespace that this
   * thread is in now. What cannot be done is told by `onProblem`, and tried again.
   */
  static start(options: PodBridgeOptions): PodBridge {
    const bridge = new PodBridge(options);
    bridge.#look();
    return bridge;
  }

  /** Why the bridge is not as it should be; empty: it is. */
  get problems(): readonly string[] {
    return [...this.#problems];
  }

  /** Leaves the bridge as it is. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const stop of this.#stops) stop();
    for (const socket of [this.#requests, ...this.#events]) socket.close();
  }

  // --- events

  #linkSeen(event: LinkEvent): void {
    const { name } = this.#options;
    if (event.event === 'overrun') {
      this.#lookIn(0);
    } else if (event.event === 'gone') {
      if (event.index === this.#index) this.#bridgeGone();
      else this.#ports.delete(event.index);
      if (event.name === name) this.#lookIn(0);
    } else {
      this.#portSeen(event.link);
      // By its index too: somebody may have given it another name.
      if (event.link.name === name || event.link.index === this.#index) this.#lookIn(0);
    }
  }

  #portSeen({ index, master }: Pick<Link, 'index' | 'master'>): void {
    // While there is no bridge, nobody can be said to have left it.
    if (this.#index === undefined) return;
    const port = this.#ports.get(index);
    if (master === this.#index) this.#ports.set(index, { leftAt: undefined, lost: false });
    else if (port !== undefined && !port.lost) port.leftAt ??= performance.now();
  }

  /** Those that left with it have to be attached to the next one; those that somebody had taken out of it before have not. */
  #bridgeGone(): void {
    this.#forgetThoseThatLeft();
    for (const port of this.#ports.values()) {
      port.leftAt = undefined;
      port.lost = true;
    }
    this.#formerIndex = this.#index;
    this.#index = undefined;
  }

  #forgetThoseThatLeft(): void {
    const now = performance.now();
    for (const [index, { leftAt }] of this.#ports)
      if (leftAt !== undefined && now - leftAt > LEFT_WITH_BRIDGE_MS) this.#ports.delete(index);
  }

  // --- looks

  /** Unless it looks sooner anyway. */
  #lookIn(delayMs: number): void {
    const now = performance.now();
    const at = Math.max(now + delayMs, this.#repairedAt + REPAIR_GAP_MS);
    if (this.#closed || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#look(), at - now).unref();
  }

  #look(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (this.#closed) return;
    const look: Look = { problems: new Set(), repairs: [] };
    const isFirst = !this.#wasThere;
    attempt(look, this.#options.name, () => this.#compare(look));
    if (!isFirst && look.repairs.length > 0) {
      this.#repairedAt = performance.now();
      for (const what of look.repairs) this.#options.onRepair(what);
    }
    for (const text of look.problems) if (!this.#problems.has(text)) this.#options.onProblem(text);
    this.#problems = look.problems;
    this.#lookIn(look.problems.size > 0 ? LOOK_AGAIN_MS : LOOK_EVERY_MS);
  }

  #compare(look: Look): string | undefined {
    const { name } = this.#options;
    let links = listLinks(this.#requests);
    let bridge = links.find((link) => link.name === name);
    let replaced: string | undefined;
    if (bridge === undefined) {
      this.#make();
      replaced = 'it was missing, and is there again';
      links = listLinks(this.#requests);
      bridge = links.find((link) => link.name === name);
      // Deleted at once: an event says so.
      if (bridge === undefined) return undefined;
    }
    if (bridge.kind !== 'bridge') {
      const kind = bridge.kind === '' ? 'a network card' : `of kind ${bridge.kind}`;
      look.problems.add(`${name} is there and is no bridge, but ${kind}: pods cannot be attached to it`);
      return undefined;
    }
    const { index } = bridge;
    if (index !== this.#index) {
      // Where its end was not heard of.
      if (this.#index !== undefined) this.#bridgeGone();
      this.#index = index;
      replaced ??= 'it had been replaced by another one, which is as it should be now';
      // What has to be done with a new one is part of this, and nothing that somebody had changed.
      const { repairs } = look;
      this.#compareParts(bridge, { ...look, repairs: [] });
      repairs.push(`bridge ${name}: ${replaced}`);
    } else this.#compareParts(bridge, look);
    this.#comparePorts(bridge, links, look);
    this.#wasThere = true;
    return undefined;
  }

  #make(): void {
    const { name } = this.#options;
    // A hardware address that is given is neither taken from the ports nor replaced by udev. The MTU comes later: only one that is
    // changed is left alone by the kernel when ports come and go (br_mtu_auto_adjust).
    this.#mac ??= hardwareAddressOf(this.#gateways);
    try {
      addLink(this.#requests, { name, kind: 'bridge', address: this.#mac, bridge: { iptables: true, ip6tables: true } });
      this.#options.onMade?.();
    } catch (error) {
      // The plugin was quicker.
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
  }

  #compareParts(bridge: Link, look: Look): void {
    const { name, index } = bridge;
    const { mtu } = this.#options;
    const requests = this.#requests;
    // First, for packets pass through it as it is.
    attempt(look, name, () => this.#compareFiltering(bridge, look));
    attempt(look, name, () => this.#compareHardwareAddress(bridge));
    attempt(look, name, () => {
      if (bridge.mtu === mtu) return undefined;
      changeLink(requests, bridge, { mtu });
      return `its MTU was ${bridge.mtu}, and is ${mtu} again`;
    });
    attempt(look, name, () => {
      if (bridge.up) return undefined;
      changeLink(requests, bridge, { up: true });
      return 'it was down, and is up again';
    });
    // Only now: the kernel takes the IPv6 addresses of a link that is set down.
    const addresses = listAddresses(requests).filter(({ link }) => link === index);
    for (const gateway of this.#gateways) attempt(look, name, () => this.#compareAddress(bridge, gateway, addresses, look));
  }

  #compareFiltering(link: Link, { problems }: Look): string | undefined {
    const { bridge, name } = link;
    if (bridge === undefined || !bridgeFilteringAvailable(this.#options.sysctlDirectory)) {
      problems.add(
        `bridge ${name}: packets between pods of this node bypass services and policy: br_netfilter is not loaded (modprobe br_netfilter)`,
      );
    }
    if (bridge === undefined || (bridge.iptables && bridge.ip6tables)) return undefined;
    setBridgeFiltering(this.#requests, link, { iptables: true, ip6tables: true });
    return 'filtering had been switched off, and is on again';
  }

  /** Set once on each bridge, also to what it is: the kernel takes one that nobody has set from the ports that there are. */
  #compareHardwareAddress(link: Link): undefined {
    if (link.index !== this.#settledIndex) {
      // Another bridge than the last one gets the address that pods know.
      const address = this.#mac ?? link.address ?? hardwareAddressOf(this.#gateways);
      changeLink(this.#requests, link, { address });
      this.#mac = address;
      this.#settledIndex = link.index;
    } else {
      // Changed by somebody, on purpose.
      this.#mac = link.address ?? this.#mac;
    }
  }

  #compareAddress(link: Link, gateway: Gateway, addresses: readonly InterfaceAddress[], { problems }: Look): string | undefined {
    const at = addresses.findIndex(({ address, prefixLength }) => address === gateway.address && prefixLength === gateway.prefixLength);
    // The plugin looks at them in the kernel's order.
    const other = addresses.slice(0, at < 0 ? undefined : at).find((each) => isInTheWay(each, gateway));
    if (other !== undefined) {
      problems.add(
        `bridge ${link.name}: it has the address ${format(other)} before ${format(gateway)}, and the plugin bridge refuses new pods ` +
          `because of it; where no pod has it as gateway any more: ip address del ${format(other)} dev ${link.name}`,
      );
    }
    if (at >= 0) return undefined;
    // Nobody else on it could have the address, and while it has no ports there is nobody to ask.
    addAddress(this.#requests, { link: link.index, ...gateway, noDuplicateDetection: true });
    return `its address ${format(gateway)} was missing, and is there again`;
  }

  #comparePorts(bridge: Link, links: readonly Link[], look: Look): void {
    const { hairpin = true } = this.#options;
    const present = new Map(links.map((link) => [link.index, link]));
    for (const index of this.#ports.keys()) if (!present.has(index)) this.#ports.delete(index);
    this.#forgetThoseThatLeft();
    for (const link of links) {
      const isLost = this.#ports.get(link.index)?.lost ?? false;
      if (!isLost) this.#portSeen(link);
      else if (link.master === undefined || link.master === this.#formerIndex) {
        attempt(look, bridge.name, () => {
          attachPort(this.#requests, link, bridge.index, hairpin);
          this.#ports.set(link.index, { leftAt: undefined, lost: false });
          return `${link.name} is attached to it again`;
        });
      } else {
        // It is a port of something else now, by its own bridge or by another: on purpose.
        this.#ports.delete(link.index);
        this.#portSeen(link);
      }
    }
  }
}

/** What one look has found. */
interface Look {
  /** What is wrong, and could not be put right. */
  readonly problems: Set<string>;
  /** What was wrong, and is not any more. */
  readonly repairs: string[];
}

/** Does one thing, so that what fails does not keep the others from being done. @param action what it has repaired, if anything */
function attempt({ problems, repairs }: Look, bridge: string, action: () => string | undefined): void {
  try {
    const repair = action();
    if (repair !== undefined) repairs.push(`bridge ${bridge}: ${repair}`);
  } catch (error) {
    // Of a link that is gone meanwhile an event tells.
    if (systemErrorCode(error) !== 'ENODEV') problems.add(`bridge ${bridge}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The first address of a subnet, as host-local and flannel count: the one after the subnet's own. */
function gatewayOf({ address, length }: Prefix): Gateway {
  if (length === widthOf(familyOf(address))) return { address, prefixLength: length };
  return { address: typeof address === 'number' ? ipv4(address + 1) : ipv6(address + 1n), prefixLength: length };
}

/**
 * Whether the plugin bridge refuses to give the bridge its gateway address because of this one: any other of IPv4, and of IPv6 one
 * whose subnet overlaps (ensureAddr in plugins/main/bridge/bridge.go).
 */
function isInTheWay({ address, prefixLength }: InterfaceAddress, gateway: Gateway): boolean {
  if (familyOf(address) !== familyOf(gateway.address)) return false;
  if (familyOf(address) === 4) return true;
  const length = Math.min(prefixLength, gateway.prefixLength);
  return networkAddress(address, length) === networkAddress(gateway.address, length);
}

/**
 * A hardware address for the bridge, always the same for the same subnets: 0a:58, which is locally administered and of one interface,
 * and the IPv4 address, as kubenet and Docker derive theirs; of IPv6 alone, a digest of the address.
 */
function hardwareAddressOf(gateways: readonly Gateway[]): string {
  const address = gateways.map(({ address }) => address).find((address) => familyOf(address) === 4) ?? gateways[0]?.address;
  const bytes = address === undefined ? new Uint8Array() : addressBytes(address);
  const tail = bytes.length === 4 ? bytes : createHash('sha256').update(bytes).digest().subarray(0, 4);
  return ['0a', '58', ...Array.from(tail, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

function format({ address, prefixLength }: Gateway): string {
  return `${formatAddress(address)}/${prefixLength}`;
}
