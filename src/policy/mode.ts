/**
 * Whether what policy refuses is stopped, or only counted and told of. This is about enforcement and not about meaning: the evaluator
 * says the same in both modes.
 */

/** `audit`: what no policy admits is let through, and counted and logged as it would be if it were refused. */
export type Mode = 'enforce' | 'audit';

export const MODES = ['enforce', 'audit'] as const satisfies readonly Mode[];

/** Of a Namespace: the mode of its pods. Honoured only where {@link Auditing.namespaces} says so. */
export const MODE_ANNOTATION = 'sluice.dev/mode';

/** What an agent audits. */
export interface Auditing {
  /** `audit`: nothing at all is enforced, whatever namespaces say. */
  readonly mode: Mode;
  /**
   * Whether a namespace may ask to be audited. Whoever may edit a Namespace may then switch policy off for its pods, so that it is for
   * whoever runs the agent to allow.
   */
  readonly namespaces: boolean;
}

/** Everything is enforced. */
export const ENFORCING: Auditing = { mode: 'enforce', namespaces: false };

/**
 * Whether a pod is audited, as a subject and in both directions: what its policies refuse is let through as far as it is concerned. The
 * pod at the other end may still refuse it.
 *
 * @param asked the mode that the pod's namespace asks for; undefined: none, or one that cannot be read
 */
export function isAudited({ mode, namespaces }: Auditing, asked: Mode | undefined): boolean {
  return mode === 'audit' || (namespaces && asked === 'audit');
}
