/**
 * WireGuard's keys: Curve25519, 32 bytes (RFC 7748). A node's own key is in a file that flanneld reads and writes too, so that its
 * peers know it again after a restart, whichever of the two comes up.
 *
 * What is secret is in a {@link SecretKey}, which prints as nothing: neither logs nor errors can show it by mistake.
 */
import { createPrivateKey, createPublicKey, randomBytes, timingSafeEqual } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SluiceError, systemErrorCode } from '../../errors.ts';

/** linux/wireguard.h */
export const KEY_BYTES = 32;
const KEY_FILE = '/run/flannel/wgkey';
/** For its owner alone, and not to be written again. */
const KEY_FILE_MODE = 0o400;
/** What PKCS #8 has before the 32 bytes of an X25519 key (RFC 8410 section 7). */
const PKCS8_HEADER = Buffer.from('302e020100300506032b656e04220420', 'hex');

export class SecretKey {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** @param bytes 32, which are copied */
  static of(bytes: Uint8Array): SecretKey {
    if (bytes.length !== KEY_BYTES) throw new RangeError(`a key of ${bytes.length} bytes`);
    return new SecretKey(bytes.slice());
  }

  bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  equals(other: SecretKey): boolean {
    return timingSafeEqual(this.#bytes, other.#bytes);
  }
}

/** Reads a key in base64; line breaks do not count, as for flanneld. Undefined where it is none. */
export function readSecretKey(text: string): SecretKey | undefined {
  const base64 = text.replaceAll(/[\r\n]/g, '');
  return /^[A-Za-z0-9+/]{43}=$/.test(base64) ? SecretKey.of(Buffer.from(base64, 'base64')) : undefined;
}

/** As the kernel has it: a few bits of a private key say nothing, and are always the same (RFC 7748 section 5). */
export function asPrivateKey(key: SecretKey): SecretKey {
  const bytes = key.bytes();
  bytes[0] = (bytes[0] ?? 0) & 0xf8;
  bytes[KEY_BYTES - 1] = ((bytes[KEY_BYTES - 1] ?? 0) & 0x7f) | 0x40;
  return SecretKey.of(bytes);
}

/** What peers know a private key by, in base64. */
export function publicKeyOf(privateKey: SecretKey): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEADER, privateKey.bytes()]), format: 'der', type: 'pkcs8' });
  const { x } = createPublicKey(key).export({ format: 'jwk' });
  return Buffer.from(x ?? '', 'base64url').toString('base64');
}

/** Where this node's key is: $WIREGUARD_KEY_FILE, as for flanneld. */
export function keyFile(environment: Readonly<Record<string, string | undefined>>): string {
  return environment['WIREGUARD_KEY_FILE'] || KEY_FILE;
}

/**
 * The private key in a file; one that is missing is made, with a new key in it.
 * @throws SluiceError `WIREGUARD_KEY` where the file cannot be read, holds no key, or cannot be written
 */
export function readOrMakePrivateKey(path: string): SecretKey {
  return readPrivateKey(path) ?? makePrivateKey(path);
}

function readPrivateKey(path: string): SecretKey | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
  } catch (cause) {
    if (systemErrorCode(cause) === 'ENOENT') return undefined;
    throw keyError(
      path,
      `it cannot be read: ${systemErrorCode(cause) ?? String(cause)}`,
      'Whoever runs this has to be able to read it.',
      cause,
    );
  }
  const key = readSecretKey(text);
  if (key !== undefined) return asPrivateKey(key);
  throw keyError(
    path,
    `it holds no key (${text.length} bytes, where 32 bytes in base64 are expected)`,
    'Remove it: a new key is made, and peers are told.',
  );
}

/** Complete or not at all, and never over one that is there. */
function makePrivateKey(path: string): SecretKey {
  const key = asPrivateKey(SecretKey.of(randomBytes(KEY_BYTES)));
  const fresh = `${path}.new`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(fresh, { force: true });
    try {
      writeFileSync(fresh, Buffer.from(key.bytes()).toString('base64'), { mode: KEY_FILE_MODE, flag: 'wx', flush: true });
      linkSync(fresh, path);
    } finally {
      rmSync(fresh, { force: true });
    }
    return key;
  } catch (cause) {
    const code = systemErrorCode(cause);
    // Somebody else, flanneld perhaps, was faster.
    const other = code === 'EEXIST' ? readPrivateKey(path) : undefined;
    if (other !== undefined) return other;
    const hint = 'Its directory has to be writable, and to outlive the container; or name another file with $WIREGUARD_KEY_FILE.';
    throw keyError(path, `it cannot be written: ${code ?? String(cause)}`, hint, cause);
  }
}

function keyError(path: string, fault: string, hint: string, cause?: unknown): SluiceError {
  return new SluiceError('WIREGUARD_KEY', `the WireGuard key of this node in ${path}: ${fault}`, { hint, cause });
}
