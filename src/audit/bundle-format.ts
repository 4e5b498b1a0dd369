/**
 * What `sluice bundle` writes: one gzip'd JSON document with a cluster's objects, and of one node the kernel's table, the flags of its
 * bridges and what its agent said. A bundle is evidence from somebody else's machine: nothing in it is trusted.
 */
import { readFileSync, statSync } from 'node:fs';
import { promisify } from 'node:util';
import { gunzipSync, gzip } from 'node:zlib';
import * as z from 'zod';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { API_VERSION } from '../output/document.ts';

/** Compressed, and not. JSON of 100,000 pods is some 50 MB. */
const LARGEST_FILE = 64 << 20;
const LARGEST_TEXT = 256 << 20;

const Missing = z.object({
  what: z.string().describe('Objects that could not be read.'),
  reason: z.string(),
  consequence: z.string(),
});

export const BundleDocument = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Bundle'),
  createdAt: z.string().describe('When it was made, RFC 3339.'),
  version: z.string().describe('Of the sluice that made it.'),
  origin: z.string().nullable().describe('Where the objects are from; null where names are hashed.'),
  hashed: z.object({ names: z.boolean() }).describe('What was replaced by hashes.'),
  node: z.string().nullable().describe('The node that the kernel state is of; null: there is none.'),
  objects: z.array(z.record(z.string(), z.unknown())).describe('Kubernetes objects, the fields in use alone.'),
  missing: z.array(Missing),
  kernel: z
    .union([
      z
        .object({ table: z.unknown() })
        .describe('The table `inet sluice`; bytes are `{"$bytes": hex}`, 64-bit numbers `{"$bigint": text}`.'),
      z.object({ absent: z.literal(true) }).describe('There was no such table.'),
      z.object({ unread: z.string() }).describe('Why it was not read.'),
    ])
    .describe('The kernel of the node.'),
  bridges: z
    .array(z.object({ name: z.string(), filtering: z.object({ iptables: z.boolean(), ip6tables: z.boolean() }).nullable() }))
    .nullable()
    .describe('All bridges of the node, and whether packets on them are filtered; `filtering` is null without br_netfilter.'),
  status: z.record(z.string(), z.unknown()).nullable().describe('The status file of the agent.'),
});
export type BundleDocument = z.infer<typeof BundleDocument>;

/** @throws SluiceError `BUNDLE_TOO_LARGE` where nobody could read it back */
export async function packBundle(bundle: BundleDocument): Promise<Uint8Array> {
  const text = Buffer.from(JSON.stringify(bundle));
  const packed = await promisify(gzip)(text, { level: 9 });
  if (text.length > LARGEST_TEXT || packed.length > LARGEST_FILE) throw tooLarge('the bundle would be');
  return packed;
}

/** @throws SluiceError `BUNDLE_UNREADABLE`, `BUNDLE_TOO_LARGE`, `BUNDLE_FOREIGN`, `BUNDLE_NEWER`, `BUNDLE_INVALID` */
export function readBundle(file: string): BundleDocument {
  const what = `the bundle ${file}`;
  const text = unpack(readPacked(file, what), what);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw foreign(what, 'it holds no JSON', cause);
  }
  if (typeof value !== 'object' || value === null || !('kind' in value) || value.kind !== 'Bundle' || !('apiVersion' in value))
    throw foreign(what, 'its kind is not Bundle');
  const { apiVersion } = value;
  if (apiVersion !== API_VERSION && typeof apiVersion === 'string' && apiVersion.startsWith('sluice.dev/')) {
    throw new SluiceError('BUNDLE_NEWER', `${what} is of version ${apiVersion}, and this sluice reads ${API_VERSION}`, {
      hint: 'Use the sluice that made it, or a newer one.',
      exitStatus: 2,
    });
  }
  const { data, error } = BundleDocument.safeParse(value);
  if (data !== undefined) return data;
  throw new SluiceError('BUNDLE_INVALID', `${what} is damaged: ${z.prettifyError(error).replaceAll(/\s+/gu, ' ')}`, {
    hint: 'Make it again; nothing of it can be trusted.',
    exitStatus: 2,
  });
}

function readPacked(file: string, what: string): Buffer {
  try {
    if (statSync(file).size > LARGEST_FILE) throw tooLarge(`${what} is`);
    return readFileSync(file);
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('BUNDLE_UNREADABLE', `${what} cannot be read: ${systemErrorCode(cause) ?? String(cause)}`, {
      hint: 'Name a file that sluice bundle has written.',
      exitStatus: 2,
      cause,
    });
  }
}

/** Somebody may have unpacked it. */
function unpack(bytes: Buffer, what: string): string {
  if (bytes[0] === 0x7b) return bytes.toString();
  if (bytes.length === 0) throw foreign(what, 'it is empty');
  try {
    return gunzipSync(bytes, { maxOutputLength: LARGEST_TEXT }).toString();
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(`${what}, unpacked, is`);
    if (code === 'Z_BUF_ERROR') {
      throw new SluiceError('BUNDLE_UNREADABLE', `${what} is cut short`, {
        hint: 'Copy it again, or make it again.',
        exitStatus: 2,
        cause,
      });
    }
    throw foreign(what, 'it is not packed with gzip, or damaged', cause);
  }
}

function tooLarge(what: string): SluiceError {
  return new SluiceError('BUNDLE_TOO_LARGE', `${what} larger than ${LARGEST_FILE >> 20} MiB packed or ${LARGEST_TEXT >> 20} MiB unpacked`, {
    hint: 'Nothing that sluice bundle writes is.',
    exitStatus: 2,
  });
}

function foreign(what: string, why: string, cause?: unknown): SluiceError {
  return new SluiceError('BUNDLE_FOREIGN', `${what} was not made by sluice bundle: ${why}`, {
    hint: 'A directory of manifests is read with --source.',
    exitStatus: 2,
    ...(cause === undefined ? {} : { cause }),
  });
}
