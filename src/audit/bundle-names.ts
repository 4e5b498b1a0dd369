/**
 * A bundle without names: of namespaces, pods, policies, Services, nodes and ports, and of labels the keys and values. Each becomes a hash,
 * the same name the same one wherever it stands, so that selectors match what they matched. The salt is made for one bundle and forgotten.
 *
 * What stays: label keys of the domains kubernetes.io and k8s.io, the names of Kubernetes' own namespaces, addresses, port numbers, times,
 * names of interfaces, counters, handles and sizes.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { Expression, Rule } from 'nftables-js';
import { DIRECTIONS, FAMILIES, FRAME_COMMENTS, verdictMapName } from '../enforcement/nftables/frame.ts';
import { logPrefix } from '../enforcement/nftables/render.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import { policyChainName } from '../ruleset/names.ts';
import type { AdmitRule, DesiredChain, Ruleset } from '../ruleset/objects.ts';
import type { BundleDocument } from './bundle-format.ts';
import { inventoryOfBundle } from './bundle-inventory.ts';
import { type KernelTable, storeKernelTable } from './kernel-table.ts';
import { rulesOfNode } from './node-rules.ts';

/** Of every cluster, and of some meaning to people. */
const OWN_NAMESPACES: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public', 'kube-node-lease']);
/** 48 bits: of 100,000 names two are alike in one bundle of 50,000. As a port's name a text may have 15 characters. */
const HASH_DIGITS = 12;

/** What a text is: what cannot be one has to stay so, because it means something else than what can. */
type TextOf = 'name' | 'value' | 'key' | 'port';

/** As the API takes them: metadata.ts, selector.ts and ports.ts read them so. */
const VALID: Readonly<Record<TextOf, RegExp>> = {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  name: /^(?!\.{1,2}$)[^/\u0000-\u001f\u007f-\u009f]+$/u,
  value: /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/u,
  key: /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/u,
  port: /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/u,
};

/** What becomes of a text: the same for the same text, whatever it is. */
export class NameHashes {
  readonly #salt: Uint8Array;

  constructor(salt: Uint8Array = randomBytes(32)) {
    this.#salt = salt;
  }

  name(text: string): string {
    return this.#of(text, 'name');
  }

  value(text: string): string {
    return this.#of(text, 'value');
  }

  port(text: string): string {
    return this.#of(text, 'port');
  }

  /** Of a label. */
  key(key: string): string {
    const domain = key.slice(0, Math.max(0, key.indexOf('/')));
    return /(^|\.)(kubernetes|k8s)\.io$/u.test(domain) ? key : this.#of(key, 'key');
  }

  #of(text: string, what: TextOf): string {
    if (text === '' || OWN_NAMESPACES.has(text)) return text;
    const hash = `h${createHmac('sha256', this.#salt).update(text).digest('hex').slice(0, HASH_DIGITS)}`;
    return VALID[what].test(text) ? hash : `/${hash}/`;
  }
}

/** Another bundle; this one is not changed. */
export async function hashNames(bundle: BundleDocument, hashes = new NameHashes()): Promise<BundleDocument> {
  const uids = uidRanks(bundle.objects);
  const objects = bundle.objects.map((object) => hashObject(object, hashes, uids));
  const hashed: BundleDocument = {
    ...bundle,
    origin: null,
    hashed: { names: true },
    node: bundle.node === null ? null : hashes.name(bundle.node),
    objects,
    // What servers answer names whoever asked.
    missing: bundle.missing.map((each) => ({ ...each, reason: 'it may not be read' })),
    status: hashStatus(bundle.status, hashes),
  };
  if (bundle.node === null || !('table' in bundle.kernel)) return hashed;
  const before = await inventoryOfBundle(bundle, 'the bundle');
  const after = await inventoryOfBundle({ ...hashed, kernel: { absent: true } }, 'the bundle');
  if (!('table' in before.held.kernel)) return hashed;
  const names = new KernelNames(hashes, rulesOfNode(before, bundle.node), rulesOfNode(after, hashes.name(bundle.node)));
  return { ...hashed, kernel: { table: storeKernelTable(names.table(before.held.kernel.table)) } };
}

// --- objects

