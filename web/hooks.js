// What the extensions of the pack share.

/** Runs `action` after the method `name` of a node type, which keeps its result. */
export function after(prototype, name, action) {
  const original = prototype[name];
  prototype[name] = function (...args) {
    const result = original?.apply(this, args);
    action.apply(this, args);
    return result;
  };
}
