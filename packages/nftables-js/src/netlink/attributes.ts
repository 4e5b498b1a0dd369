/**
 * Netlink messages and attributes (RFC 3549; linux/netlink.h). Headers are in host order, which is little-endian on every
 * architecture this package supports; nfnetlink's own integers are in network order.
 */
import { MalformedError, NetlinkError } from './errors.ts';

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Lengths on the wire are rounded up to multiples of four. */
export function aligned(length: number): number {
  return (length + 3) & ~3;
}

/** Writes messages with nested attributes into one growing buffer. Each message and attribute gets its length when it is ended. */
export class MessageWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** What has been written; valid until the next write. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(count: number): number {
    const at = this.#length;
    const need = at + count;
    if (need > this.#bytes.length) {
      // Transferred, so that what it outgrows is freed at once: batches come to megabytes.
      const grown = this.#bytes.buffer.transfer(Math.max(need, this.#bytes.length * 2));
      this.#bytes = new Uint8Array(grown);
      this.#view = new DataView(grown);
    }
    this.#length = need;
    return at;
  }

  /** Begins a message (struct nlmsghdr); returns its offset, for {@link endMessage}. */
  beginMessage(type: number, flags: number, sequence: number, port = 0): number {
    const at = this.#reserve(16);
    this.#view.setUint16(at + 4, type, true);
    this.#view.setUint16(at + 6, flags, true);
    this.#view.setUint32(at + 8, sequence, true);
    this.#view.setUint32(at + 12, port, true);
    return at;
  }

  endMessage(start: number): void {
    this.#view.setUint32(start, this.#length - start, true);
    this.#pad();
  }

  /** Adds flags to a message, ended or not. */
  addFlags(start: number, flags: number): void {
    this.#view.setUint16(start + 6, this.#view.getUint16(start + 6, true) | flags, true);
  }

  #pad(): void {
    const rest = aligned(this.#length) - this.#length;
    if (rest > 0) {
      const at = this.#reserve(rest);
      this.#bytes.fill(0, at, at + rest);
    }
  }

  /** Raw bytes without a header, padded: what follows a message header (struct nfgenmsg, ifinfomsg …). */
  raw(data: Uint8Array): void {
    const at = this.#reserve(data.length);
    this.#bytes.set(data, at);
    this.#pad();
  }

  /** Begins a nested attribute; returns its offset, for {@link endNested}. */
  beginNested(type: number): number {
    const at = this.#reserve(4);
    this.#view.setUint16(at + 2, type | NLA_F_NESTED, true);
    return at;
  }

  endNested(start: number): void {
    const length = this.#length - start;
    if (length > 0xffff) throw new RangeError(`a nested attribute of ${length} bytes does not fit into 65535`);
    this.#view.setUint16(start, length, true);
  }

  /** Leaves away everything from `start` on, as if it had never been written. */
  truncate(start: number): void {
    this.#length = start;
  }

  #header(type: number, length: number): number {
    const at = this.#reserve(4 + aligned(length));
    this.#view.setUint16(at, 4 + length, true);
    this.#view.setUint16(at + 2, type, true);
    return at + 4;
  }

  data(type: number, data: Uint8Array): void {
    const { length } = data;
    if (length > 0xffff - 4) throw new RangeError(`an attribute of ${length} bytes does not fit into 65535`);
    const at = this.#header(type, length);
    const end = at + aligned(length);
    if (length > 16) {
      this.#bytes.set(data, at);
      this.#bytes.fill(0, at + length, end);
      return;
    }
    // Addresses and ports: for so few bytes a loop is several times faster than a native copy. Behind the data it writes zeros.
    for (let offset = 0; at + offset < end; offset++) this.#bytes[at + offset] = offset < length ? (data[offset] ?? 0) : 0;
  }

  /** A string with its terminating zero. @throws NetlinkError ERR_INVALID where it holds a zero itself */
  string(type: number, text: string): void {
    if (text.includes('\0')) throw new NetlinkError('ERR_INVALID', `a string with a zero byte: ${JSON.stringify(text)}`);
    const bytes = encoder.encode(text);
    const at = this.#header(type, bytes.length + 1);
    this.#bytes.set(bytes, at);
    this.#bytes.fill(0, at + bytes.length, at + aligned(bytes.length + 1));
  }

  flag(type: number): void {
    this.#header(type, 0);
  }

  u8(type: number, value: number): void {
    const at = this.#header(type, 1);
    this.#view.setUint32(at, 0);
    this.#view.setUint8(at, value);
  }

  /** 16 bits in network order. */
  be16(type: number, value: number): void {
    const at = this.#header(type, 2);
    this.#view.setUint32(at, 0);
    this.#view.setUint16(at, value);
  }

  /** 32 bits in network order; negative numbers as two's complement. */
  be32(type: number, value: number): void {
    const at = this.#header(type, 4);
    this.#view.setUint32(at, value);
  }

  /** 64 bits in network order. */
  be64(type: number, value: bigint): void {
    const at = this.#header(type, 8);
    this.#view.setBigUint64(at, value);
  }

  /** 32 bits in host order, as rtnetlink has them. */
  u32(type: number, value: number): void {
    const at = this.#header(type, 4);
    this.#view.setUint32(at, value, true);
  }
}

