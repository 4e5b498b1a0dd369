/** The IPv4 and IPv6 addresses of the interfaces of a network namespace, as `ip address` has them. */
import {
  listen,
  MalformedError,
  type Message,
  type NetlinkError,
  type NetlinkSocket,
  NLM_F_DUMP,
  type Poller,
  readAttributes,
  required,
} from 'nftables-js';

export interface InterfaceAddress {
  readonly family: 4 | 6;
  /** The node's own end, 4 or 16 bytes in network order. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  /** The index of the link that has it. */
  readonly link: number;
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'nowhere' | 'other';
  /** IFA_F_*; {@link ADDRESS_FLAG}. */
  readonly flags: number;
}

/** linux/if_addr.h */
export const ADDRESS_FLAG = { secondary: 0x01, duplicate: 0x08, deprecated: 0x20, tentative: 0x40, permanent: 0x80 } as const;

export type AddressEvent =
  /** It is new, or its flags or lifetimes have changed. */
  | { readonly event: 'address' | 'gone'; readonly address: InterfaceAddress }
  /** Events were lost: list the addresses again. */
  | { readonly event: 'overrun'; readonly cause: NetlinkError };

/** linux/rtnetlink.h */
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;
const IFADDRMSG_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const AF_INET = 2;
const AF_INET6 = 10;
const SCOPES: ReadonlyMap<number, InterfaceAddress['scope']> = new Map([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
  [255, 'nowhere'],
]);

/** Reads an RTM_NEWADDR or RTM_DELADDR message. Undefined for another family. @throws MalformedError */
export function readAddress(payload: Uint8Array): InterfaceAddress | undefined {
  // struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index; }
  if (payload.length < IFADDRMSG_BYTES) throw new MalformedError(`a message about an address of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const addressFamily = view.getUint8(0);
  if (addressFamily !== AF_INET && addressFamily !== AF_INET6) return undefined;
  const family = addressFamily === AF_INET ? 4 : 6;
  const attributes = readAttributes(payload.subarray(IFADDRMSG_BYTES));
  // Of a point-to-point link IFA_ADDRESS is the other end; without IFA_LOCAL (IPv6 has it only there) it is this one.
  const address = (attributes.get(IFA_LOCAL) ?? required(attributes, IFA_ADDRESS, 'an address')).bytes();
  if (address.length !== (family === 4 ? 4 : 16)) throw new MalformedError(`an IPv${family} address of ${address.length} bytes`);
  return {
    family,
    address,
    prefixLength: view.getUint8(1),
    link: view.getUint32(4, true),
    scope: SCOPES.get(view.getUint8(3)) ?? 'other',
    // The header has room for the lower 8 only.
    flags: attributes.get(IFA_FLAGS)?.u32() ?? view.getUint8(2),
  };
}

/** All IPv4 and IPv6 addresses of the namespace that the socket belongs to. */
export function listAddresses(socket: NetlinkSocket): InterfaceAddress[] {
  let addresses: InterfaceAddress[] = [];
  socket.request(
    RTM_GETADDR,
    NLM_F_DUMP,
    (writer) => writer.raw(new Uint8Array(IFADDRMSG_BYTES)),
    (message) => {
      const address = message.type === RTM_NEWADDR ? readAddress(message.payload) : undefined;
      if (address !== undefined) addresses.push(address);
    },
    'listing addresses',
    () => {
      addresses = [];
    },
  );
  return addresses;
}

/** Reads one message of the groups RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR. @throws MalformedError */
export function readAddressEvent(message: Message): AddressEvent | undefined {
  if (message.type !== RTM_NEWADDR && message.type !== RTM_DELADDR) return undefined;
  const address = readAddress(message.payload);
  return address === undefined ? undefined : { event: message.type === RTM_NEWADDR ? 'address' : 'gone', address };
}

/**
 * Tells of every address that comes, changes or goes. To miss nothing, watch first and list then.
 *
 * @param socket an open rtnetlink socket, used for nothing else
 * @returns ends it; the socket stays open
 */
export function watchAddresses(poller: Poller, socket: NetlinkSocket, onEvent: (event: AddressEvent) => void): () => void {
  socket.join(RTNLGRP_IPV4_IFADDR);
  socket.join(RTNLGRP_IPV6_IFADDR);
  return listen(poller, socket, {
    message: (message) => {
      const event = readAddressEvent(message);
      if (event !== undefined) onEvent(event);
    },
    lost: (cause) => onEvent({ event: 'overrun', cause }),
  });
}
