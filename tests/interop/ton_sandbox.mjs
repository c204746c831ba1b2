// One @ton/sandbox chain behind JSON lines: a request on stdin, an answer on stdout, in order.
//
// The package is used as it is, through what it exports. Two of its classes are extended so that its chain
// starts where ours does and can be compared bit by bit: an account that nobody touched is `account_none`
// (the package makes it an empty uninitialised one), and logical times may be given (the package takes the
// next million).
import { createInterface } from 'node:readline';
import { performance } from 'node:perf_hooks';
import { beginCell, Cell, loadMessage, storeMessage, storeShardAccount } from '@ton/core';
import { Blockchain, Executor, LocalBlockchainStorage } from '@ton/sandbox';

const NOTHING = { account: undefined, lastTransactionLt: 0n, lastTransactionHash: 0n };

class EmptyStorage extends LocalBlockchainStorage {
    async getContract(blockchain, address) {
        const known = this.contracts.has(address.toString());
        const contract = await super.getContract(blockchain, address);
        if (!known) contract.account = NOTHING;
        return contract;
    }
}

class TimedBlockchain extends Blockchain {
    times = [];

    increaseLt() {
        if (this.times.length === 0) throw new Error('one transaction more than was expected');
        this.currentLt = this.times.shift();
    }
}

let chain;
let executor;
let workload = [];
const configs = new Map(); // reading one takes a tenth of a second: each is read once

const base64 = (cell) => cell.toBoc().toString('base64');

const commands = {
    // A fresh chain with a configuration (base64). `timed`: `send` says the logical times.
    async reset({ config, now, timed }) {
        executor ??= await Executor.create();
        if (!configs.has(config)) configs.set(config, Cell.fromBase64(config));
        const options = { config: configs.get(config), storage: new EmptyStorage(), executor };
        chain = timed ? new TimedBlockchain(options) : await Blockchain.create(options);
        chain.verbosity = { print: false, blockchainLogs: false, vmLogs: 'none', debugLogs: false };
        chain.now = now;
        return {};
    },

    // Public libraries: the dictionary's root (base64).
    async libraries({ root }) {
        chain.libs = Cell.fromBase64(root);
        return {};
    },

    // A message as this package lays it out in cells.
    async normalise({ message }) {
        const parsed = loadMessage(Cell.fromBase64(message).beginParse());
        return { message: base64(beginCell().store(storeMessage(parsed)).endCell()) };
    },

    // Deliver one message and all that follows, at the given unix time, block seed and logical times.
    async send({ message, now, seed, times }) {
        chain.now = now;
        chain.random = Buffer.from(seed, 'hex');
        chain.times = times.map(BigInt);
        const transactions = [];
        try {
            const queue = await chain.sendMessageIter(Cell.fromBase64(message), { allowParallel: true });
            for await (const { raw } of queue) transactions.push(base64(raw));
            return { transactions, error: null, exit_code: null };
        } catch (error) {
            return { transactions, error: error.error ?? String(error), exit_code: error.exitCode ?? null };
        }
    },

    // The ShardAccount of every account that is not empty.
    async accounts() {
        const accounts = {};
        for (const { address } of chain.snapshot().contracts) {
            const { account } = await chain.getContract(address);
            if (account.account === undefined) continue;
            accounts[address.toRawString()] = base64(beginCell().store(storeShardAccount(account)).endCell());
        }
        return { accounts };
    },

    // Take messages for `run`, parsed ahead of time.
    async load({ messages }) {
        workload = messages.map((message) => loadMessage(Cell.fromBase64(message).beginParse()));
        return {};
    },

    // Deliver what was loaded, as a user of the package would, and say how long that took.
    async run() {
        let transactions = 0;
        const start = performance.now();
        for (const message of workload) transactions += (await chain.sendMessage(message)).transactions.length;
        return { seconds: (performance.now() - start) / 1000, transactions };
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
        answer = await commands[request.do](request);
    } catch (error) {
        answer = { failed: error.stack ?? String(error) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
}
