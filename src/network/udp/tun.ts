/** TUN devices: network devices whose packets a program reads and writes (Documentation/networking/tuntap.rst of the kernel). */
import { closeSync, constants, openSync } from 'node:fs';
import { SluiceError, systemErrorCode } from '../../errors.ts';
import { EBUSY, EINVAL, EPERM, errnoName, libc } from './libc.ts';

const DEVICE = '/dev/net/tun';

/** linux/if_tun.h, linux/if.h */
const TUNSETIFF = 0x4004_54ca;
const IFF_TUN = 0x0001;
/** Packets without a header of the device's own. */
const IFF_NO_PI = 0x1000;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

export interface Tun {
  /** Does not block. Closing it ends the device. */
  readonly fd: number;
  readonly name: string;
}

/**
 * Makes a TUN device in the network namespace of the calling thread, or takes one that is there and that nobody has open. It is down
 * and has no address.
 *
 * @param name of up to 15 bytes; with `%d` in it the kernel puts the first free number there
 * @throws SluiceError `TUN_UNAVAILABLE`
 */
export function openTun(name: string): Tun {
  const fd = openDevice(name);
  // struct ifreq { char name[16]; short flags; … }
  const request = new Uint8Array(IFREQ_BYTES);
  new TextEncoder().encodeInto(name, request.subarray(0, IFNAMSIZ - 1));
  new DataView(request.buffer).setInt16(IFNAMSIZ, IFF_TUN | IFF_NO_PI, true);
  if (libc().ioctl(fd, TUNSETIFF, request) < 0) {
    const errno = libc().errno();
    closeSync(fd);
    throw unavailable(name, errnoName(errno), TUNSETIFF_HINTS[errno]);
  }
  return { fd, name: new TextDecoder().decode(request.subarray(0, request.indexOf(0))) };
}

function openDevice(name: string): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    const code = systemErrorCode(cause) ?? String(cause);
    throw unavailable(name, `${DEVICE}: ${code}`, OPEN_HINTS[code], cause);
  }
}

function unavailable(name: string, fault: string, hint: string | undefined, cause?: unknown): SluiceError {
  return new SluiceError('TUN_UNAVAILABLE', `making the TUN device ${name}: ${fault}`, { hint, cause });
}

const NO_DEVICE = `Load the kernel module tun on the node (modprobe tun), and mount the node's ${DEVICE} into the container.`;
const FORBIDDEN = `The container has to be allowed the character device 10:200 (${DEVICE}); a privileged one is.`;

const OPEN_HINTS: Readonly<Record<string, string>> = {
  ENOENT: NO_DEVICE,
  ENODEV: NO_DEVICE,
  ENXIO: NO_DEVICE,
  EPERM: FORBIDDEN,
  EACCES: FORBIDDEN,
};

const TUNSETIFF_HINTS: Readonly<Record<number, string>> = {
  [EPERM]: 'CAP_NET_ADMIN is needed, in the network namespace of the node.',
  [EBUSY]: 'Another program has this device open: stop the other daemon (flanneld?) of this node.',
  [EINVAL]: 'A device of this name is there and is no TUN device, or the name is none that a device may have: look with `ip -d link`.',
};