/**
 * What a field is. `text` says no name: it stays. Fields that are not said are kept as `true` under a hash: that somebody wrote one that
 * nobody knows can have a meaning.
 */
type Form = 'text' | TextOf | 'labels' | 'uid' | { readonly [field: string]: Form } | readonly [Form];

const METADATA: Form = { name: 'name', namespace: 'name', uid: 'uid', labels: 'labels', creationTimestamp: 'text', annotations: 'text' };
const SELECTOR: Form = { matchLabels: 'labels', matchExpressions: [{ key: 'key', operator: 'text', values: ['value'] }] };
const PEERS: Form = [{ podSelector: SELECTOR, namespaceSelector: SELECTOR, ipBlock: { cidr: 'text', except: ['text'] } }];
const POLICY_PORTS: Form = [{ protocol: 'text', port: 'port', endPort: 'text' }];
const CONTAINERS: Form = [{ restartPolicy: 'text', ports: [{ name: 'port', containerPort: 'text', protocol: 'text' }] }];
const POD_SPEC: Form = { nodeName: 'name', hostNetwork: 'text', containers: CONTAINERS, initContainers: CONTAINERS };
const TEMPLATE: Form = { metadata: METADATA, spec: POD_SPEC };
const WORKLOAD: Form = { metadata: METADATA, spec: { selector: SELECTOR, template: TEMPLATE } };

const FORMS: Readonly<Record<string, Form>> = {
  Namespace: { metadata: METADATA },
  Node: {
    metadata: METADATA,
    spec: { podCIDR: 'text', podCIDRs: ['text'] },
    status: { addresses: [{ type: 'text', address: 'text' }] },
  },
  Pod: { metadata: METADATA, spec: POD_SPEC, status: { phase: 'text', podIP: 'text', podIPs: [{ ip: 'text' }] } },
  NetworkPolicy: {
    metadata: METADATA,
    spec: {
      podSelector: SELECTOR,
      policyTypes: ['text'],
      ingress: [{ from: PEERS, ports: POLICY_PORTS }],
      egress: [{ to: PEERS, ports: POLICY_PORTS }],
    },
  },
  Service: {
    metadata: METADATA,
    spec: {
      type: 'text',
      clusterIP: 'text',
      clusterIPs: ['text'],
      externalIPs: ['text'],
      externalName: 'name',
      selector: 'labels',
      ports: [{ name: 'port', protocol: 'text', port: 'text', targetPort: 'port', nodePort: 'text' }],
    },
    status: { loadBalancer: { ingress: [{ ip: 'text' }] } },
  },
  EndpointSlice: {
    metadata: METADATA,
    ports: [{ name: 'port', protocol: 'text', port: 'text' }],
    endpoints: [{ addresses: ['text'], conditions: { ready: 'text' }, targetRef: { kind: 'text', name: 'name', namespace: 'name' } }],
  },
  ReplicationController: { metadata: METADATA, spec: { selector: 'labels', template: TEMPLATE } },
  CronJob: { metadata: METADATA, spec: { jobTemplate: { spec: { template: TEMPLATE } } } },
};

function hashObject(object: Fields, hashes: NameHashes, uids: ReadonlyMap<string, string>): Record<string, unknown> {
  const { apiVersion, kind, ...fields } = object;
  const hashed = apply(fields, FORMS[String(kind)] ?? WORKLOAD, hashes, uids);
  // A Node's hostname is an address of it too, of a type that nothing reads.
  if (kind === 'Node' && isFields(hashed)) dropHostNames(hashed);
  return { apiVersion, kind, ...(isFields(hashed) ? hashed : {}) };
}

function dropHostNames({ status }: Fields): void {
  const addresses = isFields(status) ? status['addresses'] : undefined;
  if (!Array.isArray(addresses)) return;
  for (const [at, each] of addresses.entries()) {
    if (isFields(each) && !String(each['type']).endsWith('IP')) addresses[at] = { type: each['type'] };
  }
}

