/** The benchmark of the udp backend works. What it measures here means nothing, so nothing is said of how much it is. */
import assert from 'node:assert/strict';
import { measureUdpProxy, QUICK_UDP_PROXY_PLAN, udpProxyReport, udpProxyTargets } from '../../bench/udp-proxy/udp-proxy.ts';
import { onlyInSandbox } from '../../packages/nftables-js/test/eventually.ts';

describe('the benchmark of the udp backend', function () {
  this.timeout(60_000);

  before(function () {
    onlyInSandbox(this);
  });

  it('gets streams and requests through every proxy, and says what it left out', async () => {
    const result = await measureUdpProxy({ ...QUICK_UDP_PROXY_PLAN, rounds: 1 }, () => undefined);
    const { variants, missing } = result;
    assert.equal(variants.length, missing.length > 0 ? 1 : 3);
    for (const { name, bulk, requests } of variants) {
      for (const { perSecond, cpuUs } of [bulk, requests]) assert.ok(perSecond.median > 0 && cpuUs.median > 0, name);
    }
    assert.match(udpProxyReport(result), /Sluice/);
    assert.equal(udpProxyTargets(result).length, missing.length > 0 ? 0 : 2);
  });

  it('says whether half of flannel’s is reached', () => {
    const same = { median: 1, low: 1, high: 1 };
    const figures = (ratio: number) => ({ perSecond: same, ratio: { ...same, median: ratio }, cpuUs: same });
    const result = { variants: [{ name: 'Sluice', bulk: figures(0.5), requests: figures(0.49) }], missing: [] };
    assert.deepEqual(
      udpProxyTargets(result).map(({ met }) => met),
      [true, false],
    );
  });
});
