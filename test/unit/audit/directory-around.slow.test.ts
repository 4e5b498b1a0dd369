/** What is read of a directory for a question about two pods, against everything. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AtHand } from '../../../src/audit/at-hand.ts';
import { readDirectory } from '../../../src/audit/manifest-inventory.ts';
import { explain } from '../../../src/commands/explain.ts';

const NO_KERNEL: AtHand = {
  node: undefined,
  saidBy: '',
  status: undefined,
  readTable: () => undefined,
  readBridges: () => undefined,
  readBypasses: () => [],
};

const NAMES = ['shop/web', 'shop/db', 'default/web', 'shop/host', 'office/heir'] as const;

/** The same cluster in the forms that YAML can have; what is asked about, what has a claim, and what nobody asks about. */
const CLUSTER = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Namespace
metadata: {name: office, labels: {team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: elsewhere}
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-b}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {nodeName: node-a}
status:
  podIPs:
    - ip: 10.244.1.5
    - ip: fd00:0:0::5
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 5432, name: sql}]}]}
status: {podIPs: [{ip: 10.244.1.6}, {ip: "fd00::6"}]}
---
kind: Pod # without a namespace
apiVersion: v1
metadata: {name: web, labels: {app: web}}
status: {podIPs: [{ip: 10.244.1.7}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: shop}
spec: {nodeName: node-b, hostNetwork: true}
status: {podIPs: [{ip: 192.0.2.2}]}
---
apiVersion: v1
kind: 'Pod'
metadata: {name: heir, namespace: office, labels: {app: heir}, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {nodeName: node-a}
status: {podIPs: [{ip: 10.244.1.9}, {ip: 'FD00::0005'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bystander, namespace: elsewhere}
status: {podIPs: [{ip: 10.244.1.99}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 192.0.2.0/24}}]
      ports: [{port: sql}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nothing-out}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: unrelated, namespace: elsewhere}
spec: {podSelector: {}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 1}]}
`;

describe('a directory that is asked about two pods', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-around-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  async function answersAgree(): Promise<number> {
    const all = await readDirectory(directory);
    let fewest = Number.POSITIVE_INFINITY;
    for (const source of NAMES) {
      for (const destination of NAMES) {
        const pods = [source, destination].map((name) => {
          const [namespace = '', own = ''] = name.split('/');
          return { namespace, name: own };
        });
        const around = await readDirectory(directory, { pods });
        fewest = Math.min(fewest, around.pods.length + around.policies.length + around.nodes.length + around.namespaces.length);
        const ask = { namespace: 'default' };
        const expected = await explain(all, source, `${destination}:5432`, ask, NO_KERNEL);
        assert.deepEqual(await explain(around, source, `${destination}:5432`, ask, NO_KERNEL), expected, `${source} -> ${destination}`);
      }
    }
    return fewest;
  }

  it('gives the answer that everything gives, places in the files included, and reads less', async () => {
    writeFileSync(join(directory, 'all.yaml'), CLUSTER);
    assert.ok((await answersAgree()) < 8);
  });

  it('does so for a file an object', async () => {
    for (const [index, text] of CLUSTER.split('---\n').entries()) writeFileSync(join(directory, `${index}.yaml`), text);
    assert.ok((await answersAgree()) < 8);
  });

  it('does so in forms in which it cannot be told what matters: a list, flow style, escapes, aliases, indented, directives', async () => {
    const documents = CLUSTER.split('---\n').map((text) => text.trim());
    const list = `apiVersion: v1\nkind: List\nitems:\n${documents.map((text) => `  - ${text.replaceAll('\n', '\n    ')}`).join('\n')}\n`;
    const indented = documents.map((text) => `  ${text.replaceAll('\n', '\n  ')}`).join('\n---\n');
    const quoted = CLUSTER.replaceAll(/^kind: (\w+)$/gmu, '"kind": $1');
    const [heir = ''] = documents.filter((text) => text.includes('name: heir'));
    const inList = CLUSTER.replace(heir, `kind: PodList\nitems:\n  - ${heir.replaceAll('\n', '\n    ')}`);
    const escapedAddress = CLUSTER.replace("'FD00::0005'", '"fd00::\\x35"');
    const escaped = CLUSTER.replace('name: heir', 'name: "h\\x65ir"').replace(
      'name: web, namespace: shop',
      'name: "\\x77eb", namespace: shop',
    );
    const aliased = CLUSTER.replace(
      'metadata: {name: db, namespace: shop, labels: {app: db}}',
      'metadata: {name: &n db, namespace: shop, labels: {app: *n}}',
    );
    const directives = `%YAML 1.1\n---${CLUSTER}`;
    for (const text of [list, inList, indented, quoted, escaped, escapedAddress, aliased, directives, CLUSTER.replaceAll('\n', '\r\n')]) {
      writeFileSync(join(directory, 'all.yaml'), text);
      await answersAgree();
    }
  });

  it('knows every other name where one of the pods is not there', async () => {
    writeFileSync(join(directory, 'all.yaml'), CLUSTER);
    const { pods } = await readDirectory(directory, { pods: [{ namespace: 'shop', name: 'wbe' }] });
    assert.equal(pods.length, 6);
  });
});
