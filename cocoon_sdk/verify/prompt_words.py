"""The words of the prompt sets: what `prompts` puts together. All of it was written for this project.

Owns three `Words`, one for each set, that share no subject, person, place or phrasing. A test holds them to
that, so a new line goes into one set only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CODE: Final = ("Python", "JavaScript", "Rust", "Go", "SQL", "Bash", "C", "Java")


@dataclass(frozen=True, slots=True)
class Words:
    """What one set is made of. Names in braces are filled in by `prompts`."""

    subjects: tuple[str, ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    follow_ups: tuple[str, ...]
    personas: tuple[str, ...]
    code_requests: tuple[str, ...]
    tasks: tuple[str, ...]
    foreign: tuple[str, ...]
    sums: tuple[str, ...]
    summaries: tuple[str, ...]
    forms: tuple[str, ...]
    openings: tuple[str, ...]
    sources: tuple[str, ...]
    scenes: tuple[str, ...]
    header: str
    record: str


CALIBRATION: Final = Words(
    subjects=(
        *("tidal power", "beekeeping", "sourdough bread", "paper maps", "violin making", "glaciers"),
        *(
            "railway signals",
            "pottery glazes",
            "bird migration",
            "compost heaps",
            "lighthouses",
            "coral reefs",
        ),
        *("typewriters", "mountain weather", "olive groves", "canal locks", "star charts", "wool dyeing"),
    ),
    people=("Ada", "Bruno", "Clara", "Dmitri", "Elif", "Farid", "Greta", "Hugo"),
    places=("Lisbon", "Tartu", "Nagoya", "Accra", "Cusco", "Bergen", "Tbilisi", "Hobart"),
    sentences=(
        "{who} came to {place} with {number} notes about {thing}.",
        "In {place}, {thing} had been a matter of argument for {number} years.",
        "Nobody had told {who} that {thing} would cost {number} coins.",
        "The report on {thing} named {place} on page {number}, and {who} twice.",
        "Since the flood, {place} counted {number} people who knew about {thing}.",
    ),
    questions=(
        "What should a beginner know about {thing}?",
        "Why does {thing} matter? Answer in a few sentences.",
        "Explain {thing} to a ten-year-old.",
        "Name three common mistakes with {thing}.",
    ),
    follow_ups=(
        "Can you say that again, but shorter?",
        "And what would you do first?",
        "Which part of this is uncertain?",
    ),
    personas=(
        "You are {who}, a patient teacher from {place}. Use plain words.",
        "Answer like a ship's officer: brief and exact. The ship is bound for {place}.",
        "You help visitors of the library in {place}. Always end with a question.",
    ),
    code_requests=(
        "Write a {language} program that {task}. Comment on the tricky line.",
        "In {language}, {task}. Show the code only.",
    ),
    tasks=(
        "reads {number} lines and prints the longest",
        "counts how often each word of a text about {thing} occurs",
        "finds the first {number} numbers that no smaller square divides",
    ),
    foreign=(
        "Was sollte man in {place} an {number} Tagen unbedingt sehen?",
        "Raconte en {number} phrases une promenade dans {place}.",
        "¿Cómo se prepara una cena para {number} personas en {place}?",
        "{place}の冬の天気について教えてください。",
        "Напиши короткое письмо другу из города {place}.",
    ),
    sums=(
        "What is {first} times {second}, minus {third}? Show your steps.",
        "{who} has {first} apples, buys {second} more and gives {third} away. How many are left?",
    ),
    summaries=("Sum up this text in two sentences.", "What is the main point of the following?"),
    forms=(
        "Make a numbered list of {number} facts about {thing}.",
        "Turn this into JSON with the keys name, place and amount, about {thing}:",
    ),
    openings=("Then the door opened, and", "What happened next was", "Years later they still said that"),
    sources=(
        'def count_{thing}(items: list[str]) -> int:\n    """Count {words}, at most {number}."""\n',
        "// {words}: keeps the last {number} readings\nclass {thing}Buffer {{\n  constructor() {{\n",
        "CREATE TABLE {thing} (id INTEGER PRIMARY KEY, label TEXT);\n-- the {number} newest labels\nSELECT",
    ),
    scenes=("A kitchen at night. Two friends talk.", "On the last train, two strangers share a table."),
    header="name;town;subject;amount",
    record="{who};{place};{thing};{number}",
)

DEVELOPMENT: Final = Words(
    subjects=(
        *("chess endings", "greenhouse heating", "city buses", "handwriting", "sea kayaks", "cheese caves"),
        *("radio plays", "rope bridges", "mushroom foraging", "school gardens", "sundials", "desert foxes"),
        *("bookbinding", "night markets", "ice skating", "folk dances", "water wheels", "paper folding"),
    ),
    people=("Ines", "Jonas", "Kemal", "Lucia", "Marek", "Nadia", "Omar", "Priya"),
    places=("Porto", "Riga", "Osaka", "Dakar", "Quito", "Turku", "Yerevan", "Perth"),
    sentences=(
        "{number} letters about {thing} reached {place} before {who} did.",
        "{who} always said that {place} owed its {number} bridges to {thing}.",
        "Of all things, {thing} kept {who} in {place} for {number} days.",
        "The council of {place} spent {number} hours on {thing}.",
        "A photograph showed {who} with {thing}, taken {number} steps from {place}.",
    ),
    questions=(
        "How did {thing} come about?",
        "Give me a short introduction to {thing}.",
        "Compare {thing} with something similar.",
        "What would change without {thing}?",
    ),
    follow_ups=("Please give an example.", "Why is that so?", "Now argue for the opposite."),
    personas=(
        "You are a guide in {place} called {who}. Be cheerful.",
        "Speak as a careful engineer. Mention units. Your workshop is in {place}.",
        "You write for a newspaper in {place}; every answer starts with a headline.",
    ),
    code_requests=(
        "Please implement in {language}: a function that {task}.",
        "I need {language} code which {task}; keep it under twenty lines.",
    ),
    tasks=(
        "sorts records about {thing} by date",
        "returns every {number}th element of a list in reverse",
        "checks whether a text can be read both ways, ignoring {number} leading spaces",
    ),
    foreign=(
        "Erkläre in {number} Sätzen, wie man nach {place} reist.",
        "Quels sont les {number} plats typiques de {place} ?",
        "Describe en español el mercado de {place} con {number} palabras.",
        "请用中文介绍一下{place}的历史。",
        "Racconta una storia breve ambientata a {place}.",
    ),
    sums=(
        "Add {first} and {second}, then multiply by {third}.",
        "A train carries {first} people; {second} leave and {third} board. How many does {who} count now?",
    ),
    summaries=("Write a headline for this text.", "List who did what in the text below."),
    forms=(
        "Draw up a table with {number} rows on {thing}.",
        "Extract names and numbers as bullet points; the subject is {thing}:",
    ),
    openings=("At that moment", "The letter went on:", "It was the first time that"),
    sources=(
        "function mean_{thing}(values) {{\n  // average over {words}, ignoring the first {number}\n",
        "/* {words} */\n#include <stdio.h>\n#define LIMIT_{number} {number}\nint {thing}(int value) {{\n",
        'import csv\n\n# {number} rows about {words}\nwith open("{thing}.csv") as file:\n    rows = list(',
    ),
    scenes=("A workshop. The radio is on.", "Two neighbours meet at the well."),
    header="# who | where | what | how many",
    record="- {who} | {place} | {thing} | {number}",
)

EVALUATION: Final = Words(
    subjects=(
        *("volcanic soil", "bicycle repair", "harbour cranes", "tea ceremonies", "wind chimes", "bats"),
        *("mosaic floors", "avalanche dogs", "herb gardens", "old elevators", "kite festivals", "salt mines"),
        *(
            "public fountains",
            "glass blowing",
            "forest fires",
            "shadow theatre",
            "rice terraces",
            "tram depots",
        ),
        *("mirror telescopes", "sign languages", "floating houses", "stone walls"),
    ),
    people=("Quentin", "Rosa", "Samir", "Tove", "Ulrich", "Vera", "Wanjiru", "Xavier", "Yuki", "Zofia"),
    places=("Valparaiso", "Ghent", "Kyoto", "Mombasa", "Zagreb", "Tromso", "Samarkand", "Halifax", "Oaxaca"),
    sentences=(
        "When {who} reached {place}, {thing} was all that {number} people talked about.",
        "It took {number} weeks until {place} heard from {who} about {thing}.",
        "{thing}, as {who} wrote, had made {place} {number} times richer.",
        "After {number} failures, {who} gave up on {thing} and left {place}.",
        "A map of {place} marked {number} spots for {thing}; {who} had drawn it.",
        "There are {number} stories about {thing} in {place}, and {who} tells them all.",
    ),
    questions=(
        "Tell me something surprising about {thing}.",
        "Which skills does one need for {thing}, and how are they learned?",
        "Describe {thing} without using any numbers.",
        "Is {thing} still important today? Give reasons.",
        "Plan an afternoon around {thing}.",
    ),
    follow_ups=(
        "Thanks. What did you leave out?",
        "Could you rank these by importance?",
        "Rephrase your last answer as advice to a friend.",
        "How sure are you?",
    ),
    personas=(
        "Your name is {who}. You run a small museum in {place} and love details.",
        "You are a strict editor. Cut every needless word. Deadline in {place} is noon.",
        "Reply as a weather service for {place} would, whatever the subject.",
        "You are a calm nurse on a night shift in {place}; comfort first, facts second.",
    ),
    code_requests=(
        "Could you write {language} that {task}? Add one test.",
        "Using {language} without libraries, {task}.",
        "Review task: give {language} code that {task}, then say how slow it is.",
    ),
    tasks=(
        "merges two sorted lists of {number} entries",
        "groups measurements of {thing} by month",
        "turns a number below {number}000 into words",
        "removes duplicates but keeps the order of the first {number}",
    ),
    foreign=(
        "Welche {number} Dinge nimmst du mit, wenn du nach {place} ziehst?",
        "Écris une carte postale depuis {place}, en moins de {number} mots.",
        "Explica qué tiempo hace en {place} durante {number} días de otoño.",
        "Scrivi una ricetta tipica di {place} per {number} ospiti.",
        "Conte como é um dia de trabalho em {place}, com {number} detalhes.",
        "{place}에서 가볼 만한 곳을 소개해 주세요.",
        "اكتب فقرة قصيرة عن مدينة {place}.",
        "Napisz {number} zdań o pogodzie w mieście {place}.",
    ),
    sums=(
        "Compute ({first} + {second}) / {third} to two decimals.",
        "{who} walks {first} km a day for {second} days and rests {third} days. How far is that in all?",
        "Which is larger: {first} squared or {second} times {third}?",
    ),
    summaries=(
        "Retell this in one sentence.",
        "Which names occur below, and what is said of each?",
        "Find a contradiction in the following text, or say that there is none.",
    ),
    forms=(
        "Give {number} tips on {thing}, each of at most eight words.",
        "Answer in YAML with the keys topic, people and count, on {thing}:",
        "Write {number} quiz questions about {thing} from this:",
    ),
    openings=(
        "And so it came that",
        "From far away one could hear",
        "The strangest part was",
        "She answered:",
    ),
    sources=(
        'class {thing}Store:\n    """Up to {number} entries on {words}."""\n\n    def __init__(self):\n',
        "fn find_{thing}(list: &[u32]) -> Option<u32> {{\n    // smallest above {number}, for {words}\n",
        "#!/bin/sh\n# {words}: archive files older than {number} days\nfor file in {thing}/*; do\n",
        "SELECT town, COUNT(*) FROM {thing} -- {words}\nGROUP BY town HAVING COUNT(*) > {number}\n",
    ),
    scenes=("Backstage, ten minutes before the show.", "Two climbers wait for the fog to lift."),
    header="subject\tperson\tplace\tyear",
    record="{thing}\t{who}\t{place}\t{number}",
)

SETS: Final = {"calibration": CALIBRATION, "development": DEVELOPMENT, "evaluation": EVALUATION}
