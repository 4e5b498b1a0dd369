/** The IPv4 and IPv6 addresses of the interfaces of a network namespace, as `ip address` has them. */
import {
  MalformedError,
  type Message,
  type MessageWriter,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type Poller,
  readAttributes,
  required,
} from 'nftables-js';
import { type Address, addressBytes, type Family, familyOf, formatAddress, networkAddress, prefixRange } from '../policy/address.ts';
import { familyOfNumber, numberOfFamily, readIp } from './address-attributes.ts';
import { listTable, type Overrun, watchGroups } from './list-and-watch.ts';

export interface InterfaceAddress {
  readonly family: Family;
  /** The node's own end. */
  readonly address: Address;
  readonly prefixLength: number;
  /** The index of the link that has it. */
  readonly link: number;
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'nowhere' | 'other';
  /** IFA_F_*; {@link ADDRESS_FLAG}. */
  readonly flags: number;
}

export interface NewAddress {
  /** The index of the link that gets it. */
  readonly link: number;
  readonly address: Address;
  readonly prefixLength: number;
  /** `global` unless given. IPv6 knows it from the address. */
  readonly scope?: 'global' | 'link' | 'host';
  /** IPv6: it can be used at once, without asking the others on the link whether they have it. */
  readonly noDuplicateDetection?: boolean;
}

/** linux/if_addr.h */
export const ADDRESS_FLAG = {
  secondary: 0x01,
  noDuplicateDetection: 0x02,
  duplicate: 0x08,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
} as const;

export type AddressEvent =
  /** It is new, or its flags or lifetimes have changed. */
  { readonly event: 'address' | 'gone'; readonly address: InterfaceAddress } | Overrun;

/** linux/rtnetlink.h */
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV6_IFADDR = 9;
const IFADDRMSG_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const IFA_FLAGS = 8;
const SCOPES: ReadonlyMap<number, InterfaceAddress['scope']> = new Map([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
  [255, 'nowhere'],
]);
const SCOPE_NUMBERS = { global: 0, link: 253, host: 254 } as const;

/** Reads an RTM_NEWADDR or RTM_DELADDR message. Undefined for another family. @throws MalformedError */
export function readAddress(payload: Uint8Array): InterfaceAddress | undefined {
  // struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index; }
  if (payload.length < IFADDRMSG_BYTES) throw new MalformedError(`a message about an address of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const family = familyOfNumber(view.getUint8(0));
  if (family === undefined) return undefined;
  const attributes = readAttributes(payload.subarray(IFADDRMSG_BYTES));
  // Of a point-to-point link IFA_ADDRESS is the other end; without IFA_LOCAL (IPv6 has it only there) it is this one.
  const attribute = attributes.get(IFA_LOCAL) ?? required(attributes, IFA_ADDRESS, 'an address');
  return {
    family,
    address: readIp(attribute, family, 'the address of a link'),
    prefixLength: view.getUint8(1),
    link: view.getUint32(4, true),
    scope: SCOPES.get(view.getUint8(3)) ?? 'other',
    // The header has room for the lower 8 only.
    flags: attributes.get(IFA_FLAGS)?.u32() ?? view.getUint8(2),
  };
}

/** All IPv4 and IPv6 addresses of the namespace that the socket belongs to. */
export function listAddresses(socket: NetlinkSocket): InterfaceAddress[] {
  return listTable(socket, RTM_GETADDR, (writer) => writer.raw(new Uint8Array(IFADDRMSG_BYTES)), readAddress, 'listing addresses');
}

/**
 * Gives a link an address. With it the kernel makes the routes that follow from it, once the link is up. An IPv4 prefix of up to 30
 * bits gets its last address as broadcast address.
 * @throws KernelError EEXIST where the link has it with this prefix length; ENODEV where the link is gone; EACCES for IPv6 on a link
 *   where it is switched off; EPERM without CAP_NET_ADMIN
 */
export function addAddress(socket: NetlinkSocket, address: NewAddress): void {
  socket.request(
    RTM_NEWADDR,
    NLM_F_CREATE | NLM_F_EXCL,
    (writer) => {
      writeAddress(writer, address);
      const { address: own, prefixLength } = address;
      // RFC 3021: in a block of 31 bits both addresses are hosts.
      if (familyOf(own) === 6 || prefixLength > 30) return;
      const { last } = prefixRange({ address: networkAddress(own, prefixLength), length: prefixLength });
      writer.data(IFA_BROADCAST, addressBytes(last));
    },
    () => {},
    `adding address ${describe(address)}`,
  );
}

/**
 * Takes an address from a link. The kernel drops the routes that have it as source.
 * @throws KernelError EADDRNOTAVAIL where the link does not have it with this prefix length; ENODEV where the link is gone
 */
export function deleteAddress(socket: NetlinkSocket, address: Pick<InterfaceAddress, 'link' | 'address' | 'prefixLength'>): void {
  socket.request(
    RTM_DELADDR,
    0,
    (writer) => writeAddress(writer, address),
    () => {},
    `deleting address ${describe(address)}`,
  );
}

function writeAddress(
  writer: MessageWriter,
  { link, address, prefixLength, scope = 'global', noDuplicateDetection = false }: NewAddress,
): void {
  const header = new Uint8Array(IFADDRMSG_BYTES);
  const flags = noDuplicateDetection ? ADDRESS_FLAG.noDuplicateDetection : 0;
  header.set([numberOfFamily(familyOf(address)), prefixLength, flags, SCOPE_NUMBERS[scope]]);
  new DataView(header.buffer).setUint32(4, link, true);
  writer.raw(header);
  const bytes = addressBytes(address);
  writer.data(IFA_LOCAL, bytes);
  writer.data(IFA_ADDRESS, bytes);
}

function describe({ link, address, prefixLength }: NewAddress): string {
  return `${formatAddress(address)}/${prefixLength} of link ${link}`;
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
  return watchGroups<AddressEvent>(poller, socket, [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR], readAddressEvent, onEvent);
}
