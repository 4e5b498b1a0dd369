/**
 * Lint rule: no list is spread into the arguments of `push`, `Math.max` and their like. Arguments are on the stack, so a list of some ten
 * thousand items overflows it, and how long lists are is often said by whoever writes objects. A loop has no such bound.
 */
const LIST_METHODS = new Set(['push', 'unshift', 'splice', 'concat']);
const FUNCTIONS = new Set(['Math.max', 'Math.min', 'String.fromCharCode', 'String.fromCodePoint']);

/** Of `a.b`: its parts; undefined of anything else. */
function member(callee) {
  if (callee.type !== 'MemberExpression' || callee.computed) return undefined;
  return { object: callee.object.type === 'Identifier' ? callee.object.name : '', property: callee.property.name };
}

/** A list that stands there item by item, or one of two such. */
function isShort(list) {
  if (list.type === 'ConditionalExpression') return isShort(list.consequent) && isShort(list.alternate);
  return list.type === 'ArrayExpression';
}

const rule = {
  create(context) {
    return {
      CallExpression(node) {
        const spread = node.arguments.find((argument) => argument.type === 'SpreadElement' && !isShort(argument.argument));
        const called = spread === undefined ? undefined : member(node.callee);
        if (called === undefined) return;
        if (!LIST_METHODS.has(called.property) && !FUNCTIONS.has(`${called.object}.${called.property}`)) return;
        context.report({
          node: spread,
          message: `A long list spread into ${called.property}() overflows the stack: use a loop, or reduce().`,
        });
      },
    };
  },
};

export default { meta: { name: 'sluice' }, rules: { 'no-spread-into-call': rule } };
