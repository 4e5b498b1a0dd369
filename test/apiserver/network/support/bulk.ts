/** A few megabytes over TCP between two network namespaces: what single packets do not show, such as segments that offloads have joined. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { AF_INET, AF_INET6, checked, libc, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET } from '../../../../src/lab/libc.ts';
import { inNamespace } from '../../../../src/lab/namespaces.ts';
import { socketAddress } from '../../../../src/lab/prober/sockets.ts';
import { type Address, familyOf, formatAddress } from '../../../../src/policy/address.ts';

const SO_SNDTIMEO = 21;
const CONNECT_S = 2n;
const STALLED_MS = 10_000;
const BYTES = 3_000_000;
/** Each transfer has one of its own: some go to the same address at the same time. */
let port = 5_000;

function open(netns: string, address: Address): number {
  const family = familyOf(address) === 4 ? AF_INET : AF_INET6;
  return checked(
    inNamespace(netns, () => libc().socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)),
    `making a socket in ${netns}`,
  );
}

/** Sends them and compares what arrived. @param to an address that `toNetns` has */
export async function transfer(fromNetns: string, toNetns: string, to: Address): Promise<void> {
  const sockaddr = socketAddress(to, ++port);
  const listening = open(toNetns, to);
  checked(libc().bind(listening, sockaddr, sockaddr.length), `binding in ${toNetns}`);
  checked(libc().listen(listening, 1), `listening in ${toNetns}`);
  const server = createServer().listen({ fd: listening });
  try {
    const connection = open(fromNetns, to);
    const timeout = new Uint8Array(new BigInt64Array([CONNECT_S, 0n]).buffer);
    checked(libc().setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length), 'limiting how long connecting takes');
    // The kernel of the other side accepts by itself; nothing else has to run meanwhile.
    checked(libc().connect(connection, sockaddr, sockaddr.length), `connecting from ${fromNetns} to ${formatAddress(to)}`);
    const arrived = (async () => {
      const [socket] = (await once(server, 'connection')) as [Socket];
      const hash = createHash('sha256');
      socket.setTimeout(STALLED_MS, () => socket.destroy(new Error(`from ${fromNetns} to ${toNetns}: nothing came for ${STALLED_MS} ms`)));
      for await (const chunk of socket) hash.update(chunk as Buffer);
      return hash.digest('hex');
    })();
    const content = randomBytes(BYTES);
    const client = new Socket({ fd: connection });
    client.on('error', () => undefined);
    client.end(content);
    assert.equal(await arrived, createHash('sha256').update(content).digest('hex'), `from ${fromNetns} to ${toNetns}`);
    client.destroy();
  } finally {
    server.close();
  }
}
