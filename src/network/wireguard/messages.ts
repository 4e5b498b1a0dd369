/**
 * What a WireGuard device is made of, and the messages that read and change it (linux/wireguard.h). The kernel tells a device in as many
 * messages as it takes, and a peer in several where its prefixes are many.
 */
import { type Attribute, MalformedError, type MessageWriter, readAttributes, required } from 'nftables-js';
import {
  type Address,
  addressBytes,
  addressFromBytes,
  type Family,
  familyOf,
  networkAddress,
  type Prefix,
  widthOf,
} from '../../policy/address.ts';
import { familyOfNumber, numberOfFamily, readIp } from '../../rtnetlink/address-attributes.ts';
import { readU16, writeU16 } from '../../rtnetlink/generic.ts';
import { KEY_BYTES, SecretKey } from './keys.ts';

/** The name of the generic netlink family. */
export const WIREGUARD = 'wireguard';
export const WG_CMD_GET_DEVICE = 0;
export const WG_CMD_SET_DEVICE = 1;

export interface Endpoint {
  readonly address: Address;
  /** UDP. */
  readonly port: number;
}

/** A peer as it should be. */
export interface WireguardPeer {
  /** In base64. */
  readonly publicKey: string;
  readonly presharedKey: SecretKey | undefined;
  /** Undefined: not known before it sends something itself. */
  readonly endpoint: Endpoint | undefined;
  /** How often something is sent though there is nothing to send, in seconds; 0: never. */
  readonly keepalive: number;
  /** What is routed to it, and what it may send from. A prefix belongs to one peer of a device. */
  readonly allowed: readonly Prefix[];
}

/** A peer as it is. */
export interface PeerState extends WireguardPeer {
  /** When it last proved who it is, in seconds since 1970; 0: never. */
  readonly handshakeAt: number;
}

export interface DeviceState {
  /** Undefined: it has none, and neither sends nor receives. */
  readonly privateKey: SecretKey | undefined;
  /** UDP; 0: the kernel chooses one when the device is set up. */
  readonly listenPort: number;
  /** The mark of the outer packets; 0: none. */
  readonly fwmark: number;
  /** By public key. */
  readonly peers: ReadonlyMap<string, PeerState>;
}

/** What to change of a device; what is left out stays. */
export interface DeviceChange {
  readonly privateKey?: SecretKey;
  readonly listenPort?: number;
  readonly fwmark?: number;
  /** Worked off in this order. */
  readonly peers: readonly PeerChange[];
}

export interface PeerChange {
  readonly publicKey: string;
  /** `add`: also where there is one; `update`: nothing happens where there is none. */
  readonly action: 'add' | 'update' | 'remove';
  readonly presharedKey?: SecretKey | 'none';
  readonly endpoint?: Endpoint;
  readonly keepalive?: number;
  /** In place of those it has; whoever has one of them loses it. */
  readonly allowed?: readonly Prefix[];
}

/** linux/wireguard.h: WGDEVICE_A_* */
const DEVICE = { ifname: 2, privateKey: 3, listenPort: 6, fwmark: 7, peers: 8 } as const;
/** WGPEER_A_* */
const PEER = { publicKey: 1, presharedKey: 2, flags: 3, endpoint: 4, keepalive: 5, lastHandshake: 6, allowedIps: 9 } as const;
/** WGPEER_F_* */
const PEER_FLAG = { removeMe: 1, replaceAllowedIps: 2, updateOnly: 4 } as const;
/** WGALLOWEDIP_A_* */
const ALLOWED = { family: 1, address: 2, length: 3 } as const;
/** struct sockaddr_in, struct sockaddr_in6 */
const SOCKADDR_BYTES: Readonly<Record<Family, number>> = { 4: 16, 6: 28 };
/**
 * So many go into one message: as long as a list of attributes can be (65,535 bytes) they could be some 300, of some 200 bytes. Here a
 * peer has one prefix of each family at most.
 */
const PEERS_PER_MESSAGE = 128;

// --- changing

