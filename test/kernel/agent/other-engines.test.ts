import assert from 'node:assert/strict';
import { AgentLab } from '../support/agent-lab.ts';

const KUBE_ROUTER = `table ip filter {
  chain KUBE-ROUTER-FORWARD { }
  chain KUBE-NWPLCY-ABCDEF { }
  chain KUBE-SERVICES { }
}
table inet kube-network-policies { }
table ip kube-proxy {
  chain services { }
}
`;

describe('another policy engine on a node', function () {
  this.timeout(60_000);

  it('is named in the log, once; kube-proxy is none', async () => {
    const cluster = await AgentLab.create({ nodes: [{ name: 'n1' }, { name: 'n2' }], agents: false });
    try {
      await cluster.lab.exec('node/n1', ['nft', '-f', '-'], { input: KUBE_ROUTER });
      for (const node of ['n1', 'n2']) cluster.start(node);
      await cluster.settled();
      const engines = (node: string): unknown[] =>
        cluster
          .agent(node)
          .log()
          .filter(({ code }) => code === 'OTHER_ENGINE')
          .map(({ engine }) => engine);
      assert.deepEqual(engines('n1'), ['kube-router (also built into k3s: --disable-network-policy)', 'kube-network-policies']);
      assert.deepEqual(engines('n2'), []);
    } finally {
      await cluster.close();
    }
  });
});
