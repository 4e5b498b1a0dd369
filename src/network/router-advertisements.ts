/**
 * Router advertisements on devices that no router is behind. A node that accepts one from a pod or through the overlay sends its traffic
 * wherever the sender likes (CVE-2020-10749).
 */
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Has the device ignore them: `accept_ra` of the network namespace that this thread is in, set to 0.
 * @returns what is wrong where that cannot be done (/proc/sys is read-only in a container) and the device would accept one; undefined: nothing
 */
export function refuseAdvertisements(device: string, sysctlDirectory = '/proc/sys'): string | undefined {
  const conf = `${sysctlDirectory}/net/ipv6/conf`;
  const value = (path: string): string | undefined => {
    try {
      return readFileSync(`${conf}/${path}`, 'utf8').trim();
    } catch {
      // There is no IPv6.
      return undefined;
    }
  };
  const accepts = value(`${device}/accept_ra`);
  if (accepts === undefined || accepts === '0') return undefined;
  try {
    writeFileSync(`${conf}/${device}/accept_ra`, '0');
    return undefined;
  } catch {
    // Linux Documentation/networking/ip-sysctl.rst: 1 accepts while the device does not forward, 2 whatever it does.
    if (accepts === '1' && value(`${device}/forwarding`) === '1') return undefined;
    return `${device} accepts router advertisements, and /proc/sys cannot be written: sysctl -w net.ipv6.conf.default.accept_ra=0 on the node`;
  }
}
