// tonweb's HttpProvider and wallet, unmodified, against a toncenter v2 endpoint. One JSON argument, one JSON answer.

import TonWeb from "tonweb";

const task = JSON.parse(process.argv[2]);
const tonweb = new TonWeb(new TonWeb.HttpProvider(task.endpoint, { apiKey: "anything" }));
const { provider } = tonweb;
const keys = TonWeb.utils.nacl.sign.keyPair.fromSeed(TonWeb.utils.hexToBytes(task.seed));
const wallet = new TonWeb.Wallets.all.v4R2(provider, { publicKey: keys.publicKey, wc: 0 });
const address = (await wallet.getAddress()).toString(true, true, true);

const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return typeof error === "string" ? error : error.message ?? JSON.stringify(error);
  }
};

const answer = { address };
answer.balance = await tonweb.getBalance(address);
answer.info = await provider.getAddressInfo(address);
answer.extended = await provider.getExtendedAddressInfo(address);
answer.wallet = await provider.getWalletInfo(address);
answer.seqno = await wallet.methods.seqno().call();
answer.nobody = await provider.getWalletInfo(task.nobody);

const transfer = wallet.methods.transfer({
  secretKey: keys.secretKey, toAddress: task.nobody, amount: TonWeb.utils.toNano("0.5"),
  seqno: answer.seqno, payload: "from tonweb", sendMode: 1, expireAt: task.until,
});
answer.fees = await transfer.estimateFee();
answer.sent = await transfer.send();
answer.replay = await failure(() => transfer.send());
answer.transactions = await tonweb.getTransactions(address, 2);
const [last] = answer.transactions;
answer.paged = await tonweb.getTransactions(address, 1, last.transaction_id.lt, last.transaction_id.hash);
answer.later = await tonweb.getBalance(address);

answer.number = (await provider.call2(task.echo, "echo", [["num", "0x2a"]])).toString();
answer.called = await provider.call(task.echo, "echo", [["num", 7]]);
answer.thrown = (await provider.call(task.thrower, "anything")).exit_code;
const config = await provider.getConfigParam(8);
answer.config = TonWeb.utils.bytesToHex(await config.hash());
answer.masterchain = await provider.getMasterchainInfo();
const { seqno } = answer.masterchain.last;
answer.shards = await provider.getBlockShards(seqno);
answer.header = await provider.getMasterchainBlockHeader(seqno);
const [shard] = answer.shards.shards;
answer.inShard = await provider.getBlockTransactions(shard.workchain, shard.shard, shard.seqno, 10);
answer.inMaster = await provider.getMasterchainBlockTransactions(seqno);
answer.badAddress = await failure(() => provider.getAddressInfo("nonsense"));
answer.badMethod = await failure(() => provider.send("noSuchMethod", {}));
console.log(JSON.stringify(answer));
