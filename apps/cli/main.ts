#!/usr/bin/env node
/** The `sojourn` command. */
import { runCommandLine } from "./program.ts";
import { processTerminal } from "./terminal.ts";

process.exitCode = await runCommandLine(process.argv.slice(2), processTerminal());
// Everything of ours is closed. Node's own clean-up of handles spins for ever now and then (Node 20, after sockets were
// reset in the middle of a write), so it is left out.
process.stdout.write("", () => process.exit());
