/**
 * Elements of sets and maps (enum nft_set_elem_attributes, nft_set_elem_list_attributes). Sets are large, so this is written for
 * 100,000 of them: nothing is allocated for an element that is written, and little for one that is read.
 */
import { type Attribute, type MessageWriter, readAttributes } from '../netlink/attributes.ts';
import { MalformedError, NetlinkError } from '../netlink/errors.ts';
import type { Element } from '../types.ts';
import { readValue, writeValue } from './expressions/value.ts';
import { attributesOf } from './message.ts';
import { readComment, writeComment } from './userdata.ts';
import { readVerdict, writeVerdict } from './verdict.ts';

const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_TIMEOUT = 4;
const NFTA_SET_ELEM_EXPIRATION = 5;
const NFTA_SET_ELEM_USERDATA = 6;
const NFTA_SET_ELEM_KEY_END = 10;
const NFT_SET_ELEM_INTERVAL_END = 0x1;
const NFT_SET_ELEM_CATCHALL = 0x2;
const NLA_TYPE_MASK = 0x3fff;

/** An attribute's length is a u16, and all elements of a message are inside one attribute. */
const LIST_BYTES_MAX = 0xffff;

/** Names the set; what comes before the list of elements, and all there is to list or flush them. */
export function writeElementsReference(writer: MessageWriter, table: string, set: string): void {
  writer.string(NFTA_SET_ELEM_LIST_TABLE, table);
  writer.string(NFTA_SET_ELEM_LIST_SET, set);
}

/**
 * Writes elements into as many messages as are needed; none where there are no elements. Each element is taken in before the next
 * is asked for, so a generator may yield one object again and again.
 *
 * @param beginMessage begins a message up to the reference of the set; returns what endMessage wants
 */
export function writeElements(
  writer: MessageWriter,
  elements: Iterable<Element>,
  beginMessage: () => number,
  endMessage: (start: number) => void,
): void {
  let message = -1;
  let list = -1;
  for (const element of elements) {
    if (message < 0) {
      message = beginMessage();
      list = writer.beginNested(NFTA_SET_ELEM_LIST_ELEMENTS);
    }
    const start = writer.length;
    writeElement(writer, element);
    if (writer.length - list <= LIST_BYTES_MAX) continue;
    writer.truncate(start);
    writer.endNested(list);
    endMessage(message);
    message = beginMessage();
    list = writer.beginNested(NFTA_SET_ELEM_LIST_ELEMENTS);
    writeElement(writer, element);
  }
  if (message < 0) return;
  writer.endNested(list);
  endMessage(message);
}

function writeElement(writer: MessageWriter, element: Element): void {
  const { key, keyEnd, data, timeoutMs } = element;
  const start = writer.beginNested(NFTA_LIST_ELEM);
  const flags = (element.intervalEnd === true ? NFT_SET_ELEM_INTERVAL_END : 0) | (key.length === 0 ? NFT_SET_ELEM_CATCHALL : 0);
  if (flags !== 0) writer.be32(NFTA_SET_ELEM_FLAGS, flags);
  if (timeoutMs !== undefined) writer.be64(NFTA_SET_ELEM_TIMEOUT, timeoutMs);
  if (key.length > 0) writeValue(writer, NFTA_SET_ELEM_KEY, key);
  if (keyEnd !== undefined) writeValue(writer, NFTA_SET_ELEM_KEY_END, keyEnd);
  if (data instanceof Uint8Array) writeValue(writer, NFTA_SET_ELEM_DATA, data);
  else if (data !== undefined) {
    const nest = writer.beginNested(NFTA_SET_ELEM_DATA);
    writeVerdict(writer, data);
    writer.endNested(nest);
  }
  writeComment(writer, NFTA_SET_ELEM_USERDATA, element.comment);
  writer.endNested(start);
}

/** The elements in a message of a listing. @throws MalformedError */
export function* readElements(payload: Uint8Array): Generator<Element> {
  const list = readAttributes(attributesOf(payload)).get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list === undefined) return;
  for (const element of list.list()) yield readElement(element);
}

function readElement(element: Attribute): Element {
  let key: Uint8Array | undefined;
  const rest: { -readonly [Property in keyof Element]?: Element[Property] } = {};
  let flags = 0;
  for (const attribute of element.list()) {
    switch (attribute.type) {
      case NFTA_SET_ELEM_KEY:
        key = readValue(attribute);
        break;
      case NFTA_SET_ELEM_KEY_END:
        rest.keyEnd = readValue(attribute);
        break;
      case NFTA_SET_ELEM_DATA:
        rest.data = readVerdict(attribute.nested()) ?? readValue(attribute);
        break;
      case NFTA_SET_ELEM_FLAGS:
        flags = attribute.be32();
        break;
      case NFTA_SET_ELEM_TIMEOUT:
        rest.timeoutMs = attribute.be64();
        break;
      case NFTA_SET_ELEM_EXPIRATION:
        rest.expirationMs = attribute.be64();
        break;
      case NFTA_SET_ELEM_USERDATA:
        Object.assign(rest, readComment(attribute.data));
        break;
      default:
    }
  }
  if ((flags & NFT_SET_ELEM_CATCHALL) !== 0) key = new Uint8Array();
  if ((flags & NFT_SET_ELEM_INTERVAL_END) !== 0) rest.intervalEnd = true;
  if (key === undefined) throw new MalformedError('the key of an element is missing');
  return { key, ...rest };
}

