/** `sh scripts/sandbox.sh node bench/udp-proxy/main.ts [--quick]`: the proxies of the udp backend alone. */
import { measureUdpProxy, QUICK_UDP_PROXY_PLAN, UDP_PROXY_PLAN, udpProxyReport, udpProxyTargets } from './udp-proxy.ts';

if (process.env['SLUICE_SANDBOX'] === undefined) {
  console.error('bench: run it in a sandbox: sh scripts/sandbox.sh node bench/udp-proxy/main.ts');
  process.exit(2);
}
const plan = process.argv.includes('--quick') ? QUICK_UDP_PROXY_PLAN : UDP_PROXY_PLAN;
const result = await measureUdpProxy(plan, (text) => console.error(text));
console.log(udpProxyReport(result));
for (const { what, wanted, measured, met } of udpProxyTargets(result))
  console.log(`${what}: ${measured}, wanted ${wanted}: ${met ? 'yes' : 'NO'}`);
