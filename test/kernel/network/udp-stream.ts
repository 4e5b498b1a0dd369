/** A TCP stream between two namespaces whose content is checked: processes of their own, since Node's sockets are of one namespace. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import { spawnIn } from '../../../src/lab/namespaces.ts';

/** Both write the SHA-256 of what they have sent or received. The content is that of a generator of pseudo-random numbers. */
const PROGRAMS = `
const { createHash } = require('node:crypto');
const net = require('node:net');
const hash = createHash('sha256');
const [role, address, port, bytes] = process.argv.slice(1);
if (role === 'server') {
  const server = net.createServer((socket) => {
    socket.on('data', (data) => hash.update(data));
    socket.on('end', () => { console.log(hash.digest('hex')); server.close(); socket.end(); });
  }).listen(port, address, () => console.log('listening'));
} else {
  let left = Number(bytes);
  let seed = 1;
  const socket = net.connect(port, address, () => write());
  socket.on('error', (error) => { console.log(error.message); process.exit(1); });
  function write() {
    while (left > 0) {
      const chunk = Buffer.alloc(Math.min(left, 65536));
      for (let at = 0; at + 4 <= chunk.length; at += 4) chunk.writeUInt32LE((seed = Math.imul(seed, 1664525) + 1013904223 >>> 0), at);
      left -= chunk.length;
      hash.update(chunk);
      if (!socket.write(chunk)) return void socket.once('drain', write);
    }
    socket.end();
    console.log(hash.digest('hex'));
  }
}`;

let nextPort = 20_000;

/** Sends so many bytes, and fails unless they arrive as they were. */
export async function streamThrough(from: string, to: string, address: string, bytes: number): Promise<void> {
  const port = String(nextPort++);
  const server = start(to, ['server', address, port]);
  await server.said('listening');
  const client = start(from, ['client', address, port, String(bytes)]);
  const [sent, received] = await Promise.all([client.end(), server.end()]);
  assert.match(sent, /^[0-9a-f]{64}\n$/);
  assert.equal(received, `listening\n${sent}`);
  assert.notEqual(sent.trim(), createHash('sha256').digest('hex'));
}

function start(netns: string, args: readonly string[]): { said(text: string): Promise<void>; end(): Promise<string> } {
  const child = spawnIn(netns, [process.execPath, '-e', PROGRAMS, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const { stdout } = child;
  assert.ok(stdout);
  let text = '';
  stdout.setEncoding('utf8').on('data', (data: string) => {
    text += data;
  });
  return {
    said: async (wanted) => {
      while (!text.includes(wanted)) await once(stdout, 'data');
    },
    end: async () => {
      await ended;
      return text;
    },
  };
}