/**
 * Calls `each` with the place of each key in the payload of a listing. Nothing is allocated for it.
 * @throws MalformedError
 */
function eachKey(payload: Uint8Array, each: (view: DataView, start: number, length: number, intervalEnd: boolean) => void): void {
  const list = readAttributes(attributesOf(payload)).get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list === undefined) return;
  const { data } = list;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let element = 0; element + 4 <= data.length; ) {
    const elementEnd = attributeEnd(view, element, data.length);
    let key = -1;
    let intervalEnd = false;
    for (let at = element + 4; at + 4 <= elementEnd; ) {
      const end = attributeEnd(view, at, elementEnd);
      const type = view.getUint16(at + 2, true) & NLA_TYPE_MASK;
      // It holds NFTA_DATA_VALUE alone.
      if (type === NFTA_SET_ELEM_KEY && at + 8 <= end) key = at + 4;
      else if (type === NFTA_SET_ELEM_FLAGS && at + 8 <= end) intervalEnd = (view.getUint32(at + 4) & NFT_SET_ELEM_INTERVAL_END) !== 0;
      at = (end + 3) & ~3;
    }
    if (key >= 0) each(view, key + 4, attributeEnd(view, key, elementEnd) - key - 4, intervalEnd);
    element = (elementEnd + 3) & ~3;
  }
}

function attributeEnd(view: DataView, at: number, limit: number): number {
  const length = view.getUint16(at, true);
  if (length < 4 || at + length > limit) throw new MalformedError(`an attribute of ${length} bytes at ${at} does not fit into ${limit}`);
  return at + length;
}

/**
 * Copies the keys in a message of a listing one behind the other into `target` from `at` on; returns where it stopped.
 * @param target takes at least as many bytes as `payload` has
 * @throws MalformedError also where a key has not `keyBytes` bytes
 */
export function copyKeys(payload: Uint8Array, keyBytes: number, target: Uint8Array, at: number): number {
  let end = at;
  eachKey(payload, (view, start, length) => {
    if (length !== keyBytes) throw new MalformedError(`a key of ${length} bytes in a set with keys of ${keyBytes}`);
    for (let offset = 0; offset < length; offset++) target[end++] = view.getUint8(start + offset);
  });
  return end;
}

/**
 * Whether a listing has an element twice. The kernel lists a hash set in parts and finds its way back by counting, so while the set
 * grows or shrinks, which goes on for some time behind a large commit, some elements come twice and as many not at all; it does not
 * tell (no NLM_F_DUMP_INTR; Linux 6.18). It never lists fewer than there are: a listing without repetition is complete.
 *
 * @throws MalformedError
 */
export function repeatsElements(payloads: readonly Uint8Array[]): boolean {
  // What came in one part was not interrupted.
  if (payloads.length < 2) return false;
  const seen = new Set<number | string>();
  let count = 0;
  for (const payload of payloads) {
    eachKey(payload, (view, start, length, intervalEnd) => {
      // Where one range ends another may begin.
      if (intervalEnd) return;
      count++;
      seen.add(length === 4 ? view.getUint32(start) : Buffer.from(view.buffer, view.byteOffset + start, length).toString('latin1'));
    });
  }
  return seen.size < count;
}

/**
 * The elements of a range, both ends inclusive, in a set of the flag `interval` and one type: nft(8) and the kernel write it as the
 * first value and the first behind it. A range up to the last value there is has no end.
 *
 * @throws NetlinkError ERR_INVALID unless `first` and `last` are of one length and in order
 */
export function rangeElements(first: Uint8Array, last: Uint8Array): readonly Element[] {
  if (first.length !== last.length || Buffer.compare(first, last) > 0)
    throw new NetlinkError('ERR_INVALID', `a range from ${Buffer.from(first).toString('hex')} to ${Buffer.from(last).toString('hex')}`);
  const behind = last.slice();
  let at = behind.length - 1;
  while (at >= 0 && behind[at] === 0xff) behind[at--] = 0;
  if (at < 0) return [{ key: first }];
  behind[at] = (behind[at] ?? 0) + 1;
  return [{ key: first }, { key: behind, intervalEnd: true }];
}
