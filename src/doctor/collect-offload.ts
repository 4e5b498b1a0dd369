/** Whether a device computes the checksums of what is sent, as `ethtool -k` says under tx-checksumming. */
import { addressOf } from '../network/udp/libc.ts';
import type { Reading } from './evidence.ts';
import { AF_INET, errnoName, libc, SOCK_CLOEXEC, SOCK_DGRAM } from './libc.ts';

/** linux/sockios.h, linux/ethtool.h, linux/if.h */
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GTXCSUM = 0x16;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

export function readChecksumOffload(device: string): Reading<boolean> {
  const c = libc();
  const fd = c.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return { blind: `asking ${device} for its features: ${errnoName(c.errno())}` };
  try {
    // struct ethtool_value { u32 cmd, data; }
    const value = new ArrayBuffer(8);
    const view = new DataView(value);
    view.setUint32(0, ETHTOOL_GTXCSUM, true);
    // struct ifreq { char name[16]; void *data; … }
    const request = new Uint8Array(IFREQ_BYTES);
    new TextEncoder().encodeInto(device, request.subarray(0, IFNAMSIZ - 1));
    new DataView(request.buffer).setBigUint64(IFNAMSIZ, BigInt(addressOf(value)), true);
    if (c.ioctl(fd, SIOCETHTOOL, request) < 0) return { blind: `asking ${device} for its features: ${errnoName(c.errno())}` };
    return { seen: view.getUint32(4, true) !== 0 };
  } finally {
    c.close(fd);
  }
}
