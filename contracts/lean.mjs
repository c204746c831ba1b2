// Entry code of the contracts, leaner than what Tact generates (saves about 600 gas per message).
//
// Tact stays the one source. Only the frame around the receivers is exchanged, in the FunC that Tact hands to its own
// FunC compiler: nothing parses the incoming message any more, because sender, value and the bounced flag are one
// instruction each in TVM 11 and later (lowlevel.tact). Every piece that is exchanged must be there exactly once, so
// that another version of Tact fails the build instead of changing the contracts.

/** Receivers in front of the test for bounced messages. */
const HOT_RECEIVERS = 3;

function fail(text) {
    throw new Error(`lean.mjs: ${text}: this version of Tact generates another frame`);
}

function swap(code, from, to) {
    if (code.split(from).length !== 2) fail(`not exactly once: ${JSON.stringify(from)}`);
    return code.replace(from, () => to);
}

const HELPERS = `
;; First 32 bits, zeros where there are fewer; and the rest behind them.
int first32(slice s) asm "32 PLDUZ NIP";
(slice, ()) ~skip32(slice s) asm "32 LDU NIP";
int is_bounced() asm "INMSG_BOUNCED";

`;

const CONTEXT = `    ;; Context
    var cs = in_msg_cell.begin_parse();
    cs~skip_bits(2);
    var msg_bounceable = cs~load_int(1);
    var msg_bounced = cs~load_int(1);
    slice msg_sender_addr = cs~load_msg_addr();
    __tact_context = (msg_bounceable, msg_sender_addr, msg_value, cs);
    __tact_context_sender = msg_sender_addr;
    
`;

const OPERATION = `    int op = 0;
    int in_msg_length = slice_bits(in_msg);
    if (in_msg_length >= 32) {
        op = in_msg~load_uint(32);
    }
`;

/** Fift that lays out the code: jumps to recv_internal and recv_external; all else is getters. No c3: no procedure of
 * ours is called through the dictionary (checked by the build). */
function selector(external) {
    const take = (id) => `
                dup ${id} swap @procdictkeylen idict@ { "no such entry" abort } ifnot
                <b swap s, b> swap`;
    const jump = `IFNOTJMPREF`;
    return `() __tact_selector_hack_asm() impure asm """
@atend @ 1 {
        execute current@ context@ current!
        {
            }END> b>
            <{
                swap <s ref@${external ? take(-1) : ""}${take(0)}
                0 swap @procdictkeylen idict- drop
                -1 swap @procdictkeylen idict- drop
                65535 swap @procdictkeylen idict- drop
                ${external ? 3 : 2} roll
                DUP 2 roll ${jump}${external ? `\n                DUP INC 2 roll ${jump}` : ""}
                over null? {
                    nip
                } {
                    swap @procdictkeylen DICTPUSHCONST DICTIGETJMPZ
                } cond
                11 THROWARG
            }> b>
        } : }END>c
        current@ context! current!
    } does @atend !
""";`;
}

/** Exchange the frame in the FunC code of a contract. */
export function lean(func) {
    let code = swap(func, CONTEXT, "");
    code = swap(
        code,
        "() recv_internal(int msg_value, cell in_msg_cell, slice in_msg) impure {",
        `${HELPERS}() recv_internal(slice in_msg, int selector) impure {`,
    );
    const external = code.includes("() recv_external(slice in_msg) impure {");
    if (external) {
        code = swap(
            code,
            "() recv_external(slice in_msg) impure {",
            "() recv_external(slice in_msg, int selector) impure {",
        );
    }
    // Bounced messages begin with 32 one bits, which is no operation: they are tested after the hot receivers.
    const start = code.indexOf("    ;; Handle bounced messages\n");
    const end = code.indexOf(OPERATION);
    if (start < 0 || end < start) fail("no handler of bounced messages in front of the receivers");
    const bounced = swap(
        code.slice(start, end), "    if (msg_bounced) {", "    if ((op == 0xFFFFFFFF) & is_bounced()) {",
    );
    code = code.slice(0, start) + code.slice(end);
    code = swap(code, OPERATION, "    int op = in_msg.first32();\n");
    const receivers = [...code.matchAll(/^    ;; Receive \w+ message$/gm)];
    const at = receivers[Math.min(HOT_RECEIVERS, receivers.length - 1)].index;
    code = code.slice(0, at) + bounced + code.slice(at);
    code = code.replace(/^    if \(op == 0x[0-9a-f]+\) \{$/gm, (line) => `${line}\n        in_msg~skip32();`);
    // What is too short for an operation has none, whatever the padding makes of it.
    code = code.replaceAll(
        "((op == 0) & (in_msg_length <= 32))", "((slice_bits(in_msg) < 32) | ((op == 0) & (slice_bits(in_msg) == 32)))",
    );
    code = code.replaceAll("in_msg_length", "slice_bits(in_msg)");
    // The data is one slice: nothing is loaded from it before the receivers look at it.
    const load = /^\((\w+)\) (\$\w+\$_contract_load)\(\) impure inline \{\n    slice \$sc = get_data\(\)\.begin_parse\(\);\n    return \$sc~\$(\w+)\$_load\(\);\n\}/m;
    if (/^\(slice\) \$\w+\$_contract_load\(\) impure inline \{/m.test(code)) {
        if (!load.test(code)) fail("no loading of the data");
        code = code.replace(load, "(slice) $2() impure inline {\n    return get_data().begin_parse();\n}");
    }
    const hack = /\(\) __tact_selector_hack_asm\(\) impure asm """[^]*?""";/;
    if (!hack.test(code)) fail("no selector");
    code = code.replace(hack, () => selector(external));
    // Nothing is left that would read the context.
    if (/__tact_context(_sender)? =|__tact_context_get\w*\(\)[^{;]*;(?!\n)/.test(code)) fail("the context is used");
    return code;
}
