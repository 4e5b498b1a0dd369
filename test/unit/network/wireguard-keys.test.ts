/** Keys, and the file that flanneld and Sluice share. Which public key belongs to a private one is what wgctrl says, flannel's library. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { SluiceError } from '../../../src/errors.ts';
import { asPrivateKey, keyFile, publicKeyOf, readOrMakePrivateKey, readSecretKey, SecretKey } from '../../../src/network/wireguard/keys.ts';

const PRIVATE = 'QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=';
const PUBLIC = 'eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=';
/** Bits are set that say nothing. */
const LOOSE_PRIVATE = 'gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp8=';
const LOOSE_PUBLIC = 'ST6C/HRGSlkmiBdiPSBTxeuOLMSpiLT+4XnsawENUx0=';

function secret(text: string): SecretKey {
  return readSecretKey(text) ?? assert.fail(text);
}

const base64 = (key: SecretKey): string => Buffer.from(key.bytes()).toString('base64');

describe('a WireGuard key', () => {
  it('has the public key that wgctrl says', () => {
    assert.equal(publicKeyOf(secret(PRIVATE)), PUBLIC);
    assert.equal(publicKeyOf(secret(LOOSE_PRIVATE)), LOOSE_PUBLIC);
  });

  it('is as the kernel has it: without the bits that say nothing, and with the same public key', () => {
    const bytes = asPrivateKey(secret(LOOSE_PRIVATE)).bytes();
    // 0x80 and 0x9f before.
    assert.deepEqual([bytes[0], bytes[1], bytes[31]], [0x80, 0x81, 0x5f]);
    assert.equal(publicKeyOf(SecretKey.of(bytes)), LOOSE_PUBLIC);
    assert.equal(base64(asPrivateKey(secret(PRIVATE))), PRIVATE);
    const ones = asPrivateKey(SecretKey.of(new Uint8Array(32).fill(0xff))).bytes();
    assert.deepEqual([ones[0], ones[31]], [0xf8, 0x7f]);
  });

  it('prints as nothing, whatever prints it', () => {
    const key = secret(PRIVATE);
    const hex = Buffer.from(key.bytes()).toString('hex');
    for (const text of [inspect({ key }, { depth: 9, showHidden: true }), JSON.stringify({ key }), Object.keys(key).join()]) {
      assert.ok(!text.includes(PRIVATE) && !text.includes(hex) && !text.includes('64, 65'), text);
    }
  });

  it('cannot be changed by those who have its bytes', () => {
    const bytes = new Uint8Array(32).fill(1);
    const key = SecretKey.of(bytes);
    bytes.fill(2);
    key.bytes().fill(3);
    assert.ok(key.equals(SecretKey.of(new Uint8Array(32).fill(1))));
    assert.ok(!key.equals(SecretKey.of(bytes)));
    assert.throws(() => SecretKey.of(bytes.subarray(1)), RangeError);
  });

  it('is read from 32 bytes in base64 alone', () => {
    assert.equal(base64(secret(`${PRIVATE}\n`)), PRIVATE);
    for (const text of [
      '',
      'c2hvcnQ=',
      PRIVATE.slice(1),
      `${PRIVATE}A`,
      PRIVATE.replace('=', ''),
      PRIVATE.replace('Q', '-'),
      ` ${PRIVATE}`,
    ]) {
      assert.equal(readSecretKey(text), undefined, JSON.stringify(text));
    }
  });
});

describe('the key file', () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'wgkey-'));
    path = join(directory, 'flannel', 'wgkey');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const fails = (): SluiceError => {
    try {
      readOrMakePrivateKey(path);
    } catch (error) {
      assert.ok(error instanceof SluiceError, String(error));
      assert.equal(error.code, 'WIREGUARD_KEY');
      assert.ok(error.message.includes(path), error.message);
      return error;
    }
    return assert.fail('nothing was thrown');
  };

  it('is where flanneld has it, or where $WIREGUARD_KEY_FILE says', () => {
    assert.equal(keyFile({}), '/run/flannel/wgkey');
    assert.equal(keyFile({ WIREGUARD_KEY_FILE: '' }), '/run/flannel/wgkey');
    assert.equal(keyFile({ WIREGUARD_KEY_FILE: path }), path);
  });

  it('is made with a new key where it is missing, with its directory, for its owner alone, as flanneld writes it', () => {
    const key = readOrMakePrivateKey(path);
    const text = readFileSync(path, 'utf8');
    assert.equal(text, base64(key));
    assert.match(text, /^[A-Za-z0-9+/]{43}=$/);
    assert.equal(statSync(path).mode & 0o777, 0o400);
    assert.deepEqual(readdirSync(join(directory, 'flannel')), ['wgkey']);
    const bytes = key.bytes();
    assert.deepEqual([(bytes[0] ?? 0) & 7, (bytes[31] ?? 0) >> 6], [0, 1]);
  });

  it('gives the same key from then on, and another one on another node', () => {
    const key = readOrMakePrivateKey(path);
    assert.ok(readOrMakePrivateKey(path).equals(key));
    assert.ok(!readOrMakePrivateKey(join(directory, 'other')).equals(key));
  });

  it('is read as flanneld or a person wrote it', () => {
    mkdirSync(join(directory, 'flannel'));
    writeFileSync(path, PRIVATE);
    assert.equal(base64(readOrMakePrivateKey(path)), PRIVATE);
    writeFileSync(path, `${LOOSE_PRIVATE}\n`);
    const loose = readOrMakePrivateKey(path);
    assert.equal(publicKeyOf(loose), LOOSE_PUBLIC);
    // Else it would be another than the one the kernel has, and would be set again and again.
    assert.equal(loose.bytes()[31], 0x5f);
    assert.equal(readFileSync(path, 'utf8'), `${LOOSE_PRIVATE}\n`);
  });

  it('that holds no key is an error that does not show what it holds, and is left alone', () => {
    mkdirSync(join(directory, 'flannel'));
    for (const text of ['', PRIVATE.slice(4), `${PRIVATE} comment`]) {
      writeFileSync(path, text);
      const { message, hint } = fails();
      assert.match(message, /holds no key/);
      assert.match(hint ?? '', /^Remove it/);
      assert.ok(text === '' || !message.includes(text));
      assert.equal(readFileSync(path, 'utf8'), text);
    }
  });

  it('that cannot be read or written is an error', () => {
    writeFileSync(join(directory, 'flannel'), 'a file where the directory should be');
    assert.match(fails().message, /cannot be read: ENOTDIR/);
    rmSync(join(directory, 'flannel'));
    mkdirSync(path, { recursive: true });
    assert.match(fails().message, /cannot be read: EISDIR/);
    rmSync(path, { recursive: true });
    symlinkSync(join(directory, 'nowhere'), path);
    assert.match(fails().message, /cannot be written: EEXIST/);
    assert.deepEqual(readdirSync(join(directory, 'flannel')), ['wgkey']);
  });

  it('is made though a start before was killed while making it', () => {
    mkdirSync(join(directory, 'flannel'));
    writeFileSync(`${path}.new`, 'half a k', { mode: 0o400 });
    const key = readOrMakePrivateKey(path);
    assert.equal(readFileSync(path, 'utf8'), base64(key));
    assert.deepEqual(readdirSync(join(directory, 'flannel')), ['wgkey']);
  });
});
