/** The version of this package, from its own package.json. */
import { createRequire } from "node:module";

/** The package names itself, so that source and dist find the same file. */
export const VERSION = (createRequire(import.meta.url)("sojourn/package.json") as { version: string }).version;
