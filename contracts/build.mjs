// Compiles Tact contracts into deterministic artifacts: <Name>.code.boc and <Name>.abi.json.
//
//   node build.mjs --out DIR [--source DIR] [Name ...]
//
// Each contract Name lives in its own entry file, the name in snake case: WorkerStake in worker_stake.tact.
// Everything is compiled in memory under a fixed virtual root, so no path of this machine can reach the code
// or the ABI. COCOON_PARTIAL=1 skips contracts whose source does not exist yet.
// COCOON_INLINE=0|1 overrides `inline` below for a measurement; never commit artifacts built with it.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
    CompilerContext,
    LogLevel,
    Logger,
    build,
    createVirtualFileSystem,
    enableFeatures,
    getAllTypes,
    precompile,
    stdLibFiles,
} from "@tact-lang/compiler";
import { lean } from "./lean.mjs";

const SUITE = ["Registry", "WorkerStake", "Escrow", "Market"];

// The one place for compiler options.
const OPTIONS = {
    debug: false,
    external: true, // hot keys and operators act by signed external messages
    ipfsAbiGetter: false, // a link in the code would change with the ABI's text
    interfacesGetter: false,
    enableLazyDeploymentCompletedGetter: false,
    experimental: { inline: process.env.COCOON_INLINE === "1" },
    safety: { nullChecks: false }, // the contracts test for null where a null is possible
    optimizations: { alwaysSaveContractData: false, internalExternalReceiversOutsideMethodsMap: true },
};

// The compiler's own FunC and Fift, which it does not export.
const { funcCompile } = createRequire(import.meta.url)("@tact-lang/compiler/dist/func/funcCompile.js");

const VIRTUAL_ROOT = "/contracts/";
const OUTPUT = "out";

function fail(text) {
    console.error(`build.mjs: ${text}`);
    process.exit(1);
}

function entryFile(name) {
    return `${name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase()}.tact`;
}

/** All Tact and FunC sources of a folder (one level), as the compiler's virtual file system wants them. */
function loadSources(folder) {
    const files = {};
    for (const name of readdirSync(folder).sort()) {
        if (/\.(tact|fc|func)$/.test(name)) {
            files[name] = readFileSync(join(folder, name)).toString("base64");
        }
    }
    nameNumbers(files);
    return files;
}

/** Assembler sees no constants: @Name there stands for the number of an error or the opcode of a message. */
function nameNumbers(files) {
    const read = (name) => Buffer.from(files[name] ?? "", "base64").toString("utf8");
    const numbers = new Map();
    for (const [, name, code] of read("errors.tact").matchAll(/^const (Err\w+): Int = (\d+);/gm)) numbers.set(name, code);
    for (const [, opcode, name] of read("messages.tact").matchAll(/^message\((0x[0-9a-f]+)\) (\w+)/gm)) {
        numbers.set(name, String(Number(opcode)));
    }
    if (!files["lowlevel.tact"]) return;
    const code = read("lowlevel.tact").replace(/^(?!\s*\/\/).*$/gm, (line) =>
        line.replace(/@([A-Z]\w*)/g, (_, name) => numbers.get(name) ?? fail(`lowlevel.tact: nothing is called ${name}`)),
    );
    files["lowlevel.tact"] = Buffer.from(code).toString("base64");
}

/** JSON with sorted keys, so that the text depends on the content only. */
function canonical(value) {
    const sort = (v) => {
        if (Array.isArray(v)) return v.map(sort);
        if (v === null || typeof v !== "object") return v;
        return Object.fromEntries(Object.keys(v).sort().map((key) => [key, sort(v[key])]));
    };
    return JSON.stringify(sort(value), null, 2) + "\n";
}

/** Drops the standard library's types unless a type of ours or a getter uses them. */
function pruneTypes(abi, own) {
    const byName = new Map(abi.types.map((type) => [type.name, type]));
    const kept = new Set();
    const keep = (name) => {
        const type = byName.get(name);
        if (!type || kept.has(name)) return;
        kept.add(name);
        for (const field of type.fields) keep(field.type.kind === "dict" ? field.type.value : field.type.type);
    };
    for (const name of byName.keys()) if (own.has(name.replace(/\$Data$/, ""))) keep(name);
    for (const getter of abi.getters) {
        for (const ref of [getter.returnType, ...getter.arguments.map((argument) => argument.type)]) {
            if (ref) keep(ref.kind === "dict" ? ref.value : ref.type);
        }
    }
    // The compiler lists interfaces whose getters the options above switch off: drop that list.
    const { interfaces: _, ...rest } = abi;
    return { ...rest, types: abi.types.filter((type) => kept.has(type.name)) };
}