function apply(value: unknown, form: Form, hashes: NameHashes, uids: ReadonlyMap<string, string>): unknown {
  if (typeof value === 'string') {
    if (form === 'text') return value;
    if (form === 'uid') return uids.get(value) ?? value;
    return form === 'key' || form === 'port' || form === 'value' ? hashes[form](value) : hashes.name(value);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const each = Array.isArray(form) ? (form as readonly [Form])[0] : form === 'text' ? 'text' : 'name';
    return value.map((item: unknown) => apply(item, each, hashes, uids));
  }
  const fields: Record<string, unknown> = {};
  for (const [name, part] of Object.entries(value as Fields)) {
    if (form === 'labels') fields[hashes.key(name)] = apply(part, 'value', hashes, uids);
    // Only annotations that the bundle has kept: they are not of anybody's making.
    else if (form === 'text') fields[name] = part;
    else if (typeof form === 'object' && !Array.isArray(form)) {
      const of = (form as Readonly<Record<string, Form>>)[name];
      if (of === undefined) fields[hashes.name(name)] = true;
      else fields[name] = apply(part, of, hashes, uids);
    } else fields[hashes.name(name)] = true;
  }
  return fields;
}

/** Uids decide between pods that are otherwise alike: their order stays. */
function uidRanks(objects: readonly Fields[]): ReadonlyMap<string, string> {
  const uids = new Set<string>();
  for (const { metadata } of objects) {
    if (isFields(metadata) && typeof metadata['uid'] === 'string') uids.add(metadata['uid']);
  }
  return new Map([...uids].sort().map((uid, rank) => [uid, `uid-${String(rank + 1).padStart(7, '0')}`]));
}

/** Of what an agent says of itself: numbers, and what its rules are made with. */
const STATUS_KEPT = [
  'pid',
  'ready',
  'nodeKnown',
  'mode',
  'auditedPods',
  'enforcement',
  'commits',
  'lastCommit',
  'revision',
  'drifts',
  'flowsCut',
  'flowsRestored',
] as const;

function hashStatus(status: BundleDocument['status'], hashes: NameHashes): BundleDocument['status'] {
  if (status === null) return null;
  const kept = Object.fromEntries(STATUS_KEPT.flatMap((field) => (field in status ? [[field, status[field]]] : [])));
  return { node: hashes.name(String(status['node'])), ...kept };
}

// --- the kernel's table

const KNOWN_COMMENTS: ReadonlySet<string> = new Set(Object.values(FRAME_COMMENTS));
/** Where in a policy a rule is from. */
const PLACE = /^(in|e)gress\[\d+\](\.(from|to)(\[\d+\])?)?$/u;

/** The chain of policies that a pod's chain shares with others'. */
function sharedBy({ rules }: DesiredChain, { chains }: Ruleset): string | undefined {
  for (const rule of rules) if (rule.kind === 'jump' && chains.get(rule.chain)?.kind === 'policies') return rule.chain;
  return undefined;
}

/** Chains and sets are called after what they are for: what the same ruleset calls them whose objects are hashed. */
class KernelNames {
  readonly #hashes: NameHashes;
  readonly #names = new Map<string, string>();
  readonly #prefixes = new Map<string, string>();

  constructor(hashes: NameHashes, before: Ruleset, after: Ruleset) {
    this.#hashes = hashes;
    for (const direction of DIRECTIONS) {
      this.#names.set(direction, direction);
      for (const family of FAMILIES) this.#names.set(verdictMapName(direction, family), verdictMapName(direction, family));
    }
    for (const chain of before.chains.values()) {
      const now = this.#counterpart(chain, after);
      if (now === undefined) continue;
      this.#names.set(chain.name, now.name);
      for (const audited of [false, true])
        this.#prefixes.set(logPrefix({ name: chain.name, audited }), logPrefix({ name: now.name, audited }));
      this.#pairSets(chain, now, before, after);
      // Named by whom it is called: policies that several pods share have no other name.
      const [shared, sharedNow] = [sharedBy(chain, before), sharedBy(now, after)];
      if (shared !== undefined && sharedNow !== undefined) this.#names.set(shared, sharedNow);
    }
  }

  #counterpart({ kind, of, direction }: DesiredChain, after: Ruleset): DesiredChain | undefined {
    if (kind === 'policies') return undefined;
    const slash = of.indexOf('/');
    const [namespace, name] = [this.#hashes.name(of.slice(0, slash)), this.#hashes.name(of.slice(slash + 1))];
    return kind === 'pod'
      ? after.chainOfPod(`${namespace}/${name}`, direction)
      : after.chains.get(policyChainName(namespace, name, direction));
  }

