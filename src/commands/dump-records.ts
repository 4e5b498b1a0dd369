/** The effective rules of a node as records: what `sluice dump` prints, from the very ruleset that the agent would program. */
import { formatAddress } from '../policy/address.ts';
import type { Direction, Pod } from '../policy/objects.ts';
import { rangeToPrefixes } from '../policy/ranges.ts';
import { formatPrefix } from '../policy/address.ts';
import type { AdmitRule, DesiredSet, Ruleset } from '../ruleset/objects.ts';

/** One direction of one isolated pod. */
export interface IsolationRecord {
  /** `namespace/name` */
  readonly pod: string;
  readonly direction: Direction;
  readonly addresses: readonly string[];
  /** The chain that judges it. */
  readonly chain: string;
  /** Every policy that isolates it in this direction; what none of them admits is refused. */
  readonly policies: readonly PolicyRecord[];
}

export interface PolicyRecord {
  /** `namespace/name` */
  readonly policy: string;
  readonly chain: string;
  readonly rules: readonly RuleRecord[];
}

/** All that is given has to hold; what is absent is not asked. */
export interface RuleRecord {
  /** Where in the policy's spec: `ingress[0].from[1]`. */
  readonly path: string;
  readonly family?: 4 | 6;
  readonly peer?: SetRecord;
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
  /** `80`, or `8000-8080`; one of them has to hold. */
  readonly ports?: readonly string[];
  /** Destination address, protocol and port of a named port. */
  readonly named?: SetRecord;
}

export interface SetRecord {
  readonly set: string;
  /** What the policy says: a selector, or a block. */
  readonly of: string;
  /** What that is now: addresses, prefixes, or `address:port/protocol`. */
  readonly elements: readonly string[];
}

/** @param pods those that a record is wanted for, in their order */
export function dumpRecords(ruleset: Ruleset, pods: readonly Pod[]): IsolationRecord[] {
  const byChain = new Map<string, string[]>();
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [address, chain] of ruleset.verdicts[direction]) byChain.set(chain, [...(byChain.get(chain) ?? []), formatAddress(address)]);
  }
  const records: IsolationRecord[] = [];
  for (const { namespace, name } of pods) {
    for (const direction of ['ingress', 'egress'] as const) {
      const chain = ruleset.chainOfPod(`${namespace}/${name}`, direction);
      if (chain === undefined) continue;
      const policies = chain.rules.flatMap((rule) => (rule.kind === 'jump' ? [policyRecord(ruleset, rule.chain)] : []));
      records.push({ pod: `${namespace}/${name}`, direction, addresses: byChain.get(chain.name) ?? [], chain: chain.name, policies });
    }
  }
  return records;
}

function policyRecord(ruleset: Ruleset, name: string): PolicyRecord {
  const chain = ruleset.chains.get(name);
  const rules = (chain?.rules ?? []).flatMap((rule) => (rule.kind === 'admit' ? [ruleRecord(ruleset, rule)] : []));
  return { policy: chain?.of ?? '', chain: name, rules };
}

function ruleRecord({ sets }: Ruleset, rule: AdmitRule): RuleRecord {
  const peer = rule.peer === undefined ? undefined : sets.get(rule.peer);
  const named = rule.named === undefined ? undefined : sets.get(rule.named);
  const ports = typeof rule.port === 'string' ? portsOf(sets.get(rule.port)) : rule.port === undefined ? undefined : [rangeText(rule.port)];
  return {
    path: rule.comment,
    ...(rule.family === undefined ? {} : { family: rule.family }),
    ...(peer === undefined ? {} : { peer: setRecord(peer) }),
    ...(rule.protocol === undefined ? {} : { protocol: rule.protocol }),
    ...(ports === undefined ? {} : { ports }),
    ...(named === undefined ? {} : { named: setRecord(named) }),
  };
}

function setRecord(set: DesiredSet): SetRecord {
  const { description } = set;
  const elements =
    description.kind === 'block'
      ? description.ranges.flatMap((range) => rangeToPrefixes(range).map(formatPrefix))
      : [...set.elements()].map((element) =>
          typeof element === 'object'
            ? `${bracketed(formatAddress(element.address))}:${element.port}/${element.protocol}`
            : formatAddress(element),
        );
  return { set: description.name, of: description.comment, elements };
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function portsOf(set: DesiredSet | undefined): string[] {
  return set?.description.kind === 'ports' ? set.description.ranges.map(rangeText) : [];
}

function rangeText({ first, last }: { readonly first: number; readonly last: number }): string {
  return first === last ? `${first}` : `${first}-${last}`;
}
