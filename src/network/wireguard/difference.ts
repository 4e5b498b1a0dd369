/**
 * What has to be changed on a WireGuard device, so that it is as it should be, and nothing more: a key that is set again, or a peer that
 * is made anew, would end sessions that work.
 */
import type { Prefix } from '../../policy/address.ts';
import { formatPrefix } from '../../policy/address.ts';
import type { SecretKey } from './keys.ts';
import type { DeviceChange, DeviceState, Endpoint, PeerChange, PeerState, WireguardPeer } from './messages.ts';

/** A device as it should be. */
export interface WireguardDeviceSettings {
  readonly privateKey: SecretKey;
  readonly listenPort: number;
}

/** A session is as old as this at most (REJECT_AFTER_TIME of WireGuard's paper, section 6.1), in seconds. */
const SESSION_SECONDS = 180;

/**
 * What makes a device that is there what it should be; undefined: it is.
 *
 * @param peers what should be there, by public key; all others are removed
 * @param now seconds since 1970
 */
export function deviceChange(
  settings: WireguardDeviceSettings,
  peers: ReadonlyMap<string, WireguardPeer>,
  there: DeviceState,
  now: number,
): DeviceChange | undefined {
  const { privateKey, listenPort } = settings;
  const changes: PeerChange[] = [];
  for (const publicKey of there.peers.keys()) if (!peers.has(publicKey)) changes.push({ publicKey, action: 'remove' });
  for (const peer of peers.values()) {
    const change = peerChange(peer, there.peers.get(peer.publicKey), now);
    if (change !== undefined) changes.push(change);
  }
  const change: DeviceChange = {
    ...(there.privateKey?.equals(privateKey) === true ? {} : { privateKey }),
    ...(there.listenPort === listenPort ? {} : { listenPort }),
    ...(there.fwmark === 0 ? {} : { fwmark: 0 }),
    peers: changes,
  };
  return changes.length === 0 && Object.keys(change).length === 1 ? undefined : change;
}

/**
 * What makes a peer what it should be; undefined: it is. An endpoint of its own is left alone while the peer sends from there: behind an
 * address translation it is the only one that works, and WireGuard has it from a packet that proved who sent it.
 *
 * @param there undefined: there is none
 * @param now seconds since 1970
 */
export function peerChange(wanted: WireguardPeer, there: PeerState | undefined, now: number): PeerChange | undefined {
  const { publicKey, presharedKey, endpoint, keepalive, allowed } = wanted;
  if (there === undefined) {
    return {
      publicKey,
      action: 'add',
      ...(presharedKey === undefined ? {} : { presharedKey }),
      ...(endpoint === undefined ? {} : { endpoint }),
      keepalive,
      allowed,
    };
  }
  const isAlive = there.handshakeAt > 0 && Math.abs(now - there.handshakeAt) < SESSION_SECONDS;
  const isThere = sameEndpoint(endpoint, there.endpoint) || (isAlive && there.endpoint !== undefined);
  const change: PeerChange = {
    publicKey,
    action: 'update',
    ...(sameSecret(presharedKey, there.presharedKey) ? {} : { presharedKey: presharedKey ?? 'none' }),
    ...(endpoint === undefined || isThere ? {} : { endpoint }),
    ...(keepalive === there.keepalive ? {} : { keepalive }),
    ...(samePrefixes(allowed, there.allowed) ? {} : { allowed }),
  };
  return Object.keys(change).length === 2 ? undefined : change;
}

/** What a change does, without keys that are secret: `allowed IPs, keepalive`. */
export function describePeerChange({ action, presharedKey, endpoint, keepalive, allowed }: PeerChange): string {
  if (action === 'remove') return 'removed';
  if (action === 'add') return 'added';
  const parts = [
    ...(presharedKey === undefined ? [] : ['preshared key']),
    ...(endpoint === undefined ? [] : ['endpoint']),
    ...(keepalive === undefined ? [] : ['keepalive']),
    ...(allowed === undefined ? [] : ['allowed IPs']),
  ];
  return `${parts.join(', ')} set`;
}

function sameEndpoint(a: Endpoint | undefined, b: Endpoint | undefined): boolean {
  return a?.address === b?.address && a?.port === b?.port;
}

function sameSecret(a: SecretKey | undefined, b: SecretKey | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

function samePrefixes(a: readonly Prefix[], b: readonly Prefix[]): boolean {
  const texts = new Set(a.map(formatPrefix));
  return a.length === b.length && b.every((prefix) => texts.has(formatPrefix(prefix)));
}
