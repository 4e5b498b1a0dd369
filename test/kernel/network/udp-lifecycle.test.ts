/** The device, the port and the thread of the udp backend: how they come about, what is said where they cannot, and how they end. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { SluiceError } from '../../../src/errors.ts';
import { UdpProxy } from '../../../src/network/udp/proxy.ts';
import { openTun } from '../../../src/network/udp/tun.ts';
import { v4 } from './udp-nodes.ts';

const NAME = 'udp-test';
const ADDRESS = '127.0.0.1';
const PORT = 8285;

function start(tunFd: number, port = PORT, address = ADDRESS): UdpProxy {
  return UdpProxy.start({
    tunFd,
    address: v4(address),
    port,
    tunAddress: v4('10.99.1.0'),
    mtu: 1400,
    onError: (error) => assert.fail(String(error)),
  });
}

function links(): { ifname: string; linkinfo?: { info_kind?: string; info_data?: { type?: string; pi?: boolean; persist?: boolean } } }[] {
  return JSON.parse(spawnSync('ip', ['-d', '-j', 'link']).stdout.toString());
}

const names = (): string[] => links().map(({ ifname }) => ifname);

/** UDP ports in use, as the kernel lists them. */
function portIsOpen(port: number): boolean {
  return spawnSync('cat', ['/proc/net/udp'])
    .stdout.toString()
    .includes(`:${port.toString(16).toUpperCase()} `);
}

function fails(action: () => unknown): SluiceError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof SluiceError, String(error));
    return error;
  }
  return assert.fail('nothing was thrown');
}

const MODULES = {
  tun: new URL('../../../src/network/udp/tun.ts', import.meta.url).href,
  proxy: new URL('../../../src/network/udp/proxy.ts', import.meta.url).href,
};

/** A program with `tun`, `proxy` and `start()`, which starts one on a device and port of its own. */
function program(text: string): string[] {
  return [
    '--input-type=module',
    '-e',
    `import { openTun } from '${MODULES.tun}';
     import { UdpProxy } from '${MODULES.proxy}';
     const start = () => UdpProxy.start({ tunFd: openTun('${NAME}').fd, address: 0x7f000001, port: ${PORT}, tunAddress: 1, mtu: 1400, onError: console.error });
     ${text}`,
  ];
}

/** What making a device fails with in a process that is started by `wrapper`. */
function failureUnder(...wrapper: string[]): string {
  const [command = '', ...args] = [
    ...wrapper,
    process.execPath,
    ...program(
      `try { openTun('${NAME}'); console.log('made'); } catch (error) { console.log(error.code, error.message, '|', error.hint); }`,
    ),
  ];
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return stdout || stderr;
}

describe('the udp backend’s device', () => {
  before(function () {
    onlyInSandbox(this);
  });

  it('is a TUN device without packet headers that ends with its descriptor', () => {
    const { fd, name } = openTun(NAME);
    assert.equal(name, NAME);
    const link = links().find(({ ifname }) => ifname === NAME);
    assert.equal(link?.linkinfo?.info_kind, 'tun');
    assert.deepEqual([link.linkinfo.info_data?.type, link.linkinfo.info_data?.pi, link.linkinfo.info_data?.persist], ['tun', false, false]);
    closeSync(fd);
    assert.ok(!names().includes(NAME));
  });

  it('has the first free number where the name leaves it to the kernel', () => {
    const tuns = [openTun('udp-t%d'), openTun('udp-t%d')];
    assert.deepEqual(
      tuns.map(({ name }) => name),
      ['udp-t0', 'udp-t1'],
    );
    for (const { fd } of tuns) closeSync(fd);
  });

  it('is not made while another program has it', () => {
    const { fd } = openTun(NAME);
    const error = fails(() => openTun(NAME));
    assert.equal(error.code, 'TUN_UNAVAILABLE');
    assert.match(error.message, /udp-test: EBUSY/);
    assert.match(error.hint ?? '', /other daemon/);
    closeSync(fd);
  });

  it('is not made of a device of another kind, nor with a name that none may have', () => {
    spawnSync('ip', ['link', 'add', NAME, 'type', 'bridge']);
    const error = fails(() => openTun(NAME));
    spawnSync('ip', ['link', 'del', NAME]);
    assert.match(error.message, /udp-test: EINVAL/);
    assert.match(error.hint ?? '', /no TUN device/);
    assert.equal(fails(() => openTun('a/b')).code, 'TUN_UNAVAILABLE');
  });

  it('needs /dev/net/tun, a capability, and permission for the file, and each is said', () => {
    const without = 'mount -t tmpfs none /dev && exec "$@"';
    assert.match(
      failureUnder('unshare', '-m', 'sh', '-c', without, 'sh'),
      /^TUN_UNAVAILABLE .*\/dev\/net\/tun: ENOENT \| .*modprobe tun.*mount/,
    );
    const capabilities = ['--inh-caps=-net_admin', '--bounding-set=-net_admin'];
    assert.match(failureUnder('setpriv', ...capabilities), /^TUN_UNAVAILABLE .*udp-test: EPERM \| .*CAP_NET_ADMIN/);
  });
});

