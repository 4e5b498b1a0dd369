/**
 * The tunnel of the backend wireguard: keys, ports and peers of its devices, which the kernel's reconciler makes and sets up. Packets
 * never come here.
 *
 * WireGuard tells nobody when somebody changes a device: each is looked at every second, and what differs is set again. What is as
 * wanted is not touched, also where it was found at the start.
 */
import { KernelError } from 'nftables-js';
import { SluiceError } from '../../errors.ts';
import type { Tunnel } from '../backends/backend.ts';
import type { Lease } from '../lease.ts';
import { isNoDevice, type WireguardDevices } from './control.ts';
import { describePeerChange, deviceChange, peerChange, type WireguardDeviceSettings } from './difference.ts';
import type { DeviceChange, PeerChange, WireguardPeer } from './messages.ts';
import { PeerTable } from './peer-table.ts';

export interface WireguardTunnelOptions {
  /** By name. */
  readonly devices: ReadonlyMap<string, WireguardDeviceSettings>;
  /** Closed with the tunnel. */
  readonly control: WireguardDevices;
  /** What a node is on each device, by the device's name. */
  readonly peersOf: (lease: Lease) => ReadonlyMap<string, WireguardPeer>;
  /** Something was set. @param cause `repair`: somebody else had changed it */
  readonly onChange: (what: string, cause: 'wanted' | 'repair') => void;
  /** Something could not be set, or two nodes claim the same. Told once for as long as it lasts; it is tried again. */
  readonly onError: (error: unknown) => void;
  readonly lookEveryMs?: number;
}

const LOOK_EVERY_MS = 1_000;
/** Looking takes a fiftieth of the time at most: of many thousand peers the kernel tells long. */
const REST_FACTOR = 50;
/** Of so many each is told by itself; of more how many there were. */
const MOST_TOLD = 8;

export class WireguardTunnel implements Tunnel {
  readonly #options: WireguardTunnelOptions;
  readonly #tables: ReadonlyMap<string, PeerTable>;
  /** Devices that are there, and were made what they should be. */
  readonly #live = new Set<string>();
  /** Devices that are new: peers may have sessions with the one before. */
  readonly #fresh = new Set<string>();
  /** What was told last of each device, and of the conflicts. */
  readonly #told = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Does nothing before {@link configure} is called. */
  constructor(options: WireguardTunnelOptions) {
    this.#options = options;
    this.#tables = new Map([...options.devices.keys()].map((name) => [name, new PeerTable()]));
  }

