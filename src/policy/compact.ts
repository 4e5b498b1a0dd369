/**
 * The same items, taking no more room than they need: an array that was pushed to (flatMap and filter do) has room for seventeen,
 * and policies are made of many short lists.
 */
export function compact<T>(items: T[]): T[] {
  return items.length < 17 ? items.slice() : items;
}