/** Compiles FunC as the Tact compiler does. */
async function compileFunc(name, source) {
    const library = "std/stdlib.fc";
    const path = `${VIRTUAL_ROOT}${name}.fc`;
    const result = await funcCompile({
        entries: [library, path],
        sources: [
            { path: library, content: Buffer.from(stdLibFiles[library], "base64").toString("utf8") },
            { path, content: source },
        ],
        logger: new Logger(LogLevel.WARN),
    });
    if (!result.ok) fail(`${name}: ${result.log}`);
    // lean.mjs leaves no dictionary of procedures in c3.
    if (/ (CALLDICT|CALL|JMPDICT)$/m.test(result.fift)) fail(`${name}: a procedure is called through the dictionary`);
    return result.output;
}

async function compile(name, sources) {
    const path = entryFile(name);
    const files = { ...sources };
    const project = createVirtualFileSystem(VIRTUAL_ROOT, files, false);
    const stdlib = createVirtualFileSystem("@stdlib", stdLibFiles);
    const config = { name: "cocoon", path, output: OUTPUT, options: OPTIONS, mode: "full" };
    const logger = new Logger(LogLevel.WARN);
    const result = await build({ config, project, stdlib, logger });
    if (!result.ok) fail(`${path} does not compile (see above)`);
    const read = (suffix) => Buffer.from(files[`${OUTPUT}/cocoon_${name}${suffix}`] ?? "", "base64");
    let code = read(".code.boc");
    if (code.length === 0) fail(`${path} compiles, but declares no contract ${name}`);
    if (SUITE.includes(name)) code = await compileFunc(name, lean(read(".fc").toString("utf8"), name));
    const init = JSON.parse(read(".pkg").toString("utf8")).init;
    if (init.prefix) {
        fail(`contract ${name} has init(): use contract parameters, which cost no lazy-init bit on every load`);
    }
    const checked = precompile(enableFeatures(new CompilerContext(), logger, config), project, stdlib, path);
    const own = new Set(getAllTypes(checked).filter((type) => type.origin === "user").map((type) => type.name));
    const abi = pruneTypes(JSON.parse(read(".abi").toString("utf8")), own);
    // Other contracts that the entry file imports belong to their own ABI.
    abi.types = abi.types.filter((type) => !type.name.endsWith("$Data") || type.name === `${name}$Data`);
    return { code, abi: canonical(abi) };
}

const here = dirname(fileURLToPath(import.meta.url));
const names = [];
let [out, source] = [undefined, here];
const argv = process.argv.slice(2);
while (argv.length > 0) {
    const argument = argv.shift();
    if (argument === "--out") out = argv.shift();
    else if (argument === "--source") source = argv.shift();
    else if (argument.startsWith("-")) fail(`unknown option ${argument}`);
    else names.push(argument);
}
if (!out || !source) fail("usage: node build.mjs --out DIR [--source DIR] [Name ...]");

const sources = loadSources(source);
const built = [];
for (const name of names.length > 0 ? names : SUITE) {
    if (!existsSync(join(source, entryFile(name)))) {
        if (process.env.COCOON_PARTIAL === "1") {
            console.log(`${name}: ${entryFile(name)} does not exist yet, skipped (COCOON_PARTIAL=1)`);
            continue;
        }
        fail(`${entryFile(name)} does not exist; COCOON_PARTIAL=1 builds what there is`);
    }
    built.push({ name, ...(await compile(name, sources)) });
}
// Written only when all compile, so that a failure never leaves a mixture of two builds.
mkdirSync(out, { recursive: true });
for (const { name, code, abi } of built) {
    writeFileSync(join(out, `${name}.code.boc`), code);
    writeFileSync(join(out, `${name}.abi.json`), abi);
    console.log(`${name}: ${code.length} bytes of code`);
}
