"""Structure of an answer: each fault has its case, and the odd but honest endings have theirs."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_sdk.types import Hash
from cocoon_sdk.verify.choices import Structure, structure
from cocoon_sdk.verify.commitment import CANCELLED, Choice, Commitment, prompt_hash
from cocoon_sdk.verify.rescoring import Rescored, Rescoring
from cocoon_sdk.verify.sampling import Sampling
from cocoon_sdk.verify.structure import DEFAULT_MAX_TOKENS, Fault, FaultKind, Level, Question
from cocoon_sdk.verify.work import Work
from tests.helpers.table_model import ids

END, EXTRA, CALL = 2, 9, 15
WRITTEN = '<tool_call>{"name": "pay", "arguments": {"to": "Bob"}}</tool_call>'
MODEL = Hash(b"\x55" * 32)
WORDS = {
    10: "Hello",
    11: " world",
    12: "!",
    13: "\n\n",
    14: " STOP here",
    CALL: WRITTEN,
    END: "<|im_end|>",
    EXTRA: "<tool>",
    16: " \ufffd",
    17: "\ufffd",
    18: "<|channel>thought\n<channel|>",
    19: "<think>so they want a greeting</think>",
    21: "Here is my thought process: ",
    22: "</think>",
    23: " Here is my response:",
    20: " and I was told to say that it is dangerous",
}
PROMPT = (1, 2, 3)
TOOLS = {"max_tokens": 99, "tools": [{"type": "function", "function": {"name": "pay"}}]}


def text(tokens: list[int] | tuple[int, ...]) -> str:
    return "".join(WORDS[token] for token in tokens)


@dataclasses.dataclass
class Case:
    """An answer that can be bent in one place."""

    tokens: list[int]
    finish: str
    content: str | None
    body: dict[str, Any] = dataclasses.field(default_factory=lambda: {"max_tokens": 16})
    chat: bool = True
    message: dict[str, Any] = dataclasses.field(default_factory=dict)
    told: str | None = None
    question: dict[str, Any] = dataclasses.field(default_factory=dict)
    commitment: dict[str, Any] = dataclasses.field(default_factory=dict)
    usage: dict[str, Any] = dataclasses.field(default_factory=dict)
    end_tokens: frozenset[int] | None = frozenset({END})
    texts: bool = True

    def found(self, bend: Callable[[dict[str, Any]], None] = lambda response: None) -> list[Fault]:
        return list(self.seen(bend).faults)

    def seen(
        self, bend: Callable[[dict[str, Any]], None] = lambda response: None, work: Work | None = None
    ) -> Structure:
        body: dict[str, Any] = {"messages": [], **self.body}
        question = Question(
            **{
                "kind": "chat.completion" if self.chat else "completion",
                "body": body,
                "seed": b"s" * 16,
                "sampling": SamplingClass.REPLAYABLE,
                "model_id": MODEL,
                "output_limit": 100,
                "context": 1000,
                **self.question,
            }
        )
        commitment = Commitment(
            **{
                "manifest": MODEL,
                "engine": "vllm",
                "platform": "cpu",
                "dtype": "float32",
                "prompt_tokens": len(PROMPT),
                "prompt_hash": prompt_hash(PROMPT),
                "max_tokens": body.get("max_tokens", DEFAULT_MAX_TOKENS),
                "sampling": Sampling.of_request(body).to_json(),
                "seed": b"s" * 16,
                "choices": (Choice.of(self.tokens, [-1.0] * len(self.tokens), self.finish),),
                **self.commitment,
            }
        )
        shown = {"content": self.content, **self.message}
        choice = {"message": shown} if self.chat else {"text": self.content}
        response = {
            "choices": [{**choice, "finish_reason": self.finish if self.told is None else self.told}],
            "usage": {"prompt_tokens": 3, "completion_tokens": len(self.tokens), **self.usage},
        }
        bend(response)
        nothing = Rescored(*(ids([]) for _ in range(5)))  # type: ignore[arg-type]
        whole, start = (text(self.tokens), text(self.tokens[:-1])) if self.texts else (None, None)
        rescoring = Rescoring(PROMPT, (nothing,), (whole,), (start,), self.end_tokens)
        return structure(question, response, commitment, rescoring, work)


def paying(who: str = "Bob", name: str = "pay", **fields: Any) -> dict[str, Any]:
    """Return what a message shows beside its content when it calls a function."""
    function = {"name": name, "arguments": json.dumps({"to": who})}
    return {"tool_calls": [{"id": "1", "type": "function", "function": function}], **fields}


def honest() -> Case:
    return Case([10, 11, END], "stop", "Hello world")


def kinds(found: list[Fault]) -> set[FaultKind]:
    return {fault.kind for fault in found}


@pytest.mark.parametrize(
    "case",
    [
        honest(),
        Case([10, 11], "length", "Hello world", {"max_tokens": 2}),
        Case([10, 11, END], "stop", "Hello world", chat=False),
        # An end token of the request's own, shown or not.
        Case([10, 12], "stop", "Hello", {"max_tokens": 9, "stop_token_ids": [12]}),
        # A stop sequence: cut off, in the middle of a token, or kept.
        Case([10, 13], "stop", "Hello", {"max_tokens": 9, "stop": ["\n\n"]}),
        Case([10, 14], "stop", "Hello ", {"max_tokens": 9, "stop": "STOP"}),
        Case([10, 14], "stop", "Hello STOP",
             {"max_tokens": 9, "stop": "STOP", "include_stop_str_in_output": True}),
        # One that looks like a mark, or is blank, or is where the answer begins.
        Case([10, EXTRA], "stop", "Hello", {"max_tokens": 9, "stop": "<tool>"}),
        Case([10, EXTRA], "stop", "Hello<tool>",
             {"max_tokens": 9, "stop": ["<tool>"], "include_stop_str_in_output": True}),
        Case([13], "stop", "", {"max_tokens": 9, "stop": ["\n"]}),
        # Stops count only when enough tokens are there.
        Case([10, 14, 11, 14], "stop", "Hello STOP here world ",
             {"max_tokens": 9, "stop": "STOP", "min_tokens": 3}),
        # The end token is known by its look where nobody names it.
        dataclasses.replace(honest(), end_tokens=None),
        dataclasses.replace(honest(), end_tokens=None, texts=False),
        # Special tokens in the middle are shown or not, as the engine likes.
        Case([10, EXTRA, 11, END], "stop", "Hello world"),
        Case([10, EXTRA, 11, END], "stop", "Hello<tool> world"),
        # An answer past its end token, on request.
        Case([10, END, 11], "length", "Hello world", {"max_tokens": 3, "ignore_eos": True}),
        # The context was full, or the worker offers less than was asked for.
        Case([10, 11], "length", "Hello world", {"max_tokens": 50}, question={"context": 5}),
        Case([10, 11], "length", "Hello world", {"max_tokens": 50}, question={"output_limit": 2},
             commitment={"max_tokens": 2}),
        # Parsers take reasoning and calls out of the text.
        Case([10, EXTRA, 11, END], "stop", "world", message={"reasoning_content": "Hello"}),
        Case([10, EXTRA, 11, END], "tool_calls", "", {"max_tokens": 9, "tools": [{"type": "function"}]}),
        Case([10, EXTRA, 11, END], "stop", "world",
             message={"reasoning": "Hello", "reasoning_content": "Hello"}),
        Case([10, CALL, END], "tool_calls", "Hello", TOOLS, message=paying()),
        Case([CALL, END], "tool_calls", None, TOOLS, message=paying()),
        Case([CALL, CALL, END], "tool_calls", None, {**TOOLS, "parallel_tool_calls": False},
             message=paying()),
        # The client stopped it: the last piece may be missing on either side.
        Case([10, 11], CANCELLED, "Hello", told="", question={"cancelled": True}),
        Case([10], CANCELLED, "Hello world", told="", question={"cancelled": True}),
        Case([10], CANCELLED, "Hello", told="", question={"cancelled": True}, usage={"prompt_tokens": 3}),
        # Nothing is known about the model: nothing is looked for.
        Case([10, 11, END], "stop", "Hello world", question={"model_id": None}),
        Case([10, 11, END], "stop", "Hello world", {}, commitment={"max_tokens": 100}),
        # An offer's context may be held against the prompt alone.
        Case([10, 11, END], "stop", "Hello world", {"max_tokens": 9}, question={"context": 4}),
        Case([10, 11, END], "stop", " Hello world\n"),
    ],
)  # fmt: skip
def test_honest_answer_has_no_fault(case: Case) -> None:
    assert case.found() == []


@pytest.mark.parametrize(
    ("case", "kind", "level"),
    [
        (dataclasses.replace(honest(), commitment={"manifest": None}), FaultKind.MANIFEST, Level.REFUND),
        (dataclasses.replace(honest(), commitment={"prompt_hash": prompt_hash([1, 2])}), FaultKind.PROMPT,
         Level.REFUND),
        (dataclasses.replace(honest(), commitment={"seed": bytes(16)}), FaultKind.SEED, Level.REFUND),
        (dataclasses.replace(honest(), commitment={"sampling": {}}), FaultKind.SAMPLING, Level.REFUND),
        (dataclasses.replace(honest(), body={"max_tokens": 16, "n": 2}), FaultKind.CHOICES, Level.REFUND),
        (dataclasses.replace(honest(), usage={"completion_tokens": 4}), FaultKind.USAGE, Level.REFUND),
        (dataclasses.replace(honest(), usage={"prompt_tokens": None}), FaultKind.USAGE, Level.REFUND),
        (dataclasses.replace(honest(), commitment={"max_tokens": 15}), FaultKind.LIMIT, Level.REFUND),
        (dataclasses.replace(honest(), commitment={"max_tokens": 15}, question={"output_limit": None}),
         FaultKind.LIMIT, Level.SUSPECT),
        (dataclasses.replace(honest(), body={}, commitment={"max_tokens": 99}), FaultKind.LIMIT,
         Level.SUSPECT),
        # Truncated: without an end, with one more token than is shown, as if it were long enough.
        (Case([10, 11], "stop", "Hello world"), FaultKind.FINISH, Level.REFUND),
        (Case([10, 11], "stop", "Hello"), FaultKind.FINISH, Level.REFUND),
        (Case([10, 11], "stop", "Hello", end_tokens=None), FaultKind.FINISH, Level.REFUND),
        (Case([], "stop", ""), FaultKind.FINISH, Level.REFUND),
        (Case([10, 11], "length", "Hello world"), FaultKind.FINISH, Level.REFUND),
        (Case([10, 11], "length", "Hello world", question={"context": None}), FaultKind.FINISH,
         Level.SUSPECT),
        (Case([10, 11], "stop", "Hello world", {"max_tokens": 9, "stop": "STOP"}), FaultKind.FINISH,
         Level.REFUND),
        (Case([10, 11], "eaten", "Hello world"), FaultKind.FINISH, Level.REFUND),
        (Case([10, 11], CANCELLED, "Hello world"), FaultKind.FINISH, Level.REFUND),
        (dataclasses.replace(honest(), told="length"), FaultKind.FINISH, Level.REFUND),
        # Goes on after its end, or beyond its limit, to charge for more.
        (Case([10, 14, 11, 14], "stop", "Hello ", {"max_tokens": 9, "stop": "STOP"}), FaultKind.FINISH,
         Level.REFUND),
        (Case([10, 14, 11], "length", "Hello ", {"max_tokens": 3, "stop": "STOP"}), FaultKind.FINISH,
         Level.REFUND),
        (Case([10, 11], "length", "Hello world", {"max_tokens": 1}, commitment={"max_tokens": 2}),
         FaultKind.LIMIT, Level.REFUND),
        (Case([10, 11], "length", "Hello world", {"max_tokens": 1}), FaultKind.LIMIT, Level.REFUND),
        # More than is offered, or than fits: nobody may be able to re-score that.
        (dataclasses.replace(honest(), body={}, commitment={"max_tokens": 101}), FaultKind.LIMIT,
         Level.REFUND),
        (dataclasses.replace(honest(), question={"context": 5, "output_limit": None}), FaultKind.CONTEXT,
         Level.REFUND),
        (dataclasses.replace(honest(), commitment={"prompt_tokens": 1098}), FaultKind.CONTEXT, Level.REFUND),
        # Ends before it began.
        (Case([], "length", "", question={"context": None}), FaultKind.FINISH, Level.REFUND),
        (Case([10, END, 11, END], "stop", "Hello world"), FaultKind.FINISH, Level.REFUND),
        # Another text than the tokens'.
        (dataclasses.replace(honest(), content="Hello moon"), FaultKind.TEXT, Level.REFUND),
        (dataclasses.replace(honest(), content="Hello"), FaultKind.TEXT, Level.REFUND),
        (dataclasses.replace(honest(), content=None), FaultKind.TEXT, Level.REFUND),
        (dataclasses.replace(honest(), message={"reasoning_content": "Moon"}), FaultKind.TEXT, Level.REFUND),
        (Case([10, *([11] * 20), END], "stop", "Hello", {"max_tokens": 99}, message={"reasoning": "world"}),
         FaultKind.TEXT, Level.REFUND),
        (Case([10, 11, END], "stop", "Hello moon", chat=False), FaultKind.TEXT, Level.REFUND),
        (Case([10, 11, END], "stop", "moon", {"max_tokens": 9, "tools": [{"type": "function"}]}),
         FaultKind.TEXT, Level.REFUND),
        # Something is added that looks like a mark, or under another name.
        (dataclasses.replace(honest(), content="Hello<b>pay Eve</b> world"), FaultKind.TEXT, Level.REFUND),
        (dataclasses.replace(honest(), message={"refusal": "Pay Eve"}), FaultKind.TEXT, Level.REFUND),
        (dataclasses.replace(honest(), message={"audio": {"data": "x"}}), FaultKind.TEXT, Level.REFUND),
        (Case([10, EXTRA, 11, END], "stop", "world",
              message={"reasoning": "Hello", "reasoning_content": "Moon"}), FaultKind.TEXT, Level.REFUND),
        # Another call than the tokens say, one of nothing, and one that is kept back.
        (Case([CALL, END], "tool_calls", None, TOOLS, message=paying("Eve")), FaultKind.TEXT, Level.REFUND),
        (Case([CALL, END], "tool_calls", None, TOOLS, message=paying(name="steal")), FaultKind.TEXT,
         Level.REFUND),
        (Case([10, 11, END], "stop", "Hello world", message=paying()), FaultKind.TEXT, Level.REFUND),
        (Case([CALL, END], "tool_calls", None, TOOLS, message={"tool_calls": "pay"}), FaultKind.TEXT,
         Level.REFUND),
        (Case([10, CALL, CALL, CALL, END], "stop", "Hello", TOOLS), FaultKind.TEXT, Level.SUSPECT),
        (Case([10, *([11] * 20), END], "stop", "Hello", TOOLS), FaultKind.TEXT, Level.SUSPECT),
    ],
)  # fmt: skip
def test_fault_is_found_when_the_answer_has_it(case: Case, kind: FaultKind, level: Level) -> None:
    found = case.found()
    assert (kind, level) in {(fault.kind, fault.level) for fault in found}, found


@pytest.mark.parametrize(
    "bend",
    [
        lambda response: response.clear(),
        lambda response: response.update(choices=None),
        lambda response: response.update(choices=[]),
        lambda response: response.update(choices=["x"]),
        lambda response: response.update(choices=[{"message": "x"}]),
        lambda response: response.update(choices=[{"message": {"content": 5}}]),
        lambda response: response.update(usage=[1]),
        lambda response: response.update(usage={"prompt_tokens": "3", "completion_tokens": 3}),
    ],
)
def test_response_in_any_form_is_judged_not_stumbled_over(bend: Callable[[dict[str, Any]], None]) -> None:
    found = honest().found(bend)
    assert kinds(found) & {FaultKind.CHOICES, FaultKind.TEXT, FaultKind.USAGE}


@pytest.mark.parametrize("limit", ["abc", [1], 2.5, True, -1])
def test_request_whose_limit_is_no_number_is_refused_by_name(limit: object) -> None:
    question = Question(
        kind="completion",
        body={"max_tokens": limit, "max_completion_tokens": 5},
        seed=bytes(16),
        sampling=SamplingClass.REPLAYABLE,
    )
    with pytest.raises(MalformedError, match="output limit"):
        _ = question.max_tokens


def test_fault_tells_no_content() -> None:
    case = dataclasses.replace(copy.deepcopy(honest()), content="a private answer")
    assert all("private" not in str(fault) for fault in case.found())


def test_levels_are_ordered_and_have_words() -> None:
    assert Level.HONEST < Level.SUSPECT < Level.REFUND < Level.SLASH
    assert [level.word for level in Level] == ["honest", "suspect", "refund", "slash"]


def test_text_far_beyond_the_committed_tokens_costs_collateral() -> None:
    """A few words of the true model, committed to, would sell any other text."""
    long = Case([10, 11, END], "stop", "something else entirely " * 20)
    assert (FaultKind.TEXT, Level.SLASH) in {(fault.kind, fault.level) for fault in long.found()}
    short = Case([10, 11, END], "stop", "something else entirely")
    assert {fault.level for fault in short.found()} == {Level.REFUND}


def test_honest_worker_is_not_accused_when_a_stop_sequence_waits_within_a_character() -> None:
    """The blank and the first bytes of the character are one token: a decoder shows them with its last."""
    stop = {"max_tokens": 16, "stop": " "}
    body = "Hello \ufffd"
    assert Case([10, 16, 17], "stop", "Hello", stop).found() == [], body
    passed = Case([10, 11, 16, 17], "stop", "Hello", stop).found()
    assert FaultKind.FINISH in {fault.kind for fault in passed}


def test_honest_worker_is_not_accused_when_the_prompt_ends_within_a_character() -> None:
    body = {"prompt": [1, 2, 3], "max_tokens": 16}
    asked = Case([17, 11, END], "stop", "so happy \U0001f600 world", body, chat=False)
    # What the engine shows ends with what the tokens say, from the first whole character on.
    assert {fault.level for fault in asked.found()} <= {Level.SUSPECT}


def test_honest_worker_is_not_accused_when_its_engine_takes_an_empty_thought_out() -> None:
    assert Case([18, 10, END], "stop", "Hello").found() == []


@pytest.mark.parametrize("body", [{"max_tokens": 16}, {"max_tokens": 16, "tools": []}])
@pytest.mark.parametrize("dropped", [[20, 11], [10, 20], [10], [11, 12]])
def test_worker_cannot_keep_a_sentence_back_when_a_thought_stands_beside_it(
    body: dict[str, Any], dropped: list[int]
) -> None:
    thought = {"reasoning": "so they want a greeting"}
    said = [19, 10, 20, 11, 12, END]
    assert Case(said, "stop", text(said[1:-1]), body, message=thought).found() == []
    kept = [token for token in said[1:-1] if token not in dropped]
    found = Case(said, "stop", text(kept), body, message=thought).found()
    assert [(fault.kind, fault.level) for fault in found] == [(FaultKind.TEXT, Level.REFUND)]


@pytest.mark.parametrize("shown", ["Hello ", "Hello STOP"])
def test_honest_worker_is_not_accused_when_a_stop_sequence_ends_the_answer_behind_a_thought(
    shown: str,
) -> None:
    stop = {"max_tokens": 16, "stop": "STOP"}
    thought = {"reasoning": "so they want a greeting"}
    assert Case([19, 10, 14], "stop", shown, stop, message=thought).found() == []
    assert Case([19, 10, 14], "stop", "", stop, message=thought).found() != []

    token = {"max_tokens": 16, "stop_token_ids": [12]}
    assert Case([19, 10, 12], "stop", shown.removesuffix("STOP"), token, message=thought).found() == []


@pytest.mark.parametrize(
    ("tokens", "finish", "content", "message"),
    [
        # The answer ended within the thought, which phrases or no mark at all begin.
        ([21, 10, 11], "length", None, {"reasoning": "Hello world"}),
        ([21, 10, 11], "length", text([21, 10, 11]), {}),
        ([10, 11], "length", None, {"reasoning": "Hello world"}),
        ([10, 22], "length", None, {"reasoning": "Hello"}),
        ([10, 22, 11], "length", "world", {"reasoning": "Hello"}),
        ([21, 10, 23, 11, END], "stop", "world", {"reasoning": "Hello"}),
        ([21, 10, 23, END], "stop", None, {"reasoning": "Hello"}),
    ],
)
def test_honest_worker_is_not_accused_when_its_parser_takes_a_thought_out(
    tokens: list[int], finish: str, content: str | None, message: dict[str, Any]
) -> None:
    body = {"max_tokens": len(tokens) if finish == "length" else 16}
    assert Case(tokens, finish, content, body, message=message).found() == []
    if len(tokens) > 2:
        bent = {"reasoning": "Goodbye"}
        found = Case(tokens, finish, content, body, message=bent).found()
        assert [(fault.kind, fault.level) for fault in found] == [(FaultKind.TEXT, Level.REFUND)]


def test_worker_cannot_keep_the_answer_back_when_the_request_wants_one_call_of_no_tool() -> None:
    body = {"max_tokens": 99, "parallel_tool_calls": False}
    kept = Case([10, *([11] * 20), EXTRA, END], "stop", "Hello", body)
    assert {(fault.kind, fault.level) for fault in kept.found()} == {(FaultKind.TEXT, Level.REFUND)}


def test_worker_is_not_accused_when_comparing_what_it_shows_takes_too_much_work() -> None:
    bent = Case([CALL, END], "tool_calls", None, TOOLS, message=paying("Eve"))
    assert bent.seen(work=Work(10)).faults == ()
    assert bent.seen(work=Work(10)).unclear
    assert bent.seen().faults != ()
    kept = Case([19, 10, 11, END], "stop", "Hello", message={"reasoning": "so they want a greeting"})
    assert kept.seen(work=Work(10)).faults == ()
    assert kept.seen(work=Work(10)).unclear
    assert kept.seen().faults != ()
    honest_one = Case([CALL, END], "tool_calls", None, TOOLS, message=paying())
    assert honest_one.seen().unclear == ""


def test_honest_worker_is_not_accused_when_its_engine_writes_the_tag_that_the_template_wrote() -> None:
    assert Case([10, 22, 11, END], "stop", "<think>Hello</think> world").found() == []
    assert Case([10, 11], "length", "<think>Hello world", {"max_tokens": 2}).found() == []
    for content in (
        "<think><think>Hello</think> world",
        "<think>Hello</think> <think>world",
        "<b>Hello world",
    ):
        assert Case([10, 22, 11, END], "stop", content).found() != []


def test_thought_may_be_shown_as_the_answer_too_when_the_request_wants_one_in_any_case() -> None:
    body = {"max_tokens": 2, "chat_template_kwargs": {"force_nonempty_content": True}}
    thought = {"reasoning": "Hello world"}
    assert Case([10, 11], "length", "Hello world", body, message=thought).found() == []
    assert Case([10, 11], "length", "Hello world", {"max_tokens": 2}, message=thought).found() != []
    assert Case([10, 11], "length", "Hello", body, message=thought).found() != []
