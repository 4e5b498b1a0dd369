/** Label selectors (metav1.LabelSelector): reading, canonical form, matching. */

/** Labels of an object. A Map, so that no key is special. */
export type Labels = ReadonlyMap<string, string>;

/** `values` is sorted and without repetition; empty for Exists and DoesNotExist. matchLabels are `In` with one value. */
export interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

/** All requirements have to hold; none: everything matches. */
export interface Selector {
  readonly requirements: readonly Requirement[];
  /** The same for selectors that mean the same: sorted, as `kubectl get -l` would take it. */
  readonly text: string;
}
