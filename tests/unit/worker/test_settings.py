"""Settings: file and environment, bounds, and secrets that stay secret. Prekeys on disk. Chain time."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cocoon_sdk.chain.base import ChainHead
from cocoon_sdk.clock import ManualClock
from cocoon_sdk.crypto import BoxKey
from cocoon_sdk.errors import ConfigError, KeyMaterialError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Nano
from cocoon_worker.catalogue import OwnOffer, own_offers
from cocoon_worker.chaintime import ChainTime
from cocoon_worker.config import OfferConfig, load_config
from cocoon_worker.engine.openai import OpenAIEngine
from cocoon_worker.engine.vllm import VllmEngine
from cocoon_worker.main import make_engine
from cocoon_worker.prekeys import GRACE_S, PrekeyRing
from tests.unit.worker.samples import MODEL_ID, NOW, offer

TOML = f"""
registry = "0:{"11" * 32}"
owner = "0:{"12" * 32}"
operator_key_file = "operator.json"
prekey_dir = "prekeys"
data_dir = "data"

[chain]
api_key = "very-secret"

[engine]
kind = "openai"
url = "http://127.0.0.1:8000/v1"
api_key = "also-secret"

[[offers]]
model = "model-x"
model_id = "{"aa" * 32}"
input_price = "0.1"
output_price = "0.2"
minimum_price = "0.01"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "worker.toml"
    path.write_text(TOML)
    return path


def test_operator_can_configure_by_file_and_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOON_WORKER_CONFIG", str(file))
    monkeypatch.setenv("COCOON_WORKER_POLICY__HANDOVER_S", "7")
    monkeypatch.setenv("COCOON_WORKER_ENGINE__API_KEY", "from-environment")
    config = load_config()
    assert config.policy.handover_s == 7
    assert config.policy.max_concurrent == 4
    assert config.offers[0].minimum_price == Nano.ton("0.01")
    assert config.engine.api_key is not None
    assert config.engine.api_key.get_secret_value() == "from-environment"
    assert config.journal_path == Path("data/journal.sqlite")


def test_settings_cannot_show_a_secret(file: Path) -> None:
    config = load_config(file)
    for text in (repr(config), str(config), config.model_dump_json()):
        assert "secret" not in text.replace("SecretStr", "").replace("secret_", "")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('kind = "openai"', 'kind = "magic"', "engine.kind"),
        ('url = "http', 'ur = "http', "engine"),
        ('registry = "0:11', 'registry = "0:1', "registry"),
        ('owner = "0:12', 'owner = "-1:12', "owner"),
        ('input_price = "0.1"', "input_price = 0.1", "input_price"),
        ('input_price = "0.1"', 'input_price = "0.1234567891"', "input_price"),
        ('model_id = "aa', 'model_id = "zz', "model_id"),
        ("[chain]", "[policy]\nmessage_validity_s = 400\n[chain]", "policy.message_validity_s"),
        ("[chain]", "[policy]\nresend_s = 120\n[chain]", "policy"),
        ("[chain]", "[data]\ninline = 'never'\n[chain]", "settings"),
        ("[chain]", "surprise = 1\n[chain]", "surprise"),
        ("[chain]", "[chain", "settings"),
    ],
)
def test_worker_cannot_start_when_a_setting_is_wrong(file: Path, old: str, new: str, place: str) -> None:
    assert old in TOML
    file.write_text(TOML.replace(old, new, 1))
    with pytest.raises(ConfigError, match=place.replace(".", r"\.")) as caught:
        load_config(file)
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("sampling", ["greedy", "replayable"])
def test_echo_cannot_be_offered_as_verifiable(file: Path, sampling: str) -> None:
    file.write_text(TOML.replace('"openai"', '"echo"') + f'sampling = "{sampling}"\n')
    with pytest.raises(ConfigError, match="the echo chooses no tokens"):
        load_config(file)
    file.write_text(TOML + f'sampling = "{sampling}"\n')
    assert load_config(file).offers[0].sampling == sampling


