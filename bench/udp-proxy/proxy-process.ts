/**
 * A process that is nothing but the proxy of Sluice's udp backend, with the arguments of the program that flannel-proxy.ts builds:
 *
 *     TUN ADDRESS PORT TUN-ADDRESS MTU [SUBNET NEXT-HOP PORT]…
 *
 * It says `ready`, and carries packets until it is killed.
 */
import { type IPv4, parseAddress, parsePrefix } from '../../src/policy/address.ts';
import { UdpProxy } from '../../src/network/udp/proxy.ts';
import { openTun } from '../../src/network/udp/tun.ts';

const [tun = '', address = '', port = '', tunAddress = '', mtu = '', ...routes] = process.argv.slice(2);

function ipv4Of(text: string): IPv4 {
  const address = parseAddress(text);
  if (typeof address !== 'number') throw new Error(`${text} is no IPv4 address`);
  return address;
}

const proxy = UdpProxy.start({
  tunFd: openTun(tun).fd,
  address: ipv4Of(address),
  port: Number(port),
  tunAddress: ipv4Of(tunAddress),
  mtu: Number(mtu),
  onError: (error) => {
    console.error(error);
    process.exit(1);
  },
});
for (let at = 0; at + 2 < routes.length; at += 3) {
  const subnet = parsePrefix(routes[at] ?? '');
  if (subnet === undefined) throw new Error(`${routes[at]} is no prefix`);
  proxy.setRoute(subnet, { address: ipv4Of(routes[at + 1] ?? ''), port: Number(routes[at + 2]) });
}
process.stdout.write('ready\n');
process.on('SIGUSR2', () => console.error(JSON.stringify(proxy.counters())));
// The proxy does not keep the process alive.
setInterval(() => undefined, 2 ** 30);
