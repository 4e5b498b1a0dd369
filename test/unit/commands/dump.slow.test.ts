/** `sluice dump` as a program: whole outputs of a small cluster, from its directory and from a bundle of it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const PROGRAM = resolve(import.meta.dirname, '../../../bin/sluice.js');

const CLUSTER = `apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: db, namespace: shop, labels: { app: db } }
spec: { nodeName: node-a, containers: [{ name: main, ports: [{ name: pg, containerPort: 5432 }] }] }
status: { phase: Running, podIPs: [{ ip: 10.244.1.3 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec: { nodeName: node-b, containers: [{ name: main }] }
status: { phase: Running, podIPs: [{ ip: 10.244.2.4 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: lab, labels: { app: web } }
spec: { nodeName: node-b, containers: [{ name: main }] }
status: { phase: Running, podIPs: [{ ip: 10.244.2.5 }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db, namespace: shop }
spec:
  podSelector: { matchLabels: { app: db } }
  ingress:
    - from: [{ podSelector: { matchLabels: { app: web } } }]
      ports: [{ port: pg }]
    - from: [{ ipBlock: { cidr: 192.0.2.0/24 } }]
      ports: [{ port: 80 }, { port: 8000, endPort: 8080 }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: lab }
spec: { podSelector: {}, policyTypes: [Egress] }
`;

const DB = `shop/db  ingress  10.244.1.3
  isolated by db
  admits from pods app=web of namespace shop, TCP port pg of pods app=db of namespace shop on this node  shop/db ingress[0].from[0]
      10.244.2.4
      10.244.1.3:5432/TCP
  admits from 192.0.2.0/24, TCP 80, 8000-8080  shop/db ingress[1].from[0]
  refuses everything else

`;
const WEB = `lab/web  egress  10.244.2.5
  isolated by closed
  refuses everything

`;

describe('sluice dump', function () {
  this.timeout(60_000);
  let directory: string;
  let source: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    source = join(directory, 'shop');
    mkdirSync(source);
    writeFileSync(join(source, 'all.yaml'), CLUSTER);
  });

  after(() => rmSync(directory, { recursive: true }));

  function sluice(...args: readonly string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
    const { NODE_NAME: _node, KUBECONFIG: _config, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8', env });
    return { status, stdout, stderr };
  }

  it('shows what each isolated pod of a node admits, and of all nodes where none is named', () => {
    assert.deepEqual(sluice('dump', '--source', source, '--node', 'node-a'), { status: 0, stdout: DB, stderr: '' });
    const both = `${WEB.replace('egress  ', 'egress  node-b  ')}${DB.replace('ingress  ', 'ingress  node-a  ')}`;
    const { status, stdout } = sluice('dump', '--source', source);
    // By node, and then by name.
    assert.deepEqual([status, stdout.split('\n\n').sort()], [0, both.split('\n\n').sort()]);
  });

  it('shows one pod, or those of a namespace, wherever they are', () => {
    const ofWeb = WEB.replace('egress  ', 'egress  node-b  ');
    assert.equal(sluice('dump', '--source', source, '--pod', 'lab/web').stdout, ofWeb);
    assert.equal(sluice('dump', '--source', source, '-n', 'lab').stdout, ofWeb);
    assert.equal(sluice('dump', '--source', source, '-n', 'lab', '--node', 'node-b', '--pod', 'web').stdout, WEB);
    assert.match(sluice('dump', '--source', source, '--pod', 'shop/web').stdout, /^No policy isolates/);
  });

  it('names what was probably meant', () => {
    const said = (...args: readonly string[]): readonly [number | null, string] => {
      const { status, stderr } = sluice('dump', '--source', source, ...args);
      return [status, stderr];
    };
    const origin = `the directory ${source}`;
    assert.deepEqual(said('--node', 'node-x'), [
      2,
      `sluice: no Node object and no pod in ${origin} names node node-x\nPerhaps node-a is meant.\n`,
    ]);
    assert.deepEqual(said('-n', 'shpo'), [2, `sluice: no namespace shpo in ${origin}\nPerhaps shop is meant.\n`]);
    assert.deepEqual(said('--pod', 'shop/bd'), [2, `sluice: no pod shop/bd in ${origin}\nPerhaps shop/db is meant.\n`]);
    assert.deepEqual(said('--pod', 'web'), [2, 'sluice: web may be lab/web or shop/web\nSay which with --namespace.\n']);
    const which = `sluice: -o nft is the table of one node, and ${origin} has 2\nSay which with --node: node-a, node-b.\n`;
    assert.deepEqual(said('-o', 'nft'), [2, which]);
    assert.equal(said('-o', 'nft', '--pod', 'shop/db')[0], 2);
  });

  it('is a document for programs', () => {
    const { stdout } = sluice('dump', '--source', source, '--node', 'node-a', '-o', 'json');
    assert.deepEqual(JSON.parse(stdout), {
      apiVersion: 'sluice.dev/v1',
      kind: 'Dump',
      nodes: ['node-a'],
      countedOn: null,
      pods: [
        {
          pod: 'shop/db',
          node: 'node-a',
          direction: 'ingress',
          audited: false,
          addresses: ['10.244.1.3'],
          chain: 'ingress/shop/db',
          policies: [
            {
              policy: 'shop/db',
              chain: 'policy/shop/db/ingress',
              rules: [
                {
                  path: 'ingress[0].from[0]',
                  family: 4,
                  peer: { set: setOf(stdout, 'pods-v4'), of: 'pods app=web of namespace shop', elements: ['10.244.2.4'] },
                  named: {
                    set: setOf(stdout, 'port-v4'),
                    of: 'TCP port pg of pods app=db of namespace shop on this node',
                    elements: ['10.244.1.3:5432/TCP'],
                  },
                },
                {
                  path: 'ingress[1].from[0]',
                  family: 4,
                  peer: { set: setOf(stdout, 'block-v4'), of: '192.0.2.0/24', elements: ['192.0.2.0/24'] },
                  protocol: 'TCP',
                  ports: ['80', '8000-8080'],
                },
              ],
            },
          ],
        },
      ],
    });
  });

  it('shows the table as iptables and ipset would', () => {
    const { status, stdout } = sluice('dump', '--source', source, '--node', 'node-b', '-o', 'iptables', '--log-group', '0');
    const chain = /SLUICE-E-[0-9A-F]{16}/.exec(stdout)?.[0] ?? assert.fail(stdout);
    assert.equal(status, 0);
    assert.equal(
      stdout,
      `# ipset restore
# iptables-restore --noflush
*filter
:FORWARD ACCEPT [0:0]
:SLUICE-EGRESS - [0:0]
:SLUICE-INGRESS - [0:0]
:${chain} - [0:0]
-A FORWARD -m comment --comment "sluice egress" -j SLUICE-EGRESS
-A FORWARD -m comment --comment "sluice ingress" -j SLUICE-INGRESS
-A SLUICE-EGRESS -m connlabel --label "100" -m comment --comment "flow cut by a policy change" -j DROP
-A SLUICE-EGRESS -m connmark --mark 0x1000/0x1000 -m comment --comment "flow older than the first rule, cut" -j DROP
-A SLUICE-EGRESS -m conntrack --ctstate ESTABLISHED -m comment --comment "replies, and flows judged already" -j RETURN
-A SLUICE-EGRESS -p icmp -m icmp ! --icmp-type 5 -m conntrack --ctstate RELATED -m comment --comment "errors of a flow" -j RETURN
-A SLUICE-EGRESS -s 10.244.2.5/32 -m comment --comment "lab/web" -g ${chain}
-A SLUICE-INGRESS -m conntrack --ctstate ESTABLISHED -m comment --comment "replies, and flows judged already" -j RETURN
-A SLUICE-INGRESS -p icmp -m icmp ! --icmp-type 5 -m conntrack --ctstate RELATED -m comment --comment "errors of a flow" -j RETURN
-A ${chain} -d 10.244.2.5/32 -j RETURN
-A ${chain} -j DROP
COMMIT
# ip6tables-restore --noflush
*filter
:FORWARD ACCEPT [0:0]
:SLUICE-EGRESS - [0:0]
:SLUICE-INGRESS - [0:0]
:${chain} - [0:0]
-A FORWARD -m comment --comment "sluice egress" -j SLUICE-EGRESS
-A FORWARD -m comment --comment "sluice ingress" -j SLUICE-INGRESS
-A SLUICE-EGRESS -m connlabel --label "100" -m comment --comment "flow cut by a policy change" -j DROP
-A SLUICE-EGRESS -m connmark --mark 0x1000/0x1000 -m comment --comment "flow older than the first rule, cut" -j DROP
-A SLUICE-EGRESS -m conntrack --ctstate ESTABLISHED -m comment --comment "replies, and flows judged already" -j RETURN
-A SLUICE-EGRESS -p ipv6-icmp -m icmp6 ! --icmpv6-type 137 -m conntrack --ctstate RELATED -m comment --comment "errors of a flow" -j RETURN
-A SLUICE-EGRESS -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A SLUICE-EGRESS -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A SLUICE-INGRESS -m conntrack --ctstate ESTABLISHED -m comment --comment "replies, and flows judged already" -j RETURN
-A SLUICE-INGRESS -p ipv6-icmp -m icmp6 ! --icmpv6-type 137 -m conntrack --ctstate RELATED -m comment --comment "errors of a flow" -j RETURN
-A SLUICE-INGRESS -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A SLUICE-INGRESS -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -m comment --comment "neighbour discovery" -j RETURN
-A ${chain} -j DROP
COMMIT
`,
    );
  });

  it('says the same of a bundle, and of one whose names are hashed the same under other names', () => {
    const [file, hashed] = [join(directory, 'b.json.gz'), join(directory, 'h.json.gz')];
    assert.deepEqual(
      [sluice('bundle', '--source', source, '-o', file).status, sluice('bundle', '--bundle', file, '--hash-names', '-o', hashed).status],
      [0, 0],
    );
    for (const format of ['json', 'table', 'nft', 'iptables']) {
      const args = ['--node', 'node-a', '-o', format];
      assert.equal(sluice('dump', '--bundle', file, ...args).stdout, sluice('dump', '--source', source, ...args).stdout, format);
    }
    const names = (text: string): string[] =>
      text
        .split(/\s+/)
        .filter((word) => /^[0-9.:/]+(TCP)?,?$/.test(word))
        .sort();
    assert.deepEqual(names(sluice('dump', '--bundle', hashed).stdout), names(sluice('dump', '--source', source).stdout));
  });
});

/** The set's name ends in a hash. */
function setOf(text: string, beginning: string): string {
  return new RegExp(`"set": "(${beginning}/[^"]+)"`).exec(text)?.[1] ?? assert.fail(text);
}