def test_engine_has_to_keep_the_strongest_promise_of_several_offers(file: Path) -> None:
    second = TOML[TOML.index("[[offers]]") :].replace('"model-x"', '"model-y"') + 'sampling = "greedy"\n'
    file.write_text(TOML + second + second.replace('"model-y"', '"model-z"').replace("greedy", "replayable"))
    engine = make_engine(load_config(file))
    assert isinstance(engine, OpenAIEngine)
    assert engine._sampling is SamplingClass.REPLAYABLE
    folder = 'kind = "vllm"\nmodel_path = "/model"\ndtype = "float16"'
    file.write_text(TOML.replace('kind = "openai"', folder) + 'sampling = "replayable"\n')
    supervised = make_engine(load_config(file))
    assert isinstance(supervised, VllmEngine)
    assert supervised._settings.sampling is SamplingClass.REPLAYABLE
    assert supervised._settings.dtype == "float16"


def test_worker_cannot_start_when_the_named_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("sampling", ["greedy", "replayable"])
def test_worker_cannot_offer_verifiable_answers_when_no_commitment_holds_them(sampling: str) -> None:
    prices = {"input_price": "1", "output_price": "1", "minimum_price": "1"}
    sold = OfferConfig.model_validate(
        {"model": "m", "model_id": MODEL_ID.hex(), "max_context": 1 << 17, "sampling": sampling, **prices}
    )
    assert own_offers([sold], {})[0].verifiable
    long = sold.model_copy(update={"max_output_tokens": 1 << 17})
    with pytest.raises(ConfigError, match="a commitment holds 65536"):
        own_offers([long], {})
    unverified = long.model_copy(update={"sampling": SamplingClass.UNVERIFIED})
    assert not own_offers([unverified], {})[0].verifiable


def test_offer_can_be_kept_in_a_job_and_read_back() -> None:
    sold = offer(cached_input_price="1", sampling="greedy")
    assert OwnOffer.from_json(sold.to_json()) == sold


# -- prekeys ---------------------------------------------------------------------------------------------

LIFE_S = 21 * 86_400
DAY_S = 86_400


def test_prekeys_can_rotate_and_outlive_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "prekeys"
    ring = PrekeyRing(folder, LIFE_S)
    assert ring.rotate(NOW, ())
    assert not ring.rotate(NOW + 6 * DAY_S, ())
    assert ring.rotate(NOW + 8 * DAY_S, ())
    assert [key.expires for key in ring.announced(NOW + 8 * DAY_S)] == [
        NOW + LIFE_S,
        NOW + 8 * DAY_S + LIFE_S,
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in folder.iterdir())
    again = PrekeyRing(folder, LIFE_S)
    assert again.announced(NOW) == ring.announced(NOW)
    assert again.keys == ring.keys


def test_old_prekey_can_be_deleted_only_when_no_job_needs_it(tmp_path: Path) -> None:
    ring = PrekeyRing(tmp_path, LIFE_S)
    ring.rotate(NOW, ())
    (old,) = ring.keys
    late = NOW + LIFE_S + GRACE_S + 1
    ring.rotate(late, {old.key_id})
    assert old in ring.keys
    assert old.public_key not in {prekey.key for prekey in ring.announced(late)}
    ring.rotate(late, ())
    assert old not in ring.keys
    assert not [path for path in tmp_path.iterdir() if old.key_id.hex() in path.name]
    with pytest.raises(KeyMaterialError):
        # Nothing of it is left: a payload sealed to it stays closed for ever.
        PrekeyRing(tmp_path, LIFE_S)._read(f"{NOW + LIFE_S:010d}-{old.key_id.hex()}.json")


def test_foreign_files_cannot_become_prekeys(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert PrekeyRing(tmp_path, LIFE_S).keys == ()
    assert BoxKey.generate() not in PrekeyRing(tmp_path, LIFE_S).keys


# -- time --------------------------------------------------------------------------------------------------


def test_chain_time_can_run_on_between_blocks_and_never_back() -> None:
    clock = ManualClock(5)  # a machine whose clock is far off
    time = ChainTime(clock)
    time.observe(ChainHead(seqno=10, now=NOW))
    clock.advance(7)
    assert (time.surely(), time.maybe()) == (NOW, NOW + 7)
    time.observe(ChainHead(seqno=9, now=NOW - 5))  # a lagging endpoint
    assert (time.surely(), time.maybe()) == (NOW, NOW + 7)
    time.observe(ChainHead(seqno=11, now=NOW + 4))
    assert (time.surely(), time.maybe(), time.seqno) == (NOW + 4, NOW + 4, 11)
