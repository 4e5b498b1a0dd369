/** What clients can do to the pages for probes and Prometheus: nothing that another notices. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { connectionBound, descriptorLimit } from '../../../src/observability/connections.ts';
import { HttpServer, type HttpServerOptions, text } from '../../../src/observability/http-server.ts';
import { eventually } from '../../kernel/support/eventually.ts';

describe('the pages of an agent', () => {
  const servers: HttpServer[] = [];
  const sockets: Socket[] = [];
  let asked = 0;

  beforeEach(() => {
    asked = 0;
  });
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const server of servers.splice(0)) server.close();
  });

  async function serve(bounds: NonNullable<HttpServerOptions['bounds']>, pages: HttpServerOptions['pages'] = {}): Promise<number> {
    const server = new HttpServer({
      address: { host: '127.0.0.1', port: 0 },
      pages: {
        '/healthz': () => {
          asked++;
          return text(200, 'ok\n');
        },
        ...pages,
      },
      onFault: (error) => assert.fail(String(error)),
      onError: (_path, error) => assert.fail(String(error)),
      bounds,
    });
    servers.push(server);
    await eventually(() => server.port !== undefined, 'it listens');
    assert.ok(server.port !== undefined);
    return server.port;
  }

  /** A connection, and what has come on it. */
  async function open(port: number, from = '127.0.0.1'): Promise<{ readonly socket: Socket; received: string; ended: boolean }> {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from });
    sockets.push(socket);
    const client = { socket, received: '', ended: false };
    socket.on('data', (chunk) => {
      client.received += String(chunk);
    });
    // That it is reset is one of the ways in which it may end.
    socket.on('error', () => {});
    socket.on('close', () => {
      client.ended = true;
    });
    await new Promise<void>((resolve) => {
      socket.once('connect', resolve);
      socket.once('close', () => resolve());
    });
    return client;
  }

  function probe(port: number, from = '127.0.0.1'): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const asking = httpRequest({ port, host: '127.0.0.1', localAddress: from, path: '/healthz', agent: false }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      });
      asking.on('error', reject);
      asking.end();
    });
  }

  it('answer a probe while a thousand connections are idle, of which few are kept', async () => {
    const port = await serve({ connections: 16 });
    const clients = await Promise.all(Array.from({ length: 1_000 }, () => open(port)));
    assert.equal(await probe(port), 200);
    await eventually(() => clients.filter(({ ended }) => !ended).length <= 16, 'the oldest have given way');
    assert.equal(await probe(port), 200);
  });

  it('take a place from the client that has the most, not from whoever came first', async () => {
    const port = await serve({ connections: 8 });
    const scraper = await open(port, '127.0.0.2');
    const many = await Promise.all(Array.from({ length: 200 }, () => open(port, '127.0.0.3')));
    await eventually(() => many.filter(({ ended }) => !ended).length <= 7, 'they have given way to each other');
    assert.equal(scraper.ended, false);
    scraper.socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => scraper.received.includes('200 OK'), 'it is answered');
  });

  it('keep a connection that is at work for one that is idle', async () => {
    let release: (() => void) | undefined;
    const port = await serve(
      { connections: 4 },
      { '/slow': () => new Promise((resolve) => (release = (): void => resolve(text(200, 'slow\n')))) },
    );
    const working = await open(port);
    working.socket.write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => release !== undefined, 'it is at work');
    const idle = await Promise.all(Array.from({ length: 50 }, () => open(port)));
    await eventually(() => idle.filter(({ ended }) => !ended).length <= 3, 'the idle have given way');
    release?.();
    await eventually(() => working.received.includes('slow\n'), 'it is answered');
  });

  it('end a connection on which many requests wait for their answers', async () => {
    const port = await serve({ pipelined: 8 });
    const client = await open(port);
    client.socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(10_000));
    await eventually(() => client.ended, 'it is ended');
    assert.ok(asked <= 16, `${asked} pages were made`);
    assert.equal(await probe(port), 200);
  });

  it('refuse a body, whether its length is said or not, and read none of it', async () => {
    const port = await serve({});
    for (const header of ['Content-Length: 1000000000', 'Transfer-Encoding: chunked', 'Content-Length: 5\r\nExpect: 100-continue']) {
      const client = await open(port);
      client.socket.write(`GET /healthz HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n`);
      await eventually(() => client.ended, header);
      assert.match(client.received, /^HTTP\/1.1 413 /, header);
    }
    assert.equal(asked, 0);
  });

  it('refuse headers that are too large', async () => {
    const port = await serve({ headerBytes: 2_048 });
    const client = await open(port);
    client.socket.write(`GET /healthz HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(4_096)}\r\n\r\n`);
    await eventually(() => client.ended, 'it is ended');
    assert.match(client.received, /^HTTP\/1.1 431 /);
    assert.equal(asked, 0);
    assert.equal(await probe(port), 200);
  });

  it('end who does not take an answer', async () => {
    const page = { status: 200, type: 'text/plain', body: 'x'.repeat(64 << 20) };
    let taker: Socket | undefined;
    const large: HttpServerOptions['pages'][string] = ({ socket }) => {
      taker = socket;
      return page;
    };
    const port = await serve({ answerMs: 50 }, { '/large': large });
    const client = await open(port);
    client.socket.pause();
    client.socket.write('GET /large HTTP/1.1\r\nHost: a\r\n\r\n');
    await eventually(() => taker?.destroyed === true, 'it is ended');
    assert.equal(await probe(port), 200);
  });

  it('end who says nothing, or half of a request', async () => {
    const port = await serve({ headersMs: 50, idleMs: 50 });
    const silent = await open(port);
    const half = await open(port);
    half.socket.write('GET /healthz HTTP/1.1\r\nHost');
    const asking = await open(port);
    asking.socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
    for (const client of [silent, half, asking]) await eventually(() => client.ended, 'it is ended');
    assert.match(asking.received, /^HTTP\/1.1 200 /);
  });

  it('leave descriptors for what the agent enforces with', () => {
    const limits = (soft: string) => (): string =>
      `Limit                     Soft Limit           Hard Limit           Units     \nMax open files            ${soft}                 524288               files     \n`;
    assert.equal(descriptorLimit(limits('64')), 64);
    assert.equal(descriptorLimit(limits('unlimited')), Number.POSITIVE_INFINITY);
    assert.ok(descriptorLimit() > 0);
    assert.deepEqual(
      [64, 256, 1_024, Number.POSITIVE_INFINITY].map((limit) => connectionBound(64, limit)),
      [4, 52, 64, 64],
    );
  });
});
