/** A packet logged to an NFLOG group, as read from its message (linux/netfilter/nfnetlink_log.h). */
import { type Attribute, readAttributes } from '../netlink/attributes.ts';
import { MalformedError } from '../netlink/errors.ts';

export interface LoggedPacket {
  /** The table's family as the packet was seen: NFPROTO_* (2 IPv4, 7 bridge, 10 IPv6 …). */
  readonly protocolFamily: number;
  /** The EtherType; 0 where the kernel does not say. */
  readonly etherType: number;
  /** As in `log prefix`; empty without one. */
  readonly prefix: string;
  /** Where it was logged; `unknown` for a number that this version has no word for. */
  readonly hook: LogHook;
  readonly mark: number;
  /** Interface indexes; undefined where there is none at this hook. */
  readonly indev: number | undefined;
  readonly outdev: number | undefined;
  /** Ports of the bridge, for packets that are bridged. */
  readonly physindev: number | undefined;
  readonly physoutdev: number | undefined;
  /** The link-layer address of the sender; undefined where the packet was made here. */
  readonly hwaddr: Uint8Array | undefined;
  /** Microseconds since 1970; undefined for packets made here. */
  readonly timestampUs: number | undefined;
  /** The packet from its network header on (family bridge: likewise), as far as it was copied. */
  readonly payload: Uint8Array;
  /** The number of the message in its group; a gap is a loss. */
  readonly sequence: number | undefined;
}

export type LogHook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress' | 'unknown';

const NFULA_PACKET_HDR = 1;
const NFULA_MARK = 2;
const NFULA_TIMESTAMP = 3;
const NFULA_IFINDEX_INDEV = 4;
const NFULA_IFINDEX_OUTDEV = 5;
const NFULA_IFINDEX_PHYSINDEV = 6;
const NFULA_IFINDEX_PHYSOUTDEV = 7;
const NFULA_HWADDR = 8;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NFULA_SEQ = 12;

const NFPROTO_ARP = 3;
const NFPROTO_NETDEV = 5;
const INET_HOOKS: readonly LogHook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress'];
const ARP_HOOKS: readonly LogHook[] = ['input', 'output', 'forward'];
const NETDEV_HOOKS: readonly LogHook[] = ['ingress', 'egress'];
const NFGENMSG_BYTES = 4;

function hookName(family: number, hook: number): LogHook {
  const hooks = family === NFPROTO_ARP ? ARP_HOOKS : family === NFPROTO_NETDEV ? NETDEV_HOOKS : INET_HOOKS;
  return hooks[hook] ?? 'unknown';
}

/** The payload of an NFULNL_MSG_PACKET message; a copy. @throws MalformedError */
export function readLoggedPacket(message: Uint8Array): LoggedPacket {
  const protocolFamily = message[0];
  if (protocolFamily === undefined || message.length < NFGENMSG_BYTES)
    throw new MalformedError(`a message of the netfilter log of ${message.length} bytes`);
  const attributes = readAttributes(message.subarray(NFGENMSG_BYTES));
  const header = attributes.get(NFULA_PACKET_HDR)?.data;
  if (header === undefined || header.length < 4) throw new MalformedError('a logged packet without its header');
  const headerView = new DataView(header.buffer, header.byteOffset, header.byteLength);
  return {
    protocolFamily,
    etherType: headerView.getUint16(0),
    hook: hookName(protocolFamily, headerView.getUint8(2)),
    prefix: attributes.get(NFULA_PREFIX)?.string() ?? '',
    mark: attributes.get(NFULA_MARK)?.be32() ?? 0,
    indev: attributes.get(NFULA_IFINDEX_INDEV)?.be32(),
    outdev: attributes.get(NFULA_IFINDEX_OUTDEV)?.be32(),
    physindev: attributes.get(NFULA_IFINDEX_PHYSINDEV)?.be32(),
    physoutdev: attributes.get(NFULA_IFINDEX_PHYSOUTDEV)?.be32(),
    hwaddr: readHardwareAddress(attributes.get(NFULA_HWADDR)),
    timestampUs: readTimestamp(attributes.get(NFULA_TIMESTAMP)),
    payload: attributes.get(NFULA_PAYLOAD)?.bytes() ?? new Uint8Array(0),
    sequence: attributes.get(NFULA_SEQ)?.be32(),
  };
}

/** struct nfulnl_msg_packet_hw { __be16 hw_addrlen; __u16 _pad; __u8 hw_addr[8]; } */
function readHardwareAddress(attribute: Attribute | undefined): Uint8Array | undefined {
  if (attribute === undefined) return undefined;
  const length = attribute.be16();
  if (attribute.data.length < 4 + length) throw new MalformedError(`a link-layer address of ${length} bytes`);
  return attribute.data.slice(4, 4 + length);
}

/** struct nfulnl_msg_packet_timestamp { __aligned_be64 sec; __aligned_be64 usec; } */
function readTimestamp(attribute: Attribute | undefined): number | undefined {
  if (attribute === undefined) return undefined;
  if (attribute.data.length < 16) throw new MalformedError(`a timestamp of ${attribute.data.length} bytes`);
  const view = new DataView(attribute.data.buffer, attribute.data.byteOffset, 16);
  return Number(view.getBigUint64(0)) * 1_000_000 + Number(view.getBigUint64(8));
}
