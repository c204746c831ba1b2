// @ton/ton's TonClient, unmodified, against a toncenter v2 endpoint. Reads one JSON argument, prints one JSON answer.

import { Address, Cell, SendMode, beginCell, external, internal, storeMessage, toNano } from "@ton/core";
import { keyPairFromSeed } from "@ton/crypto";
import { TonClient, WalletContractV4, WalletContractV5R1 } from "@ton/ton";

const task = JSON.parse(process.argv[2]);
const client = new TonClient({ endpoint: task.endpoint, apiKey: "anything" });
const keys = keyPairFromSeed(Buffer.from(task.seed, "hex"));
const wallet = client.open(WalletContractV4.create({ workchain: 0, publicKey: keys.publicKey }));
const echo = Address.parse(task.echo);

const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return { words: error.message, data: error.response?.data ?? null, status: error.response?.status ?? null };
  }
};

const state = async (address) => {
  const found = await client.getContractState(address);
  return {
    balance: found.balance.toString(),
    state: found.state,
    code: found.code === null ? null : Cell.fromBoc(found.code)[0].hash().toString("hex"),
    last: found.lastTransaction,
    block: found.blockId,
    now: found.timestampt,
  };
};

const transaction = (item) => ({
  lt: item.lt.toString(),
  hash: item.hash().toString("base64"),
  total: item.totalFees.coins.toString(),
  out: [...item.outMessages.values()].map((message) => message.info.createdLt?.toString() ?? null),
});

const answer = {};

const reading = async () => {
  answer.balance = (await client.getBalance(wallet.address)).toString();
  answer.deployed = await client.isContractDeployed(wallet.address);
  answer.states = [await state(wallet.address), await state(Address.parse(task.nobody))];
  answer.masterchain = await client.getMasterchainInfo();
  answer.shards = await client.getWorkchainShards(answer.masterchain.latestSeqno);
  answer.seqno = await wallet.getSeqno();
};

const getters = async () => {
  const cell = beginCell().storeUint(0xabcdef, 24).storeRef(beginCell().storeUint(1, 1).endCell()).endCell();
  const { stack, gas_used } = await client.runMethod(echo, "echo", [
    { type: "int", value: -5n },
    { type: "int", value: 2n ** 255n },
    { type: "cell", cell },
    { type: "slice", cell },
  ]);
  answer.echoed = [
    stack.readBigNumber().toString(),
    stack.readBigNumber().toString(),
    stack.readCell().equals(cell),
    stack.readCell().equals(cell), // the service shows slices as cells
  ];
  answer.gas = gas_used;
  const odd = await client.callGetMethod(Address.parse(task.odd), "anything");
  answer.odd = [odd.stack.pop(), odd.stack.pop(), odd.stack.pop(), odd.stack.pop()].map((item) => JSON.parse(JSON.stringify(item, (_, value) =>
    typeof value === "bigint" ? value.toString() : value instanceof Cell ? value.hash().toString("hex") : value)));
  answer.builder = await failure(() =>
    client.runMethod(echo, "echo", [{ type: "builder", cell }]));
  answer.thrown = await failure(() => client.runMethod(Address.parse(task.thrower), "anything"));
  answer.thrownCode = (await client.runMethodWithError(Address.parse(task.thrower), "anything")).exit_code;
  answer.missing = (await client.runMethodWithError(Address.parse(task.nobody), "anything")).exit_code;
};

const sending = async () => {
  const seqno = await wallet.getSeqno();
  const transfer = wallet.createTransfer({
    seqno, secretKey: keys.secretKey, timeout: task.until, sendMode: SendMode.PAY_GAS_SEPARATELY,
    messages: [internal({ to: Address.parse(task.nobody), value: toNano("0.25"), bounce: false, body: "hello" })],
  });
  answer.fees = (await client.estimateExternalMessageFee(wallet.address, {
    body: transfer, initCode: null, initData: null, ignoreSignature: false,
  })).source_fees;
  await client.sendExternalMessage(wallet, transfer);
  answer.replay = await failure(() => client.sendExternalMessage(wallet, transfer));
  answer.garbage = await failure(() => client.sendFile(Buffer.from("not a bag")));
  const history = await client.getTransactions(wallet.address, { limit: 3 });
  answer.history = history.map(transaction);
  const [{ lt, hash }] = answer.history;
  answer.one = transaction(await client.getTransaction(wallet.address, lt, hash));
  answer.older = (await client.getTransactions(wallet.address, { limit: 2, lt, hash })).map(transaction);
  const createdLt = answer.history[0].out[0];
  const result = await client.tryLocateResultTx(wallet.address, Address.parse(task.nobody), createdLt);
  const source = await client.tryLocateSourceTx(wallet.address, Address.parse(task.nobody), createdLt);
  answer.located = [transaction(result), transaction(source)];
  answer.unlocated = await failure(() =>
    client.tryLocateResultTx(wallet.address, Address.parse(task.nobody), "7"));
  const [shard] = await client.getWorkchainShards((await client.getMasterchainInfo()).latestSeqno);
  answer.inShard = (await client.getShardTransactions(shard.workchain, shard.seqno, shard.shard))
    .map((item) => ({ ...item, account: item.account.toRawString() }));
};

const young = async () => {
  // A wallet of the fifth version: funded, deployed by its own first request, then used.
  const fifth = client.open(WalletContractV5R1.create({ workchain: 0, publicKey: keys.publicKey }));
  await wallet.sendTransfer({
    seqno: await wallet.getSeqno(), secretKey: keys.secretKey, timeout: task.until,
    sendMode: SendMode.PAY_GAS_SEPARATELY,
    messages: [internal({ to: fifth.address, value: toNano("2"), bounce: false })],
  });
  answer.fifthBefore = await client.isContractDeployed(fifth.address);
  const send = async (value) => fifth.sendTransfer({
    seqno: await fifth.getSeqno(), secretKey: keys.secretKey, timeout: task.until,
    sendMode: SendMode.PAY_GAS_SEPARATELY,
    messages: [internal({ to: Address.parse(task.nobody), value, bounce: false })],
  });
  const first = fifth.createTransfer({
    seqno: 0, secretKey: keys.secretKey, timeout: task.until, sendMode: SendMode.PAY_GAS_SEPARATELY,
    messages: [internal({ to: Address.parse(task.nobody), value: 1n, bounce: false })],
  });
  answer.fifthFees = (await client.estimateExternalMessageFee(fifth.address, {
    body: first, initCode: fifth.init.code, initData: fifth.init.data, ignoreSignature: true,
  })).source_fees;
  const fresh = external({ to: fifth.address, init: fifth.init, body: first });
  await client.sendFile(beginCell().store(storeMessage(fresh)).endCell().toBoc());
  answer.fifth = { address: fifth.address.toRawString(), seqno: await fifth.getSeqno() };
  await send(toNano("0.5"));
  answer.fifth.after = await fifth.getSeqno();
};

const wrong = async () => {
  answer.unknownBlock = await failure(() => client.getWorkchainShards(999999));
  answer.unknownTransaction = await failure(() =>
    client.getTransaction(wallet.address, "123", Buffer.alloc(32).toString("base64")));
};

for (const part of [reading, getters, sending, young, wrong]) await part();
console.log(JSON.stringify(answer));
