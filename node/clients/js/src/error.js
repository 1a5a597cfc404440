// Refusals.

/** Everything that this module refuses or that a node refuses: `code` is a stable word, the same in every language. */
export class FamaError extends Error {
  constructor(code, message, more = {}) {
    super(message ? `${message} (${code})` : code);
    this.name = "FamaError";
    this.code = code;
    Object.assign(this, more);
  }
}

export function refuse(code, message, more) {
  throw new FamaError(code, message, more);
}

/** What `run` gives; if it refuses, what `other` makes of the refusal. */
export function attempt(run, other) {
  try {
    return run();
  } catch (error) {
    if (error instanceof FamaError) return other(error);
    throw error;
  }
}

export function must(holds, code, message) {
  if (!holds) refuse(code, message);
}

/** Refuses unless the caller said what has no default. */
export const stated = (holds, name) => must(holds, "requirement_missing", `say ${name}: it has no default`);
