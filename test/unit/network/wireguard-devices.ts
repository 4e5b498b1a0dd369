/** WireGuard devices that behave like the kernel's (drivers/net/wireguard/netlink.c: wg_set_device, set_peer), for tests without it. */
import { KernelError } from 'nftables-js';
import { formatPrefix } from '../../../src/policy/address.ts';
import type { WireguardDevices } from '../../../src/network/wireguard/control.ts';
import { publicKeyOf, type SecretKey } from '../../../src/network/wireguard/keys.ts';
import type { DeviceChange, DeviceState, PeerChange, PeerState } from '../../../src/network/wireguard/messages.ts';

const EADDRINUSE = 98;
const ENODEV = 19;

interface Device {
  privateKey: SecretKey | undefined;
  listenPort: number;
  fwmark: number;
  peers: Map<string, PeerState>;
}

export class SimulatedDevices implements WireguardDevices {
  readonly devices = new Map<string, Device>();
  /** What has been changed, in order. */
  readonly changes: [name: string, change: DeviceChange][] = [];
  takenPort: number | undefined;
  closed = false;

  make(...names: string[]): void {
    for (const name of names) this.devices.set(name, { privateKey: undefined, listenPort: 0, fwmark: 0, peers: new Map() });
  }

  read(name: string): DeviceState | undefined {
    const device = this.devices.get(name);
    return device === undefined ? undefined : { ...device, peers: new Map(device.peers) };
  }

  change(name: string, change: DeviceChange): void {
    const device = this.devices.get(name);
    if (device === undefined) throw new KernelError(ENODEV, `changing WireGuard device ${name}`);
    this.changes.push([name, change]);
    if (change.listenPort !== undefined && change.listenPort === this.takenPort)
      throw new KernelError(EADDRINUSE, `changing WireGuard device ${name}`);
    device.privateKey = change.privateKey ?? device.privateKey;
    device.listenPort = change.listenPort ?? device.listenPort;
    device.fwmark = change.fwmark ?? device.fwmark;
    for (const peer of change.peers) this.#changePeer(device, peer);
  }

  #changePeer({ peers, privateKey }: Device, { publicKey, action, presharedKey, endpoint, keepalive, allowed }: PeerChange): void {
    if (action === 'remove') {
      peers.delete(publicKey);
      return;
    }
    if (privateKey !== undefined && publicKeyOf(privateKey) === publicKey) return;
    const before = peers.get(publicKey);
    if (before === undefined && action === 'update') return;
    const peer: PeerState = before ?? {
      publicKey,
      presharedKey: undefined,
      endpoint: undefined,
      keepalive: 0,
      handshakeAt: 0,
      allowed: [],
    };
    const texts = new Set(allowed?.map(formatPrefix));
    // A prefix that is given to one is taken from the others.
    for (const other of peers.values()) {
      const kept = other.allowed.filter((prefix) => !texts.has(formatPrefix(prefix)));
      if (kept.length < other.allowed.length) peers.set(other.publicKey, { ...other, allowed: kept });
    }
    peers.set(publicKey, {
      ...peer,
      presharedKey: presharedKey === 'none' ? undefined : (presharedKey ?? peer.presharedKey),
      endpoint: endpoint ?? peer.endpoint,
      keepalive: keepalive ?? peer.keepalive,
      allowed: allowed ?? peer.allowed,
    });
  }

  close(): void {
    this.closed = true;
  }
}