  /** @throws SluiceError, KernelError where the device is not there, or not to be changed so */
  configure(device: string, cause: 'wanted' | 'repair'): void {
    if (this.#closed || !this.#tables.has(device)) return;
    this.#live.delete(device);
    if (!this.#compare(device, cause)) throw new SluiceError('DEVICE_GONE', `${device} is not there, or no WireGuard device`);
    this.#live.add(device);
    this.#timer ??= this.#lookIn(0);
    // Whoever calls this sets it up then.
    if (this.#fresh.delete(device)) setTimeout(() => this.#greet(device), 0).unref();
  }

  setPeer(lease: Lease): void {
    const peers = this.#options.peersOf(lease);
    for (const device of this.#tables.keys()) this.#set(device, lease.node, peers.get(device));
  }

  removePeer({ node }: Lease): void {
    for (const device of this.#tables.keys()) this.#set(device, node, undefined);
  }

  /** Devices and peers stay as they are. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#live.clear();
    this.#options.control.close();
  }

  #set(device: string, node: string, peer: WireguardPeer | undefined): void {
    const differences = this.#tables.get(device)?.set(node, peer) ?? [];
    // Until it is there, what makes it what it should be does this as well.
    if (differences.length === 0 || !this.#live.has(device)) return;
    const changes = differences.flatMap(({ before, after }): PeerChange[] => {
      if (after === undefined) return before === undefined ? [] : [{ publicKey: before.publicKey, action: 'remove' }];
      // That it has another endpoint now is news: where it has sent from until now does not count.
      const change = peerChange(after, before === undefined ? undefined : { ...before, handshakeAt: 0 }, 0);
      return change === undefined ? [] : [change];
    });
    this.#attempt(device, () => this.#change(device, { peers: changes }, 'wanted'));
  }

  /** Makes a device what it should be. False: there is no such device. */
  #compare(device: string, cause: 'wanted' | 'repair'): boolean {
    const { control, devices } = this.#options;
    const [settings, table] = [devices.get(device), this.#tables.get(device)];
    const there = control.read(device);
    if (settings === undefined || table === undefined || there === undefined) return false;
    if (there.privateKey === undefined) this.#fresh.add(device);
    const change = deviceChange(settings, table.peers, there, Date.now() / 1000);
    if (change !== undefined) this.#change(device, change, cause);
    return true;
  }

  /** @throws SluiceError, KernelError */
  #change(device: string, change: DeviceChange, cause: 'wanted' | 'repair'): void {
    const { control, onChange } = this.#options;
    try {
      control.change(device, change);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'EADDRINUSE') throw error;
      throw new SluiceError('PORT_TAKEN', `${device} cannot listen on UDP port ${change.listenPort ?? 0}: it is taken`, {
        hint: 'ss -ulnp says by whom; another port is ListenPort (ListenPortV6) in net-conf.json, the same on all nodes.',
        cause: error,
      });
    }
    for (const what of this.#describe(device, change)) onChange(`${device}: ${what}`, cause);
  }

  #describe(device: string, { privateKey, listenPort, fwmark, peers }: DeviceChange): string[] {
    const texts = [
      ...(privateKey === undefined ? [] : ['private key set']),
      ...(listenPort === undefined ? [] : [`port ${listenPort} set`]),
      ...(fwmark === undefined ? [] : ['mark removed']),
    ];
    if (peers.length <= MOST_TOLD) {
      const name = (key: string): string => this.#tables.get(device)?.nodeOf(key) ?? 'of no node';
      return [...texts, ...peers.map((peer) => `peer ${peer.publicKey} (${name(peer.publicKey)}) ${describePeerChange(peer)}`)];
    }
    const count = (action: PeerChange['action']): number => peers.filter((peer) => peer.action === action).length;
    return [...texts, `${count('add')} peers added, ${count('update')} changed, ${count('remove')} removed`];
  }

  // --- looking

  #lookIn(delayMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#look(), Math.max(delayMs, this.#options.lookEveryMs ?? LOOK_EVERY_MS)).unref();
  }

  #look(): void {
    if (this.#closed) return;
    const startedAt = performance.now();
    for (const device of this.#live) {
      this.#attempt(device, () => {
        // Whoever makes it anew has it configured.
        if (!this.#compare(device, 'repair')) this.#live.delete(device);
      });
    }
    this.#tellConflicts();
    this.#timer = this.#lookIn((performance.now() - startedAt) * REST_FACTOR);
  }

  /**
   * Begins a session with each peer. Who has one with the device that was there before, or with this node before it was booted, sends
   * into it for 15 s until it is given up, and nothing of that arrives. A keepalive that is switched on is sent at once.
   */
  #greet(device: string): void {
    // It is closed, or the device has gone again.
    if (!this.#live.has(device)) return;
    const silent = [...(this.#tables.get(device)?.peers.values() ?? [])].filter(({ keepalive }) => keepalive === 0);
    if (silent.length === 0) return;
    this.#attempt(device, () => {
      for (const keepalive of [1, 0]) {
        this.#options.control.change(device, { peers: silent.map(({ publicKey }) => ({ publicKey, action: 'update', keepalive })) });
      }
    });
  }

  /** Does it; what cannot be done now is seen by the next look. */
  #attempt(device: string, action: () => void): void {
    try {
      action();
      this.#told.delete(device);
    } catch (error) {
      if (isNoDevice(error)) {
        this.#live.delete(device);
        return;
      }
      this.#tell(device, error instanceof Error ? error.message : String(error), [error]);
    }
  }

  /** Only here, and not when a lease changes: a subnet that goes from one node to another is that of both for a moment. */
  #tellConflicts(): void {
    const errors = [...this.#tables].flatMap(([device, table]) =>
      table.conflicts().map(({ key, winner, losers }) => {
        const nodes = [winner, ...losers].join(' and ');
        return new SluiceError('LEASES_CONFLICT', `${nodes} have the same ${key} on ${device}: ${winner} gets it`, {
          hint: key.startsWith('WireGuard key') ? 'Remove the key file on all of them but one, and start them again.' : undefined,
        });
      }),
    );
    this.#tell('', errors.map(({ message }) => message).join('\n'), errors);
  }

  #tell(about: string, text: string, errors: readonly unknown[]): void {
    if ((this.#told.get(about) ?? '') === text) return;
    this.#told.set(about, text);
    for (const error of errors) this.#options.onError(error);
  }
}