/** A change as the messages it takes, to be sent one after the other. */
export function splitChange({ peers, ...device }: DeviceChange): DeviceChange[] {
  const parts: DeviceChange[] = [{ ...device, peers: peers.slice(0, PEERS_PER_MESSAGE) }];
  for (let at = PEERS_PER_MESSAGE; at < peers.length; at += PEERS_PER_MESSAGE)
    parts.push({ peers: peers.slice(at, at + PEERS_PER_MESSAGE) });
  return parts;
}

/** The attributes of WG_CMD_SET_DEVICE. */
export function writeChange(writer: MessageWriter, name: string, { privateKey, listenPort, fwmark, peers }: DeviceChange): void {
  writer.string(DEVICE.ifname, name);
  if (privateKey !== undefined) writer.data(DEVICE.privateKey, privateKey.bytes());
  if (listenPort !== undefined) writeU16(writer, DEVICE.listenPort, listenPort);
  if (fwmark !== undefined) writer.u32(DEVICE.fwmark, fwmark);
  if (peers.length > 0) writeList(writer, DEVICE.peers, peers, (peer) => writePeer(writer, peer));
}

function writePeer(writer: MessageWriter, { publicKey, action, presharedKey, endpoint, keepalive, allowed }: PeerChange): void {
  writer.data(PEER.publicKey, Buffer.from(publicKey, 'base64'));
  const flags =
    (action === 'remove' ? PEER_FLAG.removeMe : 0) |
    (allowed === undefined ? 0 : PEER_FLAG.replaceAllowedIps) |
    (action === 'update' ? PEER_FLAG.updateOnly : 0);
  if (flags !== 0) writer.u32(PEER.flags, flags);
  // Zeros stand for none.
  if (presharedKey !== undefined)
    writer.data(PEER.presharedKey, presharedKey === 'none' ? new Uint8Array(KEY_BYTES) : presharedKey.bytes());
  if (endpoint !== undefined) writer.data(PEER.endpoint, endpointBytes(endpoint));
  if (keepalive !== undefined) writeU16(writer, PEER.keepalive, keepalive);
  if (allowed !== undefined && allowed.length > 0) {
    writeList(writer, PEER.allowedIps, allowed, ({ address, length }) => {
      writeU16(writer, ALLOWED.family, numberOfFamily(familyOf(address)));
      writer.data(ALLOWED.address, addressBytes(address));
      writer.u8(ALLOWED.length, length);
    });
  }
}

/** A list: its elements have their numbers for types. */
function writeList<T>(writer: MessageWriter, type: number, elements: readonly T[], write: (element: T) => void): void {
  const list = writer.beginNested(type);
  for (const [index, element] of elements.entries()) {
    const start = writer.beginNested(index);
    write(element);
    writer.endNested(start);
  }
  writer.endNested(list);
}

/**
 * struct sockaddr_in { u16 family; be16 port; u8 address[4], zero[8]; },
 * struct sockaddr_in6 { u16 family; be16 port; be32 flowinfo; u8 address[16]; u32 scope; }
 */
function endpointBytes({ address, port }: Endpoint): Uint8Array {
  const family = familyOf(address);
  const bytes = new Uint8Array(SOCKADDR_BYTES[family]);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, numberOfFamily(family), true);
  view.setUint16(2, port);
  bytes.set(addressBytes(address), family === 4 ? 4 : 8);
  return bytes;
}

// --- reading

/** The attributes of WG_CMD_GET_DEVICE. */
export function writeQuestion(writer: MessageWriter, name: string): void {
  writer.string(DEVICE.ifname, name);
}

/** Puts the answers to WG_CMD_GET_DEVICE together. */
export class DeviceReader {
  #device: Omit<DeviceState, 'peers'> | undefined;
  readonly #peers = new Map<string, PeerState>();

