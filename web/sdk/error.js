// The one kind of error that the client makes.

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
