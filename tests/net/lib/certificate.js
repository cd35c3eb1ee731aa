// A certificate for every public address of the test's internet, from an authority that nobody else knows.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** @param {string} folder @param {string[]} addresses */
export function makeCertificate(folder, addresses) {
  const at = (/** @type {string} */ name) => join(folder, name);
  const openssl = (/** @type {string} */ words) => execFileSync("openssl", words.split(" "), { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
  openssl(`req -x509 ${key} -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=authority`);
  openssl(`req -new ${key} -keyout key.pem -out request.pem -subj /CN=net.test`);
  writeFileSync(at("extensions"), `subjectAltName=${addresses.map((address) => `IP:${address}`).join(",")}\nbasicConstraints=CA:FALSE\n`);
  openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out cert.pem -days 2 -extfile extensions");
  return { authority: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") };
}
