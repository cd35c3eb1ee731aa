// The one kind of error that the client makes, and what may be said of those of others.

export class VoxcastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ permanent?: boolean, verdict?: import("./index.js").Verdict | null }} [more]
   */
  constructor(code, message, { permanent = false, verdict = null } = {}) {
    super(message);
    this.name = "VoxcastError";
    this.code = code;
    this.permanent = permanent;
    this.verdict = verdict;
  }
}

/** What a log may hold: the rest of what a browser says may quote a description, with its password. @param {unknown} fault */
export function nameOf(fault) {
  return fault instanceof Error ? fault.name : "fault";
}