/** A message as received: its header, and its payload after it. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly payload: Uint8Array;
}

/** The messages in one datagram. @throws MalformedError where a length leads out of the datagram. */
export function* readMessages(datagram: Uint8Array): Generator<Message> {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  let at = 0;
  while (at + 16 <= datagram.length) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > datagram.length)
      throw new MalformedError(`a netlink message of ${length} bytes at ${at} does not fit into ${datagram.length}`);
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      payload: datagram.subarray(at + 16, at + length),
    };
    at += aligned(length);
  }
}

/** One attribute of a message, with typed readers that check its length. */
export class Attribute {
  readonly type: number;
  readonly data: Uint8Array;

  constructor(type: number, data: Uint8Array) {
    this.type = type;
    this.data = data;
  }

  #view(length: number): DataView {
    if (this.data.length < length) throw new MalformedError(`attribute ${this.type} has ${this.data.length} bytes instead of ${length}`);
    return new DataView(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  u8(): number {
    return this.#view(1).getUint8(0);
  }

  be16(): number {
    return this.#view(2).getUint16(0);
  }

  be32(): number {
    return this.#view(4).getUint32(0);
  }

  be64(): bigint {
    return this.#view(8).getBigUint64(0);
  }

  /** Host order. */
  u32(): number {
    return this.#view(4).getUint32(0, true);
  }

  /** Up to the first zero byte. */
  string(): string {
    const end = this.data.indexOf(0);
    return decoder.decode(end < 0 ? this.data : this.data.subarray(0, end));
  }

  /** A copy, for values that outlive the receive buffer. */
  bytes(): Uint8Array {
    return this.data.slice();
  }

  nested(): Attributes {
    return readAttributes(this.data);
  }

  /** The attributes inside in their order, types repeated (lists). */
  list(): Generator<Attribute> {
    return eachAttribute(this.data);
  }
}

/** Attributes by type; of a repeated one the last. */
export type Attributes = ReadonlyMap<number, Attribute>;

/** @throws MalformedError where a length leads out of `data`. */
export function* eachAttribute(data: Uint8Array): Generator<Attribute> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  while (at + 4 <= data.length) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > data.length)
      throw new MalformedError(`an attribute of ${length} bytes at ${at} does not fit into ${data.length}`);
    yield new Attribute(view.getUint16(at + 2, true) & NLA_TYPE_MASK, data.subarray(at + 4, at + length));
    at += aligned(length);
  }
}

export function readAttributes(data: Uint8Array): Attributes {
  const attributes = new Map<number, Attribute>();
  for (const attribute of eachAttribute(data)) attributes.set(attribute.type, attribute);
  return attributes;
}

/** The attribute, which has to be there. @throws MalformedError */
export function required(attributes: Attributes, type: number, what: string): Attribute {
  const attribute = attributes.get(type);
  if (attribute === undefined) throw new MalformedError(`${what} (attribute ${type}) is missing`);
  return attribute;
}
