/**
 * NFTA_*_USERDATA: bytes that the kernel keeps for its users without reading them. nft(8) puts type-length-value entries there
 * (libnftnl, udata.h), one byte each for type and length; comments are among them, so they show in `nft list`.
 */
import type { MessageWriter } from '../netlink/attributes.ts';
import { NetlinkError } from '../netlink/errors.ts';

/** NFTNL_UDATA_*_COMMENT of tables, chains, rules, elements and objects. Of sets it is another: see set.ts. */
export const COMMENT = 0;

/** nft(8) refuses longer ones (NFTNL_UDATA_COMMENT_MAXLEN), so it could not load what it listed. */
export const COMMENT_BYTES_MAX = 128;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export type UserdataEntry = readonly [type: number, value: Uint8Array];

/** @throws NetlinkError ERR_INVALID where it is too long, or holds a zero byte */
export function commentEntry(type: number, comment: string): UserdataEntry {
  const bytes = encoder.encode(`${comment}\0`);
  if (bytes.length > COMMENT_BYTES_MAX + 1)
    throw new NetlinkError('ERR_INVALID', `a comment of ${bytes.length - 1} bytes, at most ${COMMENT_BYTES_MAX} are possible: ${comment}`);
  if (bytes.indexOf(0) !== bytes.length - 1)
    throw new NetlinkError('ERR_INVALID', `a comment with a zero byte: ${JSON.stringify(comment)}`);
  return [type, bytes];
}

/** Nothing where there are no entries. */
export function writeUserdata(writer: MessageWriter, attribute: number, entries: readonly UserdataEntry[]): void {
  if (entries.length === 0) return;
  const parts = new Uint8Array(entries.reduce((length, [, value]) => length + 2 + value.length, 0));
  let at = 0;
  for (const [type, value] of entries) {
    parts[at] = type;
    parts[at + 1] = value.length;
    parts.set(value, at + 2);
    at += 2 + value.length;
  }
  writer.data(attribute, parts);
}

export function writeComment(writer: MessageWriter, attribute: number, comment: string | undefined): void {
  if (comment !== undefined) writeUserdata(writer, attribute, [commentEntry(COMMENT, comment)]);
}

/**
 * The entries by type. Anyone may put anything into userdata, so what has another form is no error: reading ends there.
 */
export function readUserdata(data: Uint8Array | undefined): ReadonlyMap<number, Uint8Array> {
  const entries = new Map<number, Uint8Array>();
  if (data === undefined) return entries;
  let at = 0;
  while (at + 2 <= data.length) {
    const end = at + 2 + (data[at + 1] ?? 0);
    if (end > data.length) break;
    entries.set(data[at] ?? 0, data.subarray(at + 2, end));
    at = end;
  }
  return entries;
}

function text(value: Uint8Array): string {
  const end = value.indexOf(0);
  return decoder.decode(end < 0 ? value : value.subarray(0, end));
}

/** `{ comment }`, or nothing to spread where there is none. */
export function readComment(data: Uint8Array | undefined, type = COMMENT): { readonly comment?: string } {
  const value = readUserdata(data).get(type);
  return value === undefined ? {} : { comment: text(value) };
}