describe('the udp backend’s proxy', () => {
  before(function () {
    onlyInSandbox(this);
  });

  it('frees port and device when it is closed, at once and however often', async () => {
    for (let time = 0; time < 3; time++) {
      const proxy = start(openTun(NAME).fd);
      assert.ok(names().includes(NAME) && portIsOpen(PORT));
      await proxy.close();
      assert.ok(!names().includes(NAME) && !portIsOpen(PORT));
      await proxy.close();
    }
  });

  it('is not started on a port that is taken, or an address that is not here, and leaves the device open', async () => {
    const first = start(openTun(NAME).fd);
    const { fd } = openTun('udp-test2');
    const taken = fails(() => start(fd));
    assert.equal(taken.code, 'UDP_SOCKET');
    assert.match(taken.message, /port 8285 at 127\.0\.0\.1: EADDRINUSE/);
    assert.match(taken.hint ?? '', /other daemon/);
    const foreign = fails(() => start(fd, PORT, '198.51.100.7'));
    assert.match(foreign.message, /EADDRNOTAVAIL/);
    assert.match(foreign.hint ?? '', /ip address/);
    const second = start(fd, PORT + 1);
    await Promise.all([first.close(), second.close()]);
  });

  it('carries IPv4 alone', async () => {
    const proxy = start(openTun(NAME).fd);
    const subnet = { address: 1n as never, length: 64 };
    assert.equal(fails(() => proxy.setRoute(subnet, { address: v4('192.0.2.1'), port: 1 })).code, 'UDP_ROUTE');
    await proxy.close();
  });

  it('keeps no process alive, and keeps none from ending', async () => {
    for (const [text, status] of [
      ['start();', 0],
      ['start(); process.exit(3);', 3],
      ['start(); setTimeout(() => process.exit(4), 200);', 4],
      ['const proxy = start(); setTimeout(() => proxy.close().then(() => process.exit(5)), 100);', 5],
      ['await start().close(); process.exit(6);', 6],
      ['start(); throw new Error("expected by the test");', 1],
    ] as const) {
      const child = spawn(process.execPath, program(text), { stdio: 'ignore' });
      const [code] = (await once(child, 'exit')) as [number | null];
      assert.equal(code, status, text);
      assert.ok(!names().includes(NAME));
    }
  });

  it('keeps none from ending while packets flood in', async () => {
    const text = `
      import { createSocket } from 'node:dgram';
      start();
      const socket = createSocket('udp4');
      const send = () => { for (let count = 0; count < 200; count++) socket.send(Buffer.alloc(64, 0x45), ${PORT}, '${ADDRESS}'); setImmediate(send); };
      send();
      setTimeout(() => process.exit(7), 500);`;
    const child = spawn(process.execPath, program(text), { stdio: 'ignore' });
    const [code] = (await once(child, 'exit')) as [number | null];
    assert.equal(code, 7);
  });
});
