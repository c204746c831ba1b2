// npm's ton-lite-client with @ton/core and @ton/ton, unmodified, against a liteserver.
// Reads { config, seed } as JSON from stdin, prints what it saw as JSON.

import { readFileSync } from "node:fs";
import {
  Address,
  Cell,
  beginCell,
  internal,
  loadTransaction,
  parseTuple,
  serializeTuple,
  storeStateInit,
  toNano,
} from "@ton/core";
import { keyPairFromSeed } from "@ton/crypto";
import { WalletContractV4 } from "@ton/ton";
import { LiteClient, LiteRoundRobinEngine, LiteSingleEngine } from "ton-lite-client";

const task = JSON.parse(readFileSync(0, "utf8"));
const server = task.config.liteservers[0];
const engine = new LiteSingleEngine({
  host: `tcp://127.0.0.1:${server.port}`,
  publicKey: Buffer.from(server.id.key, "base64"),
});
const client = new LiteClient({ engine: new LiteRoundRobinEngine([engine]) });
const keys = keyPairFromSeed(Buffer.from(task.seed, "hex"));
const wallet = client.open(WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey }));
const init = { code: Cell.fromHex(task.code), data: Cell.fromHex(task.data) };
const contract = new Address(0, beginCell().store(storeStateInit(init)).endCell().hash());

const answer = { wallet: wallet.address.toRawString(), contract: contract.toRawString() };

const transfer = async (seqno) => {
  await wallet.sendTransfer({
    seqno,
    secretKey: keys.secretKey,
    messages: [internal({ to: contract, value: toNano("1"), bounce: false, init })],
  });
};

const accounts = async () => {
  const { last } = await client.getMasterchainInfo();
  const state = await client.getAccountState(contract, last);
  answer.state = state.state.storage.state.type;
  answer.balance = state.balance.coins.toString();
  const pruned = await client.getAccountStatePrunned(contract, last);
  answer.pruned = pruned.stateHash.toString("hex");
  answer.account = Cell.fromBoc(state.raw)[0].hash().toString("hex");
  const nobody = await client.getAccountState(new Address(0, Buffer.alloc(32, 7)), last);
  answer.nobody = { state: nobody.state, last: nobody.lastTx };
  const run = await client.runMethod(contract, "answer", serializeTuple([]).toBoc(), last);
  answer.method = [run.exitCode, parseTuple(Cell.fromBase64(run.result)).map((item) => item.value.toString())];
  answer.seqno = await wallet.getSeqno();
  const held = await client.getAccountState(wallet.address, last);
  const history = await client.getAccountTransactions(
    wallet.address,
    held.lastTx.lt.toString(),
    Buffer.from(held.lastTx.hash.toString(16).padStart(64, "0"), "hex"),
    10,
  );
  const transactions = Cell.fromBoc(history.transactions).map((cell) => loadTransaction(cell.beginParse()));
  answer.history = transactions.map((item) => item.outMessagesCount);
  const one = await client.getAccountTransaction(
    wallet.address,
    transactions[0].lt.toString(),
    history.ids[0],
  );
  answer.one = Cell.fromBoc(one.transaction)[0].hash().equals(transactions[0].hash());
  return history.ids[0];
};

const blocks = async (shard) => {
  const { last } = await client.getMasterchainInfoExt();
  answer.head = last.seqno;
  answer.shards = (await client.getAllShardsInfo(last)).shards;
  const found = await client.lookupBlockByID({ workchain: -1, shard: last.shard, seqno: last.seqno });
  answer.found = found.id.rootHash.equals(last.rootHash);
  const header = await client.getBlockHeader(shard);
  answer.header = Cell.fromBoc(header.headerProof)[0].refs[0].hash(0).equals(shard.rootHash);
  const listed = await client.listBlockTransactions(shard);
  answer.listed = listed.ids.map((item) => item.account.toString("hex"));
  answer.full = (await client.getFullBlock(last.seqno)).shards.map((item) => [
    item.workchain,
    item.seqno,
    item.transactions.length,
  ]);
  answer.config = (await client.getConfig(last)).config.size;
  answer.time = await client.getCurrentTime();
  answer.version = (await client.getVersion()).version;
};

const refusal = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return error.message;
  }
};

await transfer(0);
const shard = await accounts();
await blocks(shard);
answer.stale = await refusal(() => transfer(0));
answer.missing = await refusal(() =>
  client.lookupBlockByID({ workchain: -1, shard: "-9223372036854775808", seqno: 999 }),
);
const awaited = await client.getMasterchainInfo({ awaitSeqno: answer.head, timeout: 1000 });
answer.awaited = awaited.last.seqno >= answer.head;
engine.close();
console.log(JSON.stringify(answer));
process.exit(0);
