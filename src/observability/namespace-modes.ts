/**
 * Says which namespaces ask to be audited, and whether they are: nobody should find out by chance that a namespace's policies stop
 * nothing, or that an annotation has no effect.
 */
import { type Auditing, MODE_ANNOTATION } from '../policy/mode.ts';
import type { SourceEvent, SourceProblem } from '../sources/source.ts';
import type { Logger } from './log.ts';

export interface NamespaceModesOptions {
  readonly auditing: Auditing;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** As {@link SourceListener.problems}, of origins that no source has: what the source finds wrong with a namespace stays beside it. */
  readonly problems: (origin: string, problems: readonly SourceProblem[]) => void;
}

export class NamespaceModes {
  readonly #options: NamespaceModesOptions;
  /** Names of those that ask to be audited. */
  readonly #asking = new Set<string>();

  constructor(options: NamespaceModesOptions) {
    this.#options = options;
  }

  /** What the source says of objects. */
  events(events: readonly SourceEvent[]): void {
    // An agent that enforces nothing has said so, and there is nothing to ask for.
    if (this.#options.auditing.mode === 'audit') return;
    for (const event of events) {
      if (event.type === 'synced' || event.kind !== 'Namespace') continue;
      const asks = event.type === 'upsert' && event.object.mode === 'audit';
      if (asks === this.#asking.has(event.key)) continue;
      if (asks) this.#asking.add(event.key);
      else this.#asking.delete(event.key);
      if (this.#options.auditing.namespaces) this.#tell(event.key, asks);
      else this.#refuse(event.key, asks);
    }
  }

  #tell(namespace: string, isAudited: boolean): void {
    const { log } = this.#options;
    if (isAudited)
      log.warn({ namespace, code: 'NAMESPACE_AUDITED' }, `namespace ${namespace} is audited: what its policies refuse is let through`);
    else log.info({ namespace }, `namespace ${namespace} is not audited any more: its policies are enforced`);
  }

  #refuse(namespace: string, asks: boolean): void {
    const origin = `${MODE_ANNOTATION} of Namespace ${namespace}`;
    const problem: SourceProblem = {
      path: `metadata.annotations[${MODE_ANNOTATION}]`,
      code: 'NAMESPACE_MODE_NOT_ALLOWED',
      message: 'namespaces may not ask to be audited here; its policies are enforced. --audit-namespaces allows it',
      severity: 'warning',
      origin,
      object: `Namespace ${namespace}`,
    };
    this.#options.problems(origin, asks ? [problem] : []);
  }
}