  /** Rules of a policy come in the order of its spec; only ports of several names in one rule may change places. */
  #pairSets(chain: DesiredChain, now: DesiredChain, before: Ruleset, after: Ruleset): void {
    const left = Map.groupBy(
      now.rules.filter((rule) => rule.kind === 'admit'),
      (rule) => keyOf(rule, portName(rule, after)),
    );
    for (const rule of chain.rules) {
      if (rule.kind !== 'admit') continue;
      const same = left.get(keyOf(rule, this.#hashes.port(portName(rule, before))))?.shift();
      if (same === undefined) continue;
      for (const [old, renamed] of [
        [rule.peer, same.peer],
        [rule.named, same.named],
        [rule.port, same.port],
      ] as const) {
        if (typeof old === 'string' && typeof renamed === 'string') this.#names.set(old, renamed);
      }
    }
  }

  #name(name: string): string {
    return name.startsWith('__') ? name : (this.#names.get(name) ?? this.#hashes.name(name));
  }

  table({ table, sets, chains, ...rest }: KernelTable): KernelTable {
    const { comment: _tableComment, ...ownTable } = table;
    return {
      ...rest,
      table: ownTable,
      sets: sets.map(({ definition: { comment: _comment, ...definition }, elements }) => ({
        definition: { ...definition, name: this.#name(definition.name) },
        elements: elements.map(({ comment: _elementComment, data, ...element }) => ({
          ...element,
          ...(data === undefined
            ? {}
            : { data: data instanceof Uint8Array || !('chain' in data) ? data : { ...data, chain: this.#name(data.chain) } }),
        })),
      })),
      chains: chains.map(({ chain: { comment: _comment, ...chain }, rules }) => ({
        chain: { ...chain, name: this.#name(chain.name) },
        rules: rules.map((rule) => this.#rule(rule)),
      })),
    };
  }

  #rule({ comment, ...rule }: Rule): Rule {
    const isKnown = comment !== undefined && (KNOWN_COMMENTS.has(comment) || PLACE.test(comment));
    return {
      ...rule,
      chain: this.#name(rule.chain),
      expressions: rule.expressions.map((expression) => this.#expression(expression)),
      ...(comment === undefined ? {} : { comment: isKnown ? comment : this.#hashes.name(comment) }),
    };
  }

  #expression(expression: Expression): Expression {
    switch (expression.expr) {
      case 'lookup':
        return { ...expression, set: this.#name(expression.set) };
      case 'verdict':
        return 'chain' in expression ? { ...expression, chain: this.#name(expression.chain) } : expression;
      case 'objref':
        return { ...expression, name: this.#hashes.name(expression.name) };
      case 'log': {
        const { prefix } = expression;
        return prefix === undefined ? expression : { ...expression, prefix: this.#prefixes.get(prefix) ?? this.#hashes.name(prefix) };
      }
      case 'unknown':
        // Nobody knows what is in it.
        return { ...expression, data: Buffer.from(this.#hashes.name(Buffer.from(expression.data).toString('hex'))) };
      case 'payload':
      case 'meta':
      case 'metaSet':
      case 'ct':
      case 'ctSet':
      case 'cmp':
      case 'range':
      case 'bitwise':
      case 'immediate':
      case 'counter':
      case 'limit':
      case 'reject':
      case 'masquerade':
      case 'nat':
        return expression;
    }
  }
}

function portName({ named }: AdmitRule, { sets }: Ruleset): string {
  const description = named === undefined ? undefined : sets.get(named)?.description;
  const [only, ...others] = description?.kind === 'named-ports' ? description.ports : [];
  // Several names are in one set, and that set in one rule a peer.
  return only === undefined || others.length > 0 ? '' : only.name;
}

/** The same for a rule and for what becomes of it. */
function keyOf({ family, protocol, port, peer, comment }: AdmitRule, portNamed: string): string {
  return JSON.stringify([comment, family, protocol, typeof port === 'object' ? port : port !== undefined, peer !== undefined, portNamed]);
}
