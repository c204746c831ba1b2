// Entry code of the contracts, leaner than what Tact generates (saves about 600 gas per message).
//
// Tact stays the one source. Only the frame around the receivers is exchanged, in the FunC that Tact hands to its own
// FunC compiler: nothing parses the incoming message any more, because sender, value and the bounced flag are one
// instruction each in TVM 11 and later (lowlevel.tact). Every piece that is exchanged must be there exactly once, so
// that another version of Tact fails the build instead of changing the contracts.

/** Receivers in front of the test for bounced messages. A stake gets back many claims, and little else but rewards. */
const HOT_RECEIVERS = { WorkerStake: 1 };
const HOT_RECEIVERS_ELSEWHERE = 3;

function fail(text) {
    throw new Error(`lean.mjs: ${text}: this version of Tact generates another frame`);
}

function swap(code, from, to) {
    if (code.split(from).length !== 2) fail(`not exactly once: ${JSON.stringify(from)}`);
    return code.replace(from, () => to);
}

const HELPERS = `
;; The operation and the rest behind it; -1 where there are fewer than 32 bits.
(slice, int) ~operation(slice s) asm(-> 1 0) "32 LDUQ IFNOT:<{ -1 PUSHINT SWAP }>";
int is_bounced() asm "INMSG_BOUNCED";
;; Selector 0 is an internal message, -1 an external one; all else is a getter's.
() only_internal(int selector) impure asm "DUP <b b> IFJMPREF DROP";
() only_external(int selector) impure asm "DUP INC <b b> IFJMPREF DROP";

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

/** Fift that lays out the code without a jump in front of recv_internal: its root cell, which begins with a jump on other
 * selectors (JUMP), is the contract's root cell. That jump leads to recv_external, whose own leads to the getters. Both are
 * written with an empty cell, the first reference, which is exchanged here. No c3: no procedure of ours is called through
 * the dictionary (checked by the build). */
function selector(external) {
    const take = (id) => `
            dup ${id} swap @procdictkeylen idict@ { "no such entry" abort } ifnot swap`;
    const graft = `
            swap ref@+ hash <b b> hash <> { "no placeholder" abort } if <b rot ref, swap s, b>`;
    return `() __tact_selector_hack_asm() impure asm """
@atend @ 1 {
        execute current@ context@ current!
        {
            }END> b>
            <s ref@${take(0)}${external ? take(-1) : ""}
            0 swap @procdictkeylen idict- drop
            -1 swap @procdictkeylen idict- drop
            65535 swap @procdictkeylen idict- drop
            <{
                over null? {
                    nip
                } {
                    swap @procdictkeylen DICTPUSHCONST DICTIGETJMPZ
                } cond
                11 THROWARG
            }> b>${external ? graft : ""}${graft}
        } : }END>c
        current@ context! current!
    } does @atend !
""";`;
}

/** Exchange the frame in the FunC code of a contract. */
export function lean(func, contract) {
    let code = swap(func, CONTEXT, "");
    code = swap(
        code,
        "() recv_internal(int msg_value, cell in_msg_cell, slice in_msg) impure {",
        `${HELPERS}() recv_internal(slice in_msg, int selector) impure {\n    only_internal(selector);`,
    );
    const external = code.includes("() recv_external(slice in_msg) impure {");
    if (external) {
        code = swap(
            code,
            "() recv_external(slice in_msg) impure {",
            "() recv_external(slice in_msg, int selector) impure {\n    only_external(selector);",
        );
    }
    // Bounced messages begin with 32 one bits, which is no operation: they are tested after the hot receivers.
    const start = code.indexOf("    ;; Handle bounced messages\n");
    const end = code.indexOf(OPERATION);
    if (start < 0 || end < start) fail("no handler of bounced messages in front of the receivers");
    const bounced = code.slice(start, end)
        .replaceAll(/^ *in_msg~skip_bits\(32\);\n/gm, "")
        .replace("    if (msg_bounced) {", () => "    if ((op == 0xFFFFFFFF) & is_bounced()) {");
    if (!bounced.includes("is_bounced()")) fail("no test for bounced messages");
    code = code.slice(0, start) + code.slice(end);
    code = swap(code, OPERATION, "    int op = in_msg~operation();\n");
    const receivers = [...code.matchAll(/^    ;; Receive \w+ message$/gm)];
    const at = receivers[Math.min(HOT_RECEIVERS[contract] ?? HOT_RECEIVERS_ELSEWHERE, receivers.length - 1)].index;
    code = code.slice(0, at) + bounced + code.slice(at);
    code = code.replaceAll("((op == 0) & (in_msg_length <= 32))", "((op == -1) | ((op == 0) & (slice_bits(in_msg) == 0)))");
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