  /** Takes one message, without its headers. @throws MalformedError */
  add(payload: Uint8Array): void {
    const attributes = readAttributes(payload);
    const privateKey = attributes.get(DEVICE.privateKey);
    // What is of the device itself is in the first message alone.
    this.#device ??= {
      privateKey: privateKey === undefined ? undefined : readKey(privateKey),
      listenPort: readU16(required(attributes, DEVICE.listenPort, 'the port of a WireGuard device').data),
      fwmark: required(attributes, DEVICE.fwmark, 'the mark of a WireGuard device').u32(),
    };
    for (const element of attributes.get(DEVICE.peers)?.list() ?? []) this.#addPeer(element);
  }

  #addPeer(element: Attribute): void {
    const peer = readPeer(element);
    const before = this.#peers.get(peer.publicKey);
    // What did not fit into the message before has the key and further prefixes alone.
    this.#peers.set(peer.publicKey, before === undefined ? peer : { ...before, allowed: [...before.allowed, ...peer.allowed] });
  }

  /** @throws MalformedError where there was no message */
  finish(): DeviceState {
    if (this.#device === undefined) throw new MalformedError('the kernel said nothing about a WireGuard device');
    return { ...this.#device, peers: this.#peers };
  }
}

function readPeer(element: Attribute): PeerState {
  const attributes = element.nested();
  const publicKey = required(attributes, PEER.publicKey, 'the key of a WireGuard peer').data;
  if (publicKey.length !== KEY_BYTES) throw new MalformedError(`the key of a WireGuard peer has ${publicKey.length} bytes`);
  const presharedKey = attributes.get(PEER.presharedKey);
  const endpoint = attributes.get(PEER.endpoint);
  const keepalive = attributes.get(PEER.keepalive);
  const handshake = attributes.get(PEER.lastHandshake);
  return {
    publicKey: Buffer.from(publicKey).toString('base64'),
    presharedKey: presharedKey === undefined ? undefined : readKey(presharedKey),
    endpoint: endpoint === undefined ? undefined : readEndpoint(endpoint.data),
    keepalive: keepalive === undefined ? 0 : readU16(keepalive.data),
    handshakeAt: handshake === undefined ? 0 : readSeconds(handshake.data),
    allowed: Array.from(attributes.get(PEER.allowedIps)?.list() ?? [], readAllowed),
  };
}

/** Undefined for zeros, which stand for none. @throws MalformedError */
function readKey({ data }: Attribute): SecretKey | undefined {
  if (data.length !== KEY_BYTES) throw new MalformedError(`a WireGuard key has ${data.length} bytes`);
  return data.every((byte) => byte === 0) ? undefined : SecretKey.of(data);
}

/** @throws MalformedError */
function readEndpoint(data: Uint8Array): Endpoint {
  const family = data.length < 4 ? undefined : familyOfNumber(readU16(data));
  if (family === undefined || data.length < SOCKADDR_BYTES[family])
    throw new MalformedError(`the endpoint of a WireGuard peer has ${data.length} bytes`);
  return {
    address: addressFromBytes(family === 4 ? data.subarray(4, 8) : data.subarray(8, 24)),
    port: new DataView(data.buffer, data.byteOffset).getUint16(2),
  };
}

/** struct __kernel_timespec { i64 seconds, nanoseconds; } @throws MalformedError */
function readSeconds(data: Uint8Array): number {
  if (data.length < 16) throw new MalformedError(`the time of a WireGuard handshake has ${data.length} bytes`);
  return Number(new DataView(data.buffer, data.byteOffset).getBigInt64(0, true));
}

/** @throws MalformedError */
function readAllowed(element: Attribute): Prefix {
  const attributes = element.nested();
  const family = familyOfNumber(readU16(required(attributes, ALLOWED.family, 'the family of an allowed prefix').data));
  if (family === undefined) throw new MalformedError('an allowed prefix is of no known family');
  const address = readIp(required(attributes, ALLOWED.address, 'the address of an allowed prefix'), family, 'an allowed prefix');
  const length = required(attributes, ALLOWED.length, 'the length of an allowed prefix').u8();
  if (length > widthOf(family)) throw new MalformedError(`an allowed IPv${family} prefix of ${length} bits`);
  return { address: networkAddress(address, length), length };
}
