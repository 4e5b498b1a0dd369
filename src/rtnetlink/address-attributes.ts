/** IP addresses and hardware addresses, from the attributes of rtnetlink messages and for them. */
import { type Attribute, type Attributes, MalformedError, NetlinkError } from 'nftables-js';
import { type Address, addressFromBytes, type Family } from '../policy/address.ts';

/** linux/socket.h */
export const AF_INET = 2;
export const AF_INET6 = 10;

const HARDWARE_ADDRESS_BYTES = 6;
const HARDWARE_ADDRESS = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i;

/** Undefined: neither IPv4 nor IPv6. */
export function familyOfNumber(addressFamily: number): Family | undefined {
  return addressFamily === AF_INET ? 4 : addressFamily === AF_INET6 ? 6 : undefined;
}

export function numberOfFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** @param what for the error, as in `the gateway of a route`. @throws MalformedError unless it has the length of the family */
export function readIp(attribute: Pick<Attribute, 'data'>, family: Family, what: string): Address {
  const { data } = attribute;
  if (data.length !== (family === 4 ? 4 : 16)) throw new MalformedError(`${what} is an IPv${family} address of ${data.length} bytes`);
  return addressFromBytes(data);
}

/** Of two attributes, one for each family, the one that is there and not the unspecified address. @throws MalformedError */
export function readIpOfEither(attributes: Attributes, type4: number, type6: number | undefined, what: string): Address | undefined {
  const four = attributes.get(type4);
  const address4 = four === undefined ? undefined : readIp(four, 4, what);
  if (address4 !== undefined && address4 !== 0) return address4;
  const six = type6 === undefined ? undefined : attributes.get(type6);
  const address6 = six === undefined ? undefined : readIp(six, 6, what);
  return address6 === 0n ? undefined : address6;
}

/**
 * Lower-case hexadecimal with colons. Undefined where there is none: no bytes, or an IP address, which tunnels over IP have in its
 * place (4 or 16 bytes).
 */
export function readHardwareAddress(attribute: Attribute | undefined): string | undefined {
  if (attribute === undefined) return undefined;
  const { data } = attribute;
  return data.length === 0 || data.length === 4 || data.length === 16 ? undefined : hex(data);
}

/** As {@link readHardwareAddress}, of Ethernet. @param what for the error. @throws MalformedError unless there are 6 bytes */
export function readEthernetAddress(attribute: Attribute, what: string): string {
  if (attribute.data.length !== HARDWARE_ADDRESS_BYTES)
    throw new MalformedError(`${what} is a hardware address of ${attribute.data.length} bytes`);
  return hex(attribute.data);
}

/** The six bytes of `02:00:5e:10:00:ff`. @param doing for the error. @throws NetlinkError ERR_INVALID where it is no such address */
export function hardwareAddressBytes(text: string, doing: string): Uint8Array {
  if (!HARDWARE_ADDRESS.test(text)) {
    throw new NetlinkError('ERR_INVALID', `${doing}: ${JSON.stringify(text)} is no hardware address: six hexadecimal pairs with colons`);
  }
  return Uint8Array.from(text.split(':'), (pair) => Number.parseInt(pair, 16));
}

function hex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
